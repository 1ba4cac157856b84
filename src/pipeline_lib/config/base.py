"""Types that all blocks of the config share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]
Longitude = Annotated[float, Field(ge=-180, le=180)]
LATITUDES = (-80, 84)
"""Extent of the UTM zones."""
Latitude = Annotated[float, Field(ge=LATITUDES[0], le=LATITUDES[1])]


def folder_of(info: ValidationInfo) -> Path | None:
    """Folder that relative paths start from, where a whole config is read; None in a job."""
    return (info.context or {}).get("folder")


def _exists(path: Path, info: ValidationInfo) -> Path:
    folder = folder_of(info)
    if folder is not None and not (folder / path).exists():
        raise ValueError(f"file not found: {path}")
    return path


ExistingPath = Annotated[Path, AfterValidator(_exists)]
"""A file or folder that must exist when a whole config is read."""


class Block(BaseModel):
    """A block of the config: immutable, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
