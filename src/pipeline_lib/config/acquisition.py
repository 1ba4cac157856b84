"""Where sites lie, where data come from, and how a cube is cut."""

from __future__ import annotations

import math
import string
from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, model_validator

from pipeline_lib.config.base import (
    LATITUDES,
    Block,
    Count,
    ExistingPath,
    Fraction,
    Latitude,
    Longitude,
    Name,
    NonNegative,
    Positive,
    folder_of,
)
from pipeline_lib.errors import UserError
from pipeline_lib.signatures import unsigned

AREA_KM = 50
"""Maximum side of an area that is embedded in one piece; larger ones are split. Its cubes are
built from whole days, which takes up to 3 kB of memory per pixel: 75 GB for this size, 3 GB for
10 km."""
MARGIN_KM = 0.1
"""Margin of the parts of an area, so that each pixel has its whole context in one of them: half a
patch of 15 pixels is 70 m."""
ZONE_DEGREES = 6
DEGREE_KM = 111.3


def _ordered(bounds: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    west, south, east, north = bounds
    if west >= east or south >= north:
        raise ValueError("bounds must be west, south, east, north, in this order")
    return bounds


Bounds = Annotated[tuple[Longitude, Latitude, Longitude, Latitude], AfterValidator(_ordered)]


class Catalog(Block):
    """The STAC catalog that items come from."""

    source: str = Field(
        "https://planetarycomputer.microsoft.com/api/stac/v1",
        description="URL of a STAC API, or a folder of STAC item collections (*.json)",
    )
    signing: Literal["planetary-computer", "none"] = Field(
        "planetary-computer", description="How asset URLs are signed when they are read"
    )
    timeout_s: Positive = Field(60, description="Time limit of one request, s")
    retries: int = Field(5, ge=0, description="Maximum number of retries of a failed request")
    requests: Count = Field(4, description="Concurrent requests per cube")
    missing_asset: Literal["record", "fail"] = Field(
        "record",
        description="Scene that is gone or unreadable: recorded in the cube, or an error",
    )

    @model_validator(mode="after")
    def _without_secrets(self) -> Self:
        # The value is not repeated: messages of a block hold no input.
        if unsigned(self.source) != self.source:
            raise ValueError(
                "source: contains a password or key, which would be stored in every item and cube; "
                "remove it, and set Planetary Computer's key as PC_SDK_SUBSCRIPTION_KEY"
            )
        return self


class Stratum(Block):
    """A land-cover stratum of the sampling."""

    name: Name = Field(description="Name of the stratum in tables and figures")
    codes: tuple[int, ...] = Field(
        description="LCCS codes of the ESA CCI map; empty: all land classes"
    )
    fraction: Fraction = Field(description="Fraction of all sites")


class LandCover(Block):
    """The land-cover map that sites are drawn from."""

    collection: str = Field("esa-cci-lc", description="STAC collection of the map")
    asset: str = Field("lccs_class", description="Asset of its items with the LCCS codes")
    year: int = Field(2020, ge=1992, description="Year of the map")
    file: ExistingPath | None = Field(
        None, description="Local GeoTIFF or NetCDF of LCCS codes; replaces the collection"
    )
    excluded: tuple[int, ...] = Field(
        (0, 210), description="LCCS codes that are never drawn: no data, water"
    )


class Periods(Block):
    """The calendar years that each site is observed in."""

    count: Count = Field(2, description="Number of years per site")
    first_year: int = Field(2017, ge=2015, description="First year that may be drawn")
    last_year: int = Field(2024, description="Last year that may be drawn")
    gap_years: int = Field(
        1, ge=0, description="Minimum number of years between two years of a site"
    )

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
    min_distance_km: NonNegative = Field(
        50, description="Minimum distance between two sites on the ellipsoid, km"
    )
    strata: tuple[Stratum, ...] = Field(
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
    def _consistent(self) -> Self:
        total = sum(stratum.fraction for stratum in self.strata)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the fractions of the strata add up to {total:g}, not to 1")
        names = [stratum.name for stratum in self.strata]
        if len(set(names)) < len(names):
            raise ValueError("two strata have the same name")
        return self

    def drawn_cubes(self) -> dict[str, str]:
        """Cube -> site, of the sites that are drawn."""
        sites = [f"site-{number:03d}" for number in range(self.count)]
        count = self.periods.count
        letters = string.ascii_lowercase
        periods = letters[:count] if count <= len(letters) else [f"p{n:02d}" for n in range(count)]
        return {f"{site}-{period}": site for site in sites for period in periods}


class CubeGrid(Block):
    """The grid of every cube."""

    size_px: Count = Field(90, description="Side of a cube, pixels")
    resolution_m: Positive = Field(10, description="Pixel size, m")
    cloud_context_px: int = Field(
        64, ge=0, description="Margin read around a cube for the cloud model, pixels"
    )


class OwnCubeFile(Block):
    """One sensor's file of a user-supplied cube."""

    file: ExistingPath = Field(description="NetCDF or Zarr file")
    bands: dict[str, str] | None = Field(
        None, description="Band of the sensor -> variable in the file"
    )
    variable: str | None = Field(
        None, description="Variable with a band dimension; replaces `bands`"
    )
    band_dim: str = Field("band", description="Name of the band dimension of `variable`")
    time: str = Field("time", description="Name of the time dimension")
    x: str = Field("x", description="Name of the x dimension")
    y: str = Field("y", description="Name of the y dimension")
    crs: str | None = Field(
        None, description="Coordinate reference system, if the file does not state it"
    )
    resolution_m: Positive | None = Field(
        None, description="Pixel size, m, if it is meant to differ from `cube.resolution_m`"
    )
    no_data: tuple[float, ...] = Field((), description="No-data values besides NaN")
    conversion: Literal["linear", "decibel"] = Field(
        "linear",
        description="linear: v = value * scale + offset; decibel: 10 ** (v / 10)",
    )
    logarithm_first: bool = Field(
        False, description="Apply log10 to the value before scale and offset (amplitudes as DN)"
    )
    scale: float = Field(1.0, description="Scale factor of the stored values")
    offset: float = Field(0.0, description="Offset, added after scaling")
    mask: str | None = Field(None, description="Variable with a class per pixel, such as SCL")
    mask_clear: tuple[int, ...] = Field((), description="Classes of `mask` that are clear")

    @model_validator(mode="after")
    def _one_layout(self) -> Self:
        if (self.bands is None) == (self.variable is None):
            raise ValueError("name either `bands` or `variable`")
        return self


class OwnCube(Block):
    """A user-supplied cube."""

    site: Name = Field(description="Site; all cubes of a site are in the same split")
    land_cover: str = Field("others", description="Land-cover class of the site")
    split: Literal["training", "validation", "test", "unused"] | None = Field(
        None, description="Split; null: drawn. `unused` cubes are only embedded"
    )
    window: tuple[int, int, int, int] | None = Field(
        None,
        description="Part to use: first row, end row, first column, end column (ends excluded)",
    )
    embed: bool = Field(True, description="Export embeddings of this cube")
    files: dict[str, OwnCubeFile] = Field(description="Sensor -> file")


class Tower(Block):
    """A flux tower: a site where embeddings are compared with measured GPP."""

    name: str = Field(pattern=r"^[A-Z]{2}-[A-Za-z0-9]{3}$", description="FLUXNET site code")
    lon: Longitude = Field(description="Longitude, degrees")
    lat: Latitude = Field(description="Latitude, degrees")
    vegetation: Name = Field(description="Vegetation type (IGBP)")
    footprint: ExistingPath | None = Field(
        None,
        description="GeoTIFF with the weight of each pixel in the flux; null: equal weights within "
        "gpp.series.footprint_radius_m",
    )


class Period(Block):
    """A period of time, both days included."""

    start: date = Field(description="First day")
    end: date = Field(description="Last day")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end < self.start:
            raise ValueError("end is before start")
        return self


class Area(Period):
    """An area that is embedded with trained models, over a period."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema["required"].remove("bounds"))

    bounds: Bounds = Field(
        description="West, south, east, north, degrees; not needed with an outline"
    )
    outline: ExistingPath | None = Field(
        None,
        description="Vector file with polygons, such as GeoJSON or GeoPackage. Areas with a side "
        "over 50 km are split into parts; parts outside the outline are skipped",
    )

    @model_validator(mode="before")
    @classmethod
    def _bounds_of_outline(cls, given: Any, info: ValidationInfo) -> Any:
        folder = folder_of(info)
        if folder is None or not isinstance(given, dict) or given.get("bounds") is not None:
            return given
        if not isinstance(given.get("outline"), str) or not (folder / given["outline"]).exists():
            return given
        from pipeline_lib.config.vector import outline_of

        try:
            bounds = outline_of(folder / given["outline"]).bounds
        except UserError as error:
            raise ValueError(str(error)) from None
        return given | {"bounds": tuple(round(degrees, 7) for degrees in bounds)}

    @property
    def sides_km(self) -> tuple[float, float]:
        """Width and height, km, to a hundredth of them."""
        west, south, east, north = self.bounds
        return (east - west) * _degree_km(south, north), (north - south) * DEGREE_KM

    @property
    def years(self) -> float:
        """Length of the period."""
        return (self.end - self.start).days / 365

    def parts(self, name: str) -> dict[str, Area]:
        """The area itself, or its parts ``<name>-r<row>-c<column>`` of at most `AREA_KM` a side.

        From the north-west on. Rows have the same height, and the cells of a row the same width;
        cells end at the borders of UTM zones. Each part reaches `MARGIN_KM` beyond its cell.
        The outline is not considered here.
        """
        if max(self.sides_km) <= AREA_KM:
            return {name: self}
        west, south, east, north = self.bounds
        borders = (z for z in range(-180, 180, ZONE_DEGREES) if west < z < east)
        strips = list(pairwise([west, *borders, east]))
        parts = {}
        for row, (low, high) in enumerate(reversed(_steps(south, north, DEGREE_KM))):
            degree_km = _degree_km(low, high)
            cells = [cell for strip in strips for cell in _steps(*strip, degree_km)]
            for column, (left, right) in enumerate(cells):
                bounds = _grown(left, low, right, high)
                part = self.model_copy(update={"bounds": bounds, "outline": None})
                parts[f"{name}-r{row:02d}-c{column:02d}"] = part
        return parts


def _degree_km(south: float, north: float) -> float:
    """Maximum length of a degree of longitude between two latitudes, km."""
    nearest = 0.0 if south < 0 < north else min(abs(south), abs(north))
    return DEGREE_KM * math.cos(math.radians(nearest))


def _steps(first: float, last: float, degree_km: float) -> list[tuple[float, float]]:
    """The fewest equal steps between two degrees of at most `AREA_KM` each."""
    count = math.ceil((last - first) * degree_km / AREA_KM)
    between = [first + (last - first) * step / count for step in range(1, count)]
    return list(pairwise([first, *between, last]))


def _grown(
    west: float, south: float, east: float, north: float
) -> tuple[float, float, float, float]:
    """Bounds `MARGIN_KM` wider on every side, within the valid degrees."""
    high = MARGIN_KM / DEGREE_KM
    wide = high / math.cos(math.radians(max(abs(south), abs(north)) + high))
    lowest, highest = LATITUDES
    return (
        max(-180.0, west - wide),
        max(lowest, south - high),
        min(180.0, east + wide),
        min(highest, north + high),
    )
