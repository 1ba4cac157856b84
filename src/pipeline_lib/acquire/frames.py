"""What the loader of a sensor hands over: the frames of a cube, still in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import rolling_mean


@dataclass(frozen=True)
class Frame:
    """One observation of a cube.

    Attributes
    ----------
    time
        UTC.
    values
        ``(band, y, x)``, NaN where missing.
    mask
        ``(y, x)``, classes of :mod:`pipeline_lib.cubes`.
    provenance
        Texts and numbers: items, platform, orbit, angles.
    c_factor
        ``(band,)``, mean factor that ``values`` were multiplied with, or None.
    unfiltered
        ``(band, y, x)``, ``values`` before the rolling mean, or None where there is none.
    """

    time: np.datetime64
    values: NDArray[np.float32]
    mask: NDArray[np.uint8]
    provenance: dict[str, Any]
    c_factor: NDArray[np.float32] | None = None
    unfiltered: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Frames:
    """The frames of a cube as they are loaded, and what the cube lacks.

    Attributes
    ----------
    frames
        Strictly increasing in time; made as they are asked for, so that a large cube is
        never whole in memory.
    missing
        Scenes that the cube should hold and does not, and why; complete after the last frame.
    """

    frames: Iterator[Frame]
    missing: list[str]


def smoothed(frames: Iterable[Frame], window: int) -> Iterator[Frame]:
    """Frames with the centred rolling mean over ``window`` of them, of which few are held."""
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


def timestamp(moment: Any) -> np.datetime64:
    """A moment in UTC as numpy counts it."""
    return np.datetime64(moment.replace(tzinfo=None), "ns")
