"""Types of arrays, smooth random fields, and maps of classes drawn from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


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


def classes_by_share(
    fields: NDArray[Any], shares: Float64, *, steps: int, rate: float, least: float, stride: int = 1
) -> NDArray[np.intp]:
    """Index of the highest of ``fields`` ``(class, y, x)`` at each pixel, ``(y, x)``.

    Each field is raised by an offset; all are adjusted ``steps`` times, by ``rate``, towards the
    classes' ``shares`` of the area. Shares under ``least`` count as this; every ``stride``-th pixel
    is counted.
    """
    coarse = fields[:, ::stride, ::stride]
    offsets = np.log(shares)[:, None, None].astype(fields.dtype)
    for _ in range(steps):
        counts = np.bincount((coarse + offsets).argmax(axis=0).ravel(), minlength=len(shares))
        drawn = np.maximum(counts / coarse[0].size, least)
        offsets += rate * np.log(shares / drawn)[:, None, None].astype(fields.dtype)
    return (fields + offsets).argmax(axis=0)
