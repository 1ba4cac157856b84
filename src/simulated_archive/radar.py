"""What Sentinel-1 records: soil, canopy and buildings, seen through speckle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from simulated_archive.arrays import Float32
from simulated_archive.canopy import Ground
from simulated_archive.landscape import MEAN_SOIL, Cover, Landscape

LOOK_WEIGHTS = np.array([0.3, 0.25, 0.2, 0.15, 0.1], dtype=np.float32)
"""Of the five looks in range, whose spectra overlap: worth 4.4 independent ones."""
RESOLUTION_PX = 1.0
"""Standard deviation, in pixels of 10 m, of the Gaussian that stands for a resolution of 20 m."""
NO_DATA = -32768.0


@dataclass(frozen=True)
class WaterCloud:
    """Parameters of one polarisation.

    Soil: decibels at dry, and per m3/m3 of moisture. Canopy: brightness of an opaque one,
    and two-way attenuation per unit of leaf area, for fields and for forests.
    """

    soil_db: float
    moisture_db: float
    field_brightness: float
    field_attenuation: float
    forest_brightness: float
    forest_floor: float
    built: float
    asphalt_db: float
    water_db: float


MODELS = {
    "vv": WaterCloud(-16.0, 24.0, 0.085, 0.16, 0.185, 2.6, 0.55, -16.0, -20.5),
    "vh": WaterCloud(-23.5, 17.0, 0.024, 0.22, 0.047, 2.6, 0.075, -24.0, -27.5),
}


def backscatter(
    ground: Ground, landscape: Landscape, *, incidence: float, ascending: bool
) -> dict[str, Float32]:
    """Terrain-flattened backscatter (gamma nought, linear power) without speckle, per polarisation.

    The water-cloud model (Attema and Ulaby 1978, doi:10.1029/RS013i002p00357): a canopy over moist
    soil, gamma = V (1 - T) + soil T, with T = exp(-2 B L / cos(incidence)). ``incidence`` is that
    of the scene, degrees; the tilt of the ground changes it. The sensor looks east on ascending
    orbits, west on descending ones.
    """
    cover = landscape.cover_map
    tilt = landscape.slope * (-1 if ascending else 1)
    cosine = np.cos(np.radians(incidence + tilt))
    reference = np.cos(np.radians(39.0))
    forest = np.isin(cover, [Cover.NEEDLE_LEAVED, Cover.BROAD_LEAVED])
    turn = _orientation(landscape, ascending)
    result = {}
    for name, model in MODELS.items():
        moisture_db = model.soil_db + model.moisture_db * (ground.soil_moisture - 0.05)
        rough = 4.0 * (ground.soil / MEAN_SOIL - 1)
        soil = 10 ** ((moisture_db + rough) / 10) * (cosine / reference) ** 1.6
        depth = np.where(
            forest,
            model.forest_floor + 0.12 * ground.leaf_area,
            2 * model.field_attenuation * ground.leaf_area / cosine,
        )
        through = np.exp(-depth)
        bright = np.where(forest, model.forest_brightness, model.field_brightness)
        bright = bright * (0.9 + 0.1 * landscape.vigour) * (1 + 0.25 * ground.soil_moisture)
        canopy = bright * (cosine / reference) ** 0.6
        land = canopy * (1 - through) + soil * through
        walls = model.built * landscape.roof**2 * turn * landscape.walls
        asphalt = 10 ** (model.asphalt_db / 10) * (landscape.sealed - landscape.walls)
        land = land * (1 - landscape.sealed) + walls + asphalt
        calm = 10 ** (model.water_db / 10)
        result[name] = np.where(cover == Cover.WATER, calm, land).astype(np.float32)
    return result


def _orientation(landscape: Landscape, ascending: bool) -> Float32:
    """How well the walls of a parcel face the sensor: fixed per parcel and look direction."""
    number = landscape.parcel.astype(np.float32)
    phase = 2.399 * number + (1.3 if ascending else 0.0)
    return (0.35 + 1.3 * np.sin(phase) ** 4).astype(np.float32)


def speckle(rng: np.random.Generator, power: Float32) -> Float32:
    """Backscatter ``power`` ``(y, x)`` of 10 m pixels, multiplied by speckle of mean 1.

    Speckle is the weighted mean of five looks (:data:`LOOK_WEIGHTS`), each the intensity of complex
    Gaussian noise (Goodman 1976, doi:10.1364/JOSA.66.001145), smoothed to the resolution of the
    ground range product, which is coarser than its pixels. Intensities correlate by the square of
    what amplitudes do: ``exp(-d**2 / (2 RESOLUTION_PX**2))`` at a distance of d pixels.
    """
    # As wide as the filter, so that opposite edges do not see each other.
    margin = round(4 * RESOLUTION_PX)
    rows, columns = (size + 2 * margin for size in power.shape)
    noise = rng.standard_normal((2, len(LOOK_WEIGHTS), rows, columns), dtype=np.float32)
    smooth = gaussian_filter(noise, (0, 0, RESOLUTION_PX, RESOLUTION_PX), mode="wrap")
    smooth = smooth[..., margin:-margin, margin:-margin]
    looks = np.square(smooth).sum(axis=0) * (2 * np.pi * RESOLUTION_PX**2)
    return (power * np.tensordot(LOOK_WEIGHTS, looks, axes=1)).astype(np.float32)
