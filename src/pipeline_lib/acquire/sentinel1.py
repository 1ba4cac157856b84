"""Sentinel-1, radiometrically terrain corrected: from items to smoothed backscatter."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.catalog import Item, start_of
from pipeline_lib.acquire.frames import Frame, Frames, joined, timestamp
from pipeline_lib.acquire.mosaic import epsg_of, first_valid, groups, take
from pipeline_lib.acquire.patience import Lost
from pipeline_lib.acquire.reading import AssetReader
from pipeline_lib.config import CubeGrid, SensorSource
from pipeline_lib.cubes import CLEAR, NO_DATA, Grid


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
    lacking = []
    loaded: dict[str, NDArray[np.float32]] = {}

    def load(item: Item) -> NDArray[np.float32]:
        return power_of(reader.read(item, sensor.bands, grid, np.float32(np.nan)))

    results = reader.each(items, load)
    for item, values in results:
        if isinstance(values, Lost):
            lacking.append(f"item {item['id']}: {values}")
        elif np.isfinite(values).any():
            loaded[item["id"]] = values

    def order(item: Item) -> tuple[Any, ...]:
        return epsg_of(item) not in (None, grid.epsg), start_of(item), item["id"]

    frames = []
    for group in groups([item for item in items if item["id"] in loaded], _pass, order):
        layers = np.stack([loaded[item["id"]] for item in group])
        chosen = first_valid(np.asarray(np.isfinite(layers).all(axis=1)))
        mask = np.where(chosen >= 0, CLEAR, NO_DATA).astype(np.uint8)
        clear_share = float((mask == CLEAR).mean())
        if clear_share == 0 or clear_share < sensor.min_clear:
            continue
        used = [item for index, item in enumerate(group) if (chosen == index).any()]
        properties = used[0]["properties"]
        provenance = {
            "item": joined([item["id"] for item in used]),
            "platform": str(properties.get("platform", "")),
            "relative_orbit": int(properties.get("sat:relative_orbit", -1)),
            "orbit_state": str(properties.get("sat:orbit_state", "")),
        }
        time = timestamp(min(start_of(item) for item in used))
        frames.append(Frame(time, take(layers, chosen), mask, provenance))
    return Frames(sorted(frames, key=lambda frame: frame.time), sorted(lacking))


def _pass(item: Item) -> Hashable:
    properties = item["properties"]
    orbit = properties.get("sat:absolute_orbit")
    return (properties.get("platform"), orbit) if orbit is not None else item["id"]
