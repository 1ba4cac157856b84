"""What the loader of a sensor hands over: the frames of a cube, still in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    """

    time: np.datetime64
    values: NDArray[np.float32]
    mask: NDArray[np.uint8]
    provenance: dict[str, Any]
    c_factor: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Frames:
    """All frames of a cube, in time order, and what the cube lacks.

    Attributes
    ----------
    frames
        Strictly increasing in time.
    lacking
        Scenes that the cube should hold and does not, and why.
    """

    frames: Sequence[Frame]
    lacking: Sequence[str] = field(default_factory=list)


def joined(values: Sequence[Any]) -> str:
    """Distinct values in their order, as one text."""
    return " ".join(dict.fromkeys(str(value) for value in values))


def timestamp(moment: Any) -> np.datetime64:
    """A moment in UTC as numpy counts it."""
    return np.datetime64(moment.replace(tzinfo=None), "ns")
