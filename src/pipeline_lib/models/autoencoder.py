"""Encoder and decoder of one sensor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline_lib.config import Context, Sensor
from pipeline_lib.models.decoder import Decoder
from pipeline_lib.models.encoder import SensorEncoder


class Autoencoder(nn.Module):
    """Encoder and decoder of one sensor, as its config block describes them.

    Parameters
    ----------
    sensor, context
        Config blocks.
    """

    def __init__(self, sensor: Sensor, context: Context) -> None:
        super().__init__()
        self.encoder = SensorEncoder.of(sensor, context)
        self.decoder = Decoder.of(sensor, context)

    @torch.no_grad()
    def initialise(self, spectra: Tensor) -> None:
        """Start out from a principal component analysis of the centre's spectrum.

        The components that the encoder's block asks for become the first numbers of a latent,
        where training leaves them alone; the decoder begins by giving every pixel of every frame
        the spectrum that they tell.

        Parameters
        ----------
        spectra
            ``(N, bands)``, scaled to 0..1, with N more than the number of components, of which the
            encoder has at least one.
        """
        mean = spectra.double().mean(dim=0)
        _, _, axes = torch.linalg.svd(spectra.double() - mean, full_matrices=False)
        count = self.encoder.spectrum_axes.shape[1]
        # The sign of an axis is arbitrary; fixed, it is the same on every machine.
        largest = axes[:count].abs().argmax(dim=1, keepdim=True)
        axes = axes[:count] * axes[:count].gather(1, largest).sign()
        self.encoder.spectrum_mean.copy_(mean)
        self.encoder.spectrum_axes.copy_(axes.T)
        self.decoder.initialise(mean, axes.T)

    def forward(self, values: Tensor, valid: Tensor, days: Tensor) -> Tensor:
        """Reconstruct patches ``(B, T, C, P, P)`` from themselves."""
        return self.decoder(self.encoder(values, valid, days), days)
