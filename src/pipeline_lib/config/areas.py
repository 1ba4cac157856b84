"""Areas that are embedded: their extent, their parts, and their outlines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, Field, ValidationInfo, model_validator

from pipeline_lib.config.acquisition import Period
from pipeline_lib.config.base import LATITUDES, BoundsAround, ExistingPath, folder_of
from pipeline_lib.config.vector import outline_of
from pipeline_lib.errors import UserError

AREA_KM = 50
"""Maximum side of an area that is embedded in one piece; larger ones are split. Its cubes are
built from whole days, which takes up to 3 kB of memory per pixel: 75 GB for this size, 3 GB for
10 km."""
MARGIN_KM = 0.1
"""Margin of the parts of an area, so that each pixel has its whole context in one of them: half a
patch of 15 pixels is 70 m."""
ZONE_DEGREES = 6
DEGREE_KM = 111.3


class Area(Period):
    """An area that is embedded with trained models, over a period."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema["required"].remove("bounds"))

    bounds: BoundsAround = Field(
        description="West, south, east, north, degrees, west beyond east across 180 degrees; "
        "optional with an outline"
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
        try:
            bounds = outline_of(folder / given["outline"]).bounds
        except UserError as error:
            raise ValueError(f"outline: {error}") from None
        return given | {"bounds": tuple(round(degrees, 7) for degrees in bounds)}

    @model_validator(mode="after")
    def _touches_its_outline(self, info: ValidationInfo) -> Self:
        if (folder := folder_of(info)) is not None:
            try:
                parts_of({"": self}, folder)
            except UserError as error:
                raise ValueError(f"outline: {error}") from None
        return self

    @property
    def sides_km(self) -> tuple[float, float]:
        """Width and height, km, to a hundredth of them."""
        west, south, east, north = self._unrolled
        return (east - west) * _degree_km(south, north), (north - south) * DEGREE_KM

    @property
    def _unrolled(self) -> tuple[float, float, float, float]:
        """The bounds, east beyond 180 degrees where they cross them."""
        west, south, east, north = self.bounds
        return west, south, east + 360 * (east < west), north

    @property
    def years(self) -> float:
        """Length of the period."""
        return (self.end - self.start).days / 365

    def parts(self, name: str) -> dict[str, Area]:
        """The area itself, or its parts ``<name>-r<row>-c<column>`` of at most `AREA_KM` a side.

        From the north-west on. Rows have the same height, and the cells of a row the same width;
        cells end at the borders of UTM zones, and so at 180 degrees, across which no area is in
        one piece. Each part reaches `MARGIN_KM` beyond its cell, also beyond 180 degrees.
        The outline is not considered here.
        """
        west, south, east, north = self._unrolled
        if max(self.sides_km) <= AREA_KM and east <= 180:
            return {name: self}
        borders = (z for z in range(-180, 540, ZONE_DEGREES) if west < z < east)
        strips = list(pairwise([west, *borders, east]))
        parts = {}
        for row, (low, high) in enumerate(reversed(_steps(south, north, DEGREE_KM))):
            degree_km = _degree_km(low, high)
            cells = [cell for strip in strips for cell in _steps(*strip, degree_km)]
            for column, (left, right) in enumerate(cells):
                turn = 360 * (left >= 180)
                bounds = _grown(left - turn, low, right - turn, high)
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
    """Bounds `MARGIN_KM` wider on every side, within the UTM zones' latitudes."""
    high = MARGIN_KM / DEGREE_KM
    wide = high / math.cos(math.radians(max(abs(south), abs(north)) + high))
    low, top = max(LATITUDES[0], south - high), min(LATITUDES[1], north + high)
    return west - wide, low, east + wide, top


def parts_of(areas: Mapping[str, Area], base: Path = Path()) -> dict[str, Area]:
    """The areas to embed, by name: large ones as parts, without those outside their outline.

    Relative paths of outlines start from ``base``. Raises UserError if an outline cannot be read,
    or does not touch its area.
    """
    found: dict[str, Area] = {}
    for name, area in areas.items():
        parts = area.parts(name)
        if area.outline is not None:
            import shapely

            touches = outline_of(base / area.outline).intersects
            parts = {key: part for key, part in parts.items() if touches(shapely.box(*part.bounds))}
        if not parts:
            raise UserError(f"{area.outline}: does not touch the area within {area.bounds}")
        found |= parts
    return found
