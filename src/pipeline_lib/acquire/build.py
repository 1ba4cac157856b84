"""One cube, from its pinned items to its file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
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

log = logging.getLogger(__name__)


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
    """Read the pinned items of a cube and write the cube, a ``.zarr.zip``.

    The cube is complete, or its attribute ``missing`` names every scene that is not in it. Its
    attribute ``remarks`` names what is odd in scenes that are; without any, it is absent.
    ``items`` is a file of :func:`pipeline_lib.acquire.pin_items`; ``config_digest``, kept in the
    cube, is that of the config blocks that it depends on.

    Raises UserError if no frame is usable, a server stays silent, or a scene is missing and the
    config does not allow that.
    """
    pinned = read_pinned(items)
    request, grid = pinned.request, pinned.grid
    reader = AssetReader(catalog)
    module, _, function = LOADERS[sensor.loader].function.rpartition(".")
    frames: Iterator[Frame] = getattr(import_module(module), function)(
        sensor=sensor, cube=cube, grid=grid, items=pinned.items, lon=request.lon, reader=reader
    )
    if sensor.rolling_mean > 1:
        frames = smoothed(frames, sensor.rolling_mean)
    attributes = {
        "sensor": sensor_name,
        "cube": request.cube,
        "site": request.site,
        "land_cover": request.land_cover,
        "config_digest": config_digest,
        "license": pinned.license,
        "source": f"{sensor.collection} of {pinned.query.source}",
    }

    def parts() -> Iterator[xr.Dataset]:
        following = next(frames, None)
        if following is None:
            missing, remarks = sorted(reader.missing), reader.remarks
            reason = f" ({len(missing)} missing: {missing[0]} ...)" if missing else ""
            reason += f" ({remarks[0]} ...)" if remarks else ""
            shown, advice = "shows enough of it", "lower the sensor's min_clear, or move"
            if len(missing) == len(pinned.items):
                shown, advice = "can be read", "check what catalog.source offers there, or move"
            raise UserError(
                f"cube {request.cube}, {sensor_name}: none of its {len(pinned.items)} items "
                f"{shown}{reason}; {advice} the site or its period"
            )
        while following is not None:
            part = [following, *islice(frames, frames_per_part(grid) - 1)]
            # One frame ahead: the last part, whose attributes are the cube's, knows all that is
            # missing, also after its last frame.
            following = next(frames, None)
            complete = attributes | {"missing": sorted(reader.missing)}
            if reader.remarks:
                complete["remarks"] = json.dumps(reader.remarks)
            yield _part(part, sensor=sensor, grid=grid, attributes=complete)

    write_parts(parts(), output)
    for remark in reader.remarks:
        log.warning("cube %s, %s: %s", request.cube, sensor_name, remark)


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
    labels = {"long_name": "mean factor of the correction to nadir view", "units": "1"}
    return part.assign_coords(c_factor=(("time", "band"), np.stack(factors), labels))
