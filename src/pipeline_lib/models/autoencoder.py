"""Encoder and decoder of one sensor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline_lib.config import Context, Sensor
from pipeline_lib.models.decoder import Decoder
from pipeline_lib.models.encoder import SensorEncoder


class Autoencoder(nn.Module):
    """Encoder and decoder of one sensor, as its config block describes them."""

    def __init__(self, sensor: Sensor, context: Context) -> None:
        super().__init__()
        self.encoder = SensorEncoder(sensor, context)
        self.decoder = Decoder(sensor, context)

    @torch.no_grad()
    def initialise(self, spectra: Tensor) -> None:
        """Start from a principal component analysis of the target pixel's spectrum.

        The components that the encoder's block asks for, at least one, become the first
        dimensions of a latent, where training leaves them alone; the decoder starts by giving
        every pixel of every frame the spectrum that they make. The spectra are ``(N, bands)``,
        scaled to 0..1, with N more than the number of components.
        """
        from sklearn.decomposition import PCA

        # The signs of its axes are the same on every machine.
        fitted = PCA(self.encoder.spectrum_axes.shape[1], svd_solver="full")
        fitted.fit(spectra.double().numpy())
        mean, axes = torch.from_numpy(fitted.mean_), torch.from_numpy(fitted.components_).T
        self.encoder.spectrum_mean.copy_(mean)
        self.encoder.spectrum_axes.copy_(axes)
        self.decoder.initialise(mean, axes)

    def forward(self, values: Tensor, valid: Tensor, days: Tensor) -> Tensor:
        """Reconstruct patches ``(B, T, C, P, P)`` from themselves."""
        return self.decoder(self.encoder(values, valid, days), days)
