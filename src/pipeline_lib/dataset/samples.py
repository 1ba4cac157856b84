"""Samples to train and to evaluate with: windows of frames at a patch, cut from arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Context, Sequence
from pipeline_lib.cubes import read_cube
from pipeline_lib.dataset.normalisation import cube_name, valid_pixels
from pipeline_lib.dataset.stacks import CubeArrays, clear_frames, days_of
from pipeline_lib.dataset.windows import window_frames
from pipeline_lib.errors import UserError, in_a_line


@dataclass(frozen=True)
class SampleIndex:
    """Which frames and pixels make up some samples.

    ``cube`` ``(sample,)`` is the index of the cube in its stack, ``frames`` ``(sample, frame)`` are
    indices of its frames, and ``present`` is False where a window has none. The patch begins at row
    ``top`` and column ``left`` ``(sample,)``. ``others`` are the same samples as other sensors see
    them, by sensor; their ``cube`` is -1 where a sensor has none.
    """

    cube: NDArray[np.int64]
    frames: NDArray[np.int64]
    present: NDArray[np.bool_]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    others: Mapping[str, SampleIndex] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.cube)

    @property
    def centre(self) -> NDArray[np.int64]:
        """Centre frame of each sample, ``(sample,)``."""
        return self.frames[:, self.frames.shape[1] // 2]

    @property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {name: part for name, part in vars(self).items() if isinstance(part, np.ndarray)}

    def take(self, rows: NDArray[np.int64] | slice) -> SampleIndex:
        """Some of the samples."""
        others = {name: own.take(rows) for name, own in self.others.items()}
        return replace(self, **{k: part[rows] for k, part in self._arrays.items()}, others=others)

    @classmethod
    def joined(cls, parts: Several[SampleIndex]) -> SampleIndex:
        """The samples of several draws from the same stacks."""
        first = parts[0]
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in first._arrays
        }
        others = {name: cls.joined([part.others[name] for part in parts]) for name in first.others}
        return replace(first, **arrays, others=others)


@dataclass(frozen=True)
class Samples:
    """Arrays of some samples.

    Values ``(sample, frame, band, y, x)``, uint16, are scaled values in steps of
    `stacks.QUANTUM`, 0 where invalid; validity is ``(sample, frame, y, x)``, and days
    ``(sample, frame)`` count from the middle frame.
    """

    values: NDArray[np.uint16]
    valid: NDArray[np.bool_]
    days: NDArray[np.float32]


class SequenceIndex:
    """All sequences of a stack of cubes, and random samples from them.

    A sequence is a run of frames at one patch, whose centre pixel is valid in one of them at least.
    Of a cube with fewer frames than a sequence has, all frames make one sequence. ``rolling_mean``
    is that of the sensor (see `window_frames`).
    """

    def __init__(
        self,
        stack: Several[CubeArrays],
        *,
        sequence: Sequence,
        context: Context,
        rolling_mean: int = 1,
    ) -> None:
        self.stack = list(stack)
        self.sequence = sequence
        self.context = context
        self.rolling_mean = rolling_mean
        parts = [self._sequences(number) for number in range(len(self.stack))]
        table = np.concatenate([np.empty((0, 4), np.int64), *parts])
        self._cube, self._first, self._top, self._left = table.T

    def __len__(self) -> int:
        return len(self._cube)

    def _length(self, number: int) -> int:
        return min(self.sequence.frames, len(self.stack[number].days))

    def _sequences(self, number: int) -> NDArray[np.int64]:
        cube, size = self.stack[number], self.context.patch_px
        rows, columns = cube.valid.shape[1:]
        length, stride = self._length(number), self.sequence.stride_space
        first = np.arange(0, len(cube.days) - length + 1, self.sequence.stride_time)
        top, left = np.arange(0, rows - size + 1, stride), np.arange(0, columns - size + 1, stride)
        centre = cube.valid[:, top[:, None] + size // 2, left[None] + size // 2]
        f, y, x = np.nonzero(np.stack([centre[f : f + length].any(axis=0) for f in first]))
        return np.stack([np.full(len(f), number), first[f], top[y], left[x]], axis=1)

    def draw(
        self, rng: np.random.Generator, count: int | None = None, *, augment: bool = False
    ) -> SampleIndex:
        """Draw one sample from each sequence, in random order, at most ``count`` samples.

        Its centre frame is one of the sequence's in which the centre pixel is valid, all equally
        likely. Around it lies the window of the cube's whole record (`window_frames`), augmented
        if asked.
        """
        order = rng.permutation(len(self))[:count]
        cube, first, top, left = (
            part[order] for part in (self._cube, self._first, self._top, self._left)
        )
        side = self.context.patch_px // 2
        centre = np.zeros(len(order), np.int64)
        for number in np.unique(cube):
            rows = np.flatnonzero(cube == number)
            run = first[rows, None] + np.arange(self._length(int(number)))
            valid = self.stack[number].valid[run, top[rows, None] + side, left[rows, None] + side]
            chosen = np.floor(rng.random(len(rows)) * valid.sum(axis=1))
            centre[rows] = first[rows] + (valid.cumsum(axis=1) <= chosen[:, None]).sum(axis=1)
        return self.around(cube, centre, top, left, rng if augment else None)

    def around(
        self,
        cube: NDArray[np.int64],
        centre: NDArray[np.int64],
        top: NDArray[np.int64],
        left: NDArray[np.int64],
        rng: np.random.Generator | None = None,
    ) -> SampleIndex:
        """Samples with these centre frames and patches; their windows are augmented with ``rng``.

        Where ``cube`` is -1 no frame is present.
        """
        frames = np.zeros((len(cube), self.context.frames), np.int64)
        present = np.zeros(frames.shape, bool)
        for number in np.unique(cube[cube >= 0]):
            rows = np.flatnonzero(cube == number)
            frames[rows], present[rows] = window_frames(
                self.stack[number].days,
                centre[rows],
                self.context.frames,
                self.sequence.max_span_days,
                rolling_mean=self.rolling_mean,
                rng=rng,
            )
        return SampleIndex(cube, frames, present, top, left)

    def cut(self, drawn: SampleIndex) -> Samples:
        """Cut the patches of some samples out of the stack."""
        bands = self.stack[0].values.shape[1]
        return cut_patches(self.stack, drawn, context=self.context, bands=bands)


def check_samples(paths: Several[Path], where: str, sequence: Sequence, context: Context) -> None:
    """Raise UserError, as `no_sample`, if none can be drawn from any of these cubes.

    Cubes are read one by one, until one has a sample.
    """

    def index(path: Path) -> SequenceIndex:
        cube = clear_frames(read_cube(path))
        seen = CubeArrays(
            cube_name(path), np.empty(0, np.uint16), valid_pixels(cube), days_of(cube)
        )
        return SequenceIndex([seen], sequence=sequence, context=context)

    if not any(len(index(path)) for path in paths):
        raise no_sample(map(index, paths), where)


def no_sample(indexes: Iterable[SequenceIndex], where: str) -> UserError:
    """The error that no sample can be drawn: what the cubes lack, and what to do about it."""
    names, lacking = [], Counter[str]()
    for index in indexes:
        size = index.context.patch_px
        for cube in index.stack:
            names.append(cube.name)
            small = min(cube.valid.shape[1:]) < size
            lacking[f"smaller than {size} px" if small else "without a clear target pixel"] += 1
    if not names:
        return UserError(
            f"{where}: no sample can be drawn from no cube; add a site, or preset its split"
        )
    facts = ", ".join(f"{count} {what}" for what, count in lacking.items())
    cubes = f"{len(names)} cube(s) ({in_a_line(', '.join(names))}: {facts})"
    small = lacking.most_common(1)[0][0].startswith("smaller")
    advice = (
        "use larger cubes, or a smaller context.patch_px"
        if small
        else "use longer periods or other cubes"
    )
    return UserError(f"{where}: no sample can be drawn from {cubes}; {advice}")


def cut_patches(
    stack: Several[CubeArrays], drawn: SampleIndex, *, context: Context, bands: int
) -> Samples:
    """Cut patches of some bands out of a stack; frames that are not present are invalid."""
    size = context.patch_px
    values = np.empty((len(drawn), context.frames, bands, size, size), np.uint16)
    valid = np.empty((len(drawn), context.frames, size, size), bool)
    days = np.empty((len(drawn), context.frames), np.int64)
    for row in range(len(drawn)):
        cube = stack[drawn.cube[row]]
        frames = drawn.frames[row]
        y, x = drawn.top[row], drawn.left[row]
        values[row] = cube.values[:, :, y : y + size, x : x + size][frames]
        valid[row] = cube.valid[:, y : y + size, x : x + size][frames]
        days[row] = cube.days[frames]
    valid &= drawn.present[:, :, None, None]
    values *= valid[:, :, None]
    centred = days - days[:, [context.frames // 2]]
    return Samples(values, valid, centred.astype(np.float32))
