"""Sentinel-1, radiometrically terrain corrected: from items to backscatter."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.catalog import Item, start_of
from pipeline_lib.acquire.frames import Frame, joined, timestamp
from pipeline_lib.acquire.items import property_of
from pipeline_lib.acquire.mosaic import Scene, groups, observations
from pipeline_lib.acquire.placement import epsg_of
from pipeline_lib.acquire.reading import AssetReader
from pipeline_lib.config import CubeGrid, SensorSource
from pipeline_lib.cubes import CLEAR, Grid


def power_of(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear power, NaN where the file holds no data: -32768, 0 or NaN.

    Power is positive, so nothing else at or below 0 means anything either.
    """
    return np.where(np.isfinite(numbers) & (numbers > 0), numbers, np.float32(np.nan))


def load_sentinel1(
    *,
    sensor: SensorSource,
    cube: CubeGrid,
    grid: Grid,
    items: Sequence[Item],
    lon: float,
    reader: AssetReader,
) -> Iterator[Frame]:
    """The frames of a Sentinel-1 cube, before the rolling mean; passes of all orbits.

    Slices of one pass are merged; items of the cube's own UTM zone come first.
    """

    def load(item: Item) -> Scene | None:
        power = power_of(reader.read(item, sensor.bands, grid, np.float32(np.nan)))
        classes = np.full(grid.shape, CLEAR, dtype=np.uint8)
        return Scene(item, power, classes) if np.isfinite(power).any() else None

    def order(item: Item) -> tuple[Any, ...]:
        return epsg_of(item) not in (None, grid.epsg), start_of(item), item["id"]

    passes = groups(items, _pass, order)
    for power, mask, used in observations(
        passes, load, reader=reader, grid=grid, min_clear=sensor.min_clear
    ):
        provenance = {
            "item": joined([item["id"] for item in used]),
            "platform": str(property_of(used[0], "platform", "")),
            "relative_orbit": int(property_of(used[0], "sat:relative_orbit", -1)),
            "orbit_state": str(property_of(used[0], "sat:orbit_state", "")),
        }
        yield Frame(timestamp(min(map(start_of, used))), power, mask, provenance)


def _pass(item: Item) -> Hashable:
    properties = item["properties"]
    orbit = properties.get("sat:absolute_orbit")
    return (properties.get("platform"), orbit) if orbit is not None else item["id"]
