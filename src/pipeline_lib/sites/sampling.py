"""Stratified, area-fair drawing of sites that keep their distance."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Sites, Stratum
from pipeline_lib.errors import UserError
from pipeline_lib.seeds import generator
from pipeline_lib.sites.land_cover import LandCoverMap
from pipeline_lib.sites.periods import draw_periods

TAKEN = 0
"""Code of a cell that cannot be drawn: no data, excluded, or too close to a site."""


@dataclass(frozen=True)
class _Place:
    stratum: str
    code: int
    lon: float
    lat: float


def counts_of(strata: Sequence[Stratum], total: int) -> list[int]:
    """Sites of each stratum by the largest remainder, so that they add up to ``total``."""
    quotas = np.array([stratum.fraction for stratum in strata]) * total
    # Shares such as 0.35 * 20 fall a rounding error short of a whole number.
    counts = np.floor(quotas + 1e-9).astype(int)
    by_remainder = np.argsort(-(quotas - counts), kind="stable")
    counts[by_remainder[: total - counts.sum()]] += 1
    return [int(count) for count in counts]


def draw_sites(land_cover: LandCoverMap, sites: Sites, seed: int) -> list[dict[str, Any]]:
    """Draw sites and their periods.

    Each site is drawn among the cells of its stratum that are still far enough from every
    site drawn before, with probability proportional to a cell's area. Scarce strata come
    first: drawn last, they could find all their cells next to sites of a common one.

    Parameters
    ----------
    land_cover
        The map; its cells are the places a site can have.
    sites
        Counts, strata, least distance and periods.
    seed
        The same seed gives the same table, on any machine.

    Returns
    -------
    list of dict
        One row per site and period: ``cube, site, land_cover, lcc_code, lon, lat, start, end``.

    Raises
    ------
    UserError
        If a stratum cannot be filled: which one, how many sites are missing, and why.
    """
    places = _draw_places(land_cover, sites, generator(seed, "sites"))
    rows = []
    for number, place in enumerate(places):
        site = f"site-{number:03d}"
        periods = draw_periods(sites.periods, generator(seed, "periods", number))
        for letter, (start, end) in zip(_suffixes(len(periods)), periods, strict=True):
            rows.append(
                {
                    "cube": f"{site}-{letter}",
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


def _suffixes(count: int) -> Iterable[str]:
    if count <= len(string.ascii_lowercase):
        return string.ascii_lowercase[:count]
    return [f"p{number:02d}" for number in range(count)]


def _draw_places(
    land_cover: LandCoverMap, sites: Sites, generator: np.random.Generator
) -> list[_Place]:
    free = _FreeCells(land_cover, sites.land_cover.excluded)
    wanted = counts_of(sites.strata, sites.count)
    at_start = [int(free.cells_per_row(stratum).sum()) for stratum in sites.strata]
    scarcity = [free.area(s) / max(n, 1) for s, n in zip(sites.strata, wanted, strict=True)]
    places: list[_Place] = []
    problems = []
    for index in np.argsort(scarcity, kind="stable"):
        stratum = sites.strata[index]
        for drawn in range(wanted[index]):
            cell = free.draw(stratum, generator)
            if cell is None:
                problems.append(
                    _shortage(stratum, wanted[index] - drawn, wanted[index], at_start[index], sites)
                )
                break
            row, col = cell
            lon, lat = float(land_cover.lon[col]), float(land_cover.lat[row])
            code = int(land_cover.codes[row, col])
            places.append(_Place(stratum.name, code, lon, lat))
            free.take(row, col, sites.min_distance_km * 1000)
    if problems:
        raise UserError("sites: " + "; ".join(problems))
    return places


def _shortage(stratum: Stratum, missing: int, wanted: int, cells: int, sites: Sites) -> str:
    if cells == 0:
        why = "the map has no such cell in sites.bounds; widen them or drop the stratum"
    else:
        why = (
            f"none of its {cells} cells is left at least {sites.min_distance_km:g} km from the "
            "sites drawn before; lower sites.count or sites.min_distance_km, or widen sites.bounds"
        )
    return f"stratum {stratum.name!r} lacks {missing} of {wanted} sites: {why}"


class _FreeCells:
    """The cells that may still be drawn, counted per row and code."""

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
        """Draw a cell with probability proportional to its area, or None if there is none."""
        cells = self.cells_per_row(stratum)
        if not cells.any():
            return None
        cumulative = np.cumsum(cells * np.cos(self.lat))
        draw = generator.random() * cumulative[-1]
        row = int(np.searchsorted(cumulative, draw, side="right"))
        columns = np.flatnonzero(self._members(stratum)[self.codes[row]])
        return row, int(columns[generator.integers(len(columns))])

    def _columns_within(
        self, reach: float, lon: float, lat: NDArray[np.float64]
    ) -> NDArray[np.intp]:
        """A generous choice of columns around ``lon``: all of them where that is simpler."""
        narrowest = np.cos(np.abs(lat).max() + reach)
        if narrowest <= np.sin(min(reach, np.pi / 2)):
            return np.arange(len(self.lon))
        half_width = np.arcsin(np.sin(reach) / narrowest) + reach
        if abs(lon) + half_width > np.pi:
            return np.arange(len(self.lon))
        return np.flatnonzero(np.abs(self.lon - lon) <= half_width)

    def take(self, row: int, col: int, distance: float) -> None:
        """Take a cell and all cells nearer to it than ``distance``, in metres.

        The straight line through the Earth is never longer than the geodesic on the
        ellipsoid (at 50 km it is 13 cm shorter), so cells beyond it in a straight line are
        far enough on the ellipsoid; and it costs a few products instead of Vincenty's series.
        """
        from pyproj import Geod

        ellipsoid = Geod(ellps="WGS84")
        axis, squared_eccentricity = ellipsoid.a, ellipsoid.es

        def place(
            lon: NDArray[np.float64], lat: NDArray[np.float64]
        ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
            normal = axis / np.sqrt(1 - squared_eccentricity * np.sin(lat) ** 2)
            height = normal * (1 - squared_eccentricity) * np.sin(lat)
            return normal * np.cos(lat) * np.cos(lon), normal * np.cos(lat) * np.sin(lon), height

        # Rows within the distance by the smallest meridional radius of curvature.
        reach = distance / (axis * (1 - squared_eccentricity))
        rows = np.flatnonzero(np.abs(self.lat - self.lat[row]) <= reach)
        window = slice(rows[0], rows[-1] + 1)
        lat, lon = np.meshgrid(self.lat[window], self.lon, indexing="ij", sparse=True)
        columns = self._columns_within(reach, self.lon[col], self.lat[window])
        across = slice(columns[0], columns[-1] + 1)
        x, y, z = place(lon[:, across], lat)
        x0, y0, z0 = place(self.lon[col], self.lat[row])
        near = (x - x0) ** 2 + (y - y0) ** 2 + (z - z0) ** 2 < distance**2
        near[row - window.start, col - across.start] = True
        block = self.codes[window, across]
        near &= block != TAKEN
        row_of = np.broadcast_to(np.arange(near.shape[0])[:, None], near.shape)[near]
        removed = np.bincount(row_of * 256 + block[near], minlength=near.shape[0] * 256)
        self.counts[window] -= removed.reshape(-1, 256)
        block[near] = TAKEN
