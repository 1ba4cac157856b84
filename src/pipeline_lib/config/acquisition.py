"""Where data come from, and how a cube is cut."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pipeline_lib.config.base import (
    Block,
    Count,
    Day,
    ExistingPath,
    Latitude,
    Longitude,
    Name,
    Positive,
)
from pipeline_lib.signatures import unsigned

STEP_PX = 6
"""Simulated scenes have pixels of 10, 20 and 30 m; their sides are whole in each of them."""
SCENES_M = 10
"""Pixel size of the cubes that are read from a catalog, m."""
SceneSide = Annotated[int, Field(multiple_of=STEP_PX)]


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
    missing_asset: Literal["record", "record-rejected", "fail"] = Field(
        "record",
        description="record: missing or unreadable scenes are recorded in the cube, those that the "
        "server rejects (such as HTTP 403) are errors; record-rejected: both are recorded; fail: "
        "both are errors",
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


class CubeGrid(Block):
    """The grid of every cube."""

    size_px: Count = Field(90, le=10_000, description="Side of a cube, pixels")
    resolution_m: Positive = Field(
        SCENES_M, description="Pixel size, m; other than 10 only if all cubes are user-supplied"
    )
    cloud_context_px: int = Field(64, ge=0, description="Margin for the cloud model, pixels")


class OwnCubeFile(Block):
    """One sensor's file of a user-supplied cube."""

    file: ExistingPath = Field(description="NetCDF or Zarr file")
    bands: dict[str, str] | None = Field(
        None, description="Band -> variable in the file, or label in `band_dim` of `variable`"
    )
    variable: str | None = Field(None, description="Variable with a band dimension")
    band_dim: str = Field("band", description="Name of the band dimension of `variable`")
    time: str = Field("time", description="Name of the time dimension")
    x: str = Field("x", description="Name of the x dimension")
    y: str = Field("y", description="Name of the y dimension")
    crs: str | None = Field(None, description="CRS, if the file does not state it")
    resolution_m: Positive | None = Field(
        None, description="Pixel size, m, if it is meant to differ from `cube.resolution_m`"
    )
    no_data: tuple[float, ...] = Field(
        (), description="No-data values as stored, besides NaN and those that the file states"
    )
    conversion: Literal["linear", "decibel"] | None = Field(
        None,
        description="linear: v = value * scale + offset; decibel: 10 ** (v / 10); null: by the "
        "units of the file, or linear",
    )
    logarithm_first: bool = Field(False, description="Take log10 first, as of amplitudes in DN")
    scale: float | None = Field(
        None, description="Scale factor of the stored values; null: that of the file, or 1"
    )
    offset: float | None = Field(
        None, description="Offset, added after scaling; null: that of the file, or 0"
    )
    mask: str | None = Field(
        None, description="Variable, or label in `band_dim`, with a class per pixel, such as SCL"
    )
    mask_clear: tuple[int, ...] = Field((), description="Classes of `mask` that are clear")

    @field_validator("bands", mode="before")
    @classmethod
    def _labels_as_text(cls, bands: object) -> object:
        # Labels may be numbers, such as wavelengths.
        if not isinstance(bands, dict):
            return bands
        return {b: f"{n:.10g}" if isinstance(n, float) else str(n) for b, n in bands.items()}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.bands is None and self.variable is None and self.mask is None:
            raise ValueError("name `bands`, `variable` or both, or at least `mask`")
        if (self.mask is None) == bool(self.mask_clear):
            raise ValueError("`mask` and `mask_clear` go together: a variable, its clear classes")
        return self


def _as_list(files: Any) -> Any:
    if files == []:
        raise ValueError("no file; name one or several")
    return files if isinstance(files, list | tuple) else [files]


OwnCubeFiles = Annotated[
    tuple[OwnCubeFile, ...],
    BeforeValidator(_as_list, json_schema_input_type=OwnCubeFile | tuple[OwnCubeFile, ...]),
]
"""Files of one sensor: one block, or a list of them."""


class Labels(Block):
    """Classes of the land of a user-supplied cube, such as crops: nothing is learned from them."""

    file: ExistingPath = Field(description="NetCDF or Zarr file")
    variable: str = Field(description="Variable with a class per pixel, as whole numbers")
    none: int = Field(0, description="Class that stands for no label")
    names: dict[int, str] | None = Field(
        None,
        description="Class -> name; classes of one name are one, others are no label. "
        "null: all classes, by their numbers",
    )
    x: str = Field("x", description="Name of the x dimension")
    y: str = Field("y", description="Name of the y dimension")
    crs: str | None = Field(None, description="CRS, if the file does not state it")


class OwnCube(Block):
    """A user-supplied cube."""

    site: Name = Field(description="Site; all cubes of a site are in the same split")
    land_cover: str = Field("others", description="Land-cover class of the site")
    split: Literal["training", "validation", "test", "unused"] | None = Field(
        None, description="Split; null: drawn. `unused` cubes are only embedded"
    )
    window: tuple[int, int, int, int] | None = Field(
        None,
        description="Part to use: first row, end row, first column, end column (exclusive), in "
        "pixels of the finest file",
    )
    embed: bool = Field(True, description="Export embeddings of this cube")
    files: dict[str, OwnCubeFiles] = Field(
        description="Sensor -> file, or list of files that hold some of its bands or the mask each"
    )
    labels: Labels | None = Field(
        None, description="Classes of its pixels, which the probes of a model are scored on"
    )


class Tower(Block):
    """A flux tower: a site where embeddings are compared with measured GPP."""

    name: str = Field(pattern=r"^[A-Z]{2}-[A-Za-z0-9]{3}$", description="FLUXNET site code")
    lon: Longitude | None = Field(
        None, description="Longitude, degrees; null: unknown, where only tables are compared"
    )
    lat: Latitude | None = Field(None, description="Latitude, degrees; null as the longitude")
    vegetation: Name = Field(description="Vegetation type (IGBP)")
    footprint: ExistingPath | None = Field(
        None, description="GeoTIFF of pixel weights; null: equal within footprint_radius_m"
    )


class Period(Block):
    """A period of time, both days included."""

    start: Day = Field(description="First day")
    end: Day = Field(description="Last day")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end < self.start:
            raise ValueError("end is before start")
        return self


class Demo(Block):
    """The simulated archive that replaces the catalog."""

    tile_px: SceneSide = Field(96, ge=48, description="Side of a scene, pixels of 10 m")
    radar_tile_px: SceneSide = Field(60, ge=24, description="Side of a radar scene, pixels")
    optical_revisit_days: Count = Field(10, description="Days between passes of each of two orbits")
    radar_revisit_days: Count = Field(12, description="Days between passes of each of two orbits")
    land_cover_cells_per_degree: Count = Field(360, description="Land-cover cells per degree")

    def too_small(self, size_px: int, context_px: int) -> list[str]:
        """Mistakes: scenes smaller than a cube, optical ones than a cube with its cloud context."""
        sizes = {
            "tile_px": (self.tile_px, size_px + 2 * context_px),
            "radar_tile_px": (self.radar_tile_px, size_px),
        }
        return [
            f"demo.{key}: {px} pixels are too few for a cube and its cloud context; use "
            f"{math.ceil(needed / STEP_PX) * STEP_PX} or more"
            for key, (px, needed) in sizes.items()
            if px < needed
        ]
