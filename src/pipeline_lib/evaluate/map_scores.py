"""How smooth features are in time and space, and how sharp at boundaries: pure counting.

Everything is meant for standardised features, of which each weighs the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

MAX_DAYS = 40
"""Days between the two neighbours in time at most: over more, a season is no straight line."""
REACH = 3
"""Pixels of one class that a boundary has on either side, at least."""

Array = NDArray[np.float64]
Values = NDArray[np.float32]
Mask = NDArray[np.bool_]
Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Added:
    """Sums of several kinds, which are added kind by kind."""

    def __add__(self, other: Self) -> Self:
        names = [each.name for each in fields(self)]
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True)
class Squares(Added):
    """Squares, means over the features: how many, and their sum."""

    count: int = 0
    total: float = 0.0

    def root(self) -> float | None:
        """Root of their mean; none of none."""
        return float(np.sqrt(self.total / self.count)) if self.count else None


@dataclass(frozen=True)
class Edges(Added):
    """Differences across boundaries, summed over boundaries and dates.

    ``near`` is the difference of the two pixels at a boundary, ``far`` that of the pixels at
    `REACH` on its two sides, both ``(feature,)``.

    Attributes
    ----------
    steps
        ``|near|²``, as means over the features.
    near, far
        ``|near|`` and ``|far|``.
    along, squares
        ``near · far`` and ``|far|²``.
    """

    steps: Squares = Squares()
    near: float = 0.0
    far: float = 0.0
    along: float = 0.0
    squares: float = 0.0


@dataclass(frozen=True)
class Sums(Added):
    """What is added up over the pixels, dates and cubes of one set of features.

    Attributes
    ----------
    pixels, total, squares
        Valid pixels and dates; sum and sum of squares of their features, ``(feature,)`` each.
    noise
        Of `noise_in_time`.
    steps, inner
        Of `adjacent_steps`: of all pixels, and of those of one class.
    edges
        Of `edge_steps`.
    """

    pixels: int
    total: Array
    squares: Array
    noise: Squares
    steps: Squares
    inner: Squares
    edges: Edges

    def numbers(self) -> dict[str, float | None]:
        """What the sums tell; none where there is nothing to tell it of.

        Returns
        -------
        dict
            ``noise``: root mean square of `noise_in_time`. ``spread``: standard deviation of the
            pixels, root of the mean over features of its square. ``noise_to_spread``: their ratio.
            ``step``, ``inner_step``: root mean square difference of adjacent pixels, and of those
            of one class. ``contrast``: that of the two pixels at boundaries, by ``inner_step``.
            ``edge_norms``: sum of ``|near|`` by sum of ``|far|`` (see `Edges`), and
            ``edge_share``: sum of ``near · far`` by sum of ``|far|²``. Both are 1 of a sharp edge,
            1 / 3 of one that a mean over three pixels has blurred, 1 / 5 of an even slope over the
            six pixels. Noise draws the former towards 1, the latter towards 0.
        """
        noise, inner = self.noise.root(), self.inner.root()
        variance = self.squares / self.pixels - (self.total / self.pixels) ** 2
        spread = float(np.sqrt(variance.clip(0).mean()))
        return {
            "noise": noise,
            "spread": spread,
            "noise_to_spread": _ratio(noise, spread),
            "step": self.steps.root(),
            "inner_step": inner,
            "contrast": _ratio(self.edges.steps.root(), inner),
            "edge_norms": _ratio(self.edges.near, self.edges.far),
            "edge_share": _ratio(self.edges.along, self.edges.squares),
        }


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def measure(values: Values, valid: Mask, days: Array, cover: Classes | None) -> Sums:
    """Add up what tells the smoothness and the edges of one cube.

    Parameters
    ----------
    values
        ``(time, feature, y, x)``, standardised. What stands at invalid pixels is ignored.
    valid
        ``(time, y, x)``.
    days
        ``(time,)``, increasing.
    cover
        ``(y, x)``, the class of each pixel; none: it is not known, and no edge is measured.
    """
    known = np.moveaxis(values, 1, -1)[valid]
    return Sums(
        pixels=len(known),
        total=known.sum(axis=0, dtype=np.float64),
        squares=np.einsum("pf,pf->f", known, known, dtype=np.float64),
        noise=noise_in_time(values, valid, days),
        steps=adjacent_steps(values, valid, np.zeros(valid.shape[1:], np.int64)),
        inner=Squares() if cover is None else adjacent_steps(values, valid, cover),
        edges=Edges() if cover is None else edge_steps(values, valid, cover),
    )


def noise_in_time(values: Values, valid: Mask, days: Array) -> Squares:
    """How far pixels lie from the line between their neighbours in time, squared.

    Of three consecutive valid dates of a pixel, ``y1 - (y0 + (y2 - y0) (t1 - t0) / (t2 - t0))``
    (Vermote, Justice and Breon 2009, doi 10.1109/TGRS.2008.2005977, take the root of its mean
    square as the noise of a series), where the first and the last are at most `MAX_DAYS` apart. A
    straight line has none. Of white noise it is ``1 + w² + (1 - w)²`` times the variance, with
    ``w = (t1 - t0) / (t2 - t0)``: 3 / 2 where the dates are evenly spaced, nearly 2 where two of
    them nearly coincide. What truly bends within that time counts too.

    Parameters
    ----------
    values, valid, days
        As in `measure`.
    """
    before, after = _previous(valid), len(valid) - 1 - _previous(valid[::-1])[::-1]
    found = Squares()
    for frame in range(1, len(valid) - 1):
        inside = valid[frame] & (before[frame] >= 0) & (after[frame] < len(valid))
        y, x = np.nonzero(inside)
        first, last = before[frame, y, x], after[frame, y, x]
        near = days[last] - days[first] <= MAX_DAYS
        y, x, first, last = y[near], x[near], first[near], last[near]
        share = (days[frame] - days[first]) / (days[last] - days[first])
        start, end = values[first, :, y, x], values[last, :, y, x]
        apart = values[frame][:, y, x].T - (start + (end - start) * share[:, None])
        found += Squares(len(y), float((apart**2).sum()) / values.shape[1])
    return found


def _previous(valid: Mask) -> NDArray[np.int64]:
    """Index of the valid frame before each, pixel by pixel; -1 where there is none."""
    frames = np.where(valid, np.arange(len(valid))[:, None, None], -1)
    latest = np.maximum.accumulate(frames, axis=0)
    return np.concatenate([np.full_like(latest[:1], -1), latest[:-1]])


def adjacent_steps(values: Values, valid: Mask, cover: Classes) -> Squares:
    """Differences of adjacent pixels of one class, along rows and columns, squared.

    Parameters
    ----------
    values, valid, cover
        As in `measure`.
    """
    found = Squares()
    for along, seen, classes in _both_ways(values, valid, cover):
        told = seen[..., 1:] & seen[..., :-1] & (classes[:, 1:] == classes[:, :-1])
        found += _squares(_apart(along, told, 0, 1))
    return found


def edge_steps(values: Values, valid: Mask, cover: Classes) -> Edges:
    """Differences across boundaries between two classes, along rows and columns.

    A boundary is where `REACH` pixels in a row, or column, are of one class and the `REACH` next
    ones of another.

    Parameters
    ----------
    values, valid, cover
        As in `measure`.
    """
    found = Edges()
    for along, seen, classes in _both_ways(values, valid, cover):
        between = boundaries(classes)
        length = between.shape[1]
        used = (0, REACH - 1, REACH, 2 * REACH - 1)
        told = between & np.logical_and.reduce([seen[..., i : i + length] for i in used])
        near, far = _apart(along, told, *used[1:3]), _apart(along, told, used[0], used[3])
        found += Edges(
            steps=_squares(near),
            near=float(np.linalg.norm(near, axis=1).sum()),
            far=float(np.linalg.norm(far, axis=1).sum()),
            along=float((near * far).sum()),
            squares=float((far**2).sum()),
        )
    return found


def boundaries(classes: Classes) -> Mask:
    """Where `REACH` pixels of one class meet as many of another along the rows of a map.

    Parameters
    ----------
    classes
        ``(y, x)``.

    Returns
    -------
    array
        ``(y, x - 2 REACH + 1)``, at the first of the pixels.
    """
    length = max(0, classes.shape[1] - 2 * REACH + 1)
    pixels = [classes[:, i : i + length] for i in range(2 * REACH)]
    left = np.logical_and.reduce([pixels[0] == one for one in pixels[1:REACH]])
    right = np.logical_and.reduce([pixels[REACH] == one for one in pixels[REACH + 1 :]])
    return np.asarray(left & right & (pixels[0] != pixels[REACH]))


def _both_ways(
    values: Values, valid: Mask, cover: Classes
) -> Iterator[tuple[Values, Mask, Classes]]:
    """Features last; along rows, then along columns as if they were rows."""
    last = np.moveaxis(values, 1, -1)
    yield last, valid, cover
    yield last.swapaxes(1, 2), valid.swapaxes(1, 2), cover.T


def _apart(along: Values, told: Mask, first: int, second: int) -> Array:
    """Differences ``(pair, feature)`` of pixels at two offsets from where ``told`` says."""
    frame, row, column = np.nonzero(told)
    apart = along[frame, row, column + second] - along[frame, row, column + first]
    return np.asarray(apart, np.float64)


def _squares(apart: Array) -> Squares:
    return Squares(len(apart), float((apart**2).sum()) / apart.shape[1])
