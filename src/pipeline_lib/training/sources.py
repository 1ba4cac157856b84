"""Training data of one or several sensors, and what identifies them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.config import Context, Sensor
from pipeline_lib.dataset import (
    CubeArrays,
    Draw,
    Normalisation,
    Samples,
    SequenceIndex,
    closest_frames,
    cube_name,
    cut_patches,
    load_stack,
    window_frames,
    window_step,
)
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_file, digest_of
from pipeline_lib.training.batches import Batch, Batches, scaled
from pipeline_lib.training.terms import centre_of

FusionBatch = dict[str, dict[str, Tensor]]

PART = 256
"""Samples that are cut at once where only their centres are kept."""


def data_digest(paths: Sequence[Path], *tables: Path) -> str:
    """Digest of cubes, by name, and of tables that belong to them."""
    cubes = {cube_name(path): digest_file(path) for path in paths}
    return digest_of({"cubes": cubes, "tables": [digest_file(path) for path in tables]})


@dataclass(frozen=True)
class EncoderSource:
    """Samples of one sensor."""

    index: SequenceIndex

    @classmethod
    def load(
        cls,
        cubes: Sequence[Path],
        sensor: Sensor,
        context: Context,
        normalisation: Normalisation,
        folder: Path | None = None,
    ) -> EncoderSource:
        """Read cubes, into memory or a folder (see `load_stack`), and index their sequences."""
        stack = load_stack(cubes, normalisation, folder)
        return cls(SequenceIndex(stack, sequence=sensor.sequence, context=context))

    def draw(self, rng: np.random.Generator, count: int | None, where: str) -> Draw:
        """Draw samples; an empty draw is the user's to mend.

        Raises
        ------
        UserError
            If no sample can be drawn.
        """
        drawn = self.index.draw(rng, count)
        if len(drawn) == 0:
            names = ", ".join(cube.name for cube in self.index.stack) or "no cube"
            raise UserError(
                f"{where}: no sample can be drawn from {names}: too few frames, too small, too "
                "cloudy, or spanning more than sequence.max_span_days"
            )
        return drawn

    def batches(self, drawn: Draw, size: int) -> Batches[Batch]:
        """Batches of drawn samples."""
        return Batches(drawn, size, self._cut, Batch.scaled)

    def spectra(self, drawn: Draw) -> Tensor:
        """Scaled spectra ``(sample, band)`` of the centres of drawn samples."""
        return torch.cat([centre_of(batch.values) for batch in self.batches(drawn, PART)])

    def _cut(self, drawn: Draw) -> Batch:
        return Batch.packed(self.index.cut(drawn))


class FusionSource:
    """Samples of the reference sensor, each paired with the other sensors' closest windows.

    Parameters
    ----------
    stacks
        Sensor -> cubes. Cubes of one name show the same pixels.
    sensors
        Their config blocks.
    reference
        Sensor whose samples are drawn.
    context
        Size of a sample.

    Raises
    ------
    UserError
        If two sensors' cubes of one name have different grids.
    """

    def __init__(
        self,
        stacks: Mapping[str, Sequence[CubeArrays]],
        *,
        sensors: Mapping[str, Sensor],
        reference: str,
        context: Context,
    ) -> None:
        self.reference = reference
        self.context = context
        self.primary = EncoderSource(
            SequenceIndex(stacks[reference], sequence=sensors[reference].sequence, context=context)
        )
        self.others = {name: list(stack) for name, stack in stacks.items() if name != reference}
        self.steps = {
            name: window_step(sensors[name].sequence.frames, context.frames) for name in self.others
        }
        self.bands = {name: len(sensors[name].bands) for name in self.others}
        self.partners: dict[str, list[int]] = {}
        for name, stack in self.others.items():
            numbers = {cube.name: number for number, cube in enumerate(stack)}
            self.partners[name] = [numbers.get(cube.name, -1) for cube in self.primary.index.stack]
            for cube, partner in zip(stacks[reference], self.partners[name], strict=True):
                if partner >= 0 and stack[partner].valid.shape[1:] != cube.valid.shape[1:]:
                    raise UserError(
                        f"cube {cube.name}: {reference} and {name} have different grids; make "
                        "them on one grid"
                    )

    def draw(self, rng: np.random.Generator, count: int | None, where: str) -> Draw:
        """Draw samples of the reference sensor; see `EncoderSource.draw`."""
        return self.primary.draw(rng, count, where)

    def batches(self, drawn: Draw, size: int) -> Batches[FusionBatch]:
        """Batches of drawn samples of the reference sensor, with their partners."""
        return Batches(drawn, size, self.cut, _scaled)

    def cut(self, drawn: Draw) -> FusionBatch:
        """The packed batch of drawn samples."""
        count = len(drawn)
        primary = Batch.packed(self.primary.index.cut(drawn))
        batch = {
            self.reference: {
                **primary._asdict(),
                "offset": torch.zeros(count),
                "present": torch.ones(count, dtype=torch.bool),
            }
        }
        for name in self.others:
            batch[name] = self._partner(name, drawn)
        return batch

    def _partner(self, name: str, drawn: Draw) -> dict[str, Tensor]:
        """Windows of another sensor; all invalid where it has no cube of the sample's name."""
        stack, size, frames = self.others[name], self.context.patch_px, self.context.frames
        middle, side = frames // 2, size // 2
        partner = np.asarray(self.partners[name], np.int64)[drawn.cube]
        rows = np.flatnonzero(partner >= 0)
        window = np.zeros((len(rows), frames), np.int64)
        shown = np.zeros((len(rows), frames), bool)
        offset = np.zeros(len(drawn), np.float32)
        for number, row in enumerate(rows):
            cube = stack[partner[row]]
            day = self.primary.index.stack[drawn.cube[row]].days[drawn.frames[row, middle]]
            pixel = cube.valid[:, drawn.top[row] + side, drawn.left[row] + side]
            (centre,), _ = closest_frames(cube.days, int(day), pixel[:, None])
            window[number], shown[number] = window_frames(
                len(cube.days), int(centre), frames, self.steps[name]
            )
            offset[row] = cube.days[centre] - day
        found = cut_patches(
            stack,
            Draw(partner[rows], window, shown, drawn.top[rows], drawn.left[rows]),
            context=self.context,
            bands=self.bands[name],
        )
        values = np.zeros((len(drawn), *found.values.shape[1:]), np.uint16)
        valid = np.zeros((len(drawn), *found.valid.shape[1:]), bool)
        days_apart = np.zeros((len(drawn), frames), np.float32)
        values[rows], valid[rows], days_apart[rows] = found.values, found.valid, found.days
        return {
            **Batch.packed(Samples(values, valid, days_apart))._asdict(),
            "offset": torch.from_numpy(offset),
            "present": torch.from_numpy(valid[:, middle, side, side].copy()),
        }


@dataclass(frozen=True)
class _Gaps(Draw):
    """Samples of the reference sensor, and which other sensors are left out of each.

    Parameters
    ----------
    absent
        ``(sample, other sensor)``.
    """

    absent: NDArray[np.bool_]

    def take(self, index: NDArray[np.int64] | slice) -> _Gaps:
        """Some of the samples."""
        return _Gaps(**vars(super().take(index)), absent=self.absent[index])


@dataclass(frozen=True)
class GappySource:
    """A source of which sensors other than the reference are left out at random.

    Parameters
    ----------
    source
        All samples.
    share
        Probability that a sensor is left out of a sample.
    """

    source: FusionSource
    share: float

    def draw(self, rng: np.random.Generator, count: int | None, where: str) -> _Gaps:
        """Draw samples of the reference sensor, then what is left out of them."""
        drawn = self.source.draw(rng, count, where)
        absent = rng.random((len(drawn), len(self.source.others))) < self.share
        return _Gaps(**vars(drawn), absent=absent)

    def batches(self, drawn: Draw, size: int) -> Batches[FusionBatch]:
        """Batches of drawn samples."""
        return replace(self.source.batches(drawn, size), cut=self._cut)

    def _cut(self, drawn: Draw) -> FusionBatch:
        absent = torch.from_numpy(cast(_Gaps, drawn).absent)
        columns = zip(self.source.others, absent.T, strict=True)
        return without(self.source.cut(drawn), dict(columns))


def without(batch: FusionBatch, absent: Mapping[str, Tensor]) -> FusionBatch:
    """A batch with sensors left out: sensor -> ``(B,)``, bool."""
    return {
        name: own | {"present": own["present"] & ~absent[name]} if name in absent else own
        for name, own in batch.items()
    }


def without_any(batch: FusionBatch, names: Iterable[str]) -> FusionBatch:
    """A batch with sensors left out of all its samples."""
    return without(batch, {name: torch.ones_like(batch[name]["present"]) for name in names})


def _scaled(batch: FusionBatch) -> FusionBatch:
    return {name: own | {"values": scaled(own["values"])} for name, own in batch.items()}
