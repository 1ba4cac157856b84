"""The rolling mean over time that smooths speckle and short-lived changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rolling_mean(values: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Centred rolling mean over time of linear power ``(time, ...)``, ignoring NaN.

    The window has an odd number of frames and is cut at the ends, not padded. NaN stays NaN: a
    neighbour in time is no measurement of this one.
    """
    half = frames // 2
    present = np.isfinite(values)
    filled = np.where(present, values, np.float32(0))
    total = np.zeros(values.shape, dtype=np.float64)
    count = np.zeros(values.shape, dtype=np.uint8 if frames < 256 else np.int64)
    last = len(values)
    for shift in range(-half, half + 1):
        here = slice(max(0, -shift), min(last, last - shift))
        there = slice(max(0, shift), min(last, last + shift))
        total[here] += filled[there]
        count[here] += present[there]
    with np.errstate(invalid="ignore"):
        mean = (total / count).astype(np.float32)
    return np.where(present, mean, np.float32(np.nan))
