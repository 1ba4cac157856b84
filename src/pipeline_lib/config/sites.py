"""The sites: how they are sampled, or the user's own table of them."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, model_validator

from pipeline_lib.config.acquisition import Period
from pipeline_lib.config.base import (
    LATITUDES,
    Block,
    Bounds,
    Count,
    Distinct,
    ExistingPath,
    Fraction,
    Latitude,
    Longitude,
    Name,
    NonNegative,
    folder_of,
)
from pipeline_lib.config.messages import mistakes_in
from pipeline_lib.config.vector import read_points
from pipeline_lib.errors import UserError

LCCS_CODES = (
    *(0, 10, 11, 12, 20, 30, 40, 50, 60, 61, 62, 70, 71, 72, 80, 81, 82, 90, 100, 110),
    *(120, 121, 122, 130, 140, 150, 151, 152, 153, 160, 170, 180, 190, 200, 201, 202, 210, 220),
)
"""The legend of the ESA CCI map (``flag_values`` of its files); 0 is no data."""
COLUMNS = ("cube", "site", "land_cover", "lon", "lat", "start", "end")


class SiteRow(Period):
    """A row of the table of sites: a cube. All cubes of a site are in the same split."""

    cube: Name
    site: Name
    land_cover: Name
    lon: Longitude
    lat: Latitude


def read_site_table(path: Path) -> list[dict[str, str]]:
    """The rows of a drawn table or of the user's own, as text.

    Raises UserError with one line per mistake.
    """
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read(path: Path, modified: int) -> list[dict[str, str]]:
    """Read once for the thousands of jobs that need a row each."""
    found = read_points(path)
    missing = [name for name in COLUMNS if found and name not in found[0]]
    if missing or not found:
        raise UserError(f"{path}: {f'missing columns {missing}' if missing else 'has no rows'}")
    rows, mistakes = [], []
    for number, row in enumerate(found, 1):
        row = {name: row[name] for name in COLUMNS}
        try:
            valid = SiteRow.model_validate(row)
            rows.append({name: str(getattr(valid, name)) for name in COLUMNS})
        except ValidationError as error:
            mistakes += [f"{path}, row {number}: {m}" for m in mistakes_in(error, SiteRow, row)]
    counts = Counter(row["cube"] for row in rows)
    mistakes += [f"{path}: duplicate cube {name}" for name, count in counts.items() if count > 1]
    if mistakes:
        raise UserError("\n".join(mistakes))
    return rows


def site_rows(path: Path, cubes: Collection[str]) -> list[dict[str, str]]:
    """The rows of these cubes, in the table's order."""
    rows = [row for row in read_site_table(path) if row["cube"] in cubes]
    if missing := sorted(set(cubes) - {row["cube"] for row in rows}):
        raise UserError(f"{path}: no row of {', '.join(missing)}; delete the file to redraw it")
    return rows


def _of_the_legend(code: int) -> int:
    if code not in LCCS_CODES:
        raise ValueError(f"{code} is not an LCCS code of the ESA CCI map")
    return code


Code = Annotated[int, AfterValidator(_of_the_legend)]


class Stratum(Block):
    """A land-cover stratum of the sampling."""

    name: Name = Field(description="Name of the stratum in tables and figures")
    codes: tuple[Code, ...] = Field(description="LCCS codes of the ESA CCI map; empty: all land")
    fraction: Fraction = Field(description="Fraction of all sites")


class LandCover(Block):
    """The land-cover map that sites are drawn from."""

    collection: str = Field("esa-cci-lc", description="STAC collection of the map")
    asset: str = Field("lccs_class", description="Asset of its items with the LCCS codes")
    year: int = Field(2020, ge=1992, description="Year of the map")
    file: ExistingPath | None = Field(
        None, description="GeoTIFF or NetCDF, replaces the collection"
    )
    excluded: tuple[Code, ...] = Field((0, 210), description="Codes not drawn: no data, water")


class Periods(Block):
    """The calendar years that each site is observed in."""

    count: Count = Field(2, description="Number of years per site")
    first_year: int = Field(2017, ge=2015, description="First year that may be drawn")
    last_year: int = Field(2024, description="Last year that may be drawn")
    gap_years: int = Field(1, ge=0, description="Minimum gap between two years of a site, years")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needed = self.count + (self.count - 1) * self.gap_years
        if self.last_year - self.first_year + 1 < needed:
            raise ValueError(
                f"{self.count} periods of one year, {self.gap_years} apart, do not fit between "
                f"{self.first_year} and {self.last_year}"
            )
        return self


class Sites(Block):
    """Sampling of the training sites."""

    file: ExistingPath | None = Field(
        None,
        description="Your own table of sites, a CSV or points as GeoPackage, GeoParquet or GeoJSON "
        "with the columns cube, site, land_cover, lon, lat, start, end: used as it is, nothing is "
        "drawn",
    )
    count: Count = Field(250, description="Number of sites")
    bounds: Bounds = Field((0, 42, 30, 62), description="Domain: west, south, east, north, degrees")
    min_distance_km: NonNegative = Field(50, description="Minimum distance between two sites, km")
    strata: Distinct[Stratum] = Field(
        (
            Stratum(name="needle-leaved", codes=(70, 71, 72, 80, 81, 82), fraction=0.20),
            Stratum(name="broad-leaved", codes=(50, 60, 61, 62), fraction=0.20),
            Stratum(name="grassland", codes=(130,), fraction=0.20),
            Stratum(name="urban", codes=(190,), fraction=0.05),
            Stratum(name="others", codes=(), fraction=0.35),
        ),
        description="Land-cover strata (Table I of the paper)",
    )
    land_cover: LandCover = Field(LandCover(), description="Land-cover map")
    periods: Periods = Field(Periods(), description="Years of each site")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = sum(stratum.fraction for stratum in self.strata)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the fractions of the strata add up to {total:g}, not to 1")
        return self

    @model_validator(mode="after")
    def _of_the_file(self, info: ValidationInfo) -> Self:
        """With the number, the strata and the extent of the user's sites."""
        if self.file is None or (folder := folder_of(info)) is None:
            return self
        try:
            rows = read_site_table(folder / self.file)
        except UserError as error:
            raise ValueError(str(error)) from None
        classes = {row["site"]: row["land_cover"] for row in rows}
        counts, total = Counter(classes.values()), len(classes)
        strata = (
            Stratum(name=name, codes=(), fraction=count / total)
            for name, count in sorted(counts.items())
        )
        lon, lat = ([float(row[key]) for row in rows] for key in ("lon", "lat"))
        low, high = LATITUDES
        bounds = (
            *(max(-180, min(lon) - 0.1), max(low, min(lat) - 0.1)),
            *(min(180, max(lon) + 0.1), min(high, max(lat) + 0.1)),
        )
        return self.model_copy(update={"count": total, "strata": tuple(strata), "bounds": bounds})

    def cubes(self, folder: Path = Path()) -> dict[str, str]:
        """Cube -> site, of the user's table or as they will be drawn."""
        if self.file is not None:
            return {row["cube"]: row["site"] for row in read_site_table(folder / self.file)}
        sites = [f"site-{number:03d}" for number in range(self.count)]
        count = self.periods.count
        letters = string.ascii_lowercase
        periods = letters[:count] if count <= len(letters) else [f"p{n:02d}" for n in range(count)]
        return {f"{site}-{period}": site for site in sites for period in periods}
