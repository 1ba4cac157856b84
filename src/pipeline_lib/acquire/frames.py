"""Observations of a cube as the loader of a sensor yields them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import rolling_mean


@dataclass(frozen=True)
class Frame:
    """One observation of a cube.

    ``time`` is UTC, ``values`` are ``(band, y, x)`` with NaN where missing, ``mask`` is ``(y, x)``
    in the classes of :mod:`pipeline_lib.cubes`, ``provenance`` holds items, platform, orbit and
    angles. ``c_factor``, ``(band,)``, is the mean factor that ``values`` were multiplied with, and
    ``unfiltered`` are ``values`` before the rolling mean; each is None where there is none.
    """

    time: np.datetime64
    values: NDArray[np.float32]
    mask: NDArray[np.uint8]
    provenance: dict[str, Any]
    c_factor: NDArray[np.float32] | None = None
    unfiltered: NDArray[np.float32] | None = None


def smoothed(frames: Iterable[Frame], window: int) -> Iterator[Frame]:
    """Frames with the centred rolling mean over ``window`` of them; few are held in memory."""
    half = window // 2
    coming = iter(frames)
    held = deque(islice(coming, half + 1))
    centre = 0
    while centre < len(held):
        mean = rolling_mean(np.stack([frame.values for frame in held]), window)[centre]
        yield replace(held[centre], values=mean, unfiltered=held[centre].values)
        held.extend(islice(coming, 1))
        if centre < half:
            centre += 1
        else:
            held.popleft()


def joined(values: Sequence[Any]) -> str:
    """Distinct values in their order, as one text."""
    return " ".join(dict.fromkeys(str(value) for value in values))


def timestamp(moment: datetime) -> np.datetime64:
    """A moment in UTC as numpy counts it."""
    return np.datetime64(moment.replace(tzinfo=None), "ns")
