"""Which items make one observation, and which of them each pixel is taken from."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.catalog import Item, start_of
from pipeline_lib.acquire.reading import AssetReader
from pipeline_lib.acquire.retries import Missing
from pipeline_lib.config import SensorSource
from pipeline_lib.cubes import CLEAR, NO_DATA, Grid
from pipeline_lib.cubes.schema import clear_sample, implausible

NOTHING = -1

STEP_PX = 2**21
"""Pixels of the groups held at once."""
JUDGED_PX = 2**11
"""So many pixels of a scene tell whether it is plausible; more would take noticeably longer."""
LARGEST_GAP = 0.1
"""Share of the pixels of a scene that a band may lack: at its edges, bands end at other places."""
FOOTPRINT_ERROR = 0.01
"""Degrees by which footprints are off: they are simplified."""
FEWEST_PX = 100
"""Of fewer pixels, all may have the same value."""

Loaded = TypeVar("Loaded")
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class Scene:
    """One item on the grid of a cube: ``values`` ``(band, y, x)``, mask ``classes`` ``(y, x)``."""

    item: Item
    values: NDArray[np.float32]
    classes: NDArray[np.uint8]


def solar_day(moment: datetime, lon: float) -> date:
    """Date by the sun at a longitude: a pass near midnight UTC is not cut in two."""
    return (moment + timedelta(hours=lon / 15)).date()


def groups(
    items: Iterable[Item], key: Callable[[Item], Hashable], order: Callable[[Item], Any]
) -> list[list[Item]]:
    """Items with the same key together, each group in ``order``, groups by their first time.

    The result does not depend on the order of ``items``, as long as ``order`` has no ties.
    """
    found: dict[Hashable, list[Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    ordered = [sorted(group, key=order) for group in found.values()]
    return sorted(ordered, key=lambda group: min((start_of(i), i["id"]) for i in group))


def loaded(
    found: Sequence[Sequence[Item]],
    load: Callable[[Item], Loaded | None],
    *,
    reader: AssetReader,
    grid: Grid,
    step_px: int = STEP_PX,
) -> Iterator[list[list[Loaded]]]:
    """Scenes of groups of items, in their order, some groups at a time; none is empty.

    ``load`` makes a scene of an item on ``grid``, or None where it shows nothing of the cube. At
    most about ``step_px`` pixels of groups are held at once: it bounds memory, changes no result.
    """
    step = max(reader.catalog.requests, step_px // (grid.height * grid.width))
    for start in range(0, len(found), step):
        part = found[start : start + step]
        scenes: dict[str, Loaded] = {}
        for item, scene in reader.each([item for group in part for item in group], load):
            if scene is not None:
                scenes[item["id"]] = scene
        present = [[scenes[i["id"]] for i in group if i["id"] in scenes] for group in part]
        if any(present):
            yield [group for group in present if group]


def first_valid(valid: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Index of the first valid layer of ``(layer, y, x)`` at each pixel, or -1."""
    chosen = valid.argmax(axis=0).astype(np.int8)
    return np.where(valid.any(axis=0), chosen, np.int8(NOTHING))


def take(layers: NDArray[Value], chosen: NDArray[np.int8], fill: float = np.nan) -> NDArray[Value]:
    """Each pixel of ``(layer, ..., y, x)`` from its chosen layer, ``fill`` where none is."""
    index = np.maximum(chosen, 0).astype(np.intp)
    taken = np.take_along_axis(layers, np.expand_dims(index, tuple(range(layers.ndim - 2))), 0)[0]
    taken[..., chosen == NOTHING] = fill
    return taken


def covers(item: Item, grid: Grid) -> bool:
    """Whether an item's footprint, or else its bounding box, covers a whole grid and some more."""
    from shapely.errors import ShapelyError
    from shapely.geometry import box, shape

    try:
        outline = shape(item["geometry"]) if item.get("geometry") else box(*item["bbox"])
        return bool(outline.buffer(-FOOTPRINT_ERROR).covers(box(*grid.lonlat_bounds())))
    except (ShapelyError, AttributeError, IndexError, KeyError, TypeError, ValueError):
        return False


def shows(
    item: Item,
    values: NDArray[np.float32],
    bands: Sequence[str],
    *,
    grid: Grid,
    reader: AssetReader,
) -> bool:
    """Whether any pixel of ``(band, y, x)`` has all bands; bands with gaps are remarked.

    Raises :class:`Missing` if none has, though the item's footprint covers the whole grid.
    """
    present = np.isfinite(values)
    if present.all(axis=0).any():
        counts = present.sum(axis=(1, 2))
        for band in np.asarray(bands)[counts < (1 - LARGEST_GAP) * counts.max()]:
            reader.remark(item, "no data in many pixels that other bands show", str(band))
        return True
    if covers(item, grid):
        empty = [band for band, seen in zip(bands, present, strict=True) if not seen.any()]
        raise Missing(f"no data here in {', '.join(empty or bands)}, which its footprint covers")
    return False


def check_plausible(
    item: Item,
    values: NDArray[np.float32],
    seen: NDArray[np.bool_],
    *,
    sensor: SensorSource,
    reader: AssetReader,
) -> None:
    """Raise :class:`Missing` if values ``(band, y, x)`` cannot be the sensor's quantity.

    They are judged where the land is ``seen`` ``(y, x)``: clouds may be brighter. Bands of one
    value are remarked.
    """
    step = math.ceil(math.sqrt(seen.size / JUDGED_PX))
    sample = clear_sample(values[None, :, ::step, ::step], seen[None, ::step, ::step])
    if reason := implausible(sample, sensor.bands, sensor.quantity):
        raise Missing(reason)
    if len(sample) >= FEWEST_PX and (flat := np.ptp(sample, axis=0) == 0).any():
        reader.remark(item, "one value only", *np.asarray(sensor.bands)[flat].tolist())


def observations(
    found: Sequence[Sequence[Item]],
    load: Callable[[Item], Scene | None],
    *,
    reader: AssetReader,
    grid: Grid,
    min_clear: float,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8], list[Item]]]:
    """Values and mask of each group of items, and the items that they come from.

    A pixel comes whole from the first scene that has all its bands. Groups that show nothing, or
    less than ``min_clear``, are left out.
    """
    for scenes in chain.from_iterable(loaded(found, load, reader=reader, grid=grid)):
        layers = np.stack([scene.values for scene in scenes])
        chosen = first_valid(np.asarray(np.isfinite(layers).all(axis=1)))
        mask = take(np.stack([scene.classes for scene in scenes]), chosen, NO_DATA)
        used = [scene.item for index, scene in enumerate(scenes) if (chosen == index).any()]
        if used and (mask == CLEAR).mean() >= min_clear:
            yield take(layers, chosen), mask, used
