"""Directional reflectance of canopies: PROSAIL, through a look-up table.

The table has two groups of bands. Up to B8A, leaves differ by their pigments; beyond, by
their water. So each group needs one leaf axis only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.files import atomic_path
from simulated_archive.arrays import Float32, Float64
from simulated_archive.bands import BANDS

PIGMENT_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A")
WATER_BANDS = ("B09", "B11", "B12")

LEAF_AREA = (0.0, 0.2, 0.5, 1.0, 1.5, 2.2, 3.0, 4.2, 6.0, 8.0)
CHLOROPHYLL = (4.0, 12.0, 24.0, 38.0, 52.0, 70.0)
LEAF_WATER = (0.003, 0.008, 0.014, 0.022, 0.034)
SOIL_BRIGHTNESS = (0.3, 1.3)
SOIL_MOISTURE = (0.04, 0.14, 0.26, 0.42)
SUN_ZENITH = (18.0, 28.0, 38.0, 48.0, 58.0, 66.0, 73.0, 80.0)
VIEW_ZENITH = (0.0, 4.0, 8.0, 13.0)
RELATIVE_AZIMUTH = (0.0, 40.0, 90.0, 140.0, 180.0)

HOT_SPOT = 0.08
MEAN_LEAF_ANGLE = 55.0
DRYING_MOISTURE = 0.20
"""Moisture, m3/m3, over which a soil's reflectance falls by 1/e from dry to wet."""
SAMPLES_PER_BAND = 5

ELLIPSOIDAL = 2
"""4SAIL's number of the ellipsoidal distribution of leaf angles."""
SURFACE_REFLECTANCE = 17
"""Place of the bidirectional reflectance of canopy and soil among 4SAIL's results."""


@dataclass(frozen=True)
class Ground:
    """State of the ground on one day; every field is ``(y, x)``.

    Leaf area index in m2/m2, chlorophyll in micrograms/cm2, leaf water in cm, soil
    brightness as a factor, soil moisture in m3/m3.
    """

    leaf_area: Float32
    chlorophyll: Float32
    leaf_water: Float32
    soil: Float32
    soil_moisture: Float32


@dataclass(frozen=True)
class CanopyTable:
    """Reflectance over (sun zenith, view zenith, azimuth, leaf area, leaf, soil, soil, band)."""

    pigment: Float32
    water: Float32

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :func:`write_canopy_table` wrote."""
        with np.load(path, allow_pickle=False) as content:
            return cls(content["pigment"], content["water"])

    def reflectance(
        self,
        ground: Ground,
        *,
        sun_zenith: float,
        view_zenith: Float64,
        relative_azimuth: Float64,
    ) -> tuple[Float32, Float32]:
        """Reflectance ``(band, y, x)`` as the scene sees it, and as seen from the nadir.

        Angles are in degrees; those of the view are per band of :data:`BANDS`, ``(band,)``.
        Relative azimuth 0 is looking with the sun behind (backscatter), 180 against it.
        """
        directional = np.empty((len(BANDS), *ground.leaf_area.shape), dtype=np.float32)
        nadir = np.empty_like(directional)
        soil = [(SOIL_BRIGHTNESS, ground.soil), (SOIL_MOISTURE, ground.soil_moisture)]
        groups = (
            (self.pigment, PIGMENT_BANDS, CHLOROPHYLL, ground.chlorophyll),
            (self.water, WATER_BANDS, LEAF_WATER, ground.leaf_water),
        )
        for table, names, nodes, leaf in groups:
            rows = [list(BANDS).index(name) for name in names]
            seen = _at_angles(table, sun_zenith, view_zenith[rows], relative_azimuth[rows])
            above = _at_angles(table, sun_zenith, np.zeros(len(rows)), np.zeros(len(rows)))
            axes = [(LEAF_AREA, ground.leaf_area), (nodes, leaf), *soil]
            values = _interpolate(np.concatenate([seen, above], axis=-1), axes)
            directional[rows] = values[: len(rows)]
            nadir[rows] = values[len(rows) :]
        return directional, nadir


def _bracket(nodes: tuple[float, ...], values: Any) -> tuple[Any, Any]:
    """Index of the node below each value, and the weight of the node above."""
    grid = np.asarray(nodes, dtype=np.float32)
    inside = np.clip(values, grid[0], grid[-1])
    below = np.clip(np.searchsorted(grid, inside, side="right") - 1, 0, len(grid) - 2)
    return below, (inside - grid[below]) / (grid[below + 1] - grid[below])


def _at_angles(table: Float32, sun: float, view: Float64, azimuth: Float64) -> Float32:
    """The table at a scene's angles, which differ from band to band."""
    low_sun, share_sun = _bracket(SUN_ZENITH, sun)
    at_sun = table[low_sun] * (1 - share_sun) + table[low_sun + 1] * share_sun
    low_view, share_view = _bracket(VIEW_ZENITH, view)
    low_azimuth, share_azimuth = _bracket(RELATIVE_AZIMUTH, azimuth)
    bands = np.arange(table.shape[-1])
    total: Float32 = np.zeros(table.shape[3:], dtype=np.float32)
    for i, view_weight in enumerate((1 - share_view, share_view)):
        for j, azimuth_weight in enumerate((1 - share_azimuth, share_azimuth)):
            corner = at_sun[low_view + i, low_azimuth + j, ..., bands]
            weight = (view_weight * azimuth_weight).astype(np.float32)
            total += np.moveaxis(corner, 0, -1) * weight
    return total


def _interpolate(table: Float32, axes: list[tuple[tuple[float, ...], Float32]]) -> Float32:
    """Multilinear interpolation of all bands at once, as one sparse product."""
    from scipy.sparse import csr_array

    shape, pixels = axes[0][1].shape, axes[0][1].size
    columns = np.zeros((pixels, 1), dtype=np.int32)
    weights = np.ones((pixels, 1), dtype=np.float32)
    for (nodes, values), size in zip(axes, table.shape[:-1], strict=True):
        below, share = _bracket(nodes, values.ravel())
        steps = np.stack([below, below + 1], axis=1).astype(np.int32)
        shares = np.stack([1 - share, share], axis=1).astype(np.float32)
        columns = (columns[:, :, None] * size + steps[:, None, :]).reshape(pixels, -1)
        weights = (weights[:, :, None] * shares[:, None, :]).reshape(pixels, -1)
    corners = columns.shape[1]
    rows = np.arange(0, pixels * corners + 1, corners, dtype=np.int32)
    flat = table.reshape(-1, table.shape[-1])
    product = csr_array((weights.ravel(), columns.ravel(), rows), shape=(pixels, len(flat))) @ flat
    return np.ascontiguousarray(product.T).reshape(-1, *shape)


def write_canopy_table(output: Path) -> None:
    """Run PROSAIL over all states and angles and write the table, atomically.

    Leaf optics are PROSPECT-5's, canopies 4SAIL's (Jacquemoud et al. 2009,
    doi:10.1016/j.rse.2009.01.026), in the implementation of the package ``prosail``.
    """
    pigment = [_leaf(chlorophyll=c, water=0.014) for c in CHLOROPHYLL]
    water = [_leaf(chlorophyll=38.0, water=w) for w in LEAF_WATER]
    tables = _tabulate(pigment, PIGMENT_BANDS), _tabulate(water, WATER_BANDS)
    with atomic_path(output) as partial, partial.open("wb") as handle:
        np.savez_compressed(handle, pigment=tables[0], water=tables[1])


def _leaf(*, chlorophyll: float, water: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Reflectance and transmittance of a leaf, 400 to 2500 nm.

    Leaves that lose their chlorophyll turn brown, and keep carotenoids longer.
    """
    import prosail

    brown = 0.9 * max(0.0, 1 - chlorophyll / 22)
    _, reflectance, transmittance = prosail.run_prospect(
        1.55, chlorophyll, 2 + 0.16 * chlorophyll, brown, water, 0.009, prospect_version="5"
    )
    return reflectance, transmittance


def _tabulate(leaves: list[tuple[NDArray[Any], NDArray[Any]]], names: tuple[str, ...]) -> Float32:
    """One call of 4SAIL per angle and leaf area: it takes any vector of wavelengths."""
    from prosail.FourSAIL import foursail
    from prosail.spectral_library import get_spectra

    soil = get_spectra().soil
    offsets = np.linspace(-1, 1, SAMPLES_PER_BAND)
    response = np.exp(-0.5 * (offsets * 1.2) ** 2)
    response /= response.sum()
    centres = np.array([BANDS[name].centre_nm for name in names])
    widths = np.array([BANDS[name].width_nm for name in names])
    waves = np.rint(centres[:, None] + widths[:, None] / 2 * offsets).astype(int) - 400
    wet = np.exp(-np.array(SOIL_MOISTURE) / DRYING_MOISTURE)
    mixed = [dry * soil.rsoil1[waves] + (1 - dry) * soil.rsoil2[waves] for dry in wet]
    soils = np.stack([brightness * soil for brightness in SOIL_BRIGHTNESS for soil in mixed])
    shape = (len(leaves), len(soils), *waves.shape)
    rho = np.broadcast_to(np.stack([r[waves] for r, _ in leaves])[:, None], shape).ravel()
    tau = np.broadcast_to(np.stack([t[waves] for _, t in leaves])[:, None], shape).ravel()
    ground = np.broadcast_to(soils[None], shape).ravel()
    leaf_angles = MEAN_LEAF_ANGLE, 0.0, ELLIPSOIDAL
    angles = (len(SUN_ZENITH), len(VIEW_ZENITH), len(RELATIVE_AZIMUTH))
    table = np.empty((*angles, len(LEAF_AREA), *shape[:-1]), dtype=np.float32)
    for i, j, k in np.ndindex(angles):
        geometry = SUN_ZENITH[i], VIEW_ZENITH[j], RELATIVE_AZIMUTH[k]
        if VIEW_ZENITH[j] == 0 and k > 0:
            table[i, j, k] = table[i, j, 0]
            continue
        for m, area in enumerate(LEAF_AREA):
            terms = foursail(rho, tau, *leaf_angles, area, HOT_SPOT, *geometry, ground)
            table[i, j, k, m] = terms[SURFACE_REFLECTANCE].reshape(shape) @ response
    soil_axes = len(SOIL_BRIGHTNESS), len(SOIL_MOISTURE)
    return table.reshape(*angles, len(LEAF_AREA), len(leaves), *soil_axes, len(names))
