"""Types that all blocks of the config share."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

T = TypeVar("T")
LATITUDES = (-80, 84)
"""Extent of the UTM zones."""
LONGEST_NAME = 100
"""Bytes of a name: a file system may allow 143 for a file, and the workflow adds up to 35."""


def folder_of(info: ValidationInfo) -> Path | None:
    """Folder that relative paths start from, where a whole config is read; None in a job."""
    return (info.context or {}).get("folder")


def _exists(path: Path, info: ValidationInfo) -> Path:
    folder = folder_of(info)
    if folder is not None and not (folder / path).exists():
        raise ValueError(f"file not found: {path}")
    run = (info.context or {}).get("run")
    if folder is not None and run and (folder / path).resolve().is_relative_to(run.resolve()):
        raise ValueError(f"{path} is a product of this run, which may overwrite it; copy it first")
    return path


def _day(given: Any) -> Any:
    """Numbers would be read as seconds since 1970."""
    if isinstance(given, int | float) or (isinstance(given, str) and given.strip().isdigit()):
        raise ValueError(f"write a date as 2021-06-30 (given: {given!r})")
    return given


def _odd(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"must be odd (given: {number})")
    return number


def _distinct(entries: tuple[T, ...]) -> tuple[T, ...]:
    counts = Counter(getattr(entry, "name", entry) for entry in entries)
    if repeated := [str(name) for name, count in counts.items() if count > 1]:
        raise ValueError(f"duplicate {', '.join(repeated)}")
    return entries


def _ordered(bounds: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    west, south, east, north = bounds
    if west >= east or south >= north:
        raise ValueError(
            "bounds must lie on one side of 180 degrees: west, south, east, north, in this order"
        )
    return bounds


def _around(bounds: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    west, south, east, north = bounds
    if south >= north or not (west < east or 0 < (east - west) % 360 < 180):
        raise ValueError(
            "bounds must be west, south, east, north, in this order; west is beyond east only "
            "where they cross 180 degrees"
        )
    return bounds


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
Count = Annotated[int, Field(ge=1)]
Odd = Annotated[int, Field(ge=1), AfterValidator(_odd)]
OddWindow = Annotated[int, Field(ge=3), AfterValidator(_odd)]
Distinct = Annotated[tuple[T, ...], AfterValidator(_distinct)]
"""Entries that differ, blocks by their name."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$", max_length=LONGEST_NAME)]
Day = Annotated[date, BeforeValidator(_day)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Latitude = Annotated[float, Field(ge=LATITUDES[0], le=LATITUDES[1])]
Bounds = Annotated[tuple[Longitude, Latitude, Longitude, Latitude], AfterValidator(_ordered)]
BoundsAround = Annotated[tuple[Longitude, Latitude, Longitude, Latitude], AfterValidator(_around)]
"""Bounds that may cross 180 degrees, as in GeoJSON: west is then beyond east."""
ExistingPath = Annotated[Path, AfterValidator(_exists)]
"""A file or folder that must exist when a whole config is read."""


class Block(BaseModel):
    """A block of the config: immutable, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, given: Any, info: ValidationInfo) -> Any:
        """YAML reads `no`, `off`, `yes` and `on` as booleans, which pydantic takes for 0 and 1."""
        entries = given if isinstance(given, list | tuple) else [given]
        if cls.model_fields[str(info.field_name)].annotation is not bool:
            for entry in entries:
                if isinstance(entry, bool):
                    raise ValueError(
                        f"must not be {str(entry).lower()}, which is also how YAML reads "
                        f"{'yes and on' if entry else 'no and off'}; quote it if it is text"
                    )
        return given
