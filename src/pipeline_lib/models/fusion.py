"""The layers that join the latents of several sensors into one embedding."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import cast

import torch
from torch import Tensor, nn

from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.models.positions import DayPositions
from pipeline_lib.models.reduced_rank import reduced_rank


class Fusion(nn.Module):
    """Latents of several sensors to one embedding, and back.

    One token per sensor: its latent through a linear layer, plus the position of its date,
    plus a learned vector of the sensor. A transformer encoder (Vaswani et al. 2017, section
    3.1, normalised before each sub-layer) over the tokens, with a key mask for absent sensors.
    What the tokens of the present sensors hold beside position and learned vector is summed,
    and becomes the embedding through a linear layer. An absent sensor adds nothing, which is
    what a sensor adds whose latent is the mean of the training samples.

    The sum is not normalised, so that what is linear in the latents passes unchanged: brightness
    is what an embedding needs first. ``latents`` gives the dimensions of each sensor's latent.
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
        self.bottleneck = nn.Linear(block.width, block.embedding_dim)
        self.leave = nn.ModuleList(
            nn.Linear(block.embedding_dim, latents[name]) for name in self.sensors
        )

    @torch.no_grad()
    def initialise(
        self,
        latents: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        costs: Mapping[str, Tensor],
    ) -> None:
        """Start from the best linear map there and back, the transformer having no effect.

        From latents ``(N, latent)`` of training samples and whether the sensor is present
        ``(N,)``: an absent one counts as its mean where it is present. The costs
        ``(latent, latent)`` are the matrix C of `reduced_rank`.
        """
        known = {name: present[name][:, None].expand_as(latents[name]) for name in self.sensors}
        values = torch.cat([latents[name] for name in self.sensors], dim=1).double()
        shown = torch.cat([known[name] for name in self.sensors], dim=1)
        mean = torch.where(shown, values, 0.0).sum(dim=0) / shown.sum(dim=0).clamp(min=1)
        centred = torch.where(shown, values - mean, 0.0)
        spread = centred.T @ centred / len(centred)
        ends = [0, *accumulate(latents[name].shape[1] for name in self.sensors)]
        places = [slice(*pair) for pair in pairwise(ends)]
        cost = torch.zeros_like(spread)
        for name, own in zip(self.sensors, places, strict=True):
            cost[own, own] = costs[name].to(cost)
        into, back = reduced_rank(spread, cost, self.bottleneck.out_features)
        features, deviation = len(into), spread.diagonal().sqrt()
        for number, own in enumerate(places):
            enter, leave = self._ends(number)
            # The channels beyond the embedding's show the transformer all dimensions alike.
            enter.weight /= torch.where(deviation[own] > 0, deviation[own], 1.0)
            enter.weight[:features] = into[:, own]
            enter.bias.copy_(-(enter.weight.double() @ mean[own]))
            nn.init.zeros_(leave.weight)
            leave.weight[:, :features] = back[own]
            leave.bias.copy_(mean[own])
        nn.init.eye_(self.bottleneck.weight)
        nn.init.zeros_(self.bottleneck.bias)
        for layer in self.layers.layers:
            block = cast(nn.TransformerEncoderLayer, layer)
            for last in (block.self_attn.out_proj, block.linear2):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    @torch.no_grad()
    def scale(self, mean: Tensor, deviation: Tensor) -> None:
        """Shift and scale the dimensions of the embedding so that `split` returns the same.

        ``mean`` and ``deviation`` ``(embedding,)`` become 0 and 1.
        """
        mean, deviation = mean.double(), deviation.double()
        weight, bias = self.bottleneck.weight.double(), self.bottleneck.bias.double()
        self.bottleneck.weight.copy_(weight / deviation[:, None])
        self.bottleneck.bias.copy_((bias - mean) / deviation)
        for number in range(len(self.sensors)):
            leave = self._ends(number)[1]
            weight = leave.weight.double()
            leave.bias.copy_(leave.bias.double() + weight @ mean)
            leave.weight.copy_(weight * deviation)

    def _ends(self, number: int) -> tuple[nn.Linear, nn.Linear]:
        """The layers by which a sensor's latent enters and leaves."""
        return cast(nn.Linear, self.enter[number]), cast(nn.Linear, self.leave[number])

    def fuse(
        self,
        latents: Mapping[str, Tensor],
        days: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
    ) -> Tensor:
        """Embeddings ``(B, embedding)`` of pixels and dates.

        From each sensor's latents ``(B, latent)``, the days ``(B,)`` from the reference date to the
        sensor's, and whether it is present ``(B,)``: an absent one's latent and date are ignored.
        At least one sensor must be present.
        """
        shown = torch.stack([present[name] for name in self.sensors], dim=1)
        # In bf16 the sum would be rounded to less than a sensor's noise.
        with torch.autocast(shown.device.type, enabled=False):
            entered, places = [], []
            for number, name in enumerate(self.sensors):
                here = shown[:, number]
                entered.append(self.enter[number](torch.where(here[:, None], latents[name], 0.0)))
                offset = torch.where(here, days[name].to(entered[0].dtype), 0.0)
                places.append(self.positions(offset) + self.identity[number])
            place = torch.stack(places, dim=1)
            tokens = torch.stack(entered, dim=1) + place
            added = self.layers(tokens, src_key_padding_mask=~shown) - place
            return self.bottleneck(torch.where(shown[..., None], added, 0.0).sum(dim=1))

    def split(self, embedding: Tensor) -> dict[str, Tensor]:
        """Each sensor's latent ``(B, latent)`` from embeddings ``(B, embedding)``."""
        with torch.autocast(embedding.device.type, enabled=False):
            return {
                name: leave(embedding) for name, leave in zip(self.sensors, self.leave, strict=True)
            }
