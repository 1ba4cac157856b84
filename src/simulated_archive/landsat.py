"""What Landsat 8 records: pixels of 30 m, its bands, its pixel quality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import Grid
from simulated_archive.arrays import Float32, smooth_field
from simulated_archive.bands import BANDS
from simulated_archive.clouds import Clouds
from simulated_archive.site import tile_on

PIXEL_M = 30
EDGE_M = 15
"""Centres of pixels, not their edges, lie on multiples of 30 m."""
PART_M = 5
"""Pixels are put together from parts that lie within one pixel of 10 m each."""

SCALE, OFFSET = 2.75e-5, -0.2
"""Of surface reflectance in Collection 2."""

FILL, DILATED_CLOUD, CIRRUS, CLOUD, CLOUD_SHADOW, CLEAR = 0, 1, 2, 3, 4, 6
LOW_CONFIDENCE, HIGH_CONFIDENCE = 1, 3
CLOUD_CONFIDENCE, SHADOW_CONFIDENCE, SNOW_CONFIDENCE, CIRRUS_CONFIDENCE = 8, 10, 12, 14
"""Bits of QA_PIXEL; a confidence has two."""
DILATION_PX = 3


@dataclass(frozen=True)
class Band:
    """A band of the instrument and what it is made of.

    ``like`` is the nearest band of Sentinel-2; reflectance is ``slope`` times that plus
    ``offset`` (Claverie et al. 2018, doi:10.1016/j.rse.2018.09.002, for Sentinel-2A).
    """

    number: int
    like: str
    slope: float
    offset: float
    centre_um: float
    width_um: float
    title: str


LANDSAT_BANDS: dict[str, Band] = {
    "coastal": Band(1, "B01", 0.9959, -0.0002, 0.44, 0.02, "Coastal/Aerosol Band"),
    "blue": Band(2, "B02", 0.9778, -0.0040, 0.48, 0.06, "Blue Band"),
    "green": Band(3, "B03", 1.0053, -0.0009, 0.56, 0.06, "Green Band"),
    "red": Band(4, "B04", 0.9765, 0.0009, 0.65, 0.04, "Red Band"),
    "nir08": Band(5, "B8A", 0.9983, -0.0001, 0.86, 0.03, "Near Infrared Band 0.8"),
    "swir16": Band(6, "B11", 0.9987, -0.0011, 1.6, 0.08, "Short-wave Infrared Band 1.6"),
    "swir22": Band(7, "B12", 1.0030, -0.0012, 2.2, 0.2, "Short-wave Infrared Band 2.2"),
}


@dataclass(frozen=True)
class LandsatTile:
    """Pixels of 30 m over a window: their grid, and the weights of the window's pixels in each.

    ``weights`` is a sparse ``(pixel of the tile, pixel of the window)``; rows sum to 1, or to 0
    where a pixel lies beyond the window.
    """

    grid: Grid
    weights: Any

    def mean(self, values: Float32) -> Float32:
        """Mean of ``(..., y, x)`` of the window over each pixel, NaN beyond the window."""
        front = values.shape[:-2]
        means = (self.weights @ values.reshape(-1, self.weights.shape[1]).T).T
        means[:, self.weights.sum(axis=1) == 0] = np.nan
        return np.asarray(means.reshape(*front, *self.grid.shape), dtype=np.float32)


def landsat_tile(window: Grid, epsg: int) -> LandsatTile:
    """The pixels of Landsat that cover a window, in the given UTM zone."""
    from pyproj import Transformer
    from scipy.sparse import coo_array

    change = Transformer.from_crs(window.epsg, epsg, always_xy=True)
    west, south, east, north = (edge - EDGE_M for edge in change.transform_bounds(*window.bounds))
    left, top = math.floor(west / PIXEL_M) * PIXEL_M, math.ceil(north / PIXEL_M) * PIXEL_M
    width = math.ceil(east / PIXEL_M) - left // PIXEL_M
    height = top // PIXEL_M - math.floor(south / PIXEL_M)
    corner = float(left + EDGE_M), float(top + EDGE_M)
    grid = Grid(epsg, *corner, float(PIXEL_M), height, width)
    factor = PIXEL_M // PART_M
    parts = tile_on(
        window, Grid(epsg, grid.left, grid.top, PART_M, height * factor, width * factor)
    )
    row, column = np.indices((height, width)).repeat(factor, axis=1).repeat(factor, axis=2)
    inside = parts.inside
    pixel = (row * width + column)[inside]
    under = (parts.row * window.width + parts.column)[inside]
    share = 1 / np.bincount(pixel, minlength=height * width)[pixel]
    shape = height * width, window.height * window.width
    return LandsatTile(grid, coo_array((share.astype(np.float32), (pixel, under)), shape).tocsr())


def landsat_numbers(tile: LandsatTile, reflectance: Float32) -> NDArray[np.uint16]:
    """Digital numbers ``(band, y, x)`` of :data:`LANDSAT_BANDS`; 0, no data, beyond the window.

    ``reflectance`` is that of the window in the bands of Sentinel-2, ``(band, y, x)``.
    """
    names = list(BANDS)
    means = tile.mean(reflectance[[names.index(band.like) for band in LANDSAT_BANDS.values()]])
    slope = np.array([band.slope for band in LANDSAT_BANDS.values()])[:, None, None]
    offset = np.array([band.offset for band in LANDSAT_BANDS.values()])[:, None, None]
    numbers = np.rint((slope * means + offset - OFFSET) / SCALE)
    return np.where(np.isnan(numbers), 0, np.clip(numbers, 1, 65535)).astype(np.uint16)


def pixel_quality(
    rng: np.random.Generator, tile: LandsatTile, clouds: Clouds, numbers: NDArray[np.uint16]
) -> NDArray[np.uint16]:
    """The pixel quality band (QA_PIXEL), ``(y, x)``, with the errors that it is known for.

    Thin clouds are missed or overdone in patches, shadows are detected only in part, bright roofs
    are taken for clouds, and clouds are widened by three pixels.
    """
    from scipy.ndimage import binary_dilation

    fields = np.stack([clouds.thickness, clouds.cirrus, clouds.shade])
    patches = np.exp(0.5 * smooth_field(rng, tile.grid.shape, 1.5))
    thickness, veil, shade = np.nan_to_num(tile.mean(fields)) * patches
    fill = numbers[0] == 0
    blue = numbers[list(LANDSAT_BANDS).index("blue")] * SCALE + OFFSET
    cloud = (thickness > 2.5) | (blue > 0.27)
    rim = binary_dilation(cloud, np.ones((2 * DILATION_PX + 1,) * 2)) & ~cloud
    cirrus, shadow = veil > 0.16, shade > 0.75
    flags = {DILATED_CLOUD: rim, CIRRUS: cirrus, CLOUD: cloud, CLOUD_SHADOW: shadow}
    flags[CLEAR] = ~(cloud | rim)
    bits = sum(flag.astype(np.uint16) << bit for bit, flag in flags.items())
    for bit, flag in (
        (CLOUD_CONFIDENCE, cloud),
        (SHADOW_CONFIDENCE, shadow),
        (SNOW_CONFIDENCE, np.zeros_like(cloud)),
        (CIRRUS_CONFIDENCE, cirrus),
    ):
        bits = bits + (np.where(flag, HIGH_CONFIDENCE, LOW_CONFIDENCE) << bit)
    return np.where(fill, 1 << FILL, bits).astype(np.uint16)
