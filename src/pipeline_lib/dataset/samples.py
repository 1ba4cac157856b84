"""Training samples: patches of frames drawn from sequences, cut from arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as Several
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Context, Sequence
from pipeline_lib.cubes import read_cube
from pipeline_lib.dataset.normalisation import cube_name, valid_pixels
from pipeline_lib.dataset.stacks import CubeArrays, days_of
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.seeds import generator

TRIES = 16


@dataclass(frozen=True)
class SampleIndex:
    """Which frames and pixels make up some samples.

    ``cube`` ``(sample,)`` is the index of the cube in its stack, ``frames`` ``(sample, frame)`` are
    indices of its frames, and ``present`` is False where a window reaches beyond the record. The
    patch begins at row ``top`` and column ``left`` ``(sample,)``. ``dropped``
    ``(sample, other sensor)`` are the sensors left out of a sample in training; None: none is.
    """

    cube: NDArray[np.int64]
    frames: NDArray[np.int64]
    present: NDArray[np.bool_]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    dropped: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.cube)

    def take(self, rows: NDArray[np.int64] | slice) -> SampleIndex:
        """Some of the samples."""
        parts = {name: part[rows] for name, part in vars(self).items() if part is not None}
        return replace(self, **parts)


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

    A sequence is a run of frames at one patch. Of a cube with fewer frames than a sequence
    has, all frames make one sequence; a cube with fewer frames than a sample has none. Only
    sequences that have a valid centre pixel where the sample's middle frame can lie count.
    """

    def __init__(self, stack: Several[CubeArrays], *, sequence: Sequence, context: Context) -> None:
        self.stack = list(stack)
        self.sequence = sequence
        self.context = context
        parts = [self._sequences(number) for number in range(len(self.stack))]
        table = np.concatenate([np.empty((0, 4), np.int64), *parts])
        self._cube, self._first, self._top, self._left = table.T

    def __len__(self) -> int:
        return len(self._cube)

    def _length(self, number: int) -> int:
        return min(self.sequence.frames, len(self.stack[number].days))

    def _sequences(self, number: int) -> NDArray[np.int64]:
        cube = self.stack[number]
        size, half = self.context.patch_px, self.context.frames // 2
        rows, columns = cube.valid.shape[1:]
        length = self._length(number)
        if length < self.context.frames or rows < size or columns < size:
            return np.empty((0, 4), np.int64)
        stride = self.sequence.stride_space
        first = np.arange(0, len(cube.days) - length + 1, self.sequence.stride_time)
        top, left = np.arange(0, rows - size + 1, stride), np.arange(0, columns - size + 1, stride)
        centre = cube.valid[:, top[:, None] + size // 2, left[None] + size // 2]
        usable = np.stack([centre[f + half : f + length - half].any(axis=0) for f in first])
        f, y, x = np.nonzero(usable)
        return np.stack([np.full(len(f), number), first[f], top[y], left[x]], axis=1)

    def draw(self, rng: np.random.Generator, count: int | None = None) -> SampleIndex:
        """Draw one sample from each sequence, in random order, at most ``count`` samples.

        The middle frame is valid at the centre pixel, and apart from that all choices of frames
        in their order are equally likely. A choice that spans more than
        ``sequence.max_span_days`` is drawn again, after some tries from frames ever closer to
        the middle one; where even neighbouring frames span more, the sequence is left out.
        """
        order = rng.permutation(len(self))[:count]
        frames = np.zeros((len(order), self.context.frames), np.int64)
        good = np.zeros(len(order), bool)
        for number in np.unique(self._cube[order]):
            rows = np.flatnonzero(self._cube[order] == number)
            frames[rows], good[rows] = self._draw_frames(int(number), order[rows], rng)
        drawn = SampleIndex(
            self._cube[order],
            frames,
            np.ones(frames.shape, bool),
            self._top[order],
            self._left[order],
        )
        return drawn.take(np.flatnonzero(good))

    def _draw_frames(
        self, number: int, which: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        cube, length = self.stack[number], self._length(number)
        half, middle = self.context.frames // 2, self.context.patch_px // 2
        first = self._first[which]
        run = first[:, None] + np.arange(length)
        usable = cube.valid[run, self._top[which, None] + middle, self._left[which, None] + middle]
        weights = usable * _arrangements(length, half)
        cumulative = weights.cumsum(axis=1)
        frames = np.zeros((len(which), self.context.frames), np.int64)
        good = np.zeros(len(which), bool)
        for attempt in range(TRIES):
            open_ = np.flatnonzero(~good)
            if len(open_) == 0:
                break
            point = rng.random(len(open_)) * cumulative[open_, -1]
            centre = (cumulative[open_] <= point[:, None]).sum(axis=1)
            reach = max(half, round(length * min(1.0, 2 * (1 - (attempt + 1) / TRIES))))
            chosen = _around(centre, length, half, reach, rng)
            chosen = chosen + first[open_, None]
            days = cube.days[chosen]
            frames[open_] = chosen
            good[open_] = days[:, -1] - days[:, 0] <= self.sequence.max_span_days
        return frames, good

    def cut(self, drawn: SampleIndex) -> Samples:
        """Cut the patches of some samples out of the stack."""
        bands = self.stack[0].values.shape[1]
        return cut_patches(self.stack, drawn, context=self.context, bands=bands)


def check_samples(paths: Several[Path], where: str, sequence: Sequence, context: Context) -> None:
    """Raise UserError, as `no_sample`, if none can be drawn from any of these cubes.

    Cubes are read one by one, until one has a sample.
    """

    def index(path: Path) -> SequenceIndex:
        cube = read_cube(path)
        seen = CubeArrays(
            cube_name(path), np.empty(0, np.uint16), valid_pixels(cube), days_of(cube)
        )
        return SequenceIndex([seen], sequence=sequence, context=context)

    if not any(len(index(path).draw(generator(0, where))) for path in paths):
        raise no_sample(map(index, paths), where, sequence, context)


def no_sample(
    indexes: Iterable[SequenceIndex], where: str, sequence: Sequence, context: Context
) -> UserError:
    """The error that no sample can be drawn: what the cubes lack, and what to do about it."""
    size, frames, days = context.patch_px, context.frames, sequence.max_span_days
    names, lacking, spans = [], Counter[str](), []
    for index in indexes:
        for number, cube in enumerate(index.stack):
            names.append(cube.name)
            if min(cube.valid.shape[1:]) < size:
                lacking["size"] += 1
            elif len(cube.days) < frames:
                lacking["frames"] += 1
            elif number not in index._cube:
                lacking["clear"] += 1
            else:
                lacking["span"] += 1
                spans.append(int((cube.days[frames - 1 :] - cube.days[: 1 - frames or None]).min()))
    if not names:
        return UserError(
            f"{where}: no sample can be drawn from no cube; add a site, or preset its split"
        )
    words = {
        "size": (f"smaller than {size} px", "use larger cubes, or a smaller context.patch_px"),
        "frames": (
            f"with fewer than {frames} frames",
            "use longer periods, a lower min_clear, or fewer context.frames",
        ),
        "clear": ("without a clear target pixel", "use longer periods or other cubes"),
        "span": (
            f"with no {frames} frames within {days:g} days",
            f"set sequence.max_span_days to {min(spans, default=0)} or more, or use fewer "
            "context.frames",
        ),
    }
    facts = ", ".join(f"{count} {words[kind][0]}" for kind, count in lacking.items())
    cubes = f"{len(names)} cube(s) ({in_a_line(', '.join(names))}: {facts})"
    advice = words[lacking.most_common(1)[0][0]][1]
    return UserError(f"{where}: no sample can be drawn from {cubes}; {advice}")


def _arrangements(length: int, half: int) -> NDArray[np.float64]:
    """Number of ways to choose ``half`` frames before and after each frame of a run."""
    from scipy.special import comb

    position = np.arange(length)
    return comb(position, half) * comb(length - 1 - position, half)


def _around(
    centre: NDArray[np.int64], length: int, half: int, reach: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose ``half`` frames on each side of ``centre``, at most ``reach`` away, in order."""
    offset = np.arange(length) - centre[:, None]
    keys = rng.random(offset.shape)
    keys[np.abs(offset) > reach] = 2.0
    before = np.argsort(np.where(offset < 0, keys, 3.0), axis=1)[:, :half]
    after = np.argsort(np.where(offset > 0, keys, 3.0), axis=1)[:, :half]
    return np.sort(np.concatenate([before, centre[:, None], after], axis=1), axis=1)


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
