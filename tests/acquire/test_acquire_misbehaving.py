"""Cubes and items through servers that misbehave."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from file_server import BLOB_HOST, TOKEN_PATH, Answer, Fault, FileServer, write_api
from scenes import OPTICAL, RADAR, Archive, write_raster

from pipeline_lib.config import SensorSource
from pipeline_lib.errors import UserError

pytestmark = pytest.mark.xdist_group("misbehaving")

DAYS = ("2021-03-02", "2021-05-11", "2021-08-07", "2021-10-20")
VICTIM = "2021-05-11"
TIFF, XML = f"{VICTIM}.*B04", f"{VICTIM}.*xml"
IMPATIENT = {"timeout_s": 1, "retries": 3, "requests": 2}


@dataclass
class World:
    """An archive behind a server, and the cube that an undisturbed run makes of it."""

    archive: Archive
    server: FileServer
    calm: xr.Dataset

    def build(self, folder: Path, case: Case) -> xr.Dataset:
        """The cube, read through the server, in ``folder/cubes``."""
        prefix = f"http://{BLOB_HOST}/" if case.signed else f"{self.server.url}/"
        items = self.archive.pin(case.sensor, folder / "items.json")
        items.write_text(items.read_text().replace(f"{self.archive.folder}/", prefix))
        signing = "planetary-computer" if case.signed else "none"
        how = {"source": self.server.url, "signing": signing, **IMPATIENT, **case.more}
        return self.archive.build(case.sensor, folder / "cubes", items=items, **how)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("misbehaving")
    archive = Archive(folder / "archive")
    archive.folder.mkdir()
    for day in DAYS:
        # Wide enough that pixels lie beyond what GDAL reads of a file when it opens it.
        archive.optical(f"{day}T10:20:31Z", margin_px=120)
    for name in "ab":
        archive.radar("2021-06-01T17:00:00Z", 0.1, 0.02, name=f"slice-{name}")
    (archive.folder / "login.html").write_bytes(LOGIN)
    grid, numbers = archive.grid.padded(120), np.full((44, 44), 2000, np.uint16)
    write_raster(archive.folder / "preview.tif", numbers, grid.epsg, grid.left, grid.top, 60, 0)
    with FileServer(archive.folder) as server:
        made = World(archive, server, xr.Dataset())
        made.calm = made.build(folder, Case())
        yield made


ALWAYS = float("inf")


@dataclass(frozen=True)
class Case:
    """A fault, and what is expected: a complete cube, or regular expressions of what one sees.

    ``missing`` is that of the cube's attribute, ``error`` of the one line where no cube is made.
    With ``signed`` the files are read from blob storage, with tokens; with ``pixels`` the fault
    begins beyond the header of the file. ``more`` is of the catalog, and ``page`` how many items a
    search asks for at once. One of each kind of failure is ``quick``; the others are slow.
    """

    pattern: str = ""
    answer: Callable[[Answer], None] = Answer.file
    times: float = 1
    missing: str = ""
    error: str = ""
    signed: bool = False
    pixels: bool = False
    more: dict[str, Any] = field(default_factory=dict)
    sensor: SensorSource = OPTICAL
    page: int = 250
    quick: bool = False

    @property
    def faults(self) -> list[Fault]:
        fault = Fault(self.pattern, self.answer, self.times, beyond_header=self.pixels)
        return [fault] if self.pattern else []


def status(code: int, body: bytes = b"", **headers: str) -> Callable[[Answer], None]:
    return lambda it: it.status(code, body, **headers)


def another(content: bytes) -> Callable[[Answer], None]:
    return lambda it: it.another(content)


LOGIN = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
NO_ACCESS = b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code><Message>m</Message></Error>"


def cut(share: float) -> Callable[[Answer], None]:
    """The file, as if it were shorter."""
    return lambda it: it.file(cut=share)


def closed(it: Answer) -> None:
    """Half of what the header promises."""
    it.file(sent=0.5)


def silent_half_way(it: Answer) -> None:
    it.file(sent=0.5, then_silent=True)


def busy_for(seconds: float) -> Callable[[Answer], None]:
    """429 with Retry-After until so many seconds have passed since the first request."""
    until: list[float] = []

    def answer(it: Answer) -> None:
        now = time.monotonic()
        until.append(now + seconds)
        left = math.ceil(until[0] - now)
        if left > 0:
            it.status(429, Retry_After=str(left))
        else:
            it.file()

    return answer


def preview(it: Answer) -> None:
    it.another((it.server.folder / "preview.tif").read_bytes())


DENIED = r"item .*: rejected: {}; the scene may be there, but access to it is denied: check"
BUSY = r"item .*: no proper answer after 4 tries \(B04: {}\); run again later"
CASES = {
    "none, signed": Case(signed=True, quick=True),
    "token expired in the middle": Case(TIFF, Answer.expire, signed=True, quick=True),
    "token endpoint: 503 twice": Case(TOKEN_PATH, status(503), 2, signed=True),
    "token endpoint: 404": Case(
        *(TOKEN_PATH, status(404), ALWAYS),
        error=r"token endpoint .*gone \(HTTP 404\); check catalog.signing",
        signed=True,
    ),
    "403 for ever": Case(TIFF, status(403), ALWAYS, error=DENIED.format("B04: HTTP 403")),
    "401 for ever, XML": Case(
        XML, status(401), ALWAYS, error=DENIED.format("granule-metadata: HTTP 401"), quick=True
    ),
    "403 with a reason": Case(
        TIFF, status(403, NO_ACCESS), ALWAYS, error=DENIED.format("B04: HTTP 403, AccessDenied")
    ),
    "403 for ever, recorded": Case(
        *(TIFF, status(403), ALWAYS, "rejected: B04: HTTP 403"),
        more={"missing_asset": "record-rejected"},
        quick=True,
    ),
    "one slice of a pass: 403": Case(
        *("slice-b/vh", status(403), ALWAYS),
        error="item slice-b: rejected: vh: HTTP 403; the scene may",
        sensor=RADAR,
        quick=True,
    ),
    "login page, image": Case(
        TIFF,
        another(LOGIN),
        ALWAYS,
        error=DENIED.format("B04: a web page came instead.*"),
        quick=True,
    ),
    "login page, once": Case(TIFF, another(LOGIN)),
    "redirect to a login page": Case(
        *(TIFF, lambda it: it.status(302, Location="/login.html"), ALWAYS),
        error=DENIED.format("B04: a web page came instead.*"),
    ),
    "404, image": Case(TIFF, status(404), ALWAYS, r"B04: gone \(HTTP 404\)", quick=True),
    "404, XML": Case(XML, status(404), ALWAYS, r"granule-metadata: gone \(HTTP 404\)"),
    "429, Retry-After 2, image": Case(TIFF, busy_for(2), ALWAYS),
    "429, Retry-After 1, XML": Case(XML, busy_for(1), ALWAYS, quick=True),
    "burst of ten 503": Case(".", status(503), 10),
    "503 for ever": Case(TIFF, status(503), ALWAYS, error=BUSY.format("HTTP 503")),
    "silent before the header, image": Case(TIFF, Answer.silence),
    "silent in the middle of the pixels": Case(TIFF, silent_half_way, pixels=True),
    "silent in the middle, XML": Case(XML, silent_half_way),
    "silent for ever": Case(TIFF, Answer.silence, ALWAYS, error=BUSY.format("no answer")),
    "XML drips, once": Case(XML, Answer.drip),
    "image shorter than promised, once": Case(TIFF, closed, pixels=True),
    "XML shorter than promised, once": Case(XML, closed),
    "truncated image": Case(TIFF, cut(0.3), ALWAYS, "unreadable: B04: not a readable raster"),
    "truncated XML": Case(XML, cut(0.5), ALWAYS, "unreadable: granule-metadata: not complete XML"),
    "truncated XML, once": Case(XML, cut(0.5), quick=True),
    "wrong size: a preview for the image": Case(
        TIFF, preview, ALWAYS, "B04: its pixels measure 60, not 10 m"
    ),
}


def parameters(cases: dict[str, Case]) -> list[Any]:
    return [
        pytest.param(name, marks=() if case.quick else pytest.mark.slow)
        for name, case in cases.items()
    ]


@pytest.mark.parametrize("name", parameters(CASES))
def test_a_cube_is_complete_or_names_what_is_missing(
    world: World,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    token_endpoint: Callable[[str], None],
) -> None:
    case, server = CASES[name], world.server
    token_endpoint(server.sas_url)
    if case.signed:
        monkeypatch.setenv("http_proxy", server.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.needs_token, server.faults = case.signed, case.faults
    begin = time.monotonic()
    try:
        if case.error:
            with pytest.raises(UserError, match=case.error) as caught:
                world.build(tmp_path, case)
            assert "sig=" not in str(caught.value)
            assert not list(tmp_path.glob("cubes/*"))
        else:
            cube = world.build(tmp_path, case)
            days = world.calm["time"].dt.strftime("%Y-%m-%d").values
            expected = world.calm.isel(time=days != VICTIM) if case.missing else world.calm
            assert cube.drop_attrs().identical(expected.drop_attrs())
            missing = json.loads(cube.attrs["missing"])
            assert [VICTIM in line for line in missing] == [True] * bool(case.missing)
            assert re.search(case.missing, "".join(missing)), missing
            assert "sig=" not in "".join(missing)
            assert all(fault.met for fault in server.faults)
    finally:
        server.needs_token, server.faults = False, []
    assert time.monotonic() - begin < 60
    assert not list(tmp_path.rglob(".partial-*"))


def searched(**how: Any) -> Callable[[Answer], None]:
    return lambda it: it.search(**how)


SEARCH = "api/search"
NO_LANDING = r"the landing page failed \({}\); check that"
CATALOG_CASES = {
    "catalog: none": Case(quick=True),
    "catalog: 429, Retry-After 2": Case(SEARCH, busy_for(2), ALWAYS),
    "catalog: burst of three 503": Case("api", status(503), 3),
    "catalog: silent before the answer": Case(SEARCH, Answer.silence, quick=True),
    "catalog: answer cut short, once": Case(SEARCH, cut(0.5)),
    "catalog: answer cut short": Case(
        *(SEARCH, cut(0.5), ALWAYS),
        error=r"the search for sentinel-2-l2a failed \(unreadable: not complete JSON\); run again",
    ),
    "catalog: silent for ever": Case(
        *(SEARCH, Answer.silence, ALWAYS),
        error=r"no proper answer after 4 tries \(ReadTimeout\); run again later",
    ),
    "catalog: no links to the next page": Case(
        SEARCH, searched(cap=2, next_page=None), ALWAYS, quick=True
    ),
    "catalog: not sorted, no links to the next page": Case(
        SEARCH, searched(cap=3, next_page=None, order="shuffled"), ALWAYS, quick=True
    ),
    "catalog: the next page repeats the last": Case(
        SEARCH, searched(cap=2, next_page=-2), ALWAYS, quick=True
    ),
    "catalog: the next page skips an item": Case(
        SEARCH, searched(cap=2, next_page=1), ALWAYS, quick=True
    ),
    "catalog: next page skips, numberMatched": Case(
        SEARCH, searched(cap=2, next_page=1, counted=0), ALWAYS
    ),
    "catalog: full page without a next, datetime ignored": Case(
        *(SEARCH, searched(next_page=None, heeds="bbox"), ALWAYS),
        error=r"not complete: its pages may end too early, and it ignores datetime",
        page=2,
        quick=True,
    ),
    "catalog: numberMatched is too high": Case(
        *(SEARCH, searched(counted=3), ALWAYS),
        error=r"not complete: numberMatched is \d+, but \d+ items came, also in parts; run again",
        quick=True,
    ),
    "catalog: 403": Case(
        *(SEARCH, status(403), ALWAYS),
        error=r"the search for sentinel-2-l2a failed \(rejected: HTTP 403\); check .* your access",
        quick=True,
    ),
    "catalog: 400 with a reason": Case(
        *(SEARCH, status(400, b'{"code": "BadRequest", "description": "no such field"}'), ALWAYS),
        error=r"failed \(rejected: HTTP 400, .*no such field.*\); check catalog.source, what is",
        quick=True,
    ),
    "catalog: login page": Case(
        *("api", another(LOGIN), ALWAYS),
        error=r"landing page failed \(rejected: a web page came instead.*\); check .* access",
    ),
    "catalog: ignores collections, place and time": Case(
        SEARCH, lambda it: it.search(heeds=""), ALWAYS, quick=True
    ),
    "catalog: 404": Case("api", status(404), ALWAYS, error=NO_LANDING.format(r"gone \(HTTP 404\)")),
    "catalog: a page that is no STAC": Case(
        *("api", lambda it: it.another(b'{"a": "b"}'), ALWAYS),
        error=r"the landing page failed \(unreadable: no STAC: .*\); run again later, or check",
    ),
}


@pytest.mark.parametrize("name", parameters(CATALOG_CASES))
def test_a_search_ends_with_all_items_or_in_one_line(
    world: World, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, output = CATALOG_CASES[name], tmp_path / "items.json"
    monkeypatch.setattr("pipeline_lib.acquire.catalog.PAGE", case.page)
    optical = [i for i in world.archive.items if i["collection"] == OPTICAL.collection]
    foreign = [
        optical[0] | {"id": "elsewhere", "bbox": [20.0, 46.0, 21.0, 47.0]},
        optical[0] | {"id": "another", "collection": "sentinel-1-rtc"},
        optical[0] | {"id": "later", "properties": {"datetime": "2022-01-01T00:00:00Z"}},
    ]
    # In no order of time.
    listed = [*optical[2:], *(foreign if "ignores coll" in name else ()), *optical[:2]]
    write_api(world.archive.folder, world.server.url, OPTICAL.collection, listed)
    world.server.faults = case.faults
    how: dict[str, Any] = {"source": f"{world.server.url}/api", **IMPATIENT}
    begin = time.monotonic()
    try:
        if case.error:
            with pytest.raises(UserError, match=case.error) as caught:
                world.archive.pin(OPTICAL, output, **how)
            assert "\n" not in str(caught.value)
            assert not output.exists()
        else:
            pinned = json.loads(world.archive.pin(OPTICAL, output, **how).read_text())["items"]
            assert [item["id"] for item in pinned] == [item["id"] for item in optical]
    finally:
        world.server.faults = []
    assert time.monotonic() - begin < 60
