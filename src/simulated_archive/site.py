"""A simulated site: its windows, ground, weather and growth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import CubeGrid, Demo
from pipeline_lib.cubes import CubeRequest, Grid
from pipeline_lib.errors import UserError
from pipeline_lib.seeds import generator
from simulated_archive.canopy import Ground
from simulated_archive.landscape import Landscape, dominant_cover, draw_landscape
from simulated_archive.optical import ground_on
from simulated_archive.phenology import Growth, grow
from simulated_archive.weather import Weather, simulate_weather

SNAP_PX = 6
"""Windows keep to the grid of 60 m."""
ZONE_OVERLAP_DEGREES = 0.5
"""How near to a UTM zone a site also lies in a tile of it."""
OVERLAP_SHARE = 0.25
"""Share of the other sites that lie in two tiles of their own zone."""


@dataclass(frozen=True)
class Site:
    """What the scenes of a site share. The windows have the cube at their middle."""

    name: str
    lon: float
    lat: float
    seed: int
    cube: Grid
    window: Grid
    radar_window: Grid
    landscape: Landscape
    weather: Weather
    growth: Growth

    def generator(self, *names: str | int) -> np.random.Generator:
        """Generator of one aspect of the site, independent of all others."""
        return generator(self.seed, self.name, *names)

    def ground(self, day: date) -> Ground:
        """State of the ground on a day."""
        index = self.weather.day(day)
        moisture = float(self.weather.soil_moisture[index])
        return ground_on(self.landscape, self.growth, moisture, index)

    def within(self, inner: Grid) -> tuple[slice, slice]:
        """Rows and columns of the window that a grid inside it covers."""
        row = round((self.window.top - inner.top) / inner.resolution)
        column = round((inner.left - self.window.left) / inner.resolution)
        return slice(row, row + inner.height), slice(column, column + inner.width)


def make_site(requests: Sequence[CubeRequest], *, cube: CubeGrid, demo: Demo, seed: int) -> Site:
    """The site of a seed and name, whatever else the run holds.

    Raises UserError if the simulated windows are too small for the cube.
    """
    first = requests[0]
    grid = first.grid(cube)
    if problems := demo.too_small(max(grid.shape), cube.cloud_context_px):
        raise UserError("; ".join(problems))
    window, radar_window = (_around(grid, px) for px in (demo.tile_px, demo.radar_tile_px))
    starts, ends = zip(*((request.start, request.end) for request in requests), strict=True)
    years = range(min(starts).year, max(ends).year + 1)
    aspects = "cover", "landscape", "weather", "growth"
    rng = {aspect: generator(seed, first.site, aspect) for aspect in aspects}
    size = max(demo.tile_px, demo.radar_tile_px)
    dominant = dominant_cover(first.land_cover, rng["cover"])
    landscape = draw_landscape(rng["landscape"], size, dominant)
    days = {"first": date(years[0], 1, 1), "last": date(years[-1], 12, 31)}
    weather = simulate_weather(rng["weather"], **days, lat=first.lat)
    return Site(
        name=first.site,
        lon=first.lon,
        lat=first.lat,
        seed=seed,
        cube=grid,
        window=window,
        radar_window=radar_window,
        landscape=landscape,
        weather=weather,
        growth=grow(rng["growth"], cover=landscape.cover, weather=weather, years=years),
    )


def _around(grid: Grid, size: int) -> Grid:
    """A window of ``size`` pixels around a grid, on multiples of 60 m."""
    above, before = ((size - side) // 2 // SNAP_PX * SNAP_PX for side in grid.shape)
    return grid.cut(-above, -before, size, size)


@dataclass(frozen=True)
class Tile:
    """A tile of the archive that shows a site's window, or a part of it.

    ``row`` and ``column``: pixel of the window that each pixel of the tile shows, ``(y, x)``;
    ``inside`` is False where the tile reaches beyond the window.
    """

    grid: Grid
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    inside: NDArray[np.bool_]

    @cached_property
    def name(self) -> str:
        """Military grid square of its centre."""
        return mgrs_square(self.grid)


def tiles_of(site: Site) -> list[Tile]:
    """The tiles that a site lies in: its own, and for some the overlap with a neighbour.

    Near the border of two UTM zones the neighbour is a tile of the other zone; elsewhere it begins
    in the middle of the window.
    """
    window = site.window
    tiles = [tile_on(window, window)]
    border = round(site.lon / 6) * 6
    if abs(site.lon - border) < ZONE_OVERLAP_DEGREES:
        other = window.epsg + (-1 if site.lon >= border else 1)
        tiles.append(tile_on(window, _recentred(window, other)))
    elif site.generator("overlap").random() < OVERLAP_SHARE:
        shift = round(0.3 * window.width / SNAP_PX) * SNAP_PX
        tiles.append(tile_on(window, window.cut(0, shift, *window.shape)))
    return tiles


def _recentred(window: Grid, epsg: int) -> Grid:
    from pyproj import Transformer

    half = window.width * window.resolution / 2
    change = Transformer.from_crs(window.epsg, epsg, always_xy=True)
    east, north = change.transform(window.left + half, window.top - half)
    snap = SNAP_PX * window.resolution
    left, top = round((east - half) / snap) * snap, round((north + half) / snap) * snap
    return replace(window, epsg=epsg, left=left, top=top)


def tile_on(window: Grid, grid: Grid) -> Tile:
    """What a grid shows of a window, pixel by pixel; the grid may lie in another UTM zone."""
    east, north = np.meshgrid(grid.x, grid.y)
    if grid.epsg != window.epsg:
        from pyproj import Transformer

        change = Transformer.from_crs(grid.epsg, window.epsg, always_xy=True)
        east, north = change.transform(east, north)
    column = np.floor((east - window.left) / window.resolution).astype(np.intp)
    row = np.floor((window.top - north) / window.resolution).astype(np.intp)
    inside = (row >= 0) & (row < window.height) & (column >= 0) & (column < window.width)
    return Tile(grid, np.where(inside, row, 0), np.where(inside, column, 0), inside)


def mgrs_square(grid: Grid) -> str:
    """Military grid square that the centre of a grid lies in, such as ``32UPU``.

    Letters of columns repeat every three zones, those of rows every two (NGA.SIG.0012).
    """
    _, south, _, north = grid.lonlat_bounds()
    lat = (south + north) / 2
    band = "CDEFGHJKLMNPQRSTUVWX"[min(int((lat + 80) // 8), 19)]
    zone = grid.epsg % 100
    x = grid.left + grid.width * grid.resolution / 2
    y = grid.top - grid.height * grid.resolution / 2
    columns = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")[zone % 3]
    rows = "ABCDEFGHJKLMNPQRSTUV" if zone % 2 else "FGHJKLMNPQRSTUVABCDE"
    return f"{zone:02d}{band}{columns[int(x // 1e5) - 1]}{rows[int(y // 1e5) % 20]}"
