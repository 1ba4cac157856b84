"""The layers that join the latents of several sensors into one embedding."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.models.positions import DayPositions


class Fusion(nn.Module):
    """Latents of several sensors to one embedding, and back.

    One token per sensor: its latent through a linear layer, plus the position of its date,
    plus a learned vector of the sensor. A transformer encoder (Vaswani et al. 2017, section
    3.1, normalised before each sub-layer) over the tokens, with a key mask for absent sensors;
    their mean over the present sensors becomes the embedding through a linear layer.

    Parameters
    ----------
    latents
        Sensor -> numbers of its latent.
    block
        Config block.
    """

    def __init__(self, latents: Mapping[str, int], block: FusionBlock) -> None:
        super().__init__()
        self.sensors = tuple(sorted(latents))
        # Names may hold characters that module names may not; the order is fixed by sorting.
        self.enter = nn.ModuleList(nn.Linear(latents[name], block.width) for name in self.sensors)
        self.identity = nn.Parameter(0.02 * torch.randn(len(self.sensors), block.width))
        self.positions = DayPositions(block.width)
        layer = nn.TransformerEncoderLayer(
            block.width,
            block.heads,
            dim_feedforward=2 * block.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, block.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(block.width)
        self.bottleneck = nn.Linear(block.width, block.features)
        self.leave = nn.ModuleList(
            nn.Linear(block.features, latents[name]) for name in self.sensors
        )

    def fuse(
        self,
        latents: Mapping[str, Tensor],
        days: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
    ) -> Tensor:
        """Embeddings of pixels and dates.

        Parameters
        ----------
        latents
            Sensor -> ``(B, latent)``.
        days
            Sensor -> ``(B,)``: days from the reference date to the sensor's date.
        present
            Sensor -> ``(B,)``, bool. Latent and date of an absent sensor are ignored; at least
            one sensor must be present.

        Returns
        -------
        Tensor
            ``(B, features)``.
        """
        shown = torch.stack([present[name] for name in self.sensors], dim=1)
        tokens = []
        for number, name in enumerate(self.sensors):
            here = shown[:, number, None]
            latent = torch.where(here, latents[name], 0.0)
            offset = torch.where(shown[:, number], days[name].to(latent.dtype), 0.0)
            tokens.append(self.enter[number](latent) + self.positions(offset))
        joined = torch.stack(tokens, dim=1) + self.identity
        joined = self.norm(self.layers(joined, src_key_padding_mask=~shown))
        weights = shown.to(joined.dtype)
        mean = (joined * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
        return self.bottleneck(mean)

    def split(self, embedding: Tensor) -> dict[str, Tensor]:
        """Each sensor's latent ``(B, latent)`` from embeddings ``(B, features)``."""
        return {
            name: leave(embedding) for name, leave in zip(self.sensors, self.leave, strict=True)
        }
