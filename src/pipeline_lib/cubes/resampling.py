"""Bilinear interpolation between regular grids, as small matrix products."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes.grid import Grid

Value = TypeVar("Value", bound=np.generic)


def bilinear_weights(
    nodes: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Weights of linear interpolation along one axis, ``(target, node)``; rows sum to 1.

    The nodes are evenly spaced, rising or falling; beyond the outer ones the result is constant.
    Along two axes: ``rows @ field @ columns.T``.
    """
    weights = np.zeros((len(targets), len(nodes)), dtype=np.float32)
    if len(nodes) == 1:
        weights[:] = 1
        return weights
    position = np.clip((targets - nodes[0]) / (nodes[1] - nodes[0]), 0, len(nodes) - 1)
    lower = np.minimum(position.astype(int), len(nodes) - 2)
    share = position - lower
    index = np.arange(len(targets))
    weights[index, lower] = 1 - share
    weights[index, lower + 1] = share
    return weights


def coarse_grid(
    grid: Grid,
    resolution: float,
    *,
    origin: tuple[float, float] = (0.0, 0.0),
    epsg: int | None = None,
) -> Grid:
    """The grid of ``resolution`` around ``grid`` and one pixel more, by default in its ``epsg``.

    ``origin`` is a corner of one of its pixels, m. Pixels of Sentinel-2 of 20 m lie on multiples
    of 20 m everywhere; those of 60 m do so in the northern hemisphere (elsewhere the nearest one
    is read, at most 20 m off).
    """
    bounds = grid.bounds
    if epsg is not None and epsg != grid.epsg:
        from pyproj import Transformer

        bounds = Transformer.from_crs(grid.epsg, epsg, always_xy=True).transform_bounds(*bounds)
    west, south, east, north = bounds
    x, y = origin
    first, last = math.floor((west - x) / resolution) - 1, math.ceil((east - x) / resolution) + 1
    lower, upper = math.floor((south - y) / resolution) - 1, math.ceil((north - y) / resolution) + 1
    left, top = x + first * resolution, y + upper * resolution
    return Grid(epsg or grid.epsg, left, top, resolution, upper - lower, last - first)


def refine(values: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Values ``(..., y, x)`` interpolated onto a finer grid within the source.

    Bilinear, since a convolution would read the edges of 20 m pixels as texture of the land.
    Missing pixels (NaN) take no part, and a target pixel is missing where the source pixel that
    it lies in is. Grids of different reference systems cost more.
    """
    present = np.isfinite(values)
    known = np.where(present, values, np.float32(0))
    if source.epsg == target.epsg:
        rows = bilinear_weights(source.y, target.y)
        columns = bilinear_weights(source.x, target.x).T
        total = rows @ known @ columns
        share = None if present.all() else rows @ present.astype(np.float32) @ columns
    else:
        places = _places(source, target)
        total = _between(known, *places)
        share = None if present.all() else _between(present.astype(np.float32), *places)
    if share is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            inside = nearest(present, source, target)
            total = np.where(inside, total / share, np.float32(np.nan))
    return total.astype(np.float32, copy=False)


def nearest(values: NDArray[Value], source: Grid, target: Grid) -> NDArray[Value]:
    """Values ``(..., y, x)`` of the source pixel that each target pixel lies in.

    For classes, between which there is nothing to interpolate.
    """
    if source.epsg == target.epsg:
        rows = nearest_index(source.y, target.y)[:, None]
        columns = nearest_index(source.x, target.x)[None, :]
    else:
        rows, columns = (np.floor(place + 0.5).astype(np.intp) for place in _places(source, target))
    return values[..., rows, columns]


@lru_cache(maxsize=2)
def _places(source: Grid, target: Grid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Row and column of the source at which each target pixel lies, ``(y, x)`` each.

    Kept, since all scenes of a cube from one neighbouring zone have the same.
    """
    from pyproj import Transformer

    change = Transformer.from_crs(target.epsg, source.epsg, always_xy=True)
    east, north = change.transform(*np.meshgrid(target.x, target.y))
    row, column = (source.top - north) / source.resolution, (east - source.left) / source.resolution
    return (row - 0.5).astype(np.float32), (column - 0.5).astype(np.float32)


def _between(
    values: NDArray[np.float32], row: NDArray[np.float32], column: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Bilinear interpolation of ``(..., y, x)`` at rows and columns that lie within."""
    top, left = row.astype(np.intp), column.astype(np.intp)
    down, right = row - top, column - left
    upper = values[..., top, left] * (1 - right) + values[..., top, left + 1] * right
    lower = values[..., top + 1, left] * (1 - right) + values[..., top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)


def nearest_index(nodes: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the pixel that each target lies in, ``(m,)``."""
    step = nodes[1] - nodes[0] if len(nodes) > 1 else 1.0
    index = np.floor((targets - nodes[0]) / step + 0.5).astype(np.intp)
    return np.clip(index, 0, len(nodes) - 1)
