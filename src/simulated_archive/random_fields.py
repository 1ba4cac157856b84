"""Smooth random fields."""

from __future__ import annotations

import numpy as np

from simulated_archive.arrays import Float32


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int], length: float, slope: float = 4.0
) -> Float32:
    """Periodic Gaussian field ``(y, x)`` of zero mean and unit variance.

    Structures coarser than ``length`` pixels have equal power; the power of finer ones falls with
    the exponent ``slope``: 4 is smooth, 3 is rough.
    """
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = np.fft.rfftfreq(shape[1])[None, :]
    amplitude = (1 + (fy**2 + fx**2) * (2 * np.pi * length) ** 2) ** (-slope / 4)
    amplitude[0, 0] = 0
    noise = np.fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    field = np.fft.irfft2(noise * amplitude, s=shape)
    return (field / field.std()).astype(np.float32)
