"""Stratified sampling of sites: fair by area, with a minimum distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Periods, Sites, Stratum
from pipeline_lib.errors import UserError
from pipeline_lib.seeds import generator

TAKEN = 0
"""Code of a cell that cannot be drawn: no data, excluded, or too close to a site."""


@dataclass(frozen=True)
class LandCoverMap:
    """LCCS codes of the ESA CCI map on a regular grid; 0 is no data.

    ``codes`` is ``(rows, cols)``; ``lon`` ``(cols,)`` and ``lat`` ``(rows,)`` are the cells'
    centres in degrees, ``lon`` increasing and ``lat`` monotonic.
    """

    codes: NDArray[np.uint8]
    lon: NDArray[np.float64]
    lat: NDArray[np.float64]


class _Place(NamedTuple):
    stratum: str
    code: int
    lon: float
    lat: float


def counts_of(strata: Sequence[Stratum], total: int) -> list[int]:
    """Number of sites per stratum by the largest remainder; they add up to ``total``."""
    quotas = np.array([stratum.fraction for stratum in strata]) * total
    # 0.35 * 20 is a rounding error less than a whole number.
    counts = np.floor(quotas + 1e-9).astype(int)
    by_remainder = np.argsort(-(quotas - counts), kind="stable")
    counts[by_remainder[: total - counts.sum()]] += 1
    return [int(count) for count in counts]


def draw_periods(periods: Periods, generator: np.random.Generator) -> list[tuple[date, date]]:
    """First and last days of the years of a site; every admissible choice is equally likely.

    Choosing ``count`` of ``years - (count - 1) * gap`` and then spreading the chosen ones by
    the gap maps one to one onto the choices that keep the gap.
    """
    years = periods.last_year - periods.first_year + 1
    free = years - (periods.count - 1) * periods.gap_years
    chosen = np.sort(generator.choice(free, size=periods.count, replace=False))
    spread = chosen + np.arange(periods.count) * periods.gap_years
    return [
        (date(year, 1, 1), date(year, 12, 31))
        for year in (periods.first_year + int(step) for step in spread)
    ]


def draw_sites(land_cover: LandCoverMap, sites: Sites, seed: int) -> list[dict[str, Any]]:
    """One row per site and period: ``cube, site, land_cover, lcc_code, lon, lat, start, end``.

    Each site is drawn among the cells of its stratum that keep the distance from all sites drawn
    before, with probability proportional to a cell's area. Scarce strata are drawn first: drawn
    last, all their cells could be next to sites of a common one.

    Raises UserError if a stratum cannot be filled.
    """
    places = _draw_places(land_cover, sites, generator(seed, "sites"))
    cubes = iter(sites.cubes().items())
    rows = []
    for number, place in enumerate(places):
        for start, end in draw_periods(sites.periods, generator(seed, "periods", number)):
            cube, site = next(cubes)
            rows.append(
                {
                    "cube": cube,
                    "site": site,
                    "land_cover": place.stratum,
                    "lcc_code": place.code,
                    "lon": round(place.lon, 8),
                    "lat": round(place.lat, 8),
                    "start": start.isoformat(),
                    "end": end.isoformat(),
                }
            )
    return rows


def _draw_places(
    land_cover: LandCoverMap, sites: Sites, generator: np.random.Generator
) -> list[_Place]:
    free = _FreeCells(land_cover, sites.land_cover.excluded)
    counts = counts_of(sites.strata, sites.count)
    at_start = [int(free.cells_per_row(stratum).sum()) for stratum in sites.strata]
    scarcity = [free.area(s) / max(n, 1) for s, n in zip(sites.strata, counts, strict=True)]
    places: list[_Place] = []
    problems = []
    for index in np.argsort(scarcity, kind="stable"):
        stratum = sites.strata[index]
        for drawn in range(counts[index]):
            cell = free.draw(stratum, generator)
            if cell is None:
                missing = f"{counts[index] - drawn} of {counts[index]} sites missing"
                problems.append(f"stratum {stratum.name!r}: {missing}; {_why(at_start[index])}")
                break
            row, col = cell
            lon, lat = float(land_cover.lon[col]), float(land_cover.lat[row])
            places.append(_Place(stratum.name, int(land_cover.codes[row, col]), lon, lat))
            free.take(row, col, sites.min_distance_km * 1000)
    if problems:
        raise UserError("sites: " + "; ".join(problems))
    return places


def _why(cells: int) -> str:
    if cells == 0:
        return "the map has no such cell in sites.bounds: widen them or drop the stratum"
    return (
        f"none of its {cells} cells keeps sites.min_distance_km from the other sites: reduce "
        "sites.count or sites.min_distance_km, or widen sites.bounds"
    )


class _FreeCells:
    """The cells that can still be drawn, counted per row and code."""

    def __init__(self, land_cover: LandCoverMap, excluded: Sequence[int]) -> None:
        keep = np.arange(256, dtype=np.uint8)
        keep[list(excluded)] = TAKEN
        self.codes = keep[land_cover.codes]
        self.lon = np.radians(land_cover.lon)
        self.lat = np.radians(land_cover.lat)
        self.counts = np.stack([np.bincount(row, minlength=256) for row in self.codes])
        self.counts[:, TAKEN] = 0

    def _members(self, stratum: Stratum) -> NDArray[np.bool_]:
        members = np.zeros(256, dtype=bool)
        members[list(stratum.codes) or slice(None)] = True
        members[TAKEN] = False
        return members

    def cells_per_row(self, stratum: Stratum) -> NDArray[np.int64]:
        return np.asarray(self.counts[:, self._members(stratum)].sum(axis=1))

    def area(self, stratum: Stratum) -> float:
        """Area of the stratum, in cells at the equator: a cell shrinks with cos(latitude)."""
        return float((self.cells_per_row(stratum) * np.cos(self.lat)).sum())

    def draw(self, stratum: Stratum, generator: np.random.Generator) -> tuple[int, int] | None:
        """Row and column of a cell, drawn in proportion to its area; None if there is none."""
        cells = self.cells_per_row(stratum)
        if not cells.any():
            return None
        cumulative = np.cumsum(cells * np.cos(self.lat))
        draw = generator.random() * cumulative[-1]
        row = int(np.searchsorted(cumulative, draw, side="right"))
        columns = np.flatnonzero(self._members(stratum)[self.codes[row]])
        return row, int(columns[generator.integers(len(columns))])

    def _columns_within(self, reach: float, lon: float, lat: NDArray[np.float64]) -> slice:
        """At least the columns within ``reach`` of ``lon``, in radians; all where it is simpler."""
        narrowest = np.cos(np.abs(lat).max() + reach)
        if narrowest <= np.sin(min(reach, np.pi / 2)):
            return slice(None)
        half_width = np.arcsin(np.sin(reach) / narrowest) + reach
        if abs(lon) + half_width > np.pi:
            return slice(None)
        within = np.flatnonzero(np.abs(self.lon - lon) <= half_width)
        return slice(within[0], within[-1] + 1)

    def take(self, row: int, col: int, distance: float) -> None:
        """Take a cell and all cells within ``distance`` metres.

        The straight line through the Earth is never longer than the geodesic on the ellipsoid (at
        50 km it is 13 cm shorter), so cells beyond it are far enough; and it is much faster.
        """
        from pyproj import Geod

        ellipsoid = Geod(ellps="WGS84")

        def position(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> list[Any]:
            """Geocentric coordinates, m."""
            normal = ellipsoid.a / np.sqrt(1 - ellipsoid.es * np.sin(lat) ** 2)
            radius, height = normal * np.cos(lat), normal * (1 - ellipsoid.es) * np.sin(lat)
            return [radius * np.cos(lon), radius * np.sin(lon), height]

        # Rows within the distance by the smallest meridional radius of curvature.
        reach = distance / (ellipsoid.a * (1 - ellipsoid.es))
        rows = np.flatnonzero(np.abs(self.lat - self.lat[row]) <= reach)
        window = slice(rows[0], rows[-1] + 1)
        across = self._columns_within(reach, self.lon[col], self.lat[window])
        x, y, z = position(self.lon[None, across], self.lat[window, None])
        x0, y0, z0 = position(self.lon[col], self.lat[row])
        near = (x - x0) ** 2 + (y - y0) ** 2 + (z - z0) ** 2 < distance**2
        near[row - rows[0], col - (across.start or 0)] = True
        block = self.codes[window, across]
        near &= block != TAKEN
        row_of = np.broadcast_to(np.arange(near.shape[0])[:, None], near.shape)[near]
        removed = np.bincount(row_of * 256 + block[near], minlength=near.shape[0] * 256)
        self.counts[window] -= removed.reshape(-1, 256)
        block[near] = TAKEN
