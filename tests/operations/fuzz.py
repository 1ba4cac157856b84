"""Whatever bytes stand in a file: it is read, or refused in one line.

python tests/operations/fuzz.py [--seconds 300] [--readers granule cube] [--crashes FOLDER]

Each reader is given files of the simulated archive (and real ones, where there are any), changed at
random. Prints a table, and keeps each case that ended in another way: by another exception, a
signal, silence or too much memory.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import numpy as np
from fuzz_changes import Files, changed

from pipeline_lib.errors import UserError

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests"))
REAL = ROOT.parent / "shared" / "data"

LONGEST_S = 20
"""No case may compute for longer."""
SILENCE_S = 600
"""Nor may nothing be heard of its process for so long."""
LARGEST_MB = 3000
"""Nor more memory beyond what the reader has anyway."""
LONGEST_LINE = 2000
END = "end"

SITE, TOWER = "DE-Abc", "DE-Abc"
PERIOD = date(2019, 5, 1), date(2019, 5, 20)
EVERY = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


class Crash(Exception):
    """A case that was neither read nor refused in one line."""


@dataclass(frozen=True)
class Reader:
    """What is fed, and how a case ends.

    Attributes
    ----------
    seeds
        Cases that are read.
    read
        Reads the files of a folder.
    seal
        Makes good what a change would else be refused for at once: digests.
    """

    seeds: list[Files]
    read: Callable[[Path], None]
    seal: Callable[[Random, Files], Files] = lambda rng, files: files


@dataclass
class Seeds:
    """Where seeds come from: an archive simulated here, and real files."""

    archive: Path
    real: Path | None


def simulate(folder: Path) -> None:
    """A small archive: some weeks of one site with a tower."""
    from pipeline_lib.config import CubeGrid, Demo, Tower
    from pipeline_lib.cubes import CubeRequest
    from simulated_archive import simulate_site, write_canopy_table

    write_canopy_table(folder / "canopy.npz")
    simulate_site(
        requests=[CubeRequest(SITE, SITE, "others", 11.7, 48.3, *PERIOD)],
        cube=CubeGrid(size_px=12, cloud_context_px=4),
        demo=Demo(optical_revisit_days=5, radar_revisit_days=6),
        seed=1,
        canopy_table=folder / "canopy.npz",
        folder=folder,
        truth=folder / "truth",
        tower=Tower(name=TOWER, lon=11.7, lat=48.3, vegetation="GRA"),
    )


def granule(seeds: Seeds) -> Reader:
    """Angles of a granule, up to the correction on a cube's grid."""
    from pipeline_lib.acquire.angles import parse_angles
    from pipeline_lib.acquire.brdf import c_factor_on_nodes, fill_nearest, mean_angles, on_grid
    from pipeline_lib.acquire.retries import Damaged
    from pipeline_lib.cubes import Grid

    made = sorted(seeds.archive.rglob("MTD_TL.xml"))[:3]
    found = sorted(seeds.real.rglob("MTD_TL.xml"), key=_size)[:2] if seeds.real else []
    grids = [Grid(32632, 699960, 5349960, 10, 12, 12), Grid(32733, 399960, 5349960, 10, 12, 12)]

    def read(folder: Path) -> None:
        try:
            angles = parse_angles((folder / "MTD_TL.xml").read_bytes(), EVERY)
            nodes = fill_nearest(c_factor_on_nodes(angles))
            for grid in grids:
                assert on_grid(nodes, angles, grid).shape == (len(EVERY), 12, 12)
                mean_angles(angles, grid)
        except Damaged as error:
            raise UserError(str(error)) from error

    return Reader([{"MTD_TL.xml": path.read_bytes()} for path in [*made, *found]], read)


def _size(path: Path) -> int:
    return path.stat().st_size


def fluxnet(seeds: Seeds) -> Reader:
    """A tower's daily files, plain, gzipped and zipped, and the targets made of them."""
    from pipeline_lib.config import Gpp, Tower
    from pipeline_lib.gpp.targets import describe_site, read_targets, write_targets

    (path,) = seeds.archive.rglob("FLX_*.csv")
    # A name that states whole years would not fit files of some weeks.
    texts = [(f"{TOWER}_DD.csv", path.read_bytes())]
    if seeds.real:
        full = next(seeds.real.rglob("FLX_US-Wi7*.csv"))
        texts.append((f"FLX_{TOWER}_FULLSET_DD.csv", b"\n".join(_lines(full, 60))))
        half = next(seeds.real.rglob("*_HH_*.csv"))
        texts.append((f"{TOWER}.csv", b"\n".join(_lines(half, 10))))
    cases: list[Files] = []
    for name, text in texts:
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, text)
        cases += [{name: text}, {f"{name}.gz": gzip.compress(text, mtime=0)}]
        cases.append({f"FLX_{TOWER}.zip": held.getvalue()})
    period = {"start": PERIOD[0], "end": PERIOD[1]}
    gpp = Gpp.model_validate({"period": period, "fluxes": {"weather": ("SW_IN_F", "TA_F")}})
    tower = Tower(name=TOWER, lon=11.7, lat=48.3, vegetation="GRA")

    def read(folder: Path) -> None:
        output = folder.parent / "targets.csv"
        write_targets(tower=tower, gpp=gpp, fluxnet=folder, output=output)
        table = read_targets(output)
        assert not np.isinf(table["gpp"]).any()
        describe_site(table, gpp.fluxes)

    return Reader(cases, read)


def _lines(path: Path, count: int) -> list[bytes]:
    return path.read_bytes().splitlines()[:count]


def targets(seeds: Seeds) -> Reader:
    """A tower's targets, as they lie in a run."""
    from pipeline_lib.config import Fluxes
    from pipeline_lib.gpp.targets import describe_site, read_targets

    rows = [f"2019-05-{day:02d},{day / 7:.3f},0.9,200.0,{day},True" for day in range(1, 32)]
    text = "\n".join(["date,gpp,quality,SW_IN_F,TA_F,kept", *rows, ""])

    def read(folder: Path) -> None:
        describe_site(read_targets(folder / "targets.csv"), Fluxes())

    return Reader([{"targets.csv": text.encode()}], read)


def _sensors() -> dict[str, Any]:
    from pipeline_lib.config import SENTINEL_1, SENTINEL_2, SensorSource

    optical = {"bands": ("B02", "B04", "B8A"), "clouds": "scl", "rgb": None}
    landsat = SensorSource(
        collection="landsat-c2-l2",
        loader="landsat-c2-l2",
        quantity="reflectance",
        bands=("red", "nir08"),
        clouds="qa_pixel",
    )
    return {
        "optical": SENTINEL_2.model_copy(update=optical).source(),
        "radar": SENTINEL_1.source(),
        "landsat": landsat,
    }


def _items(seeds: Seeds) -> list[dict[str, Any]]:
    """A few items of each kind; Landsat's are told of Sentinel-2's files."""
    (path,) = (seeds.archive / "items").glob("*.json")
    found = json.loads(path.read_text())["features"]
    optical = [item for item in found if item["collection"] == "sentinel-2-l2a"][:2]
    radar = [item for item in found if item["collection"] == "sentinel-1-rtc"][:2]
    landsat = json.loads(json.dumps(optical[0]))
    landsat |= {"id": "LC08", "collection": "landsat-c2-l2"}
    assets = landsat["assets"]
    landsat["assets"] = dict(zip(["red", "nir08", "qa_pixel"], assets.values(), strict=False))
    landsat["properties"] |= {
        "proj:transform": [30, 0, 699945.0, 0, -30, 5350035.0],
        "landsat:wrs_path": "193",
        "view:sun_elevation": 50.0,
        "view:sun_azimuth": -30.0,
    }
    used = {"B02", "B04", "B8A", "SCL", "granule-metadata", "vv", "vh", "red", "nir08", "qa_pixel"}
    for item in [*optical, *radar, landsat]:
        item["assets"] = {k: v for k, v in item["assets"].items() if k in used}
    return [*optical, *radar, landsat]


def _request() -> Any:
    from pipeline_lib.cubes import CubeRequest

    return CubeRequest(SITE, SITE, "others", 11.7, 48.3, *PERIOD)


def catalog(seeds: Seeds) -> Reader:
    """A folder of STAC item collections, and what is pinned of them."""
    from pipeline_lib.acquire import pin_items
    from pipeline_lib.acquire.items import read_pinned
    from pipeline_lib.config import Catalog, CubeGrid

    items = _items(seeds)
    collection = {"type": "Collection", "license": "proprietary"}
    collection["links"] = [{"rel": "license", "href": "https://example.org/terms"}]  # type: ignore
    if seeds.real:
        real = sorted((seeds.real / "metadata" / "planetary_computer").glob("S2*.json"))
        for item in map(json.loads, (path.read_text() for path in real)):
            items.append(item | {"bbox": items[0]["bbox"]})
            items[-1]["properties"]["datetime"] = "2019-05-10T10:20:31.024Z"
    case = {
        "items/all.json": json.dumps({"type": "FeatureCollection", "features": items}).encode(),
        "collections/sentinel-2-l2a.json": json.dumps(collection).encode(),
    }

    def read(folder: Path) -> None:
        refused = None
        for sensor in _sensors().values():
            output = folder.parent / "pinned.json"
            try:
                pin_items(
                    request=_request(),
                    sensor=sensor,
                    cube=CubeGrid(size_px=12),
                    catalog=Catalog(source=str(folder), signing="none"),
                    output=output,
                )
            except UserError as error:
                _check_line(error)
                refused = error
            else:
                read_pinned(output)
        if refused:
            raise refused

    return Reader([case], read)


def pinned(seeds: Seeds) -> Reader:
    """Pinned items, and the cube that is built from them."""
    from pipeline_lib.acquire import build_cube, pin_items
    from pipeline_lib.config import Catalog, CubeGrid
    from pipeline_lib.cubes import read_cube

    source, grid = seeds.archive.parent / "few", CubeGrid(size_px=12)
    place = Catalog(source=str(source), signing="none", retries=0, requests=1)
    (source / "items").mkdir(parents=True, exist_ok=True)
    items = _items(seeds)
    for item in items:
        for asset in item["assets"].values():
            asset["href"] = str(seeds.archive / asset["href"])
    (source / "items" / "all.json").write_text(json.dumps({"features": items}))
    cases: list[Files] = []
    for name, sensor in _sensors().items():
        output = source / "pinned.json"
        pin_items(request=_request(), sensor=sensor, cube=grid, catalog=place, output=output)
        cases.append({f"{name}.json": output.read_bytes()})

    def read(folder: Path) -> None:
        (file,) = folder.iterdir()
        output = folder.parent / "cube.zarr.zip"
        build_cube(
            sensor_name=file.stem,
            sensor=_sensors()[file.stem].model_copy(update={"min_clear": 0.0}),
            catalog=place,
            cube=grid,
            items=file,
            config_digest="0",
            output=output,
        )
        read_cube(output)

    return Reader(cases, read)


def api(seeds: Seeds) -> Reader:
    """The answers of a STAC API."""
    import requests

    from pipeline_lib.acquire.catalog import license_of, search
    from pipeline_lib.config import Catalog

    url = "http://stac.invalid"
    conforms = [f"https://api.stacspec.org/v1.0.0/{part}" for part in ("core", "item-search")]
    told = {"stac_version": "1.0.0", "description": "d", "links": []}
    landing = told | {"type": "Catalog", "id": "api"}
    landing["conformsTo"] = [*conforms, "https://api.stacspec.org/v1.0.0/collections"]
    landing["links"] = [
        {"rel": "root", "href": url},
        {"rel": "data", "href": f"{url}/collections"},
        {"rel": "search", "href": f"{url}/search", "method": "POST"},
    ]
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    collection = told | {"type": "Collection", "id": "sentinel-2-l2a", "extent": extent}
    collection["license"] = "proprietary"
    items = {"type": "FeatureCollection", "features": _items(seeds)[:2]}
    after = {"rel": "next", "href": f"{url}/search?token=2", "method": "GET"}
    pages = [items | {"links": []}, items | {"links": [after]}]
    cases = [
        {
            "landing.json": json.dumps(landing).encode(),
            "collections.json": json.dumps(collection).encode(),
            "search.json": json.dumps(page).encode(),
            "next.json": json.dumps(pages[0]).encode(),
        }
        for page in pages
    ]
    place = Catalog(source=url, signing="none", retries=0)

    def read(folder: Path) -> None:
        def send(self: Any, request: Any, **more: Any) -> requests.Response:
            assert request.url.startswith("http")
            name = "landing"
            for part, file in (("/collections", "collections"), ("/search", "search")):
                name = file if part in request.url else name
            name = "next" if "token=" in request.url else name
            answer = requests.Response()
            answer.status_code, answer.url, answer.request = 200, request.url, request
            answer._content = (folder / f"{name}.json").read_bytes()
            return answer

        original = requests.Session.send
        requests.Session.send = send  # type: ignore[method-assign]
        try:
            search(place, "sentinel-2-l2a", (11.6, 48.2, 11.8, 48.4), *PERIOD)
            license_of(place, "sentinel-2-l2a")
        finally:
            requests.Session.send = original  # type: ignore[method-assign]

    return Reader(cases, read)


def _models(folder: Path) -> dict[str, Path]:
    import torch
    from untrained import save_all_untrained, scaled_by

    from pipeline_lib.config import SENTINEL_1, SENTINEL_2, Context, Encoder, Fusion, Sequence

    torch.manual_seed(0)
    small = {
        "encoder": Encoder(width=8, head_width=16, heads=2, head_layers=1, decoder_width=8),
        "sequence": Sequence(frames=5),
    }
    bands = {"bands": ("B04", "B08"), "rgb": None, "latent_dim": 3}
    sensors = {
        "optical": SENTINEL_2.model_copy(update=bands | small),
        "radar": SENTINEL_1.model_copy(update={"latent_dim": 2} | small),
    }
    block = Fusion(reference="optical", embedding_dim=4, width=16, layers=1, heads=2)
    return save_all_untrained(
        folder, sensors, Context(patch_px=7, frames=3), block, scaled_by(0.0, 1.0)
    )


def model(seeds: Seeds) -> Reader:
    """Folders of trained models, as they are loaded and as the config reads them."""
    from pipeline_lib.config import trained_blocks
    from pipeline_lib.models import load_encoder, load_fusion
    from pipeline_lib.models.artefact import _digest

    folder = seeds.archive.parent / "models"
    case = {
        f"{name}/{file}": (path / file).read_bytes()
        for name, path in _models(folder).items()
        for file in ("model.json", "model.safetensors")
    }

    def seal(rng: Random, files: Files) -> Files:
        if rng.random() < 0.1:
            return files
        sealed = dict(files)
        digests: dict[str, str] = {}
        for name in ("optical", "radar", "fusion"):
            try:
                told = json.loads(sealed[f"{name}/model.json"])
                told.pop("digest", None)
                if name == "fusion" and rng.random() < 0.9:
                    told["encoders"] |= digests
                digests[name] = _digest(sealed[f"{name}/model.safetensors"], told)
                text = json.dumps(told | {"digest": digests[name]})
                sealed[f"{name}/model.json"] = text.encode("utf-8", "surrogatepass")
            except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
                continue
        return sealed

    def read(folder: Path) -> None:
        refused = None
        loads: list[Callable[[], Any]] = [
            lambda: trained_blocks(folder),
            lambda: load_encoder(folder / "optical"),
            lambda: load_encoder(folder / "radar"),
            lambda: load_fusion(folder / "fusion"),
        ]
        for load in loads:
            try:
                load()
            except UserError as error:
                _check_line(error)
                refused = error
        if refused:
            raise refused

    return Reader([case], read, seal)


def _write_cube(path: Path, quantity: str) -> None:
    from pipeline_lib.cubes import Grid, make_cube, write_cube

    rng = np.random.default_rng(0)
    bands = ("B04", "B08") if quantity == "reflectance" else ("vv", "vh")
    values = (0.5 * rng.random((6, 2, 9, 8))).astype(np.float32)
    values[2, :, :3] = np.nan
    mask = np.where(np.isfinite(values).all(axis=1), rng.integers(0, 2, (6, 9, 8)), 4)
    write_cube(
        make_cube(
            values=values,
            unfiltered=values if quantity == "backscatter" else None,
            mask=mask.astype(np.uint8),
            times=np.datetime64("2022-03-01", "ns") + np.arange(6) * np.timedelta64(5, "D"),
            bands=bands,
            grid=Grid(32632, 699960, 5349960, 10, 9, 8),
            quantity=quantity,
            frames={"item": [f"scene-{n}" for n in range(6)], "clear_share": np.ones(6)},
            attributes={"sensor": "s", "cube": "c", "site": "c", "land_cover": "others"},
        ),
        path,
    )


def cube(seeds: Seeds) -> Reader:
    """A cube of this package: read whole, and tile by tile as it is embedded."""
    from pipeline_lib.cubes import read_cube
    from pipeline_lib.dataset import Normalisation
    from pipeline_lib.embed.arrays import Tile
    from pipeline_lib.embed.streaming import open_frames

    cases: list[Files] = []
    for quantity in ("reflectance", "backscatter"):
        path = seeds.archive.parent / f"{quantity}.zarr.zip"
        _write_cube(path, quantity)
        cases.append({"cube.zarr.zip": path.read_bytes()})
    bounds = np.zeros(2, np.float32), np.ones(2, np.float32)

    def read(folder: Path) -> None:
        path = folder / "cube.zarr.zip"
        held = read_cube(path)
        bands = tuple(str(band) for band in held["band"].values)
        known = bands in (("B04", "B08"), ("vv", "vh"))
        scaling = Normalisation(bands if known else ("B04", "B08"), *bounds)
        _, frames = open_frames(path, scaling)
        rows, columns = frames.shape
        crop = frames.crop(Tile(0, 0, min(rows, 4), min(columns, 4)), 2)
        assert np.isfinite(crop.values).all()

    return Reader(cases, read)


def _own(path: Path, **more: object) -> None:
    """Ingest a user's file, and read the cube that it becomes."""
    from pipeline_lib.config import SENTINEL_1, OwnCube
    from pipeline_lib.cubes import ingest_cube, read_cube

    file = {"file": path, "bands": {"vv": "vv", "vh": "vh"}, "no_data": (0.0,)} | more
    output = path.parent.parent / "own.zarr.zip"
    ingest_cube(
        name="own",
        sensor_name="sentinel-1",
        sensor=SENTINEL_1.source(),
        own=OwnCube.model_validate({"site": "own", "files": {"sentinel-1": file}}),
        resolution_m=10.0,
        config_digest="0",
        output=output,
    )
    read_cube(output)


def _foreign() -> Any:
    import xarray as xr

    rng = np.random.default_rng(0)
    dims = ("time", "y", "x")
    return xr.Dataset(
        {
            "vv": (dims, rng.uniform(0.01, 0.2, (4, 6, 5)).astype(np.float32)),
            "vh": (dims, rng.integers(1, 200, (4, 6, 5)).astype(np.int16)),
            "SCL": (dims, rng.integers(0, 11, (4, 6, 5)).astype(np.uint8)),
            "crs": ((), 0, {"crs_wkt": "EPSG:32632"}),
        },
        coords={
            "time": np.array(["2020-01-03", "2020-01-01", "2020-01-03", "2020-01-07"], "M8[ns]"),
            "y": 5e6 - 10.0 * np.arange(6),
            "x": 4e5 + 10.0 * np.arange(5),
        },
    )


def netcdf(seeds: Seeds) -> Reader:
    """A NetCDF file that a user brings."""
    cases: list[Files] = []
    for form in ("NETCDF4", "NETCDF3_64BIT"):
        path = seeds.archive.parent / "own.nc"
        _foreign().to_netcdf(path, format=form, engine="netcdf4")
        cases.append({"own.nc": path.read_bytes()})
    mask = {"mask": "SCL", "mask_clear": (4, 5, 6, 7)}
    return Reader(cases, lambda folder: _own(folder / "own.nc", **mask))


def zarr_folder(seeds: Seeds) -> Reader:
    """A Zarr folder that a user brings, of both versions."""
    cases: list[Files] = []
    for version in (2, 3):
        folder = seeds.archive.parent / f"own{version}.zarr"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _foreign().to_zarr(folder, zarr_format=version, consolidated=False, mode="w")
        cases.append(
            {
                f"own.zarr/{path.relative_to(folder).as_posix()}": path.read_bytes()
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
        )
    return Reader(cases, lambda folder: _own(folder / "own.zarr"))


def arrays(seeds: Seeds) -> Reader:
    """Arrays that are embedded in Python, made by a recipe."""
    import xarray as xr

    from pipeline_lib.embed import embed_xarray

    models = seeds.archive.parent / "models"
    _models(models)
    days = [f"2020-06-{day:02d}" for day in (1, 6, 11, 16)]
    axes = {"y": [50.0 - 10 * n for n in range(6)], "x": [10.0 * n for n in range(6)]}
    recipe = {
        name: {
            "dims": ["time", "band", "y", "x"],
            "shape": [4, 2, 6, 6],
            "dtype": "float32",
            "value": 0.25,
            "coords": {"time": days, "band": list(bands)} | axes,
        }
        for name, bands in (("optical", ("B04", "B08")), ("radar", ("vv", "vh")))
    }

    def made(one: dict[str, Any]) -> Any:
        shape = tuple(one["shape"])
        if not all(isinstance(side, int) for side in shape) or np.prod(shape, dtype=float) > 1e5:
            raise ValueError("no recipe")
        values = np.full(shape, one["value"], one["dtype"])
        if values.size and values.dtype.kind == "f":
            values.flat[:: max(1, values.size // 3)] = np.nan
        coords = {
            name: (name, np.array(held, "M8[ns]" if name == "time" else None))
            for name, held in one["coords"].items()
        }
        return xr.DataArray(values, dims=one["dims"], coords=coords)

    def read(folder: Path) -> None:
        try:
            told = json.loads((folder / "recipe.json").read_text())
            given = {name: made(one) for name, one in told.items()}
        except Exception as error:
            raise UserError("no recipe") from error
        result = embed_xarray(given, models)
        assert result["embedding"].dims == ("time", "feature", "y", "x")

    return Reader([{"recipe.json": json.dumps(recipe).encode()}], read)


READERS: dict[str, Callable[[Seeds], Reader]] = {
    "granule": granule,
    "fluxnet": fluxnet,
    "targets": targets,
    "catalog": catalog,
    "pinned": pinned,
    "api": api,
    "model": model,
    "cube": cube,
    "netcdf": netcdf,
    "zarr": zarr_folder,
    "arrays": arrays,
}


def _check_line(error: UserError) -> None:
    text = str(error)
    if not text.isprintable() or len(text) > LONGEST_LINE:
        raise Crash(f"not one line: {text[:LONGEST_LINE]!r}")


def _give_up(number: int, frame: FrameType | None) -> None:
    raise Crash(f"no end after {LONGEST_S} s")


def attempt(reader: Reader, files: Files, folder: Path) -> str | None:
    """Read a case.

    Returns
    -------
    str or None
        Why it was refused; None if it was read.

    Raises
    ------
    Crash
        If it ended in another way.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    before = _memory_mb("VmRSS")
    _forget_peak()
    signal.signal(signal.SIGPROF, _give_up)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(folder)
        told = None
    except UserError as error:
        _check_line(error)
        told = str(error).replace(str(folder), "")
    except Crash:
        raise
    except Exception as error:
        raise Crash("".join(traceback.format_exception(error))) from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if (taken := _memory_mb("VmHWM") - before) > LARGEST_MB:
        raise Crash(f"took {taken:.0f} MB")
    return told


def _memory_mb(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@dataclass
class Score:
    """How many cases one reader was given, and how those that did not crash ended."""

    inputs: int = 0
    refused: int = 0
    read: int = 0


def worker(name: str, seeds: Seeds, seconds: float, seed: int, folder: Path, pipe: Any) -> None:
    """Feed a reader until the time is over; each case lies in ``folder`` while it is read."""
    from pipeline_lib.cubes import foreign

    foreign.LONGEST_S = LONGEST_S // 4
    reader, rng, score, told = READERS[name](seeds), Random(seed), Score(), 0.0
    # From here on libraries in C would fill the terminal.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    queue = list(reader.seeds)
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        if queue:
            files = queue.pop()
        else:
            files = reader.seal(rng, changed(rng, rng.choice(reader.seeds), reader.seeds))
        score.inputs += 1
        try:
            reason = attempt(reader, files, folder / "in")
        except Crash as crash:
            pipe.send(str(crash))
            # Its files must be kept before the next case takes their place.
            pipe.recv()
            continue
        score.refused += reason is not None
        score.read += reason is None
        if now - told > 1:
            told = now
            pipe.send(score)
    pipe.send(score)
    pipe.send(END)


def feed(
    name: str, seeds: Seeds, seconds: float, seed: int, folder: Path, crashes: Path
) -> tuple[Score, int]:
    """Feed a reader in a process of its own, and again in another one where that dies."""
    total, crashed, left = Score(), 0, seconds
    context = multiprocessing.get_context("spawn")
    while left > 0:
        folder.mkdir(parents=True, exist_ok=True)
        ours, theirs = context.Pipe()
        begin = time.monotonic()
        process = context.Process(target=worker, args=(name, seeds, left, seed, folder, theirs))
        process.start()
        theirs.close()
        score, reason = Score(), ""
        while not reason:
            try:
                if not ours.poll(SILENCE_S):
                    reason = f"no end after {SILENCE_S} s, in a library"
                    process.kill()
                    break
                message = ours.recv()
            except EOFError:
                break
            if message == END:
                reason = END
            elif isinstance(message, Score):
                score = message
            else:
                _keep(folder / "in", crashes / f"{name}-{crashed}", message)
                crashed += 1
                ours.send(None)
        process.join()
        if reason != END:
            text = reason or f"signal {-(process.exitcode or 0)}"
            _keep(folder / "in", crashes / f"{name}-{crashed}", text)
            crashed += 1
            score.inputs += 1
        total.inputs += score.inputs
        total.read += score.read
        total.refused += score.refused
        left -= time.monotonic() - begin
        seed += 1
        if reason == END:
            break
    return total, crashed


def _keep(case: Path, kept: Path, text: str) -> None:
    shutil.rmtree(kept, ignore_errors=True)
    if case.is_dir():
        shutil.copytree(case, kept / "in")
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "why.txt").write_text(text)


def main() -> int:
    """Feed the readers in turn and print a table."""
    parser = argparse.ArgumentParser(description="Feed changed files to the readers of files")
    parser.add_argument("--seconds", type=float, default=300, help="per reader")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crashes", type=Path, default=Path("crashes"), help="folder of the cases")
    parser.add_argument("--real", type=Path, default=REAL, help="folder of real files")
    chosen = parser.parse_args()
    print("| reader | inputs | seconds | refused in one line | read | crashes |")
    print("|---|---|---|---|---|---|")
    total = 0
    with tempfile.TemporaryDirectory() as scratch:
        seeds = Seeds(Path(scratch) / "archive", chosen.real if chosen.real.is_dir() else None)
        seeds.archive.mkdir()
        simulate(seeds.archive)
        for name in chosen.readers:
            begin = time.monotonic()
            place = Path(scratch) / "cases" / name
            score, crashed = feed(name, seeds, chosen.seconds, chosen.seed, place, chosen.crashes)
            total += crashed
            row = [name, score.inputs, f"{time.monotonic() - begin:.0f}"]
            row += [score.refused, score.read, crashed]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
