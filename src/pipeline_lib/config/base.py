"""Types that all blocks of the config share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

T = TypeVar("T")
LATITUDES = (-80, 84)
"""Extent of the UTM zones."""


def folder_of(info: ValidationInfo) -> Path | None:
    """Folder that relative paths start from, where a whole config is read; None in a job."""
    return (info.context or {}).get("folder")


def _exists(path: Path, info: ValidationInfo) -> Path:
    folder = folder_of(info)
    if folder is not None and not (folder / path).exists():
        raise ValueError(f"file not found: {path}")
    return path


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
        raise ValueError("bounds must be west, south, east, north, in this order")
    return bounds


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Odd = Annotated[int, Field(ge=1), AfterValidator(_odd)]
OddWindow = Annotated[int, Field(ge=3), AfterValidator(_odd)]
Distinct = Annotated[tuple[T, ...], AfterValidator(_distinct)]
"""Entries that differ, blocks by their name."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Latitude = Annotated[float, Field(ge=LATITUDES[0], le=LATITUDES[1])]
Bounds = Annotated[tuple[Longitude, Latitude, Longitude, Latitude], AfterValidator(_ordered)]
ExistingPath = Annotated[Path, AfterValidator(_exists)]
"""A file or folder that must exist when a whole config is read."""


class Block(BaseModel):
    """A block of the config: immutable, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
