"""Batches of samples, reproducible epoch by epoch, and the share of each process in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from pipeline_lib.dataset import Draw, Samples
from pipeline_lib.dataset.stacks import QUANTUM

VALIDATION_SHARE = 0.25
"""Validation samples at most, as a share of the samples of an epoch: an epoch's validation
shall not take longer than a tenth of its training."""


class Batch(NamedTuple):
    """Samples of one sensor; shapes as in `dataset.Samples`, values scaled unless `packed`."""

    values: Tensor
    valid: Tensor
    days: Tensor

    @classmethod
    def packed(cls, samples: Samples) -> Batch:
        """The tensors of samples, without a copy: values in uint16, half as many bytes."""
        return cls(
            torch.from_numpy(samples.values),
            torch.from_numpy(samples.valid),
            torch.from_numpy(samples.days),
        )

    @classmethod
    def of(cls, samples: Samples) -> Batch:
        """The tensors of samples, scaled."""
        return cls.packed(samples).scaled()

    def scaled(self) -> Batch:
        """The batch with its packed values scaled to 0..1, on the device that they are on."""
        return self._replace(values=scaled(self.values))


def scaled(values: Tensor) -> Tensor:
    """Packed values (uint16, steps of `QUANTUM`) as float32."""
    return values.float() * float(QUANTUM)


BatchType = TypeVar("BatchType")


@dataclass(frozen=True)
class Batches(Generic[BatchType]):
    """An iterable of scaled batches, cut when they are asked for.

    Parameters
    ----------
    drawn
        The samples, in order.
    size
        Samples per batch; the last one may have fewer.
    cut
        Makes a packed batch of drawn samples.
    scale
        Scales a packed batch.
    """

    drawn: Draw
    size: int
    cut: Callable[[Draw], BatchType]
    scale: Callable[[BatchType], BatchType]

    def __len__(self) -> int:
        return -(-len(self.drawn) // self.size)

    def __iter__(self) -> Iterator[BatchType]:
        for number in range(len(self)):
            yield self.scale(self.cut(self.part(number)))

    def part(self, number: int) -> Draw:
        """The samples of a batch."""
        return self.drawn.take(slice(number * self.size, (number + 1) * self.size))


class Share(NamedTuple, Generic[BatchType]):
    """What one of several processes computes of a batch.

    Parameters
    ----------
    batch
        Of n processes' share each nth sample of the batch, packed.
    counted
        How many of these count: all, but none of a process that finds nothing left in a small
        batch. It computes a sample that is not its own, so that all take every step together.
    total
        Samples of the batch, over all processes.
    """

    batch: BatchType
    counted: int
    total: int


@dataclass(frozen=True)
class Shares(Generic[BatchType]):
    """The shares of one process in some batches, each cut while the one before is computed on.

    Parameters
    ----------
    batches
        The batches, the same for all processes.
    rank, world
        Number of the process, and of all processes.
    worker
        Cuts the patches; with one thread, at most two batches wait.
    """

    batches: Batches[BatchType]
    rank: int
    world: int
    worker: Executor

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Share[BatchType]]:
        waiting: deque[Future[Share[BatchType]]] = deque()
        for number in range(len(self)):
            waiting.append(self.worker.submit(self._cut, number))
            if number > 0:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _cut(self, number: int) -> Share[BatchType]:
        part = self.batches.part(number)
        own = part.take(slice(self.rank, None, self.world))
        counted = len(own)
        return Share(self.batches.cut(own if counted else part.take(slice(1))), counted, len(part))
