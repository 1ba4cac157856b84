"""Encoder and decoder of one sensor."""

from __future__ import annotations

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

    def forward(self, values: Tensor, valid: Tensor, days: Tensor) -> Tensor:
        """Reconstruct patches ``(B, T, C, P, P)`` from themselves."""
        return self.decoder(self.encoder(values, valid, days), days)
