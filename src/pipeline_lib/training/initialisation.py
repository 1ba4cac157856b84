"""Joint mean and covariance of the latents of several sensors, some of which may be absent."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline_lib.models.fusion import conditional_mean

ROUNDS, CONVERGED = 2000, 1e-7
"""Steps of expectation and maximisation, at most, and the change of a correlation that ends them
before."""


def joint_moments(values: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(D,)`` and covariance ``(D, D)`` of vectors ``(N, D)`` of which parts are missing.

    Those of the normal distribution under which what is ``shown`` ``(N, D)`` is most likely, by
    expectation and maximisation (Dempster, Laird and Rubin 1977): a sensor that only a part of the
    samples has gets the mean and the spread that it would have on all of them, as far as the others
    tell. As many uncorrelated samples as there are dimensions are added, so that few samples that
    have a sensor do not make a certainty of a chance correlation. A dimension that is never shown
    has mean 0 and is correlated with nothing.
    """
    values, count = torch.where(shown, values, 0.0).double(), shown.sum(dim=0).clamp(min=1)
    level = values.sum(dim=0) / count
    scale = (torch.where(shown, values - level, 0.0).square().sum(dim=0) / count).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    scaled = torch.where(shown, (values - level) / scale, 0.0)
    patterns, members = np.unique(shown.numpy(), axis=0, return_inverse=True)
    groups = []
    for number, pattern in enumerate(torch.from_numpy(patterns)):
        own = scaled[torch.from_numpy(members == number)]
        centred = own - own.mean(dim=0)
        groups.append((pattern, len(own), own.mean(dim=0), centred.T @ centred / len(own)))
    total, width = values.shape
    mean, covariance = torch.zeros_like(level), torch.eye(width, dtype=torch.float64)
    for _ in range(ROUNDS):
        expected = []
        for pattern, size, own_mean, own_covariance in groups:
            fill = conditional_mean(covariance, pattern)
            filled_mean = mean + fill @ (own_mean - mean)
            unexplained = covariance - fill @ covariance @ fill.T
            expected.append((size, filled_mean, fill @ own_covariance @ fill.T + unexplained))
        mean = sum((size * own for size, own, _ in expected), torch.zeros_like(mean)) / total
        spread = width * torch.eye(width, dtype=torch.float64)
        for size, own_mean, own_covariance in expected:
            apart = own_mean - mean
            spread += size * (own_covariance + torch.outer(apart, apart))
        before, covariance = covariance, spread / (total + width)
        if (covariance - before).abs().max() < CONVERGED:
            break
    return level + scale * mean, covariance * torch.outer(scale, scale)
