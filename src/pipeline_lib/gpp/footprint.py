"""Where the flux of a tower comes from: weights of the pixels around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Tower
from pipeline_lib.cubes import Grid
from pipeline_lib.errors import UserError

MARGIN_CELLS = 100
"""Cells of a footprint's raster that are added around it; more than a pixel of a cube holds."""

Weights = NDArray[np.float64]


def footprint_weights(grid: Grid, *, tower: Tower, radius: float) -> Weights:
    """Weights of the pixels around a tower, ``(y, x)``, of sum 1.

    Those of the tower's footprint raster if it has one; otherwise all pixels within ``radius``, m,
    weigh the same. Raises UserError if the tower lies outside the grid, or the raster cannot be
    read, has no weight within the grid, or a negative one.
    """
    assert tower.lon is not None and tower.lat is not None
    inside = _within(grid, lon=tower.lon, lat=tower.lat, radius=radius)
    weights = inside.astype(np.float64) if tower.footprint is None else _raster(grid, tower)
    return np.asarray(weights / weights.sum())


def _within(grid: Grid, *, lon: float, lat: float, radius: float) -> NDArray[np.bool_]:
    """Pixels whose centres lie within a radius of a point; the closest one always does."""
    from pyproj import Transformer

    east, north = Transformer.from_crs(4326, grid.epsg, always_xy=True).transform(lon, lat)
    west, south, right, top = grid.bounds
    if not (west <= east <= right and south <= north <= top):
        raise UserError(
            f"the tower at {lon:g} E, {lat:g} N lies outside its cube; check its coordinates"
        )
    distance = np.hypot(grid.x[np.newaxis, :] - east, grid.y[:, np.newaxis] - north)
    return np.asarray(distance <= max(radius, float(distance.min())))


def _raster(grid: Grid, tower: Tower) -> Weights:
    """The tower's raster on the grid: a pixel has the mean of the raster's cells within it."""
    import rasterio
    from rasterio.transform import from_bounds
    from rasterio.warp import Resampling, reproject

    path = Path(str(tower.footprint))
    try:
        with rasterio.open(path) as source:
            read = source.read(1, masked=True).astype(np.float64).filled(0.0)
            crs, cells = source.crs, source.transform
    except rasterio.errors.RasterioError as error:
        raise UserError(f"{path}: cannot be read as a raster ({error})") from error
    if crs is None:
        raise UserError(f"{path}: has no coordinate reference system; add one")
    fine = crs.is_projected and abs(cells.a) < abs(grid.x[1] - grid.x[0])
    weights = np.zeros(grid.shape)
    reproject(
        # Outside the raster the flux is zero: a margin of zeros makes that count in means.
        np.pad(np.nan_to_num(read, nan=0.0), MARGIN_CELLS),
        weights,
        src_transform=cells * cells.translation(-MARGIN_CELLS, -MARGIN_CELLS),
        src_crs=crs,
        dst_transform=from_bounds(*grid.bounds, grid.shape[1], grid.shape[0]),
        dst_crs=f"EPSG:{grid.epsg}",
        resampling=Resampling.average if fine else Resampling.bilinear,
    )
    if weights.min() < 0:
        raise UserError(f"{path}: has negative weights; a footprint's are fractions of the flux")
    if weights.sum() == 0:
        raise UserError(f"{path}: has no weight within the tower's cube; check where it lies")
    return weights
