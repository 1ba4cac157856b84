"""Positions in time: Fourier features of a day offset, defined for every offset."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 12
SHORTEST_PERIOD_DAYS = 6.0
LONGEST_PERIOD_DAYS = 1500.0


class DayPositions(nn.Module):
    """Vectors of signed day offsets.

    Sines and cosines of geometrically spaced periods (Vaswani et al. 2017, section 3.5, with
    days in place of indices), then a linear layer. The periods span a revisit of the
    satellites to several years, so no offset falls off a table's end.
    """

    angular: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        steps = torch.arange(FREQUENCIES, dtype=torch.float64) / (FREQUENCIES - 1)
        ratio = LONGEST_PERIOD_DAYS / SHORTEST_PERIOD_DAYS
        periods = SHORTEST_PERIOD_DAYS * ratio**steps
        self.register_buffer("angular", (2 * math.pi / periods).float(), persistent=False)
        self.project = nn.Linear(2 * FREQUENCIES, width)

    def forward(self, days: Tensor) -> Tensor:
        """Vectors ``(..., width)`` of offsets ``(...)``; a missing offset counts as 0."""
        phase = torch.nan_to_num(days.float())[..., None] * self.angular
        return self.project(torch.cat([phase.sin(), phase.cos()], dim=-1))
