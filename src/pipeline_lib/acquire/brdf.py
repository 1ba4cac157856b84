"""Correction to nadir view: the c-factor, from a granule's angles to a pixel grid.

RossThick-LiSparse with the coefficients of Roy et al. 2016 (doi 10.1016/j.rse.2016.01.023) and
2017 (doi 10.1016/j.rse.2017.06.019), as sen2nbar computes it.

The model is used below a low sun and near the nadir only. NASA's HLS and USGS make no surface
reflectance at sun zeniths above 76 degrees; beyond 84, the nadir reflectance of the model passes
through 0 and the factor has a pole. Sentinel-2 looks up to 12 degrees from the nadir (11.93 in Roy
et al. 2017), Landsat up to 7.5. Within the two limits every factor lies between 0.84 and 1.13.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.angles import Angles
from pipeline_lib.acquire.retries import Damaged
from pipeline_lib.cubes import Grid
from pipeline_lib.cubes.resampling import bilinear_weights
from pipeline_lib.errors import UserError

COEFFICIENTS_OF = {"B8A": "B08"}
"""Bands without coefficients of their own, and the band whose they take."""

LARGEST_SUN_ZENITH = 76.0
LARGEST_VIEW_ZENITH = 15.0
"""Where the model is used, degrees; beyond either, the factor is 1."""

FOREIGN_STEP_M = 1000.0
"""Step of the nodes on which a granule of another UTM zone is projected."""


def check_bands(bands: Sequence[str]) -> None:
    """Raises UserError if a band has no BRDF coefficients."""
    from sen2nbar.axioms import fiso

    unknown = [band for band in bands if COEFFICIENTS_OF.get(band, band) not in fiso]
    if unknown:
        raise UserError(
            f"bands {', '.join(unknown)} have no BRDF coefficients; leave them out of the "
            "sensor's bands or set its brdf to false"
        )


def beyond_model(angles: Angles) -> NDArray[np.bool_]:
    """Where the model is not used, ``(band, node_y, node_x)``."""
    low_sun = angles.sun_zenith > LARGEST_SUN_ZENITH
    return np.asarray(low_sun | (angles.view_zenith > LARGEST_VIEW_ZENITH))


def c_factor_on_nodes(angles: Angles) -> NDArray[np.float64]:
    """The c-factor on the nodes, ``(band, node_y, node_x)``, NaN where no detector saw the node.

    Reflectance times this is the reflectance seen from nadir under the same sun. It is 1 where
    the model is not used.
    """
    import xarray as xr
    from sen2nbar.axioms import fgeo, fiso, fvol
    from sen2nbar.kernels import kgeo, kvol

    # Not its c_factor: that finds coefficients by band label, and B8A takes those of B08.
    labels = [COEFFICIENTS_OF.get(band, band) for band in angles.bands]
    isotropic, volumetric, geometric = (
        xr.DataArray([table[label] for label in labels], dims="band")
        for table in (fiso, fvol, fgeo)
    )
    dims = ("band", "y", "x")
    # Held at the limits: beyond them there are poles, and the factor is not used.
    sun = xr.DataArray(np.minimum(angles.sun_zenith, LARGEST_SUN_ZENITH), dims=dims[1:])
    view = xr.DataArray(np.minimum(angles.view_zenith, LARGEST_VIEW_ZENITH), dims=dims)
    azimuth = xr.DataArray(angles.sun_azimuth - angles.view_azimuth, dims=dims)

    def reflectance(zenith: xr.DataArray) -> xr.DataArray:
        """Equation 1 of Roy et al. 2016, Ross-Thick and Li-Sparse kernels."""
        thick = volumetric * kvol(sun, zenith, azimuth)
        return isotropic + (thick + geometric * kgeo(sun, zenith, azimuth))

    factor = (reflectance(view * 0) / reflectance(view)).transpose(*dims)
    return np.where(beyond_model(angles), 1.0, factor)


def fill_nearest(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """The field ``(..., y, x)`` with NaN nodes of each layer filled from the nearest node.

    Raises :class:`Damaged` if a layer has no value at all.
    """
    from scipy.ndimage import distance_transform_edt

    filled = field.copy()
    for index in np.ndindex(field.shape[:-2]):
        missing = np.isnan(field[index])
        if missing.all():
            raise Damaged("a band has no view angle in the whole granule")
        if missing.any():
            rows, columns = distance_transform_edt(
                missing, return_distances=False, return_indices=True
            )
            filled[index] = field[index][rows, columns]
    return filled


def on_grid(field: NDArray[np.float64], angles: Angles, grid: Grid) -> NDArray[np.float32]:
    """A field on the nodes of ``angles``, interpolated bilinearly to a grid, ``(layer, y, x)``.

    ``field`` is ``(layer, node_y, node_x)`` without NaN. Nodes of another UTM zone than the
    grid's are projected to it first. Raises :class:`Damaged` if the grid lies outside the domain
    of their reference system, or there are too few nodes.
    """
    x, y = angles.x, angles.y
    if angles.epsg != grid.epsg:
        field, x, y = _projected(field, angles, grid)
    rows, columns = bilinear_weights(y, grid.y), bilinear_weights(x, grid.x)
    # Nodes far from the grid have no weight: without them a large grid takes half of the time.
    near_rows, near_columns = rows.any(axis=0), columns.any(axis=0)
    near = field[:, near_rows][:, :, near_columns].astype(np.float32)
    strips: NDArray[np.float32] = rows[:, near_rows] @ near
    along_rows = strips.reshape(-1, near.shape[2])
    return np.asarray(along_rows @ columns[:, near_columns].T).reshape(len(field), *grid.shape)


def _projected(
    field: NDArray[np.float64], angles: Angles, grid: Grid
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    from pyproj import Transformer
    from scipy.ndimage import map_coordinates

    if min(len(angles.x), len(angles.y)) < 2:
        raise Damaged("a single row of nodes, in another UTM zone")
    west, south, east, north = grid.bounds
    x = np.arange(west, east + FOREIGN_STEP_M, FOREIGN_STEP_M)
    y = np.arange(north, south - FOREIGN_STEP_M, -FOREIGN_STEP_M)
    to_granule = Transformer.from_crs(grid.epsg, angles.epsg, always_xy=True)
    there_x, there_y = to_granule.transform(*np.meshgrid(x, y))
    position = (
        (there_y - angles.y[0]) / (angles.y[1] - angles.y[0]),
        (there_x - angles.x[0]) / (angles.x[1] - angles.x[0]),
    )
    if not np.isfinite(position).all():
        raise Damaged(f"the cube lies too far away for EPSG:{angles.epsg}")
    layers = [map_coordinates(layer, position, order=1, mode="nearest") for layer in field]
    return np.stack(layers), x, y


def mean_angles(angles: Angles, grid: Grid) -> dict[str, float]:
    """Sun and view angles at the centre of a grid, degrees; view angles averaged over bands.

    Over a cube the angles are as good as linear, so this is also their mean.
    """
    left = grid.left + (grid.width - 1) * grid.resolution / 2
    top = grid.top - (grid.height - 1) * grid.resolution / 2
    centre = Grid(grid.epsg, left, top, grid.resolution, 1, 1)

    def at(field: NDArray[np.float64]) -> float:
        layers = fill_nearest(field.reshape(-1, *field.shape[-2:]))
        return float(on_grid(layers, angles, centre).mean())

    def direction(azimuth: NDArray[np.float64]) -> float:
        radians = np.radians(azimuth)
        return float(np.degrees(np.arctan2(at(np.sin(radians)), at(np.cos(radians)))) % 360)

    return {
        "sun_zenith": at(angles.sun_zenith),
        "sun_azimuth": direction(angles.sun_azimuth),
        "view_zenith": at(angles.view_zenith),
        "view_azimuth": direction(angles.view_azimuth),
    }
