"""Encoder and decoder of one sensor."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline_lib.config import Context, Sensor
from pipeline_lib.models.decoder import Decoder
from pipeline_lib.models.encoder import SensorEncoder

LEAST_NOISE = 1e-3
"""Variance of noise, of its mean over the bands, below which none is taken to be free of it."""


class Autoencoder(nn.Module):
    """Encoder and decoder of one sensor, as its config block describes them."""

    def __init__(self, sensor: Sensor, context: Context) -> None:
        super().__init__()
        self.encoder = SensorEncoder(sensor, context)
        self.decoder = Decoder(sensor, context)

    @torch.no_grad()
    def initialise(self, spectra: Tensor, noise: NDArray[np.floating]) -> None:
        """Start from the components of the target pixel's spectrum that noise hides least.

        The components that the encoder's block asks for, at least one, become the first
        dimensions of a latent, where training leaves them alone; the decoder starts by giving
        every pixel of every frame the spectrum that they make. The spectra are ``(N, bands)``,
        scaled to 0..1, with N more than the number of components; ``noise`` is the covariance
        ``(band, band)`` of their noise.
        """
        mean, axes, back = noise_fraction(
            spectra.double().numpy(), noise, self.encoder.spectrum_axes.shape[1]
        )
        self.encoder.spectrum_mean.copy_(torch.from_numpy(mean))
        self.encoder.spectrum_axes.copy_(torch.from_numpy(axes))
        self.decoder.initialise(torch.from_numpy(mean), torch.from_numpy(back.T))

    @torch.no_grad()
    def initialise_blind(
        self, patches: Iterable[tuple[Tensor, Tensor, Tensor]], correlated_px: int
    ) -> None:
        """Start from the best linear prediction of the target pixel from its surroundings.

        The prediction is the first dimensions of a latent, and what the decoder starts with at
        every pixel of every frame. ``patches`` are values ``(B, T, C, P, P)``, scaled to 0..1 and
        0 where not valid, validity ``(B, T, P, P)`` and days ``(B, T)``; ``correlated_px`` is the
        distance from the target pixel up to which noise is shared.
        """
        blind = self.encoder.blind
        assert blind is not None
        blind.hide(correlated_px)
        inputs, spectra = [], []
        for values, valid, days in patches:
            (count, frames), middle, half = days.shape, days.shape[1] // 2, valid.shape[-1] // 2
            statistics = blind(values.flatten(0, 1), valid.flatten(0, 1)[:, None])
            sides = valid.any(dim=(2, 3))
            sides[:, middle] = False
            seen, _ = blind.inputs_of(statistics.view(count, frames, -1), days, sides, middle)
            inputs.append(seen)
            spectra.append(values[:, middle, :, half, half])
        blind.fit(torch.cat(inputs), torch.cat(spectra))
        bands = len(blind.mean)
        self.decoder.initialise(torch.zeros(bands), torch.eye(bands))

    def forward(self, values: Tensor, valid: Tensor, days: Tensor) -> Tensor:
        """Reconstruct patches ``(B, T, C, P, P)`` from themselves."""
        return self.decoder(self.encoder(values, valid, days), days)


def noise_fraction(
    spectra: NDArray[np.float64], noise: NDArray[np.floating], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean ``(band,)``, axes ``(band, count)`` and the way back ``(count, band)`` of components.

    Minimum noise fraction (Green et al. 1988, doi:10.1109/36.3001): principal components of
    spectra ``(N, band)`` whose noise is made equal and independent in all bands by its covariance
    ``(band, band)``; here of unit variance. The way back is the linear prediction of the spectra
    with the least squared error.
    """
    from sklearn.decomposition import PCA

    variances, vectors = np.linalg.eigh(noise)
    noise_sd = np.sqrt(variances.clip(min=0) + LEAST_NOISE * variances.mean())
    # Symmetric, so that the signs of its eigenvectors, which no two machines share, cancel; the
    # signs of the components are scikit-learn's, which are the same everywhere.
    whitening = vectors / noise_sd @ vectors.T
    mean = spectra.mean(axis=0)
    centred = spectra - mean
    fitted = PCA(count, svd_solver="full").fit(centred @ whitening)
    axes = whitening @ fitted.components_.T
    axes /= (centred @ axes).std(axis=0)
    back = np.linalg.lstsq(centred @ axes, centred, rcond=None)[0]
    return mean, axes, back
