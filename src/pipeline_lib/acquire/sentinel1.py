"""Sentinel-1, radiometrically terrain corrected: from items to smoothed backscatter."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.catalog import Item, start_of
from pipeline_lib.acquire.frames import Frame, Frames, joined, timestamp
from pipeline_lib.acquire.items import told
from pipeline_lib.acquire.mosaic import epsg_of, first_valid, groups, loaded, take
from pipeline_lib.acquire.reading import AssetReader
from pipeline_lib.config import CubeGrid, SensorSource
from pipeline_lib.cubes import CLEAR, NO_DATA, Grid

STEP_PX = 2**22
"""Pixels of the passes held at once; bounds memory, changes no result."""


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
) -> Frames:
    """Load the frames of a Sentinel-1 cube, before the rolling mean.

    Slices of one pass are merged; items of the cube's own UTM zone come first. Passes of all
    orbits are kept.

    Raises
    ------
    UserError
        If a server stays silent, or a scene is lost and the config says that this is fatal.
    """
    missing: list[str] = []

    def load(item: Item) -> tuple[Item, NDArray[np.float32]] | None:
        power = power_of(reader.read(item, sensor.bands, grid, np.float32(np.nan)))
        return (item, power) if np.isfinite(power).any() else None

    def order(item: Item) -> tuple[Any, ...]:
        return epsg_of(item) not in (None, grid.epsg), start_of(item), item["id"]

    passes = groups(items, _pass, order)
    parts = loaded(passes, load, reader=reader, grid=grid, step_px=STEP_PX, missing=missing)

    def frames() -> Iterator[Frame]:
        for one in chain.from_iterable(parts):
            frame = _frame(*zip(*one, strict=True))
            if frame is not None and (frame.mask == CLEAR).mean() >= sensor.min_clear:
                yield frame

    return Frames(frames(), missing)


def _frame(items: Sequence[Item], layers: Sequence[NDArray[np.float32]]) -> Frame | None:
    """Merge the slices of a pass; None if no pixel has all bands."""
    stacked = np.stack(layers)
    chosen = first_valid(np.asarray(np.isfinite(stacked).all(axis=1)))
    mask = np.where(chosen >= 0, CLEAR, NO_DATA).astype(np.uint8)
    used = [item for index, item in enumerate(items) if (chosen == index).any()]
    if not used:
        return None
    provenance = {
        "item": joined([item["id"] for item in used]),
        "platform": str(told(used[0], "platform", "")),
        "relative_orbit": int(told(used[0], "sat:relative_orbit", -1)),
        "orbit_state": str(told(used[0], "sat:orbit_state", "")),
    }
    time = timestamp(min(start_of(item) for item in used))
    return Frame(time, take(stacked, chosen), mask, provenance)


def _pass(item: Item) -> Hashable:
    properties = item["properties"]
    orbit = properties.get("sat:absolute_orbit")
    return (properties.get("platform"), orbit) if orbit is not None else item["id"]
