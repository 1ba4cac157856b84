"""Frames that enter the models, and the tiles in which a cube is worked through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Layers = dict[str, NDArray[np.float32]]
"""Arrays of a product by name: ``embedding`` ``(time, feature, y, x)``, others ``(time, y, x)``."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of pixels of a cube: first row and column, height and width."""

    row: int
    column: int
    height: int
    width: int

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
    """One sensor's frames of a tile and of ``margin`` pixels around it, as the models take them.

    ``values`` ``(time, band, y + 2 margin, x + 2 margin)`` are scaled, not clipped, and exactly 0
    where ``valid`` ``(time, y + 2 margin, x + 2 margin)`` is not; ``days`` ``(time,)`` are counted
    from 1970.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    days: NDArray[np.int64]
    margin: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the tile."""
        rows, columns = self.valid.shape[1:]
        return rows - 2 * self.margin, columns - 2 * self.margin

    @property
    def target_valid(self) -> NDArray[np.bool_]:
        """Validity of the tile's own pixels, ``(time, pixel)``."""
        inner = slice(self.margin, -self.margin or None)
        return self.valid[:, inner, inner].reshape(len(self.valid), -1)

    @property
    def target_values(self) -> NDArray[np.float32]:
        """Values of the tile's own pixels, ``(time, band, pixel)``."""
        inner = slice(self.margin, -self.margin or None)
        return self.values[..., inner, inner].reshape(*self.values.shape[:2], -1)


@dataclass(frozen=True)
class Frames:
    """One sensor's frames of a cube, read rectangle by rectangle.

    ``times`` ``(time,)`` increase, and every frame has a valid pixel somewhere in the cube.
    ``shape`` is that of the cube in pixels. ``read`` takes rows and columns, and returns scaled
    values ``(time, band, y, x)``, not clipped, and where these are valid ``(time, y, x)``.
    """

    times: NDArray[np.datetime64]
    shape: tuple[int, int]
    read: Callable[[slice, slice], tuple[NDArray[np.float32], NDArray[np.bool_]]]

    def crop(self, tile: Tile, margin: int) -> Crop:
        """Frames of a tile with ``margin`` more pixels on every side.

        What lies outside the cube is invalid, as it is for a patch at the cube's edge.
        """
        inside, outside = [], []
        spans = ((tile.row, tile.height), (tile.column, tile.width))
        for (first, count), size in zip(spans, self.shape, strict=True):
            start, stop = first - margin, first + count + margin
            inside.append(slice(max(start, 0), min(stop, size)))
            outside.append((max(-start, 0), max(stop - size, 0)))
        values, valid = self.read(*inside)
        values = np.pad(values, ((0, 0), (0, 0), *outside))
        valid = np.pad(valid, ((0, 0), *outside))
        np.copyto(values, 0, where=~valid[:, None])
        return Crop(values, valid, days_of(self.times), margin)


def days_of(times: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Calendar day of each time, counted from 1970."""
    return times.astype("datetime64[D]").astype(np.int64)


def count_valid(valid: NDArray[np.bool_], side: int) -> NDArray[np.int32]:
    """Number of valid pixels in the ``side`` x ``side`` patch around each pixel, ``(time, y, x)``.

    ``valid`` is ``(time, y + side - 1, x + side - 1)``.
    """
    columns = sliding_window_view(valid, side, axis=1).sum(axis=-1, dtype=np.int32)
    return sliding_window_view(columns, side, axis=2).sum(axis=-1, dtype=np.int32)
