"""One cube, from its pinned items to its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline_lib.acquire.frames import Frames
from pipeline_lib.acquire.reading import AssetReader
from pipeline_lib.acquire.sentinel1 import load_sentinel1
from pipeline_lib.acquire.sentinel2 import load_sentinel2
from pipeline_lib.config import Catalog, CubeGrid, SensorSource
from pipeline_lib.cubes import CubeRequest, Grid, make_cube, rolling_mean, write_cube
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json

LOADERS: dict[str, Callable[..., Frames]] = {
    "sentinel-1-rtc": load_sentinel1,
    "sentinel-2-l2a": load_sentinel2,
}
"""The physics of each collection, by the sensor's ``loader``."""


def build_cube(
    *,
    sensor_name: str,
    sensor: SensorSource,
    catalog: Catalog,
    cube: CubeGrid,
    items: Path,
    config_digest: str,
    output: Path,
) -> None:
    """Read the pinned items of a cube and write the cube.

    The cube is complete, or its attribute ``lacking`` names every scene that is not in it.

    Parameters
    ----------
    sensor_name, sensor
        The sensor and its block.
    catalog
        How to read: signing, timeouts, retries, what to do about lost scenes.
    cube
        Block of the grid; its context is read around the cube for the cloud model.
    items
        File of :func:`pipeline_lib.acquire.pin_items`.
    config_digest
        Digest of the config blocks that the cube depends on, kept in the cube.
    output
        The cube's ``.zarr.zip``.

    Raises
    ------
    UserError
        If no frame is usable, a server stays silent, or a lost scene is fatal by config.
    """
    pinned = read_json(items)
    request = CubeRequest.from_row(pinned["request"])
    grid = Grid(**pinned["grid"])
    found = LOADERS[sensor.loader](
        sensor=sensor,
        cube=cube,
        grid=grid,
        items=pinned["items"],
        lon=request.lon,
        reader=AssetReader(catalog),
    )
    frames = found.frames
    if not frames:
        lost = f" ({len(found.lacking)} lost: {found.lacking[0]} ...)" if found.lacking else ""
        raise UserError(
            f"cube {request.cube}, {sensor_name}: none of its {len(pinned['items'])} items shows "
            f"enough of it{lost}; lower the sensor's min_clear, or move the site or its period"
        )
    values = np.stack([frame.values for frame in frames])
    smooth = sensor.rolling_mean > 1
    dataset = make_cube(
        values=rolling_mean(values, sensor.rolling_mean) if smooth else values,
        unfiltered=values if smooth else None,
        mask=np.stack([frame.mask for frame in frames]),
        times=np.array([frame.time for frame in frames]),
        bands=sensor.bands,
        grid=grid,
        quantity=sensor.quantity,
        frames={
            name: [frame.provenance[name] for frame in frames] for name in frames[0].provenance
        },
        attributes={
            "sensor": sensor_name,
            "cube": request.cube,
            "site": request.site,
            "land_cover": request.land_cover,
            "config_digest": config_digest,
            "license": pinned["license"],
            "source": f"{sensor.collection} of {pinned['query']['source']}",
            "lacking": found.lacking,
        },
    )
    factors = [frame.c_factor for frame in frames if frame.c_factor is not None]
    if factors:
        dataset = dataset.assign_coords(
            c_factor=(
                ("time", "band"),
                np.stack(factors),
                {"long_name": "mean factor of the correction to nadir view", "units": "1"},
            )
        )
    write_cube(dataset, output)
