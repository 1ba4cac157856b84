"""Inputs that are broken, each in a real run of one target, and what is said of each of them.

    python tests/operations/broken_inputs.py [--finished FOLDER] [--docs]

The folder is one in which the small run of the tests is finished; without it, it is made (minutes).
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml
from real_runs import TINY, Run, products, run, table, write_docs
from snakemake.utils import update_config

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
OWN = "results/own/cubes/sentinel-2/mine.zarr.zip"
SITE = "results/tiny/cubes/sentinel-2/site-000-a.zarr.zip"
HALF_HOURLY = "FLX_DE-Hai_FLUXNET2015_FULLSET_HH_2000-2012_1-4.csv"

SAID = re.compile(r"^(?:\w+: .*? \((?:traceback: (?P<log>.*))\)|\s*results/.*)$", re.MULTILINE)
"""A line of a job, with the place of its log, or one about a file that the Snakefile reads."""
OUTPUTS = re.compile(r"^Error in rule .*?^    output: (.*?)$", re.MULTILINE | re.DOTALL)

Config = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A broken input.

    Attributes
    ----------
    what
        In words.
    target
        What is asked for.
    finished
        Whether a finished run is needed.
    prepare
        Puts the broken input into the folder of the run; returns the config.
    """

    what: str
    target: str
    finished: bool
    prepare: Callable[[Path], Config]


@dataclass(frozen=True)
class Outcome:
    """What a broken input came to.

    Attributes
    ----------
    ended
        The run.
    lines
        What it said.
    logged
        Whether the log that it names holds the traceback; None if no job was started.
    half_written
        Files that are left and should not be.
    damaged
        Products that were there and have changed, besides those of the failed job.
    """

    ended: Run
    lines: list[str]
    logged: bool | None
    half_written: list[str]
    damaged: list[str]


CASES: list[Case] = []


def case(
    what: str, target: str, finished: bool = False
) -> Callable[[Callable[[Path], Config]], Callable[[Path], Config]]:
    """Add a function that prepares a case."""

    def add(prepare: Callable[[Path], Config]) -> Callable[[Path], Config]:
        CASES.append(Case(what, target, finished, prepare))
        return prepare

    return add


def outcome(case: Case, folder: Path, finished: Path | None = None) -> Outcome:
    """Run a case in a new folder."""
    if case.finished:
        assert finished is not None, case.what
        shutil.copytree(finished / "results", folder / "results")
        shutil.copytree(finished / ".snakemake", folder / ".snakemake")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "my.yaml"
    config.write_text(yaml.safe_dump(case.prepare(folder)))
    results = folder / "results"
    before = _products(results)
    # The library may have been edited since the finished run: its code is no reason here.
    ended = run(folder, case.target, "--rerun-triggers", "mtime", "--configfile", str(config))
    after = _products(results)
    said = {m[0].strip(): m["log"] for m in SAID.finditer(ended.text)}
    logs = [folder / log for log in said.values() if log]
    own = {name.strip() for names in OUTPUTS.findall(ended.text) for name in names.split(",")}
    return Outcome(
        ended=ended,
        lines=list(said),
        logged=all("Traceback" in log.read_text() for log in logs) if logs else None,
        half_written=[
            path.name for path in results.rglob(".*") if path.name.startswith((".partial", ".scr"))
        ],
        damaged=[
            name
            for name, digest in before.items()
            if after.get(name) != digest and f"results/{name}" not in own
        ],
    )


def rows(folder: Path, finished: Path) -> Iterator[tuple[object, ...]]:
    """Run every case; a row of the table for each."""
    for number, broken in enumerate(CASES):
        place = folder / str(number)
        came = outcome(broken, place, finished)
        logged = {None: "no job was started", True: "yes", False: "no"}[came.logged]
        yield (
            broken.what,
            "<br>".join(came.lines).replace(f"{place}/", ""),
            came.ended.status,
            logged,
            "yes" if came.ended.traceback else "no",
            ", ".join(came.half_written) or "none",
            ", ".join(came.damaged) or "none",
        )
        shutil.rmtree(place)


def _products(results: Path) -> dict[str, str]:
    """Digest of every product of every run."""
    runs = list(results.iterdir()) if results.exists() else []
    return {f"{one.name}/{name}": digest for one in runs for name, digest in products(one).items()}


def _own(**more: Any) -> Config:
    file = {"file": "mine.nc", "variable": "reflectance", "crs": "EPSG:32632"} | more
    cubes = {"mine": {"site": "mine", "files": {"sentinel-2": file}}}
    alone = {"sentinel-1": None}
    return {"run": "own", "sites": None, "gpp": None, "sensors": alone, "own_cubes": cubes}


def _tiny(**change: Any) -> Config:
    content: Config = yaml.safe_load(TINY.read_text())
    update_config(content, change)
    return content


def _cube(bands: tuple[str, ...] = BANDS) -> xr.Dataset:
    times, side = 12, 24
    values = np.random.default_rng(0).uniform(0, 0.5, (times, len(bands), side, side))
    coordinates = {
        "time": np.datetime64("2020-01-01") + 10 * np.arange(times) * np.timedelta64(1, "D"),
        "band": list(bands),
        "y": 5_300_000 - 10.0 * np.arange(side),
        "x": 600_005 + 10.0 * np.arange(side),
    }
    dims = ("time", "band", "y", "x")
    return xr.Dataset({"reflectance": (dims, values.astype(np.float32))}, coordinates)


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 5])


def _edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content, f"{path} holds no {old}"
    path.write_text(content.replace(old, new))


@case("a text that is named .nc", OWN)
def text_as_netcdf(folder: Path) -> Config:
    (folder / "mine.nc").write_text("date;B02;B03\n2020-01-01;0.1;0.2\n")
    return _own()


@case("a NetCDF file that is cut short", OWN)
def truncated_netcdf(folder: Path) -> Config:
    _cube().to_netcdf(folder / "mine.nc", engine="netcdf4")
    _truncate(folder / "mine.nc")
    return _own()


@case("a Zarr store with a chunk that is cut short", OWN)
def truncated_zarr(folder: Path) -> Config:
    store = folder / "mine.zarr"
    with warnings.catch_warnings():
        # Texts have no final specification yet.
        warnings.simplefilter("ignore")
        _cube().to_zarr(store, zarr_format=3, consolidated=False)
    for chunk in (store / "reflectance" / "c").rglob("*"):
        if chunk.is_file():
            _truncate(chunk)
    return _own(file="mine.zarr")


@case("a cube without the variable that the config names", OWN)
def wrong_variable(folder: Path) -> Config:
    _cube().to_netcdf(folder / "mine.nc", engine="netcdf4")
    return _own(variable="refl")


@case("a cube with other bands", OWN)
def other_bands(folder: Path) -> Config:
    _cube(BANDS[:4]).to_netcdf(folder / "mine.nc", engine="netcdf4")
    return _own()


@case("a cube of digital numbers without a scale", OWN)
def digital_numbers(folder: Path) -> Config:
    (_cube() * 10_000).to_netcdf(folder / "mine.nc", engine="netcdf4")
    return _own()


@case("a cube in degrees", OWN)
def degrees(folder: Path) -> Config:
    cube = _cube()
    cube = cube.assign_coords(x=9 + 1e-4 * np.arange(24), y=48 - 1e-4 * np.arange(24))
    cube.to_netcdf(folder / "mine.nc", engine="netcdf4")
    return _own(crs="EPSG:4326")


@case("a cube with pixels of another size", OWN)
def coarse(folder: Path) -> Config:
    cube = _cube().coarsen(y=2, x=2).mean()
    cube.to_netcdf(folder / "mine.nc", engine="netcdf4")
    return _own()


@case("half-hourly fluxes", "results/towers/gpp/sites.csv")
def half_hourly_fluxes(folder: Path) -> Config:
    (folder / "fluxnet").mkdir()
    header = "TIMESTAMP_START,TIMESTAMP_END,GPP_NT_VUT_REF,NEE_VUT_REF_QC\n"
    (folder / "fluxnet" / HALF_HOURLY).write_text(f"{header}201701010000,201701010030,1,1\n")
    tower = {"name": "DE-Hai", "lon": 10.45, "lat": 51.08, "vegetation": "DBF"}
    return {"run": "towers", "gpp": {"fluxnet": "fluxnet", "towers": [tower]}}


@case("a land-cover map that is no raster", "results/mapped/sites.csv")
def no_raster(folder: Path) -> Config:
    (folder / "map.tif").write_text("no raster\n")
    return {"run": "mapped", "sites": {"land_cover": {"file": "map.tif"}}, "gpp": None}


@case("the table of sites, edited: without a column", SITE, finished=True)
def table_without_column(folder: Path) -> Config:
    _edit(folder / "results" / "tiny" / "sites.csv", ",start,", ",begin,")
    return _tiny()


@case("the table of sites, edited: a day that is none", SITE, finished=True)
def table_with_wrong_day(folder: Path) -> Config:
    _edit(folder / "results" / "tiny" / "sites.csv", "-01-01", "-13-01")
    return _tiny()


@case("a collection of items that is cut short", SITE, finished=True)
def truncated_items(folder: Path) -> Config:
    run = folder / "results" / "tiny"
    _truncate(run / "archive" / "items" / "site-000.json")
    (folder / SITE).unlink()
    return _tiny()


@case("a scene that is cut short, where none may be missing", SITE, finished=True)
def truncated_scene(folder: Path) -> Config:
    return _without_assets(folder, "*B04*.tif")


@case("granule metadata that are cut short, where none may be missing", SITE, finished=True)
def truncated_metadata(folder: Path) -> Config:
    return _without_assets(folder, "*.xml")


def _without_assets(folder: Path, pattern: str) -> Config:
    assets = list((folder / "results" / "tiny" / "archive" / "assets" / "site-000").rglob(pattern))
    assert assets, pattern
    for asset in assets:
        _truncate(asset)
    (folder / SITE).unlink()
    return _tiny(catalog={"missing_asset": "fail"})


@case(
    "a cube of an earlier run that is cut short",
    "results/tiny/embeddings/site-000-a/manifest.json",
    finished=True,
)
def truncated_cube(folder: Path) -> Config:
    _truncate(folder / SITE)
    (folder / "results" / "tiny" / "embeddings" / "site-000-a" / "manifest.json").unlink()
    return _tiny()


@case("a model with one byte changed", "results/own/embeddings/mine/manifest.json", finished=True)
def edited_weights(folder: Path) -> Config:
    _cube().to_netcdf(folder / "mine.nc", engine="netcdf4")
    weights = folder / "results" / "tiny" / "models" / "sentinel-2" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    config = _own() | {"models": "results/tiny/models"}
    del config["sensors"]
    return config


@case(
    "a footprint without a coordinate reference system",
    "results/tiny/gpp/series/embedding/DE-Gra.csv",
    finished=True,
)
def footprint_without_crs(folder: Path) -> Config:
    import rasterio

    profile = {"driver": "GTiff", "width": 10, "height": 10, "count": 1, "dtype": "float32"}
    place = rasterio.transform.from_origin(0, 10, 1, 1)
    with rasterio.open(folder / "footprint.tif", "w", **profile, transform=place) as file:
        file.write(np.ones((1, 10, 10), np.float32))
    config = _tiny()
    config["gpp"]["towers"][0]["footprint"] = "footprint.tif"
    return config


def main() -> None:
    """Print the table; with ``--docs`` put it into the docs as well."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--finished", type=Path)
    arguments.add_argument("--docs", action="store_true")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        finished = given.finished or Path(folder, "finished")
        if not given.finished:
            made = run(finished, "--configfile", str(TINY))
            assert made.status == 0, made.text[-4000:]
        header = [
            "broken",
            "what was said",
            "exit status",
            "traceback in the log",
            "traceback on the terminal",
            "half-written files",
            "other products that changed",
        ]
        text = table(header, rows(Path(folder, "cases"), finished))
    print(text)
    if given.docs:
        write_docs("inputs", text)


if __name__ == "__main__":
    main()
