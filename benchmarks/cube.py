"""One annual cube of each sensor: seconds, peak memory, bytes read, and where the time goes.

The scenes are simulated once, at a small size, and repeated in space to the size of several
blocks of Planetary Computer's files (Cloud-Optimised GeoTIFF, 512 x 512 px, deflate). They are
read from local files by one thread, so that no network is in the figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import xarray as xr
from measure import measured, one_thread, show

from pipeline_lib.acquire import build_cube, clouds, pin_items, reading, sentinel2
from pipeline_lib.config import Catalog, CubeGrid, Demo, SensorSource
from pipeline_lib.config.check import check
from pipeline_lib.config.sensors import SENTINEL_1, SENTINEL_2
from pipeline_lib.cubes import CubeRequest, grid_at, read_cube, schema
from simulated_archive import simulate_site, write_canopy_table

LON, LAT = 11.2, 48.1
BLOCK_PX = 512
IMPORTED_LATE = ("sen2nbar.c_factor", "scipy.ndimage", "stackstac", "torch", "zarr.codecs")
LANDSAT = check([Path(__file__).parents[1] / "config" / "landsat.yaml"]).sensors["landsat"]
# No date is left out, so that the figures do not depend on the weather.
SENSORS = {
    "sentinel-2": SENTINEL_2.source().model_copy(update={"min_clear": 0.0}),
    "sentinel-1": SENTINEL_1.source(),
    "landsat": LANDSAT.source().model_copy(update={"min_clear": 0.0}),
}


def simulate(folder: Path, scene_px: int, repeat: int, start: date, end: date) -> tuple[Any, Any]:
    """Write a year of scenes, ``repeat`` times as wide and high; the place of their middle."""
    from pyproj import Transformer

    small = CubeGrid(size_px=24, cloud_context_px=0)
    request = CubeRequest("site-000-a", "site-000", "grassland", LON, LAT, start, end)
    write_canopy_table(folder / "canopy.npz")
    simulate_site(
        requests=[request],
        cube=small,
        demo=Demo(tile_px=scene_px, radar_tile_px=scene_px),
        seed=1,
        canopy_table=folder / "canopy.npz",
        folder=folder,
        truth=folder / "truth",
    )
    table = folder / "items" / "site-000.json"
    items = json.loads(table.read_text())["features"]
    for item in items:
        west, south, east, north = item["bbox"]
        item["bbox"] = [
            *(west, north - repeat * (north - south)),
            *(west + repeat * (east - west), north),
        ]
        for asset in item["assets"].values():
            if asset["href"].endswith(".tif"):
                enlarge(folder / asset["href"], repeat)
    table.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    grid = grid_at(LON, LAT, CubeGrid(size_px=scene_px))
    half = (repeat - 1) * scene_px * grid.resolution / 2
    west, south, east, north = grid.bounds
    to_lonlat = Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    lon, lat = to_lonlat.transform((west + east) / 2 + half, (south + north) / 2 - half)
    return lon, lat


def enlarge(path: Path, repeat: int) -> None:
    """Repeat an image in space and write it in the layout of Planetary Computer."""
    import rasterio

    with rasterio.open(path) as file:
        values, profile = file.read(1), file.profile
    profile = {key: profile[key] for key in ("dtype", "nodata", "crs", "transform", "count")}
    large = np.tile(values, (repeat, repeat))
    profile |= {"height": large.shape[0], "width": large.shape[1]}
    profile |= {"driver": "COG", "blocksize": BLOCK_PX, "compress": "deflate", "overviews": "none"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(large, 1)


class Ledger:
    """Seconds and bytes of the stages of a cube."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.bytes: dict[str, int] = {}

    def watch(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose calls are written down."""

        def watched(*arguments: Any, **more: Any) -> Any:
            begin, before = time.perf_counter(), bytes_read()
            try:
                return function(*arguments, **more)
            finally:
                spent = time.perf_counter() - begin
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
                self.bytes[stage] = self.bytes.get(stage, 0) + bytes_read() - before

        return watched

    @contextmanager
    def open(self) -> Iterator[None]:
        """Write down the stages of every cube that is built in the block."""
        stages: list[tuple[str, Any, str]] = [
            ("read pixels", reading.AssetReader, "read"),
            ("granule metadata", reading.AssetReader, "read_document"),
            ("cloud network", clouds.CloudModel, "classify"),
            ("merge and correct", sentinel2._Loader, "frames"),
            ("write", xr.Dataset, "to_zarr"),
            ("write", schema, "pack"),
        ]
        with ExitStack() as stack:
            for stage, owner, name in stages:
                function = self.watch(stage, getattr(owner, name))
                stack.enter_context(mock.patch.object(owner, name, function))
            yield
        network = self.seconds.get("cloud network", 0.0)
        if "merge and correct" in self.seconds:
            self.seconds["merge and correct"] -= network


def bytes_read() -> int:
    """Bytes that this thread has read from files so far, whether from disk or from its cache."""
    lines = Path("/proc/thread-self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def build_one(
    name: str, sensor: SensorSource, cube: CubeGrid, archive: Path, request: CubeRequest
) -> dict[str, Any]:
    """Build a cube; what it holds and what its stages cost."""
    catalog = Catalog(source=str(archive), signing="none", requests=1)
    ledger = Ledger()
    # Imported late by what uses them first, whose time and bytes they would count as.
    for module in IMPORTED_LATE:
        import_module(module)
    with tempfile.TemporaryDirectory() as folder:
        items, output = Path(folder) / "items.json", Path(folder) / "cube.zarr.zip"
        pin_items(request=request, sensor=sensor, cube=cube, catalog=catalog, output=items)
        pinned = json.loads(items.read_text())["items"]
        with ledger.open():
            build_cube(
                sensor_name=name,
                sensor=sensor,
                catalog=catalog,
                cube=cube,
                items=items,
                config_digest="0",
                output=output,
            )
        size = output.stat().st_size
        frames = read_cube(output, load=False).sizes["time"]
    return {
        "items": len(pinned),
        "frames": frames,
        "file_mb": size / 1e6,
        "read_mb": sum(ledger.bytes.get(s, 0) for s in ("read pixels", "granule metadata")) / 1e6,
        "metadata_mb": ledger.bytes.get("granule metadata", 0) / 1e6,
        "needed_mb": needed_bytes(sensor, cube) * len(pinned) / 1e6,
        "stages_s": ledger.seconds,
    }


def needed_bytes(sensor: SensorSource, cube: CubeGrid) -> float:
    """Bytes of one scene's own pixels of a cube: no context, no compression."""
    if sensor.loader == "sentinel-1-rtc":
        return len(sensor.bands) * cube.size_px**2 * 4
    if sensor.loader == "landsat-c2-l2":
        return len(sensor.bands) * (cube.size_px / 3) ** 2 * 2
    shares = [(10 / sentinel2.NATIVE_M[band]) ** 2 for band in sensor.bands]
    return sum(shares) * cube.size_px**2 * 2


def row(name: str, size_px: int, archive: Path, request: CubeRequest) -> dict[str, Any]:
    """One cube as a row of the table."""
    cost = measured(build_one, name, SENSORS[name], CubeGrid(size_px=size_px), archive, request)
    told = cost.result
    stages = told.pop("stages_s")
    rest = cost.seconds - sum(stages.values())
    return {
        "sensor": name,
        "size_px": size_px,
        "seconds": cost.seconds,
        "peak_gb": cost.peak_gb,
        **told,
        "read_over_needed": told["read_mb"] / told["needed_mb"],
        **{f"{stage}, s": seconds for stage, seconds in stages.items()},
        "imports and the rest, s": rest,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sizes", type=int, nargs="+", default=[90, 1000], help="cubes, px")
    parser.add_argument("--scene", type=int, default=252, help="simulated scenes, px")
    parser.add_argument("--repeat", type=int, default=5, help="how often they are repeated")
    parser.add_argument("--end", type=date.fromisoformat, default=date(2021, 12, 31))
    arguments = parser.parse_args()
    one_thread()
    start = date(2021, 1, 1)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder)
        lon, lat = simulate(archive, arguments.scene, arguments.repeat, start, arguments.end)
        request = CubeRequest("c", "c", "grassland", lon, lat, start, arguments.end)
        rows = [row(name, size, archive, request) for size in arguments.sizes for name in SENSORS]
    show({"threads": 1, "cubes": rows}, arguments.json)


if __name__ == "__main__":
    main()
