"""One cube, from its pinned items to its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pipeline_lib.acquire.frames import Frame, smoothed
from pipeline_lib.acquire.items import read_pinned
from pipeline_lib.acquire.reading import AssetReader
from pipeline_lib.config import LOADERS, Catalog, CubeGrid, SensorSource
from pipeline_lib.cubes import Grid, frames_per_part, make_cube, write_parts
from pipeline_lib.errors import UserError


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

    The cube is complete, or its attribute ``missing`` names every scene that is not in it.

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
    pinned = read_pinned(items)
    request, grid = pinned.request, pinned.grid
    module, _, function = LOADERS[sensor.loader].function.rpartition(".")
    found = getattr(import_module(module), function)(
        sensor=sensor,
        cube=cube,
        grid=grid,
        items=pinned.items,
        lon=request.lon,
        reader=AssetReader(catalog),
    )
    smooth = sensor.rolling_mean > 1
    frames = smoothed(found.frames, sensor.rolling_mean) if smooth else found.frames
    attributes = {
        "sensor": sensor_name,
        "cube": request.cube,
        "site": request.site,
        "land_cover": request.land_cover,
        "config_digest": config_digest,
        "license": pinned.license,
        "source": f"{sensor.collection} of {pinned.source}",
    }

    def parts() -> Iterator[xr.Dataset]:
        while part := list(islice(frames, frames_per_part(grid))):
            # The last part tells of the whole cube what it lacks.
            missing = {"missing": sorted(found.missing)}
            yield _part(part, sensor=sensor, grid=grid, attributes=attributes | missing)

    whole = parts()
    first = next(whole, None)
    if first is None:
        lost = f" ({len(found.missing)} lost: {min(found.missing)} ...)" if found.missing else ""
        raise UserError(
            f"cube {request.cube}, {sensor_name}: none of its {len(pinned.items)} items shows "
            f"enough of it{lost}; lower the sensor's min_clear, or move the site or its period"
        )
    write_parts(chain([first], whole), output)


def _part(
    frames: Sequence[Frame], *, sensor: SensorSource, grid: Grid, attributes: Mapping[str, Any]
) -> xr.Dataset:
    unfiltered = [frame.unfiltered for frame in frames if frame.unfiltered is not None]
    part = make_cube(
        values=np.stack([frame.values for frame in frames]),
        unfiltered=np.stack(unfiltered) if unfiltered else None,
        mask=np.stack([frame.mask for frame in frames]),
        times=np.array([frame.time for frame in frames]),
        bands=sensor.bands,
        grid=grid,
        quantity=sensor.quantity,
        frames={
            name: [frame.provenance[name] for frame in frames] for name in frames[0].provenance
        },
        attributes=attributes,
    )
    factors = [frame.c_factor for frame in frames if frame.c_factor is not None]
    if not factors:
        return part
    told = {"long_name": "mean factor of the correction to nadir view", "units": "1"}
    return part.assign_coords(c_factor=(("time", "band"), np.stack(factors), told))
