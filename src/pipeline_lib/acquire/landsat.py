"""Landsat, Collection 2 level 2: from items to surface reflectance with a cloud mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj.exceptions import CRSError

from pipeline_lib.acquire.catalog import Item, start_of
from pipeline_lib.acquire.clouds import mask_of_quality
from pipeline_lib.acquire.frames import Frame, joined, timestamp
from pipeline_lib.acquire.items import property_of
from pipeline_lib.acquire.mosaic import (
    Scene,
    check_plausible,
    groups,
    observations,
    shows,
    solar_day,
)
from pipeline_lib.acquire.placement import epsg_of, placement_of
from pipeline_lib.acquire.reading import AssetReader
from pipeline_lib.acquire.retries import Missing
from pipeline_lib.config import CubeGrid, SensorSource
from pipeline_lib.cubes import CLEAR, NO_DATA, Grid
from pipeline_lib.cubes.resampling import coarse_grid, nearest, refine

SCALE = np.float32(2.75e-5)
OFFSET = np.float32(-0.2)
"""Of surface reflectance in Collection 2 (USGS, LSDS-1619), the same for all its satellites."""

PIXEL_M = 30.0
QUALITY = "qa_pixel"


def reflectance_of(numbers: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Surface reflectance of digital numbers, any shape; NaN where they are 0, no data."""
    values = numbers * SCALE + OFFSET
    values[numbers == 0] = np.nan
    return values


def load_landsat(
    *,
    sensor: SensorSource,
    cube: CubeGrid,
    grid: Grid,
    items: Sequence[Item],
    lon: float,
    reader: AssetReader,
) -> Iterator[Frame]:
    """The frames of a Landsat cube.

    Scenes are read on their own pixels, whose edges lie halfway between those of Sentinel-2,
    and interpolated. The scenes of one path and solar day are merged: a pixel comes whole from
    the first scene that has all its bands; scenes of the cube's own UTM zone come first.
    """

    load = partial(_load_scene, sensor=sensor, grid=grid, reader=reader)

    def order(item: Item) -> tuple[Any, ...]:
        return epsg_of(item) != grid.epsg, item["id"]

    passes = groups(items, lambda item: (solar_day(start_of(item), lon), _path(item)), order)
    for values, mask, used in observations(
        passes, load, reader=reader, grid=grid, min_clear=sensor.min_clear
    ):
        first = used[0]
        provenance = {
            "item": joined([item["id"] for item in used]),
            "platform": str(property_of(first, "platform", "")),
            "wrs_path": _path(first),
            "sun_zenith": 90 - float(property_of(first, "view:sun_elevation", np.nan)),
            "sun_azimuth": float(property_of(first, "view:sun_azimuth", np.nan)) % 360,
            "clear_share": float((mask == CLEAR).mean()),
        }
        yield Frame(timestamp(min(map(start_of, used))), values, mask, provenance)


def _path(item: Item) -> int:
    return int(property_of(item, "landsat:wrs_path", -1))


def _own_pixels(item: Item, key: str, grid: Grid) -> Grid:
    """The scene's own pixels around a cube's grid, in its own coordinate reference system."""
    crs, transform = placement_of(item, key)
    if crs is None or not crs.startswith("EPSG:") or transform is None:
        raise Missing("the item has no proj:code or no proj:transform")
    epsg = int(crs.removeprefix("EPSG:"))
    elsewhere = Missing(f"the item's grid (EPSG:{epsg}) does not cover this place")
    try:
        own = coarse_grid(grid, PIXEL_M, origin=(transform[2], transform[5]), epsg=epsg)
    except (CRSError, OverflowError, ValueError) as error:
        raise elsewhere from error
    # Warped into a system that is far away, a cube would cover a continent.
    if max(own.shape) * PIXEL_M > 2 * max(grid.shape) * grid.resolution + 10 * PIXEL_M:
        raise elsewhere
    return own


def _load_scene(
    item: Item, *, sensor: SensorSource, grid: Grid, reader: AssetReader
) -> Scene | None:
    """A scene on the grid; None if it shows nothing of the cube."""
    source = _own_pixels(item, sensor.bands[0], grid)
    masked = sensor.clouds == "qa_pixel"
    keys = [*sensor.bands, *([QUALITY] if masked else [])]
    numbers = reader.read(item, keys, source, np.uint16(0))
    values = reflectance_of(numbers[: len(sensor.bands)])
    classes = np.full(source.shape, CLEAR, dtype=np.uint8)
    if masked:
        classes = mask_of_quality(numbers[-1])
        values[:, classes == NO_DATA] = np.nan
    if not shows(item, values, sensor.bands, grid=grid, reader=reader):
        return None
    check_plausible(item, values, classes == CLEAR, sensor=sensor, reader=reader)
    return Scene(item, refine(values, source, grid), nearest(classes, source, grid))
