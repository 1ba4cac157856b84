"""Smooth random fields."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int], length: float, slope: float = 4.0
) -> NDArray[np.float32]:
    """Periodic Gaussian field of zero mean and unit variance.

    Parameters
    ----------
    rng
        Where the noise comes from.
    shape
        Rows and columns; the field wraps around at its edges.
    length
        Correlation length, pixels: coarser structures have equal power.
    slope
        Falling exponent of the power spectrum at structures finer than ``length``: 4 is
        smooth, 3 is rough.

    Returns
    -------
    ``(y, x)``
    """
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = np.fft.rfftfreq(shape[1])[None, :]
    amplitude = (1 + (fy**2 + fx**2) * (2 * np.pi * length) ** 2) ** (-slope / 4)
    amplitude[0, 0] = 0
    noise = np.fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    field = np.fft.irfft2(noise * amplitude, s=shape)
    return (field / field.std()).astype(np.float32)
