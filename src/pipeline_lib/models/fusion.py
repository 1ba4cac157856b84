"""The linear maps that join the latents of several sensors into one embedding."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.errors import UserError
from pipeline_lib.models.reduced_rank import reduced_rank

MOST_SENSORS = 10


class Fusion(nn.Module):
    """Latents of several sensors to one embedding, and back.

    An embedding is a linear function of the latents of all sensors. A sensor that is absent enters
    with its conditional mean given the latents of those present, which is a linear function of
    these (`conditional_mean`); so there is one linear map for each pattern of presence, and they
    all mean the same: without a sensor, the embedding is the mean of what it would be with it.

    Every map is random until `initialise` sets it. ``latents`` gives the dimensions of each
    sensor's latent. ``into`` ``(pattern, embedding, latents)`` and ``offset`` ``(pattern,
    embedding)`` are the maps; bit k of a pattern's number says whether the k-th sensor is present,
    in alphabetical order.
    """

    def __init__(self, latents: Mapping[str, int], block: FusionBlock) -> None:
        super().__init__()
        self.sensors = tuple(sorted(latents))
        if len(self.sensors) > MOST_SENSORS:
            raise UserError(f"sensors: {len(self.sensors)} to be fused, at most {MOST_SENSORS}")
        self.sizes = [latents[name] for name in self.sensors]
        patterns, features = 2 ** len(self.sensors), block.embedding_dim
        self.into = nn.Parameter(torch.randn(patterns, features, sum(self.sizes)) / 4)
        self.offset = nn.Parameter(torch.zeros(patterns, features))
        self.leave = nn.Linear(features, sum(self.sizes))

    @torch.no_grad()
    def initialise(self, mean: Tensor, covariance: Tensor, cost: Tensor) -> None:
        """Set the maps by `reduced_rank`, for the joint mean and covariance of all latents.

        ``mean`` is ``(D,)``, ``covariance`` and ``cost`` are ``(D, D)``; the sensors are in
        alphabetical order. With all sensors present the dimensions of an embedding have mean 0 and
        unit variance, are uncorrelated, and are ordered by what they keep; those beyond what there
        is to keep are 0.
        """
        found, back = reduced_rank(covariance, cost, self.leave.in_features)
        into = torch.zeros_like(self.into[0], dtype=torch.float64)
        into[: len(found)] = found
        for pattern in range(len(self.into)):
            own = into @ conditional_mean(covariance, self._shown(pattern))
            self.into[pattern] = own
            self.offset[pattern] = -own @ mean
        self.leave.weight.zero_()
        self.leave.weight[:, : len(found)] = back
        self.leave.bias.copy_(mean)

    def _shown(self, pattern: int) -> Tensor:
        """Whether each dimension of the latents ``(D,)`` is of a sensor that is present."""
        return torch.cat(
            [
                torch.full((size,), bool(pattern >> number & 1))
                for number, size in enumerate(self.sizes)
            ]
        )

    def fuse(
        self,
        latents: Mapping[str, Tensor],
        days: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
    ) -> Tensor:
        """Embeddings ``(B, embedding)`` of pixels and dates.

        From each sensor's latents ``(B, latent)`` and whether it is present ``(B,)``: an absent
        one's latent is ignored. The days ``(B,)`` from the reference date to the sensor's change
        nothing.
        """
        values = torch.cat(
            [torch.where(present[name][:, None], latents[name], 0.0) for name in self.sensors],
            dim=1,
        )
        patterns = sum(present[name].long() << k for k, name in enumerate(self.sensors))
        assert isinstance(patterns, Tensor)
        embedding = values.new_zeros(len(values), self.leave.in_features)
        # In bf16 the sum would be rounded to less than a sensor's noise.
        with torch.autocast(values.device.type, enabled=False):
            for pattern in patterns.bincount().nonzero()[:, 0].tolist():
                rows = (patterns == pattern).nonzero()[:, 0]
                fused = nn.functional.linear(values[rows], self.into[pattern], self.offset[pattern])
                embedding = embedding.index_copy(0, rows, fused)
        return embedding

    def split(self, embedding: Tensor) -> dict[str, Tensor]:
        """Each sensor's latent ``(B, latent)`` from embeddings ``(B, embedding)``."""
        with torch.autocast(embedding.device.type, enabled=False):
            parts = self.leave(embedding).split(self.sizes, dim=-1)
        return dict(zip(self.sensors, parts, strict=True))


def conditional_mean(covariance: Tensor, shown: Tensor) -> Tensor:
    """The matrix ``(D, D)`` that fills in what is not shown of a random vector, less its mean.

    Applied to the vector it gives what is shown unchanged, and the rest as its conditional mean
    given what is shown, for a normal distribution: S_ab S_bb^-1 b (Anderson 2003, An Introduction
    to Multivariate Statistical Analysis, theorem 2.5.1). What is not shown of the vector is
    multiplied by zeros. ``shown`` is ``(D,)``, bool.
    """
    filled = torch.diag(shown.to(covariance.dtype))
    if shown.any() and not shown.all():
        inside = covariance[shown][:, shown]
        slopes = torch.linalg.solve(inside, covariance[shown][:, ~shown]).T
        filled[(~shown).nonzero(), shown.nonzero()[:, 0]] = slopes
    return filled
