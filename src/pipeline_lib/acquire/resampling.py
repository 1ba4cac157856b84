"""Bilinear interpolation between regular grids, as small matrix products."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import Grid


def bilinear_weights(
    nodes: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Weights of linear interpolation along one axis; constant beyond the outer nodes.

    Parameters
    ----------
    nodes
        ``(n,)``, evenly spaced, rising or falling.
    targets
        ``(m,)``, where values are wanted.

    Returns
    -------
    array, ``(m, n)``
        Rows sum to 1. Along two axes: ``rows @ field @ columns.T``.
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


def coarse_grid(grid: Grid, resolution: float) -> Grid:
    """The grid of ``resolution``, on its own multiples, around ``grid`` and one pixel more.

    Pixels of Sentinel-2 of 20 m lie on multiples of 20 m everywhere; those of 60 m do so in
    the northern hemisphere (elsewhere the nearest one is read, at most 20 m off).
    """
    west, south, east, north = grid.bounds
    left = (math.floor(west / resolution) - 1) * resolution
    top = (math.ceil(north / resolution) + 1) * resolution
    width = math.ceil(east / resolution) + 1 - round(left / resolution)
    height = round(top / resolution) - math.floor(south / resolution) + 1
    return Grid(grid.epsg, left, top, resolution, height, width)


def refine(values: NDArray[np.float32], source: Grid, target: Grid) -> NDArray[np.float32]:
    """Interpolate onto a finer grid without inventing data.

    Bilinear, since a convolution would read the edges of 20 m pixels as texture of the land.
    Missing pixels take no part, and a target pixel is missing where the source pixel that it
    lies in is.

    Parameters
    ----------
    values
        ``(..., y, x)`` on ``source``, NaN where missing.
    source, target
        Grids of the same coordinate reference system, ``target`` within ``source``.

    Returns
    -------
    array, ``(..., y, x)`` on ``target``
    """
    rows = bilinear_weights(source.y, target.y)
    columns = bilinear_weights(source.x, target.x).T
    present = np.isfinite(values)
    total = rows @ np.where(present, values, np.float32(0)) @ columns
    if not present.all():
        share = rows @ present.astype(np.float32) @ columns
        inside = present[
            ...,
            nearest_index(source.y, target.y)[:, None],
            nearest_index(source.x, target.x)[None, :],
        ]
        with np.errstate(invalid="ignore", divide="ignore"):
            total = np.where(inside, total / share, np.float32(np.nan))
    return total.astype(np.float32, copy=False)


def nearest_index(nodes: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the pixel that each target lies in, ``(m,)``."""
    step = nodes[1] - nodes[0] if len(nodes) > 1 else 1.0
    index = np.floor((targets - nodes[0]) / step + 0.5).astype(np.intp)
    return np.clip(index, 0, len(nodes) - 1)
