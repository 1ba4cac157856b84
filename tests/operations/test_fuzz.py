"""Changed files of strangers are read, or rejected in one line.

Granule metadata, FLUXNET files, STAC items, pinned items, answers of a STAC API and models are
changed at random, by bytes and by what stands in them. ``CASES=2000 pytest test_fuzz.py`` gives
each reader that many changed files; the files are the same in every run.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import re
import shutil
import signal
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from random import Random
from types import FrameType
from typing import Any

import numpy as np
import pytest
import requests
from stac_pages import stac_pages

from pipeline_lib import config
from pipeline_lib.config import SENTINEL_1, SENTINEL_2, Catalog, CubeGrid
from pipeline_lib.cubes import CubeRequest, Grid, read_cube
from pipeline_lib.errors import UserError

pytestmark = pytest.mark.slow

Files = dict[str, bytes]
Change = Callable[[Random, bytes], bytes]

LONGEST_S = 20
LONGEST_LINE = 2000
SITE = "DE-Abc"
PERIOD = date(2019, 5, 1), date(2019, 5, 20)
REQUEST = CubeRequest(SITE, SITE, "others", 11.7, 48.3, *PERIOD)
TOWER = config.Tower(name=SITE, lon=11.7, lat=48.3, vegetation="GRA")
CUBE = CubeGrid(size_px=12)
SENSORS = {
    "optical": SENTINEL_2.model_copy(
        update={"bands": ("B02", "B04", "B8A"), "clouds": "scl", "rgb": None}
    ).source(),
    "radar": SENTINEL_1.source(),
}

NUMBERS = [0, -1, 1, 255, 2**31, 2**53, 2**64, 10**30, 0.5, 1e-320, 1e308, math.inf, math.nan]
TEXTS = ["", " ", "x", "\n", "\0", "null", "NaN", "1e400", "9" * 400, "a\nb", "\x1b[31mred"]
TEXTS += ["../../etc/passwd", "file:///etc/passwd", "/vsicurl/http://127.0.0.1:9/x", "A" * 5000]
TEXTS += ["<VRTDataset/>", "http://127.0.0.1:9/x?sig=secret", "2020-02-30", "EPSG:99999"]
TEXTS += ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "\ud800", "20170230", "1_0"]


# ---- changes


def changed(rng: Random, files: Files) -> Files:
    """The files with one to eight changes."""
    result = dict(files)
    for _ in range(rng.choice([1, 1, 1, 1, 2, 2, 3, 8])):
        name = rng.choice(sorted(result))
        change = BY_MEANING.get(PurePosixPath(name).suffix, by_bytes)
        try:
            result[name] = (change if rng.random() < 0.75 else by_bytes)(rng, result[name])
        except Exception:
            # What is broken already has no meaning left to change.
            result[name] = by_bytes(rng, result[name])
    return result


def by_bytes(rng: Random, content: bytes) -> bytes:
    """Flips, cuts, repetitions, and other numbers in a text."""
    data = bytearray(content)
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + int(2 ** rng.uniform(0, 12)))
    kind = rng.randrange(5)
    if kind == 0:
        for _ in range(rng.choice([1, 8, 64]) if data else 0):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        del data[at:end]
    elif kind == 3:
        data[at:at] = data[at:end] * rng.choice([1, 2, 10])
    elif numbers := list(re.finditer(rb"-?\d+(?:\.\d+)?", content[:200_000])):
        place = rng.choice(numbers)
        data[place.start() : place.end()] = odd_text(rng).encode("utf-8", "replace")
    return bytes(data)


def odd_text(rng: Random) -> str:
    """A text or number that hardly belongs anywhere."""
    return rng.choice([*TEXTS, *map(str, NUMBERS)])


def odd_value(rng: Random) -> Any:
    """Something that JSON can hold, or nearly."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice([*NUMBERS, None, True, [], {}, [[]]])
    if kind == 1:
        return rng.choice(TEXTS)
    if kind == 2:
        return [odd_value(rng) for _ in range(rng.choice([1, 2, 6]))]
    nested: Any = {rng.choice(TEXTS): odd_value(rng)}
    for _ in range(rng.choice([0, 5, 600])):
        nested = [nested]
    return nested


def json_text(rng: Random, content: bytes) -> bytes:
    """JSON with one node left out, renamed, or replaced."""
    tree = json.loads(content)
    places, stack = [], [tree]
    while stack:
        node = stack.pop()
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(value, dict | list):
                stack.append(value)
    node, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[rng.choice([*TEXTS, key + "x"])] = node.pop(key)
    else:
        node[key] = odd_value(rng)
    return json.dumps(tree, indent=1).encode("utf-8", "surrogatepass")


def plain_text(rng: Random, content: bytes) -> bytes:
    """XML or CSV with another value, lines left out or repeated, another dialect, or a bomb."""
    text, kind = content.decode(), rng.randrange(7)
    if kind <= 3:
        value = rng.choice(list(re.finditer(r"[^<>\"=,;\s]+", text)))
        new = rng.choice([odd_text(rng), '"', '"1,5"'])
        text = text[: value.start()] + new + text[value.end() :]
    elif kind == 4:
        lines = text.split("\n")
        row = rng.randrange(len(lines))
        lines[row : row + rng.choice([1, 30])] = [rng.choice(lines)] * rng.choice([0, 2, 1000])
        text = "\n".join(lines)
    elif kind == 5:
        old, new = rng.choice([(",", ";"), (".", ","), ("20", "19"), ("\n", "\r"), ("/>", ">")])
        return text.replace(old, new).encode(rng.choice(["utf-8", "utf-16"]))
    else:
        bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
        entity = rng.choice([f'<!ENTITY e0 "x">{bomb}', '<!ENTITY e9 SYSTEM "file:///etc/passwd">'])
        text = text.replace("?>", f"?><!DOCTYPE a [{entity}]>", 1)
        text = text.replace("</VALUES>", " &e9;</VALUES>", 1)
    return text.encode("utf-8", "replace")


def zip_of(name: str, content: bytes) -> bytes:
    """A deflated zip of one member."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def zipped(rng: Random, content: bytes) -> bytes:
    """A zip whose table is changed, and mostly keeps its name."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        (name,) = source.namelist()
        table = source.read(name)
    return zip_of(rng.choice([name, name, "../" + name, "x"]), plain_text(rng, table))


BY_MEANING: dict[str, Change] = {
    ".json": json_text,
    ".xml": plain_text,
    ".csv": plain_text,
    ".zip": zipped,
    ".gz": lambda rng, content: gzip.compress(plain_text(rng, gzip.decompress(content)), mtime=0),
}


# ---- readers


@dataclass(frozen=True)
class Reader:
    """Cases that are read; how a folder of files is read; how a change's digests are corrected."""

    seeds: Sequence[Files]
    read: Callable[[Path], None]
    seal: Callable[[Files], Files] = lambda files: files


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, canopy_table: Path) -> Path:
    """Some weeks of one site with a tower."""
    from simulated_archive import simulate_site

    folder = tmp_path_factory.mktemp("fuzz") / "archive"
    simulate_site(
        requests=[REQUEST],
        cube=CubeGrid(size_px=12, cloud_context_px=4),
        demo=config.Demo(optical_revisit_days=5, radar_revisit_days=6),
        seed=1,
        canopy_table=canopy_table,
        folder=folder,
        truth=folder / "truth",
        tower=TOWER,
    )
    return folder


def granule(archive: Path) -> Reader:
    """Angles of a granule, up to the correction on a cube's grid."""
    from pipeline_lib.acquire.angles import parse_angles
    from pipeline_lib.acquire.brdf import c_factor_on_nodes, fill_nearest, mean_angles, on_grid
    from pipeline_lib.acquire.retries import Damaged

    bands = SENTINEL_2.bands
    grids = [Grid(32632, 699960, 5349960, 10, 12, 12), Grid(32733, 399960, 5349960, 10, 12, 12)]

    def read(folder: Path) -> None:
        try:
            angles = parse_angles((folder / "MTD_TL.xml").read_bytes(), bands)
            nodes = fill_nearest(c_factor_on_nodes(angles))
            for grid in grids:
                assert on_grid(nodes, angles, grid).shape == (len(bands), 12, 12)
                mean_angles(angles, grid)
        except Damaged as error:
            raise UserError(str(error)) from error

    paths = sorted(archive.rglob("MTD_TL.xml"))[:3]
    return Reader([{"MTD_TL.xml": path.read_bytes()} for path in paths], read)


def fluxnet(archive: Path) -> Reader:
    """A tower's daily file, plain, gzipped and zipped, and the targets made of it."""
    from pipeline_lib.gpp.targets import describe_site, read_targets, write_targets

    (path,) = archive.rglob("FLX_*.csv")
    # A name that states whole years would not fit files of some weeks.
    name, text = f"{SITE}_DD.csv", path.read_bytes()
    period = {"start": PERIOD[0], "end": PERIOD[1]}
    gpp = config.Gpp.model_validate({"period": period, "fluxes": {"weather": ("SW_IN_F", "TA_F")}})

    def read(folder: Path) -> None:
        output = folder.parent / "targets.csv"
        write_targets(tower=TOWER, gpp=gpp, fluxnet=folder, output=output)
        table = read_targets(output)
        assert not np.isinf(table["gpp"]).any()
        describe_site(table, gpp.fluxes)

    packed = {f"{name}.gz": gzip.compress(text, mtime=0)}
    return Reader([{name: text}, packed, {f"FLX_{SITE}.zip": zip_of(name, text)}], read)


def items_of(archive: Path) -> list[dict[str, Any]]:
    """A few items of Sentinel-2 and Sentinel-1 with the assets that are read."""
    used = {"B02", "B04", "B8A", "SCL", "granule-metadata", "vv", "vh"}
    features = json.loads((archive / "items" / f"{SITE}.json").read_text())["features"]
    items = []
    for collection in ("sentinel-2-l2a", "sentinel-1-rtc"):
        items += [item for item in features if item["collection"] == collection][:2]
    for item in items:
        item["assets"] = {k: v for k, v in item["assets"].items() if k in used}
    return items


def pin(place: Catalog, sensor: str, folder: Path) -> Path:
    """The file of the items that are pinned for the cube."""
    from pipeline_lib.acquire import pin_items

    common = {"request": REQUEST, "cube": CUBE, "catalog": place}
    pin_items(sensor=SENSORS[sensor], output=folder / "pinned.json", **common)
    return folder / "pinned.json"


def catalog(archive: Path) -> Reader:
    """A folder of STAC item collections, and what is pinned of them."""
    from pipeline_lib.acquire.items import read_pinned

    def read(folder: Path) -> None:
        place = Catalog(source=str(folder), signing="none")
        read_pinned(pin(place, "optical", folder.parent))

    links = [{"rel": "license", "href": "https://example.org/terms"}]
    collection = {"type": "Collection", "license": "proprietary", "links": links}
    items = {"type": "FeatureCollection", "features": items_of(archive)}
    case = {
        "items/all.json": json.dumps(items).encode(),
        "collections/sentinel-2-l2a.json": json.dumps(collection).encode(),
    }
    return Reader([case], read)


def pinned(archive: Path) -> Reader:
    """Pinned items, and the cube that is built from them."""
    from pipeline_lib.acquire import build_cube

    place = Catalog(source=str(archive), signing="none", retries=0, requests=1)
    cases: list[Files] = []
    for name in SENSORS:
        content = json.loads(pin(place, name, archive.parent).read_text())
        content["items"] = content["items"][:2]
        cases.append({f"{name}.json": json.dumps(content).encode()})

    def read(folder: Path) -> None:
        (file,) = folder.iterdir()
        output = folder.parent / "cube.zarr.zip"
        build_cube(
            sensor_name=file.stem,
            sensor=SENSORS[file.stem].model_copy(update={"min_clear": 0.0}),
            catalog=place,
            cube=CUBE,
            items=file,
            config_digest="0",
            output=output,
        )
        read_cube(output)

    return Reader(cases, read)


def api(archive: Path) -> Reader:
    """The answers of a STAC API: landing page, collection, two pages of items."""
    from pipeline_lib.acquire.catalog import license_of, search

    url, collection = "http://stac.invalid", "sentinel-2-l2a"
    items = items_of(archive)[:2]
    pages = stac_pages(url, collection, items, then=f"{url}/search?token=2")
    pages |= {"next": pages["search"] | {"links": []}, "landing": pages.pop("")}
    case = {f"{path}.json": json.dumps(page).encode() for path, page in pages.items()}
    place = Catalog(source=url, signing="none", retries=0)

    def read(folder: Path) -> None:
        def send(self: Any, request: Any, **more: Any) -> requests.Response:
            assert request.url.startswith("http")
            about = f"collections/{collection}"
            parts = {"token=": "next", "/collections": about, "/search": "search"}
            name = next((file for part, file in parts.items() if part in request.url), "landing")
            answer = requests.Response()
            answer.status_code, answer.url, answer.request = 200, request.url, request
            answer._content = (folder / f"{name}.json").read_bytes()
            return answer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(requests.Session, "send", send)
            search(place, collection, (11.6, 48.2, 11.8, 48.4), *PERIOD)
            license_of(place, collection)

    return Reader([case], read)


def model(archive: Path) -> Reader:
    """Folders of trained models, as they are loaded and as the config reads them."""
    from untrained import save_all_untrained, scaled_by

    from pipeline_lib.models import load_encoder, load_fusion
    from pipeline_lib.models.artefact import _digest

    encoder = config.Encoder(width=8, head_width=16, heads=2, head_layers=1, decoder_width=8)
    small = {"encoder": encoder, "sequence": config.Sequence(frames=5), "latent_dim": 2}
    bands = {"bands": ("B04", "B08"), "rgb": None}
    folders = save_all_untrained(
        archive.parent / "models",
        {
            "optical": SENTINEL_2.model_copy(update=bands | small),
            "radar": SENTINEL_1.model_copy(update=small),
        },
        config.Context(patch_px=7, frames=3),
        config.Fusion(reference="optical", embedding_dim=4),
        scaled_by(0.0, 1.0),
    )
    names = ("model.json", "model.safetensors")
    case = {f"{n}/{f}": (path / f).read_bytes() for n, path in folders.items() for f in names}

    def seal(files: Files) -> Files:
        sealed, digests = dict(files), {}
        for name in ("optical", "radar", "fusion"):
            with suppress(ValueError, TypeError, AttributeError, KeyError, RecursionError):
                content = json.loads(sealed[f"{name}/model.json"])
                content.pop("digest", None)
                if name == "fusion":
                    content["encoders"] |= digests
                digests[name] = _digest(sealed[f"{name}/model.safetensors"], content)
                text = json.dumps(content | {"digest": digests[name]})
                sealed[f"{name}/model.json"] = text.encode("utf-8", "surrogatepass")
        return sealed

    def read(folder: Path) -> None:
        config.trained_blocks(folder)
        load_encoder(folder / "optical")
        load_encoder(folder / "radar")
        load_fusion(folder / "fusion")

    return Reader([case], read, seal)


# ---- the test

READERS = {granule: 25, fluxnet: 60, catalog: 25, pinned: 6, api: 25, model: 12}
"""Reader -> changed files in an ordinary run."""


def is_read(reader: Reader, files: Files, folder: Path) -> bool:
    """Read a case; False if it is rejected in one line, and an exception if it ends otherwise."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"no end after {LONGEST_S} s")

    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(folder)
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) <= LONGEST_LINE, repr(str(error))
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return True


@pytest.mark.parametrize("made", READERS, ids=lambda made: made.__name__)
def test_changed_files_are_read_or_rejected_in_one_line(
    made: Callable[[Path], Reader], archive: Path, tmp_path: Path
) -> None:
    reader = made(archive)
    for files in reader.seeds:
        assert is_read(reader, files, tmp_path / "in")
    for seed in range(int(os.environ.get("CASES", READERS[made]))):
        rng = Random(seed)
        files = reader.seal(changed(rng, rng.choice(reader.seeds)))
        try:
            is_read(reader, files, tmp_path / "in")
        except Exception as error:
            raise AssertionError(f"case {seed}, in {tmp_path / 'in'}: {error!r}") from error
