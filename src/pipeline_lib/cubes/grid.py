"""The pixel grid of a cube and the request that a cube answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline_lib.config import CubeGrid

SNAP_M = 60
"""Origins lie on multiples of the coarsest Sentinel-2 pixel, so that all its bands nest."""

UTM_ZONES = frozenset([*range(32601, 32661), *range(32701, 32761)])
"""EPSG codes of the UTM zones (WGS 84), north and south."""


@dataclass(frozen=True)
class Grid:
    """A north-up pixel grid: EPSG code, upper left corner in metres, pixel size, shape."""

    epsg: int
    left: float
    top: float
    resolution: float
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north, in metres."""
        return (
            self.left,
            self.top - self.height * self.resolution,
            self.left + self.width * self.resolution,
            self.top,
        )

    @property
    def x(self) -> NDArray[np.float64]:
        """Easting of the pixel centres, ``(width,)``."""
        return self.left + (np.arange(self.width, dtype=np.float64) + 0.5) * self.resolution

    @property
    def y(self) -> NDArray[np.float64]:
        """Northing of the pixel centres, from north to south, ``(height,)``."""
        return self.top - (np.arange(self.height, dtype=np.float64) + 0.5) * self.resolution

    def cut(self, top: int, left: int, height: int, width: int) -> Grid:
        """Pixels of the same grid from a row and column on, which may lie beyond it."""
        corner = self.left + left * self.resolution, self.top - top * self.resolution
        return replace(self, left=corner[0], top=corner[1], height=height, width=width)

    def padded(self, pixels: int) -> Grid:
        """The same grid with ``pixels`` more on every side."""
        more = 2 * pixels
        return self.cut(-pixels, -pixels, self.height + more, self.width + more)

    def lonlat_bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north, in degrees: the smallest box that holds the grid.

        Across 180 degrees, west is beyond east.
        """
        from pyproj import Transformer

        to_lonlat = Transformer.from_crs(self.epsg, 4326, always_xy=True)
        return to_lonlat.transform_bounds(*self.bounds, densify_pts=5)


def utm_epsg(lon: float, lat: float) -> int:
    """EPSG code of the UTM zone of a place (WGS 84), by its longitude alone.

    Sentinel-2 has tiles of every place in its regular zone; the exceptions of Norway and Svalbard
    only add tiles.
    """
    zone = min(int((lon + 180) // 6) + 1, 60)
    return (32600 if lat >= 0 else 32700) + zone


def grid_at(lon: float, lat: float, cube: CubeGrid) -> Grid:
    """Grid of a cube around a place in degrees, on the pixel grid of Sentinel-2.

    Its centre lies within half of ``SNAP_M`` of the place.
    """
    from pyproj import Transformer

    epsg = utm_epsg(lon, lat)
    east, north = Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
    half = cube.size_px * cube.resolution_m / 2
    left = math.floor((east - half) / SNAP_M + 0.5) * SNAP_M
    top = math.floor((north + half) / SNAP_M + 0.5) * SNAP_M
    return Grid(epsg, left, top, cube.resolution_m, cube.size_px, cube.size_px)


def grid_over(bounds: tuple[float, float, float, float], cube: CubeGrid) -> Grid:
    """Smallest grid that holds an area, on the pixel grid of Sentinel-2.

    ``bounds`` are west, south, east, north in degrees; they may reach beyond 180 degrees, or cross
    them with west beyond east. The grid lies in the UTM zone of their centre, also where the area
    reaches into another one.
    """
    from pyproj import Transformer

    west, south, east, north = bounds
    centre = (west + east + 360 * (east < west)) / 2
    epsg = utm_epsg(centre - 360 * (centre > 180), (south + north) / 2)
    to_utm = Transformer.from_crs(4326, epsg, always_xy=True)
    # Parallels are arcs in UTM: between points this close they rise by less than a centimetre.
    left, bottom, right, top = to_utm.transform_bounds(*bounds, densify_pts=200)
    left = math.floor(left / SNAP_M) * SNAP_M
    top = math.ceil(top / SNAP_M) * SNAP_M
    height = math.ceil((top - bottom) / cube.resolution_m)
    width = math.ceil((right - left) / cube.resolution_m)
    return Grid(epsg, left, top, cube.resolution_m, height, width)


@dataclass(frozen=True)
class CubeRequest:
    """Place and period of a cube, both days included.

    With ``bounds`` (west, south, east, north, degrees) the cube covers this area, whose centre is
    ``lon``, ``lat``; otherwise it is a square around the place.
    """

    cube: str
    site: str
    land_cover: str
    lon: float
    lat: float
    start: date
    end: date
    bounds: tuple[float, float, float, float] | None = None

    def grid(self, cube: CubeGrid) -> Grid:
        """The cube's pixels."""
        if self.bounds is None:
            return grid_at(self.lon, self.lat, cube)
        return grid_over(self.bounds, cube)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> CubeRequest:
        """Read the text fields of a table or of a JSON object."""
        return _REQUEST.validate_python(dict(row))

    def to_row(self) -> dict[str, Any]:
        """The fields as plain text and numbers."""
        return _REQUEST.dump_python(self, mode="json", exclude_none=True)


_REQUEST = TypeAdapter(CubeRequest)
