"""Validation of STAC items."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline_lib.cubes import CubeRequest, Grid
from pipeline_lib.cubes.grid import UTM_ZONES
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.files import read_json
from pipeline_lib.signatures import unsigned

YEARS = (1900, 2200)
"""Times beyond are mistakes, and overflow where days are counted."""
LONGEST_SIDE_PX = 20_000
"""No cube is larger: areas are at most 50 km a side."""
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*(?=://)", re.I | re.ASCII)
FILE = re.compile(r"file:(//(localhost)?)?(?=/)", re.I)
GDAL_NAMES = {"/vsicurl/": "", "/vsis3/": "s3://", "/vsigs/": "gs://", "/vsiaz/": "az://"}
"""GDAL's names of remote files, and how the same addresses begin elsewhere."""
ADVICE = "not STAC as it is used here; choose another catalog.source, or fix this one"
AGAIN = "damaged or edited; delete it and run again"


def is_url(address: str) -> bool:
    """Whether a source or an address is one of the web, http or https."""
    return address.lower().startswith(("http://", "https://"))


def plain_address(href: str) -> str:
    """An address as it is read: a URL with its scheme in small letters, or a path.

    ``file://`` is a path, and GDAL's ``/vsi...`` of a remote file is its URL.
    """
    for name, start in GDAL_NAMES.items():
        if href.startswith(name):
            href = start + href.removeprefix(name)
    if found := FILE.match(href):
        path = href[found.end() :]
        # Many write a path as it is, also with a % in it.
        return path if Path(path).exists() else unquote(path)
    scheme = SCHEME.match(href)
    return href if scheme is None else scheme[0].lower() + href[scheme.end() :]


def moment_of(text: str) -> datetime:
    """A STAC datetime in UTC; raises ValueError if it is none, or beyond :data:`YEARS`."""
    moment = datetime.fromisoformat(text)
    if not YEARS[0] <= moment.year <= YEARS[1]:
        raise ValueError(f"the year {moment.year}")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _moment(text: str) -> str:
    moment_of(text)
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds control characters")
    return text


def _box(numbers: list[float]) -> list[float]:
    if len(numbers) not in (4, 6):
        raise ValueError(f"{len(numbers)} numbers")
    return numbers


Moment = Annotated[str, AfterValidator(_moment)]
Text = Annotated[str, Field(max_length=1000), AfterValidator(_printable)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
Coordinate = Annotated[Number, Field(strict=True)]
"""A number that is used as it stands; others may also be written as texts."""
Box = Annotated[list[Coordinate], AfterValidator(_box)]
Whole = Annotated[int, Field(ge=-1, le=10**9)]


class _Foreign(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Asset(_Foreign):
    href: Annotated[str, Field(max_length=4000), AfterValidator(_printable)]


class _Times(_Foreign):
    """The properties without which a scene has no place among others."""

    time: Moment | None = Field(None, alias="datetime")
    start: Moment | None = Field(None, alias="start_datetime")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.time is None and self.start is None:
            raise ValueError("neither datetime nor start_datetime")
        return self


class _Properties(_Times):
    """The properties that are used; whatever is unset is None."""

    end: Moment | None = Field(None, alias="end_datetime")
    platform: Text | None = None
    absolute_orbit: Whole | None = Field(None, alias="sat:absolute_orbit")
    relative_orbit: Whole | None = Field(None, alias="sat:relative_orbit")
    orbit_state: Text | None = Field(None, alias="sat:orbit_state")
    tile: Text | None = Field(None, alias="s2:mgrs_tile")
    code: Text | None = Field(None, alias="grid:code")
    sun_zenith: Number | None = Field(None, alias="s2:mean_solar_zenith")
    sun_azimuth: Number | None = Field(None, alias="s2:mean_solar_azimuth")
    elevation: Number | None = Field(None, alias="view:sun_elevation")
    azimuth: Number | None = Field(None, alias="view:sun_azimuth")
    path: Whole | None = Field(None, alias="landsat:wrs_path")


class _Core(_Foreign):
    """What must be known of an item to tell that its scene is missing."""

    id: Annotated[Text, Field(min_length=1)]
    collection: Text | None = None
    bbox: Box
    properties: _Times


class _Item(_Core):
    bbox: Box | None = None  # type: ignore[assignment]
    properties: _Properties
    assets: dict[str, _Asset]


def _possible(grid: Grid) -> Grid:
    if not (
        grid.epsg in UTM_ZONES
        and all(1 <= side <= LONGEST_SIDE_PX for side in grid.shape)
        and all(abs(edge) < 1e9 for edge in (grid.left, grid.top))
        and 0 < grid.resolution < 1e9
    ):
        raise ValueError(f"{grid}")
    return grid


class _Query(_Foreign):
    source: str


class Pinned(_Foreign):
    """Content of a file of pinned items, sorted by time."""

    query: _Query
    license: str
    request: CubeRequest
    grid: Annotated[Grid, AfterValidator(_possible)]
    items: list[Any]


def checked_items(
    found: Sequence[Any], where: object, *, part: bool = False
) -> list[dict[str, Any]]:
    """Items, parsed from JSON, of which everything that is used is what STAC says it is.

    Their addresses are unsigned: pinned items are read long after a signature has expired, and
    by whoever is given the run. An item of which only place and time are, keeps these, and holds
    the reason as ``rejected``: it is one lost scene. Raises UserError that names ``where`` and the
    item if place and time are not known, or no item is better and they are no ``part`` of others.
    """
    items: list[dict[str, Any]] = []
    wrong: list[UserError] = []
    for number, item in enumerate(found):
        name = in_a_line(item.get("id")) if isinstance(item, dict) else f"number {number}"
        what = f"{where}: item {name}"
        try:
            with _in_one_line(what, ADVICE):
                _Item.model_validate(item)
                # What JSON cannot hold could not be pinned: NaN, infinity.
                json.dumps(item, allow_nan=False)
                items.append(unsigned(item))
        except UserError as error:
            wrong.append(error)
            reason = str(error).removeprefix(f"{what}: ").removesuffix(f"; {ADVICE}")
            try:
                core = _Core.model_validate(item).model_dump(by_alias=True)
                items.append(core | {"geometry": None, "assets": {}, "rejected": reason})
            except ValueError:
                raise error from None
    if wrong and len(wrong) == len(items) and not part:
        raise wrong[0]
    return items


def property_of(item: dict[str, Any], name: str, default: Any) -> Any:
    """A property of an item, or ``default`` where it is absent or null."""
    value = item["properties"].get(name)
    return default if value is None else value


@contextmanager
def _in_one_line(what: str, advice: str) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in wrong["loc"]) or "content"
        reason = in_a_line(f"{place}: {wrong['msg']}")
        raise UserError(f"{what}: {reason}; {advice}") from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"{what}: {in_a_line(error)}; {advice}") from error


def read_pinned(path: Path) -> Pinned:
    """A file of :func:`pipeline_lib.acquire.pin_items`.

    Raises UserError if it is absent, or was damaged or edited into something else.
    """
    content = read_json(path)
    with _in_one_line(str(path), AGAIN):
        pinned = Pinned.model_validate(content)
        return pinned.model_copy(update={"items": checked_items(pinned.items, path)})
