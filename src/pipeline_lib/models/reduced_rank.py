"""The best linear map through few dimensions, for what a loss makes of its errors."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_SHARE = 1e-12
"""Share of the largest cost below which what an axis costs is rounding."""


def reduced_rank(spread: Tensor, cost: Tensor, features: int) -> tuple[Tensor, Tensor]:
    """Maps A ``(n, D)`` and B ``(D, n)`` to a few dimensions and back, of the least mean cost.

    Reduced-rank regression (Izenman 1975) of a random vector on itself: of all matrices B A with
    n rows of A, the one of the least mean of d' C d, where d = z - B A z is what the vector z,
    centred, loses. The dimensions A z have unit variance, are uncorrelated, and are ordered by what
    it would cost to lose them; fewer than n if these keep all that costs. What costs nothing is
    given back as well as they allow.

    ``spread`` ``(D, D)`` is the covariance of z; ``cost`` ``(D, D)``, symmetric and positive
    semi-definite, is C; ``features`` is n.
    """
    values, axes = torch.linalg.eigh(cost)
    root = (axes * values.clamp(min=0).sqrt()) @ axes.T
    losses, axes = torch.linalg.eigh(root @ spread @ root)
    losses, axes = losses.flip(0)[:features], axes.flip(1)[:, :features]
    kept = losses > LEAST_SHARE * losses[0]
    into = (axes[:, kept] / losses[kept].sqrt()).T @ root
    # The sign of an axis is arbitrary; fixed, it is the same on every machine.
    into = into * into.gather(1, into.abs().argmax(dim=1, keepdim=True)).sign()
    return into, spread @ into.T
