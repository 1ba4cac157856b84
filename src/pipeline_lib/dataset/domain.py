"""How far a spectrum lies from those that a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SHARE = 0.999
"""Fraction of the training pixels that lie within the domain."""
NOISE = 0.05
"""Deviation that does not count in any band, as a fraction of its standard deviation."""


@dataclass(frozen=True)
class Domain:
    """Training pixels of a sensor as one Gaussian: reflectance, or backscatter in decibel.

    ``mean`` is ``(band,)``. ``whitening`` ``(band, band)`` makes the Mahalanobis distance a length,
    in units of the distance that :data:`SHARE` of the training pixels stay below.
    """

    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]

    @classmethod
    def fit(cls, pixels: NDArray[np.floating]) -> Self:
        """Domain of training pixels ``(pixel, band)``, of which every band varies."""
        pixels = pixels.astype(np.float64)
        mean = pixels.mean(axis=0)
        deviations = pixels - mean
        covariance = deviations.T @ deviations / len(pixels)
        covariance += NOISE**2 * np.diag(np.diag(covariance))
        whitening = np.linalg.cholesky(np.linalg.inv(covariance)).T
        reach = np.quantile(np.linalg.norm(deviations @ whitening.T, axis=1), SHARE)
        return cls(mean.astype(np.float32), (whitening / reach).astype(np.float32))

    def distance(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distance of pixels ``(time, band, pixel)``, ``(time, pixel)``; above 1: outside."""
        mean = self.mean[:, None]
        lengths = [np.linalg.norm(self.whitening @ (frame - mean), axis=0) for frame in values]
        return np.array(lengths, np.float32).reshape(len(values), -1)

    def to_json(self) -> dict[str, Any]:
        """Plain lists, exact."""
        return {"mean": self.mean.tolist(), "whitening": self.whitening.tolist()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], bands: int) -> Self:
        """Domain from the content of `to_json`; raises ValueError if it is not one of the bands."""
        arrays = (np.asarray(content[key], np.float32) for key in ("mean", "whitening"))
        mean, whitening = arrays
        if mean.shape != (bands,) or whitening.shape != (bands, bands):
            raise ValueError("the domain does not fit the bands")
        if not (np.isfinite(mean).all() and np.isfinite(whitening).all()):
            raise ValueError("the domain is not finite")
        return cls(mean, whitening)
