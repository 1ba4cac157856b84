"""What Sentinel-2 records: the ground's reflectance, clouds, noise, digital numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulated_archive.arrays import Float32, smooth_field
from simulated_archive.bands import BANDS
from simulated_archive.canopy import CanopyTable, Ground
from simulated_archive.clouds import Clouds
from simulated_archive.geometry import SceneAngles
from simulated_archive.landscape import MEAN_SOIL, Cover, Landscape
from simulated_archive.phenology import Growth

CONCRETE = (0.11, 0.125, 0.145, 0.155, 0.16, 0.17, 0.18, 0.19, 0.195, 0.20, 0.21, 0.195)
TILES = (0.055, 0.065, 0.095, 0.175, 0.20, 0.215, 0.225, 0.24, 0.245, 0.255, 0.29, 0.265)
WATER = (0.040, 0.044, 0.048, 0.032, 0.025, 0.017, 0.015, 0.013, 0.012, 0.010, 0.006, 0.004)
"""Reflectance of sealed ground and of water, band by band."""

SHADE = {Cover.NEEDLE_LEAVED: 0.62, Cover.BROAD_LEAVED: 0.88}
"""What gaps between crowns leave of a canopy's reflectance; a closed canopy has none."""

HAZE = (0.004, 0.003, 0.002, 0.0015, 0.001, 0.001, 0.001, 0.001, 0.001, 0.002, 0.0005, 0.0005)
"""Spread of what the atmospheric correction leaves, from scene to scene, in reflectance."""

VEGETATION, BARE, WATER_CLASS, DARK, SHADOW = 4, 5, 6, 2, 3
UNCLASSIFIED, CLOUD_MEDIUM, CLOUD_HIGH, THIN_CIRRUS = 7, 8, 9, 10
"""Classes of the scene classification (SCL)."""


def ground_on(landscape: Landscape, growth: Growth, soil_moisture: float, day: int) -> Ground:
    """The ground of one day: what grows on the parcels, varied within them.

    ``soil_moisture`` is the mean of the site on that day, m3/m3; ``day`` its index in ``growth``.
    """
    parcel = landscape.parcel
    leaf_area = growth.leaf_area[:, day][parcel] * landscape.vigour
    leaf_area = np.where(landscape.cover_map == Cover.WATER, 0, leaf_area)
    return Ground(
        leaf_area=leaf_area.astype(np.float32),
        chlorophyll=growth.chlorophyll[:, day][parcel] * (0.7 + 0.3 * landscape.vigour),
        leaf_water=growth.leaf_water[:, day][parcel],
        soil=landscape.soil,
        soil_moisture=np.clip(soil_moisture + landscape.wetness, 0.04, 0.45).astype(np.float32),
    )


def surface_reflectance(
    ground: Ground, landscape: Landscape, table: CanopyTable, angles: SceneAngles
) -> tuple[Float32, Float32]:
    """Reflectance of the ground as the scene sees it, and from the nadir, ``(band, y, x)`` each.

    Roofs, roads and water are taken as equally bright from everywhere.
    """
    views = table.reflectance(
        ground,
        sun_zenith=angles.sun_zenith,
        view_zenith=angles.view_zenith,
        relative_azimuth=angles.relative_azimuth,
    )
    cover = landscape.cover_map
    shade = np.ones(len(Cover), dtype=np.float32)
    for kind, factor in SHADE.items():
        shade[kind] = factor
    share = landscape.sealed
    roof = np.where(landscape.roof > 1.15, 1, 0)
    endmembers = np.array([CONCRETE, TILES], dtype=np.float32)
    sealed = np.moveaxis(endmembers[roof], -1, 0) * landscape.roof
    water = np.array(WATER, dtype=np.float32)[:, None, None] * landscape.soil / MEAN_SOIL
    mixed = []
    for view in views:
        land = view * shade[cover] * (1 - share) + sealed * share
        mixed.append(np.where(cover == Cover.WATER, water, land).astype(np.float32))
    return mixed[0], mixed[1]


def add_noise(rng: np.random.Generator, reflectance: Float32) -> Float32:
    """Add what the atmospheric correction leaves, and the sensor's noise, ``(band, y, x)``."""
    bands = len(BANDS)
    haze = np.array(HAZE) * rng.standard_normal()
    haze = haze + 0.3 * np.array(HAZE) * rng.standard_normal(bands)
    gain = 1 + 0.006 * rng.standard_normal() + 0.003 * rng.standard_normal(bands)
    noise = rng.standard_normal(reflectance.shape, dtype=np.float32)
    noise *= 0.0006 + 0.0012 * reflectance
    scene = reflectance * gain.astype(np.float32)[:, None, None]
    return scene + haze.astype(np.float32)[:, None, None] + noise


def scene_classification(
    rng: np.random.Generator, reflectance: Float32, clouds: Clouds, cover: NDArray[np.int8]
) -> NDArray[np.uint8]:
    """The scene classification ``(y, x)``, with the errors that it is known for.

    Cloud edges and thin clouds are missed or overdone in patches, shadows are detected only in
    part, and bright roofs are taken for clouds.
    """
    names = list(BANDS)
    blue, red, near = (reflectance[names.index(name)] for name in ("B02", "B04", "B08"))
    greenness = (near - red) / np.maximum(near + red, 1e-3)
    patches = np.exp(0.5 * smooth_field(rng, blue.shape, 3.0))
    thickness = clouds.thickness * patches
    classes = np.where(greenness > 0.4, VEGETATION, BARE).astype(np.uint8)
    classes[(near < 0.08) & (red < 0.06)] = DARK
    classes[(cover == Cover.WATER) & (near < 0.05)] = WATER_CLASS
    classes[clouds.shade * patches > 0.75] = SHADOW
    classes[thickness > 1.0] = UNCLASSIFIED
    classes[clouds.cirrus * patches > 0.16] = THIN_CIRRUS
    classes[(thickness > 2.5) | (blue > 0.27)] = CLOUD_MEDIUM
    classes[thickness > 6.0] = CLOUD_HIGH
    return classes


def block_mean(values: Float32, factor: int) -> Float32:
    """Mean of blocks of ``factor`` x ``factor`` pixels of ``(..., y, x)``; NaN where one is NaN."""
    *front, height, width = values.shape
    blocks = values.reshape(*front, height // factor, factor, width // factor, factor)
    return np.asarray(blocks.mean(axis=(-3, -1)), dtype=np.float32)


def digital_numbers(reflectance: Float32, offset: int) -> NDArray[np.uint16]:
    """Digital numbers of the product: 10000 per unit, plus the offset; 0, no data, where NaN."""
    numbers = np.clip(np.rint(reflectance * 10000) + offset, 1, 65535)
    return np.where(np.isnan(numbers), 0, numbers).astype(np.uint16)
