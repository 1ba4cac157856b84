"""Datasets of one or several sensors, their loaders, and what identifies the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline_lib.config import Context, Sensor
from pipeline_lib.dataset import (
    CubeArrays,
    Normalisation,
    SampleIndex,
    Samples,
    SequenceIndex,
    closest_frames,
    cube_name,
    cut_patches,
    load_stack,
)
from pipeline_lib.dataset.samples import no_sample
from pipeline_lib.dataset.stacks import QUANTUM
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_file, digest_of
from pipeline_lib.models import TrainedEncoder

MEASURED = 256
"""Samples per batch where nothing is learned from them."""


def data_digest(paths: Sequence[Path], *tables: Path) -> str:
    """Digest of cubes, by name, and of tables that belong to them."""
    cubes = {cube_name(path): digest_file(path) for path in paths}
    return digest_of({"cubes": cubes, "tables": [digest_file(path) for path in tables]})


class SensorBatch(NamedTuple):
    """Samples of one sensor.

    Values ``(B, T, C, P, P)`` are scaled to 0..1; validity ``(B, T, P, P)`` is False everywhere
    where the sensor is absent, and days ``(B, T)`` count from the sensor's centre frame. ``offset``
    ``(B,)`` are the days from the reference sensor's centre frame to this sensor's; ``present``
    ``(B,)`` is whether the centre pixel of the centre frame is valid.
    """

    values: Tensor
    valid: Tensor
    days: Tensor
    offset: Tensor
    present: Tensor

    @classmethod
    def of(
        cls,
        samples: Samples,
        offset: NDArray[np.float32] | None = None,
        present: NDArray[np.bool_] | None = None,
    ) -> SensorBatch:
        """The tensors of samples, scaled; without further arrays they are the reference's."""
        count = len(samples.values)
        return cls(
            torch.from_numpy(samples.values).float() * float(QUANTUM),
            torch.from_numpy(samples.valid),
            torch.from_numpy(samples.days),
            torch.zeros(count) if offset is None else torch.from_numpy(offset),
            torch.ones(count, dtype=torch.bool) if present is None else torch.from_numpy(present),
        )

    @property
    def patches(self) -> tuple[Tensor, Tensor, Tensor]:
        """What an encoder takes: values, validity and days."""
        return self.values, self.valid, self.days

    def take(self, rows: Tensor) -> SensorBatch:
        """Some of the samples."""
        return SensorBatch(*(part[rows] for part in self))


class Batch(NamedTuple):
    """The same samples as several sensors, or one, see them."""

    sensors: dict[str, SensorBatch]

    def without(self, names: Iterable[str]) -> Batch:
        """The batch with sensors left out of all its samples."""
        gone = {
            name: self.sensors[name]._replace(present=torch.zeros_like(self.sensors[name].present))
            for name in names
        }
        return Batch(self.sensors | gone)


class ShardSampler(Sampler[SampleIndex]):
    """Drawn samples batch by batch, or of each batch the shard of one of several ranks.

    A rank that has no sample in a small last batch gets its first one, which does not count: all
    ranks take every step together.
    """

    def __init__(self, drawn: SampleIndex, size: int, rank: int = 0, world: int = 1) -> None:
        self.drawn, self.size, self.rank, self.world = drawn, size, rank, world

    def __len__(self) -> int:
        return -(-len(self.drawn) // self.size)

    def __iter__(self) -> Iterator[SampleIndex]:
        for number in range(len(self)):
            batch = self.drawn.take(slice(number * self.size, (number + 1) * self.size))
            shard = slice(self.rank, None, self.world) if self.counts(number)[0] else slice(1)
            yield batch.take(shard)

    def counts(self, number: int) -> tuple[int, int]:
        """Samples of a batch that count in the shard, and samples of the whole batch."""
        total = min(self.size, len(self.drawn) - number * self.size)
        return len(range(self.rank, total, self.world)), total


class SampleDataset(Dataset[Batch]):
    """Samples drawn from the sequences of an index, and cut batch by batch: items are batches."""

    index: SequenceIndex

    def draw(
        self, rng: np.random.Generator, count: int | None, where: str, *, augment: bool = False
    ) -> SampleIndex:
        """Samples in random order, at most ``count``, with augmented windows if asked.

        Raises UserError if no sample can be drawn.
        """
        drawn = self.index.draw(rng, count, augment=augment)
        if len(drawn) == 0:
            raise no_sample([self.index], where)
        return drawn

    def __getitem__(self, drawn: SampleIndex) -> Batch:
        raise NotImplementedError

    def loader(
        self, drawn: SampleIndex, size: int = MEASURED, rank: int = 0, world: int = 1
    ) -> DataLoader[Batch]:
        """Batches of drawn samples, cut in a process of its own where a GPU waits for them."""
        return DataLoader(
            self,
            batch_size=None,
            sampler=ShardSampler(drawn, size, rank, world),
            num_workers=1 if torch.cuda.is_available() else 0,
        )


def sequence_index(stack: Sequence[CubeArrays], sensor: Sensor, context: Context) -> SequenceIndex:
    """Sequences of a sensor's cubes."""
    return SequenceIndex(
        stack, sequence=sensor.sequence, context=context, rolling_mean=sensor.rolling_mean
    )


class SensorDataset(SampleDataset):
    """Samples of one sensor."""

    def __init__(self, name: str, index: SequenceIndex) -> None:
        self.name, self.index = name, index

    @classmethod
    def load(
        cls,
        name: str,
        cubes: Sequence[Path],
        sensor: Sensor,
        context: Context,
        normalisation: Normalisation,
        folder: Path | None = None,
    ) -> SensorDataset:
        """Samples of some cubes, read into memory or a folder (see `load_stack`)."""
        stack = load_stack(cubes, normalisation, folder)
        return cls(name, sequence_index(stack, sensor, context))

    @classmethod
    def of(cls, trained: TrainedEncoder, cubes: Iterable[Path]) -> SensorDataset:
        """Samples of some cubes, in memory, as a trained encoder takes them."""
        return cls.load(
            trained.name, sorted(cubes), trained.sensor, trained.context, trained.normalisation
        )

    def __getitem__(self, drawn: SampleIndex) -> Batch:
        return Batch({self.name: SensorBatch.of(self.index.cut(drawn))})


class FusionDataset(SampleDataset):
    """Samples of the reference sensor, each paired with the other sensors' closest windows.

    The cubes of all sensors are scaled as the trained encoders take them, and read into memory, or
    into a folder of each sensor in ``folder`` (see `load_stack`). Cubes of one name show the same
    pixels; raises UserError if their grids differ.
    """

    def __init__(
        self,
        encoders: Mapping[str, TrainedEncoder],
        cubes: Mapping[str, Sequence[Path]],
        reference: str,
        folder: Path | None = None,
    ) -> None:
        self.reference = reference
        self.context = context = encoders[reference].context
        stacks = {
            name: load_stack(cubes[name], encoder.normalisation, folder and folder / name)
            for name, encoder in encoders.items()
        }
        indexes = {
            name: sequence_index(stack, encoders[name].sensor, context)
            for name, stack in stacks.items()
        }
        self.index = indexes.pop(reference)
        self.others = indexes
        self.bands = {name: len(encoders[name].sensor.bands) for name in self.others}
        self.partners: dict[str, NDArray[np.int64]] = {}
        for name, index in self.others.items():
            places = {c.name: place for place, c in enumerate(index.stack) if len(c.days)}
            partners = [places.get(cube.name, -1) for cube in self.index.stack]
            self.partners[name] = np.array(partners, np.int64)
            for cube, partner in zip(self.index.stack, partners, strict=True):
                if partner >= 0 and index.stack[partner].valid.shape[1:] != cube.valid.shape[1:]:
                    raise UserError(
                        f"cube {cube.name}: {reference} and {name} have different grids; build "
                        "them on one grid"
                    )

    def draw(
        self, rng: np.random.Generator, count: int | None, where: str, *, augment: bool = False
    ) -> SampleIndex:
        """Samples of the reference sensor, and their windows of the other sensors."""
        drawn = super().draw(rng, count, where, augment=augment)
        others = {name: self._paired(name, drawn, rng if augment else None) for name in self.others}
        return replace(drawn, others=others)

    def _paired(
        self, name: str, drawn: SampleIndex, rng: np.random.Generator | None
    ) -> SampleIndex:
        """Another sensor's windows around its frames that are closest in time to the samples'."""
        index, side = self.others[name], self.context.patch_px // 2
        partner, middle = self.partners[name][drawn.cube], drawn.centre
        centre = np.zeros(len(drawn), np.int64)
        for number in np.unique(drawn.cube[partner >= 0]):
            own, other = self.index.stack[number], index.stack[self.partners[name][number]]
            rows = np.flatnonzero(drawn.cube == number)
            for frame in np.unique(middle[rows]):
                these = rows[middle[rows] == frame]
                pixels = other.valid[:, drawn.top[these] + side, drawn.left[these] + side]
                centre[these], _ = closest_frames(other.days, int(own.days[frame]), pixels)
        return index.around(partner, centre, drawn.top, drawn.left, rng)

    def __getitem__(self, drawn: SampleIndex) -> Batch:
        sensors = {self.reference: SensorBatch.of(self.index.cut(drawn))}
        return Batch(sensors | {name: self._partner(name, drawn) for name in self.others})

    def _partner(self, name: str, drawn: SampleIndex) -> SensorBatch:
        """Windows of another sensor; all invalid where it has no cube of the sample's name."""
        stack, size, frames = self.others[name].stack, self.context.patch_px, self.context.frames
        middle, side, other = frames // 2, size // 2, drawn.others[name]
        rows = np.flatnonzero(other.cube >= 0)
        cut = cut_patches(stack, other.take(rows), context=self.context, bands=self.bands[name])
        values = np.zeros((len(drawn), *cut.values.shape[1:]), np.uint16)
        valid = np.zeros((len(drawn), *cut.valid.shape[1:]), bool)
        days, offset = np.zeros((len(drawn), frames), np.float32), np.zeros(len(drawn), np.float32)
        values[rows], valid[rows], days[rows] = cut.values, cut.valid, cut.days
        for row in rows:
            own = self.index.stack[drawn.cube[row]].days[drawn.centre[row]]
            offset[row] = stack[other.cube[row]].days[other.centre[row]] - own
        present = valid[:, middle, side, side].copy()
        return SensorBatch.of(Samples(values, valid, days), offset, present)


def centre_of(patches: Tensor) -> Tensor:
    """Target pixel ``(B, C)``, the middle of the middle frame, of ``(B, T, C, P, P)``."""
    middle = patches.shape[-1] // 2
    return patches[:, patches.shape[1] // 2, :, middle, middle]
