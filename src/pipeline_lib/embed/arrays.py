"""Frames that go into the models, embeddings that come out, and the tiles of both."""

from __future__ import annotations

from dataclasses import dataclass

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
class Frames:
    """One sensor's frames as the models take them.

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
        return self.times.astype("datetime64[D]").astype(np.int64)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the cube."""
        return self.valid.shape[1], self.valid.shape[2]

    def crop(self, tile: Tile, margin: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Values and validity of a tile with ``margin`` more pixels on every side.

        What lies outside the cube is invalid, as it is for a patch at the cube's edge.
        """
        height, width = self.shape
        top, left = tile.row - margin, tile.column - margin
        bottom, right = tile.row + tile.height + margin, tile.column + tile.width + margin
        inside = (..., slice(max(top, 0), bottom), slice(max(left, 0), right))
        beyond = (
            (max(-top, 0), max(bottom - height, 0)),
            (max(-left, 0), max(right - width, 0)),
        )
        values = np.pad(self.values[inside], ((0, 0), (0, 0), *beyond))
        valid = np.pad(self.valid[inside], ((0, 0), *beyond))
        return values, valid


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
