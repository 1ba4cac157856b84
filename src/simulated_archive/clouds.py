"""Clouds: where they are, what they hide, and where their shadows fall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import CLEAR, CLOUD_SHADOW, THICK_CLOUD, THIN_CLOUD
from simulated_archive.arrays import Float32, smooth_field
from simulated_archive.bands import BANDS

LOW_CLOUD = (1.08, 1.04, 1.0, 0.97, 1.05, 1.12, 1.13, 1.16, 1.11, 2.0, 0.96, 0.86)
HIGH_CLOUD = (1.0, 1.01, 1.0, 1.0, 1.04, 1.07, 1.08, 1.09, 1.05, 1.4, 0.80, 0.68)
"""Reflectance of a thick cloud in each band, relative to green, for low and for high clouds.

In the surface product low clouds are far too bright at B09, since the correction takes
out vapour that lies below them; ice absorbs at B11 and B12.
"""
CIRRUS = (1.30, 1.16, 1.06, 1.0, 1.02, 1.04, 1.04, 1.04, 1.02, 1.60, 0.55, 0.42)
"""Path reflectance of a veil in each band, relative to red."""
SKYLIGHT = (0.48, 0.42, 0.34, 0.28, 0.26, 0.24, 0.22, 0.20, 0.20, 0.18, 0.12, 0.10)
"""Share of the light that still reaches the ground in a deep shadow."""

THICK_FROM = 3.0
THIN_FROM = 0.6
CIRRUS_FROM = 0.12
SHADOW_FROM = 0.5
CIRRUS_SHARE = 0.22


@dataclass(frozen=True)
class Clouds:
    """Clouds over a scene, each ``(y, x)``.

    Optical thickness of clouds and of cirrus, share of the sunlight lost in shadows, and the
    class of each pixel (``cubes.CLEAR`` and so on); and how high the clouds are, 0 to 1.
    """

    thickness: Float32
    cirrus: Float32
    shade: Float32
    height: float
    classes: NDArray[np.uint8]


def draw_clouds(
    rng: np.random.Generator,
    size: int,
    *,
    cloudiness: float,
    sun_zenith: float,
    sun_azimuth: float,
) -> Clouds:
    """Clouds of a scene of ``size`` pixels a side.

    They are drawn on twice that, wrapping around, so that shadows of clouds outside fall into the
    scene: a cloud of height h casts its shadow h tan(zenith) away from the sun. ``cloudiness`` is
    the cloudy share of the sky, 0..1; the angles of the sun are in degrees.
    """
    side = 2 * size
    broken = cloudiness < 0.9
    length = rng.uniform(13, 28) if broken else rng.uniform(25, 45)
    height = rng.random() ** 1.5
    base_m = 350 + 1000 * height
    field = smooth_field(rng, (side, side), length, 4.3 if broken else 5.0)
    threshold = np.quantile(field[::2, ::2], 1 - cloudiness)
    overcast = 120 * max(0.0, cloudiness - 0.9)
    above = np.maximum(field - threshold, 0)
    thickness = np.where(above > 0, 17 * above**1.2 + overcast, 0)
    cirrus = np.zeros_like(field)
    if rng.random() < CIRRUS_SHARE:
        veil = smooth_field(rng, (side, side), rng.uniform(20, 50), 3.4)
        cirrus = rng.uniform(0.1, 0.5) * np.clip(veil + rng.uniform(-0.6, 1.2), 0, None)
    reach = base_m * np.tan(np.radians(min(sun_zenith, 80))) / 10
    azimuth = np.radians(sun_azimuth)
    shift = (round(reach * np.cos(azimuth)), -round(reach * np.sin(azimuth)))
    shade = 1 - np.exp(-np.roll(thickness, shift, (0, 1)) / 3)
    corner = slice(size // 2, size // 2 + size)
    thickness, cirrus, shade = (
        values[corner, corner].astype(np.float32) for values in (thickness, cirrus, shade)
    )
    classes = np.full((size, size), CLEAR, dtype=np.uint8)
    classes[shade > SHADOW_FROM] = CLOUD_SHADOW
    classes[(thickness > THIN_FROM) | (cirrus > CIRRUS_FROM)] = THIN_CLOUD
    classes[thickness > THICK_FROM] = THICK_CLOUD
    return Clouds(thickness, cirrus, shade, height, classes)


def cover_with_clouds(reflectance: Float32, clouds: Clouds) -> Float32:
    """Reflectance ``(band, y, x)`` of the ground as seen through the clouds.

    A cloud of optical thickness t reflects t / (t + 7.7) (two streams, asymmetry 0.85, no
    absorption; Lacis and Hansen 1974) and transmits light of the ground.
    """
    column = (len(BANDS), 1, 1)
    kinds = np.array([LOW_CLOUD, HIGH_CLOUD])
    mixed = kinds[0] * (1 - clouds.height) + kinds[1] * clouds.height
    shape = mixed.astype(np.float32).reshape(column)
    veil = np.array(CIRRUS, dtype=np.float32).reshape(column)
    skylight = np.array(SKYLIGHT, dtype=np.float32).reshape(column)
    lit = reflectance * (1 - (1 - skylight) * clouds.shade)
    albedo = clouds.thickness / (clouds.thickness + 7.7)
    seen = lit * np.exp(-clouds.thickness / 3.5) + 0.92 * albedo * shape
    path = 0.42 * (1 - np.exp(-clouds.cirrus))
    return np.asarray(seen * (1 - 1.4 * path) + path * veil, dtype=np.float32)
