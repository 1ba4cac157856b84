"""Sentinel-1, radiometrically terrain corrected: from items to backscatter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.catalog import Item, start_of
from pipeline_lib.acquire.frames import Frame, joined, timestamp
from pipeline_lib.acquire.items import property_of
from pipeline_lib.acquire.mosaic import Scene, check_plausible, groups, observations, shows
from pipeline_lib.acquire.placement import epsg_of
from pipeline_lib.acquire.reading import AssetReader
from pipeline_lib.config import CubeGrid, SensorSource
from pipeline_lib.cubes import CLEAR, Grid

LONGEST_GAP = timedelta(minutes=10)
"""Between two slices of one pass, or of two satellites in tandem."""
LOWEST = -9000.0
"""What lies below is no data (-9999, -32768), and no decibel, nor hundredths of one."""


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
        numbers = reader.read(item, sensor.bands, grid, np.float32(np.nan))
        # Judged before what is below 0 is taken for no data: decibels are.
        numbers[(numbers == 0) | (numbers < LOWEST)] = np.nan
        seen = np.isfinite(numbers).all(axis=0)
        check_plausible(item, numbers, seen, sensor=sensor, reader=reader)
        power = power_of(numbers)
        classes = np.full(grid.shape, CLEAR, dtype=np.uint8)
        return (
            Scene(item, power, classes)
            if shows(item, power, sensor.bands, grid=grid, reader=reader)
            else None
        )

    satellite_passes = passes(items)

    def order(item: Item) -> tuple[Any, ...]:
        return epsg_of(item) not in (None, grid.epsg), start_of(item), item["id"]

    found = groups(items, lambda item: satellite_passes[item["id"]], order)
    for power, mask, used in observations(
        found, load, reader=reader, grid=grid, min_clear=sensor.min_clear
    ):
        provenance = {
            "item": joined([item["id"] for item in used]),
            "platform": str(property_of(used[0], "platform", "")),
            "relative_orbit": int(float(property_of(used[0], "sat:relative_orbit", -1))),
            "orbit_state": str(property_of(used[0], "sat:orbit_state", "")),
        }
        yield Frame(timestamp(min(map(start_of, used))), power, mask, provenance)


def passes(items: Iterable[Item]) -> dict[str, int]:
    """Number of the pass that each item, by identifier, is a slice of.

    Slices of a pass follow each other by 25 seconds, passes over one place by 49 minutes at least.
    Time tells them apart, also where orbits or platforms are not stated, are spelled in two ways,
    or count on at the equator.
    """
    found: dict[str, int] = {}
    last = None
    for item in sorted(items, key=start_of):
        start = start_of(item)
        number = 0 if last is None else found[last["id"]] + (start - start_of(last) > LONGEST_GAP)
        found[item["id"]] = number
        last = item
    return found
