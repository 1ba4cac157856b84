"""Cubes and items through servers that misbehave: ``-s`` prints the table, a row per fault."""

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
from file_server import BLOB_HOST, TOKEN_PATH, Answer, Fault, FileServer
from scenes import Archive, write_raster

from pipeline_lib.acquire import build_cube, pin_items
from pipeline_lib.config import Catalog, SensorSource
from pipeline_lib.cubes import read_cube
from pipeline_lib.errors import UserError

pytestmark = pytest.mark.xdist_group("misbehaving")

TIMEOUT_S = 1
RETRIES = 3
SENSOR = SensorSource(
    collection="sentinel-2-l2a",
    loader="sentinel-2-l2a",
    quantity="reflectance",
    bands=("B02", "B04", "B8A"),
    brdf=True,
    clouds="scl",
)
DAYS = ("2021-03-02", "2021-05-11", "2021-08-07", "2021-10-20")
VICTIM = "2021-05-11"
TIFF, XML = f"{VICTIM}.*B04", f"{VICTIM}.*xml"


@dataclass
class World:
    """An archive behind a server, and what an undisturbed run makes of it."""

    archive: Archive
    server: FileServer
    calm: xr.Dataset
    calm_seconds: float
    table: list[tuple[str, str, str, str]] = field(default_factory=list)

    def pinned(self, folder: Path, prefix: str) -> Path:
        """A file of pinned items whose assets have addresses below ``prefix``."""
        items = folder / "items.json"
        pin_items(
            request=self.archive.request(),
            sensor=SENSOR,
            cube=self.archive.cube,
            catalog=self.archive.catalog,
            output=items,
        )
        text = items.read_text().replace(f"{self.archive.folder}/", prefix)
        items.write_text(text)
        return items

    def catalog(self, signing: str = "none", **more: str) -> Catalog:
        """How the cube is read: impatient, so that the tests are quick."""
        return Catalog(
            source=self.server.url,
            signing=signing,
            timeout_s=TIMEOUT_S,
            retries=RETRIES,
            requests=2,
            **more,
        )

    def build(self, folder: Path, *, signed: bool) -> xr.Dataset:
        """Build the cube through the server."""
        prefix = f"http://{BLOB_HOST}/" if signed else f"{self.server.url}/"
        output = folder / "cubes" / "cube.zarr.zip"
        build_cube(
            sensor_name="sentinel-2",
            sensor=SENSOR,
            catalog=self.catalog("planetary-computer" if signed else "none"),
            cube=self.archive.cube,
            items=self.pinned(folder, prefix),
            config_digest="0",
            output=output,
        )
        return read_cube(output)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("misbehaving")
    archive = Archive(folder / "archive")
    archive.folder.mkdir()
    for day in DAYS:
        # Wide enough that pixels lie beyond what GDAL reads of a file when it opens it.
        archive.optical(f"{day}T10:20:31Z", margin_px=120)
    write_raster(
        folder / "preview.tif",
        np.full((44, 44), 2000, np.uint16),
        archive.grid.epsg,
        archive.grid.left - 1200,
        archive.grid.top + 1200,
        60,
        0,
    )
    with FileServer(archive.folder) as server:
        empty = World(archive, server, xr.Dataset(), 0.0)
        empty.build(folder, signed=False)
        begin = time.monotonic()
        calm = empty.build(folder, signed=False)
        made = World(archive, server, calm, time.monotonic() - begin)
        yield made
    heading = ("fault", "what the user sees", "seconds lost", "cube")
    for row in [heading, *made.table]:
        print("| " + " | ".join(row) + " |")


@dataclass(frozen=True)
class Case:
    """A fault, and what is expected of it.

    Attributes
    ----------
    faults
        Pattern of the paths, answer, and how often.
    lacks
        What the cube says that it lacks, a regular expression; none: the cube is complete.
    error
        The one line that the user reads where no cube is made.
    signed
        Whether the files are read from blob storage, with tokens.
    """

    faults: Callable[[World], list[Fault]]
    lacks: str | None = None
    error: str | None = None
    signed: bool = False


def once(pattern: str, answer: Callable[[Answer], None], times: float = 1) -> list[Fault]:
    return [Fault(pattern, answer, times)]


def pixels(answer: Callable[[Answer], None]) -> list[Fault]:
    return [Fault(TIFF, answer, 1, beyond_header=True)]


def status(code: int, **headers: str) -> Callable[[Answer], None]:
    return lambda answer: answer.status(code, **headers)


ALWAYS = float("inf")


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


def preview(world: World) -> Callable[[Answer], None]:
    def answer(it: Answer) -> None:
        it.content = (world.archive.folder.parent / "preview.tif").read_bytes()
        it.file()

    return answer


CASES = {
    "none": Case(lambda w: []),
    "none, signed": Case(lambda w: [], signed=True),
    "token expired in the middle": Case(lambda w: once(TIFF, w.server.expire_token), signed=True),
    "token endpoint: 503 twice": Case(lambda w: once(TOKEN_PATH, status(503), 2), signed=True),
    "token endpoint: 429, Retry-After 2": Case(
        lambda w: once(TOKEN_PATH, status(429, Retry_After="2")), signed=True
    ),
    "token endpoint: silent once": Case(lambda w: once(TOKEN_PATH, Answer.silence), signed=True),
    "token endpoint: 404": Case(
        lambda w: once(TOKEN_PATH, status(404), ALWAYS),
        error=r"token endpoint .*gone \(HTTP 404\); check catalog.signing",
        signed=True,
    ),
    "403 for ever": Case(lambda w: once(TIFF, status(403), ALWAYS), lacks="B04: HTTP 403"),
    "404, image": Case(lambda w: once(TIFF, status(404), ALWAYS), lacks=r"B04: gone \(HTTP 404\)"),
    "404, XML": Case(
        lambda w: once(XML, status(404), ALWAYS), lacks=r"granule-metadata: gone \(HTTP 404\)"
    ),
    "429, Retry-After 2, image": Case(lambda w: once(TIFF, busy_for(2), ALWAYS)),
    "429, Retry-After 1, XML": Case(lambda w: once(XML, busy_for(1), ALWAYS)),
    "burst of ten 503": Case(lambda w: once(".", status(503), 10)),
    "503 for ever": Case(
        lambda w: once(TIFF, status(503), ALWAYS),
        error=r"item .*: no proper answer after 4 tries \(B04: HTTP 503\); run again later",
    ),
    "silent before the header, image": Case(lambda w: once(TIFF, Answer.silence)),
    "silent in the middle of the pixels": Case(
        lambda w: pixels(lambda it: it.file(sent=0.5, then_silent=True))
    ),
    "silent before the body, XML": Case(lambda w: once(XML, Answer.silence)),
    "silent in the middle, XML": Case(
        lambda w: once(XML, lambda it: it.file(sent=0.5, then_silent=True))
    ),
    "silent for ever": Case(
        lambda w: once(TIFF, Answer.silence, ALWAYS),
        error=r"item .*: no proper answer after 4 tries \(B04: no answer\); run again later",
    ),
    "XML drips, once": Case(lambda w: once(XML, Answer.drip)),
    "image shorter than promised, once": Case(lambda w: pixels(lambda it: it.file(sent=0.5))),
    "XML shorter than promised, once": Case(lambda w: once(XML, lambda it: it.file(sent=0.5))),
    "truncated image": Case(
        lambda w: once(TIFF, lambda it: it.file(cut=0.3), ALWAYS),
        lacks="unreadable: B04: not a readable raster",
    ),
    "truncated header": Case(
        lambda w: once(TIFF, lambda it: it.file(cut=0.001), ALWAYS),
        lacks="unreadable: B04: not a readable raster",
    ),
    "truncated XML": Case(
        lambda w: once(XML, lambda it: it.file(cut=0.5), ALWAYS),
        lacks="unreadable: granule-metadata: not complete XML",
    ),
    "truncated XML, once": Case(lambda w: once(XML, lambda it: it.file(cut=0.5))),
    "wrong size: a preview for the image": Case(
        lambda w: once(TIFF, preview(w), ALWAYS), lacks="B04: its pixels measure 60, not 10 m"
    ),
}


FAST = {
    "none, signed",
    "token expired in the middle",
    "404, image",
    "429, Retry-After 1, XML",
    "truncated XML, once",
    "catalog: none",
    "catalog: silent before the answer",
}
"""One of each kind of failure; the others are slow."""


def parameters(cases: dict[str, Case]) -> list[Any]:
    marks = {name: () if name in FAST else pytest.mark.slow for name in cases}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


@pytest.mark.parametrize("name", parameters(CASES))
def test_a_cube_is_complete_or_says_what_it_lacks(
    world: World,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    token_endpoint: Callable[[str], None],
) -> None:
    case = CASES[name]
    token_endpoint(world.server.sas_url)
    if case.signed:
        monkeypatch.setenv("http_proxy", world.server.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
    world.server.needs_token = case.signed
    world.server.faults = case.faults(world)
    begin = time.monotonic()
    try:
        cube = world.build(tmp_path, signed=case.signed)
    except UserError as error:
        seen, result = f"error: {error}", "not made; the next run makes it"
        assert case.error is not None
        _matches(case.error, seen)
        assert not (tmp_path / "cubes").exists() or not list((tmp_path / "cubes").iterdir())
    else:
        assert case.error is None
        missing = json.loads(cube.attrs["missing"])
        seen = "; ".join(missing) or "nothing"
        result = f"lacks {len(missing)} of {len(DAYS)}" if missing else "complete"
        _equal_but_for(cube, world.calm, VICTIM if case.lacks else None)
        if case.lacks:
            (told,) = missing
            _matches(case.lacks, told)
            assert VICTIM in told
        assert bool(missing) == bool(case.lacks)
        assert all(fault.met for fault in world.server.faults)
    finally:
        world.server.faults = []
        world.server.needs_token = False
    seconds = time.monotonic() - begin - world.calm_seconds
    assert seconds < 60
    assert "sig=" not in seen
    assert not list(tmp_path.rglob(".partial-*"))
    world.table.append((name, seen, f"{max(seconds, 0):.1f}", result))


def _matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text


SEARCH = "api/search"


def a_web_page(answer: Answer) -> None:
    answer.content = b'{"message": "hello"}'
    answer.file()


CATALOG_CASES = {
    "catalog: none": Case(lambda w: []),
    "catalog: 429, Retry-After 2": Case(lambda w: once(SEARCH, busy_for(2), ALWAYS)),
    "catalog: burst of three 503": Case(lambda w: once("api", status(503), 3)),
    "catalog: silent before the answer": Case(lambda w: once(SEARCH, Answer.silence)),
    "catalog: silent in the middle": Case(
        lambda w: once(SEARCH, lambda it: it.file(sent=0.5, then_silent=True))
    ),
    "catalog: answer cut short, once": Case(lambda w: once(SEARCH, lambda it: it.file(cut=0.5))),
    "catalog: answer cut short": Case(
        lambda w: once(SEARCH, lambda it: it.file(cut=0.5), ALWAYS),
        error=r"the search for sentinel-2-l2a failed \(Missing: unreadable: not complete JSON\)",
    ),
    "catalog: silent for ever": Case(
        lambda w: once(SEARCH, Answer.silence, ALWAYS),
        error=r"no proper answer after 4 tries \(ReadTimeout\); run again later",
    ),
    "catalog: 404": Case(
        lambda w: once("api", status(404), ALWAYS),
        error=r"the landing page failed \(Missing: gone \(HTTP 404\)\); check that",
    ),
    "catalog: a page that is no STAC": Case(
        lambda w: once("api", a_web_page, ALWAYS),
        error=r"the landing page failed \(.*\); check that",
    ),
}


def write_api(world: World) -> None:
    """A STAC API of static files: one landing page, one collection, one page of items."""
    url = f"{world.server.url}/api"
    geojson = {"type": "application/geo+json", "method": "POST"}
    search = {"rel": "search", "href": f"{url}/search"} | geojson
    data = {"rel": "data", "href": f"{url}/collections"}
    conforms = [f"https://api.stacspec.org/v1.0.0/{part}" for part in ("core", "item-search")]
    landing = {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "api",
        "description": "static",
        "conformsTo": [*conforms, "https://api.stacspec.org/v1.0.0/collections"],
        "links": [{"rel": "root", "href": url}, search, data],
    }
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    collection = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": SENSOR.collection,
        "description": "static",
        "license": "proprietary",
        "extent": extent,
        "links": [],
    }
    items = {"type": "FeatureCollection", "features": world.archive.items, "links": []}
    folder = world.archive.folder / "api"
    pages = {"": landing, "search": items, f"collections/{SENSOR.collection}": collection}
    for path, content in pages.items():
        (folder / path).mkdir(parents=True, exist_ok=True)
        (folder / path / "index.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", parameters(CATALOG_CASES))
def test_a_search_ends_with_all_items_or_in_one_line(
    world: World, name: str, tmp_path: Path
) -> None:
    case = CATALOG_CASES[name]
    write_api(world)
    world.server.faults = case.faults(world)
    output = tmp_path / "items" / "items.json"
    begin = time.monotonic()
    try:
        pin_items(
            request=world.archive.request(),
            sensor=SENSOR,
            cube=world.archive.cube,
            catalog=world.catalog().model_copy(update={"source": f"{world.server.url}/api"}),
            output=output,
        )
    except UserError as error:
        seen, result = f"error: {error}", "not made; the next run makes it"
        assert case.error is not None and "\n" not in seen
        _matches(case.error, seen)
        assert not output.exists()
    else:
        assert case.error is None
        seen, result = "nothing", "complete"
        found = [item["id"] for item in json.loads(output.read_text())["items"]]
        assert found == [item["id"] for item in world.archive.items]
    finally:
        world.server.faults = []
    seconds = time.monotonic() - begin
    assert seconds < 60
    world.table.append((name, seen, f"{seconds:.1f}", result))


def _equal_but_for(cube: xr.Dataset, calm: xr.Dataset, lost: str | None) -> None:
    """The cube equals the undisturbed one, but for the frame of a day that is lost."""
    days = calm["time"].dt.strftime("%Y-%m-%d").values
    expected = calm.isel(time=days != lost)
    assert cube.drop_attrs().identical(expected.drop_attrs())
