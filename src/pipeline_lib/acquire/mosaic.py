"""Which items make one observation, and which of them a pixel is taken from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.catalog import Item, start_of

NOTHING = -1


def solar_day(moment: datetime, lon: float) -> date:
    """Date by the sun at a longitude: a pass near midnight UTC is not cut in two."""
    return (moment + timedelta(hours=lon / 15)).date()


def epsg_of(item: Item) -> int | None:
    """EPSG code of an item, from ``proj:code`` or the older ``proj:epsg``; None if untold."""
    properties = item["properties"]
    code = properties.get("proj:code") or properties.get("proj:epsg")
    return None if code is None else int(str(code).rsplit(":", 1)[-1])


def groups(
    items: Iterable[Item], key: Callable[[Item], Hashable], order: Callable[[Item], Any]
) -> list[list[Item]]:
    """Items with the same key together, each group in ``order``, groups by their first time.

    The result does not depend on the order of ``items``, as long as ``order`` tells them apart.
    """
    found: dict[Hashable, list[Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    ordered = [sorted(group, key=order) for group in found.values()]
    return sorted(ordered, key=lambda group: min((start_of(i), i["id"]) for i in group))


def first_valid(valid: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Index of the first valid layer of ``(layer, y, x)`` at each pixel, or -1."""
    chosen = valid.argmax(axis=0).astype(np.int8)
    return np.where(valid.any(axis=0), chosen, np.int8(NOTHING))


def take(layers: NDArray[np.float32], chosen: NDArray[np.int8]) -> NDArray[np.float32]:
    """Take each pixel of ``(layer, band, y, x)`` from its chosen layer, NaN where none is."""
    index = np.maximum(chosen, 0)[None, None]
    taken = np.take_along_axis(layers, index.astype(np.intp), axis=0)[0]
    taken[:, chosen == NOTHING] = np.nan
    return taken
