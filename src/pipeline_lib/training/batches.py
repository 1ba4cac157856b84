"""Batches of samples, reproducible epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from pipeline_lib.dataset import Draw, Samples

VALIDATION_SHARE = 0.25
"""Validation samples at most, as a share of the samples of an epoch: an epoch's validation
shall not take longer than a tenth of its training."""


class Batch(NamedTuple):
    """Samples of one sensor; shapes as in `dataset.Samples`."""

    values: Tensor
    valid: Tensor
    days: Tensor

    @classmethod
    def of(cls, samples: Samples) -> Batch:
        """The tensors of samples, without a copy."""
        return cls(
            torch.from_numpy(samples.values),
            torch.from_numpy(samples.valid),
            torch.from_numpy(samples.days),
        )


BatchType = TypeVar("BatchType")


@dataclass(frozen=True)
class Batches(Generic[BatchType]):
    """An iterable of batches, cut when they are asked for.

    Parameters
    ----------
    drawn
        The samples, in order.
    size
        Samples per batch; the last one may have fewer.
    cut
        Makes a batch of drawn samples.
    """

    drawn: Draw
    size: int
    cut: Callable[[Draw], BatchType]

    def __len__(self) -> int:
        return -(-len(self.drawn) // self.size)

    def __iter__(self) -> Iterator[BatchType]:
        for start in range(0, len(self.drawn), self.size):
            yield self.cut(self.drawn.take(slice(start, start + self.size)))
