"""Frames that go into the models, embeddings that come out, and the tiles of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tile:
    """A rectangle of pixels of a cube: first row and column, height and width."""

    row: int
    column: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def rows(self) -> slice:
        """Rows of the cube."""
        return slice(self.row, self.row + self.height)

    @property
    def columns(self) -> slice:
        """Columns of the cube."""
        return slice(self.column, self.column + self.width)


def tiles(height: int, width: int, side: int) -> list[Tile]:
    """Cover ``height`` x ``width`` pixels with tiles of ``side``, cut off at the far edges."""
    return [
        Tile(row, column, min(side, height - row), min(side, width - column))
        for row in range(0, height, side)
        for column in range(0, width, side)
    ]


@dataclass(frozen=True)
class Crop:
    """One sensor's frames of a tile, with pixels around it, as the models take them.

    Attributes
    ----------
    values
        ``(time, band, y + 2 margin, x + 2 margin)``, 0..1, exactly 0 where not valid.
    valid
        ``(time, y + 2 margin, x + 2 margin)``.
    days
        ``(time,)``, calendar day of each frame, counted from 1970, increasing.
    margin
        Pixels around the tile on every side.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    days: NDArray[np.int64]
    margin: int

    @property
    def own_valid(self) -> NDArray[np.bool_]:
        """Validity of the tile's own pixels, ``(time, pixel)``."""
        return self.valid[(..., *self._inner)].reshape(len(self.valid), -1)

    @property
    def own_values(self) -> NDArray[np.float32]:
        """Values of the tile's own pixels, ``(time, band, pixel)``."""
        return self.values[(..., *self._inner)].reshape(*self.values.shape[:2], -1)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the tile."""
        rows, columns = self.valid.shape[1:]
        return rows - 2 * self.margin, columns - 2 * self.margin

    @property
    def _inner(self) -> tuple[slice, slice]:
        rows, columns = self.shape
        return slice(self.margin, self.margin + rows), slice(self.margin, self.margin + columns)


class Source(Protocol):
    """Where one sensor's frames come from, tile by tile."""

    @property
    def times(self) -> NDArray[np.datetime64]:
        """``(time,)``, increasing. Every frame has a valid pixel somewhere in the cube."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the cube."""

    def crop(self, tile: Tile, margin: int) -> Crop:
        """Frames of a tile with ``margin`` more pixels on every side.

        What lies outside the cube is invalid, as it is for a patch at the cube's edge.
        """


@dataclass(frozen=True)
class Frames:
    """One sensor's frames in memory: a `Source`.

    Attributes
    ----------
    values
        ``(time, band, y, x)``, 0..1, exactly 0 where not valid.
    valid
        ``(time, y, x)``.
    times
        ``(time,)``, increasing. Every frame has a valid pixel somewhere in the cube.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    times: NDArray[np.datetime64]

    @property
    def days(self) -> NDArray[np.int64]:
        """Calendar day of each frame, counted from 1970, ``(time,)``."""
        return days_of(self.times)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the cube."""
        return self.valid.shape[1], self.valid.shape[2]

    def crop(self, tile: Tile, margin: int) -> Crop:
        """Frames of a tile, as of a `Source`."""
        inside, beyond = reach(self.shape, tile, margin)
        values = self.values[(..., *inside)]
        return padded(values, self.valid[(..., *inside)], beyond, self.days, margin)


Sides = tuple[tuple[int, int], tuple[int, int]]


def reach(shape: tuple[int, int], tile: Tile, margin: int) -> tuple[tuple[slice, slice], Sides]:
    """Rows and columns of a cube that a tile with a margin shows, and what it lacks.

    Returns
    -------
    inside
        Rows and columns within the cube.
    beyond
        Pixels that reach beyond it: above and below, left and right.
    """
    spans = ((tile.row, tile.height), (tile.column, tile.width))
    bounds = [(first - margin, first + count + margin) for first, count in spans]
    inside = [slice(max(a, 0), min(b, size)) for (a, b), size in zip(bounds, shape, strict=True)]
    beyond = [(max(-a, 0), max(b - size, 0)) for (a, b), size in zip(bounds, shape, strict=True)]
    return (inside[0], inside[1]), (beyond[0], beyond[1])


def padded(
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    beyond: Sides,
    days: NDArray[np.int64],
    margin: int,
) -> Crop:
    """A crop of what lies within the cube, and of invalid pixels beyond it."""
    values = np.pad(values, ((0, 0), (0, 0), *beyond))
    return Crop(values, np.pad(valid, ((0, 0), *beyond)), days, margin)


def days_of(times: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Calendar day of each time, counted from 1970."""
    return times.astype("datetime64[D]").astype(np.int64)


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a tile or of a whole cube, and their quality.

    Everything is NaN where the reference sensor's pixel is not valid.

    Attributes
    ----------
    embedding
        ``(time, feature, y, x)``.
    context_share
        ``(time, y, x)``, share of valid pixels in the reference sensor's context, 0..1.
    days
        Per other sensor ``(time, y, x)``: signed days from the embedding's date to the
        frame it is paired with, NaN where that frame shows nothing at the pixel.
    reconstruction_error
        ``(time, y, x)``, mean absolute error over the reference sensor's bands when the
        centre pixel is decoded from the embedding, in the sensor's own units.
    """

    embedding: NDArray[np.float32]
    context_share: NDArray[np.float32]
    days: dict[str, NDArray[np.float32]]
    reconstruction_error: NDArray[np.float32]


def count_valid(valid: NDArray[np.bool_], side: int) -> NDArray[np.int32]:
    """Number of valid pixels in the ``side`` x ``side`` patch around each pixel.

    Parameters
    ----------
    valid
        ``(time, y + side - 1, x + side - 1)``.

    Returns
    -------
    counts
        ``(time, y, x)``; from integer sums, so that they do not depend on the tile.
    """
    sums = np.pad(valid, ((0, 0), (1, 0), (1, 0))).astype(np.int32)
    sums = sums.cumsum(axis=1, dtype=np.int32).cumsum(axis=2, dtype=np.int32)
    return (
        sums[:, side:, side:]
        - sums[:, :-side, side:]
        - sums[:, side:, :-side]
        + sums[:, :-side, :-side]
    )
