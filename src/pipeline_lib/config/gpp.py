"""GPP at flux towers: the towers, their fluxes, and what GPP is predicted from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from pipeline_lib.config.acquisition import Period, Tower
from pipeline_lib.config.base import (
    Block,
    Count,
    Distinct,
    ExistingPath,
    Fraction,
    Name,
    NonNegative,
    OddWindow,
    Positive,
    folder_of,
)
from pipeline_lib.config.vector import read_points
from pipeline_lib.errors import UserError


class FluxTable(Block):
    """A table of daily GPP of several towers."""

    file: ExistingPath = Field(description="CSV, plain or gzipped, or Parquet")
    site: str = Field("site", description="Column of the towers' names")
    date: str = Field("date", description="Column of the days, as 2017-04-30 or 20170430")
    gpp: str = Field("gpp", description="Column of GPP, g C m-2 d-1; -9999 or empty: missing")
    quality: str | None = Field(
        None, description="Column of the quality, 0 to 1; null: every day that has GPP is good"
    )


class Fluxes(Block):
    """Which days and towers are used."""

    partitioning: Literal["NT", "DT"] = Field(
        "NT", description="GPP by the night-time (NT) or day-time (DT) partitioning"
    )
    ustar: Literal["VUT", "CUT"] = Field(
        "VUT", description="Threshold of friction velocity: by year (VUT) or constant (CUT)"
    )
    min_quality: Fraction = Field(
        0.70, description="Minimum NEE_VUT_REF_QC (or NEE_CUT_REF_QC) of a day to be used"
    )
    min_good_days: Fraction = Field(0.60, description="Minimum fraction of good days of a tower")
    weather: Distinct[Literal["SW_IN_F", "TA_F"]] = Field(
        (),
        description="Weather columns of the FLUXNET files that are added as inputs, reported "
        "separately: incoming radiation, air temperature",
    )
    table: FluxTable | None = Field(
        None,
        description="Table of daily GPP; towers without rows in it are read from `gpp.fluxnet`",
    )


class Smoothing(Block):
    """The filter of Savitzky and Golay (1964) over a daily series."""

    window_days: OddWindow = Field(21, description="Window of the local polynomial, days; odd")
    order: Count = Field(2, description="Order of the polynomial")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.order >= self.window_days:
            raise ValueError("order must be less than window_days")
        return self


class DailySeries(Block):
    """Daily series of embeddings and bands around a tower."""

    footprint_radius_m: Positive = Field(50, description="Radius of the averaged pixels, m")
    max_gap_days: Count = Field(60, description="Maximum gap that is interpolated, days")
    smoothing: Smoothing | None = Field(None, description="Smoothing; null: none")


SITE_PLACEHOLDER = "{site}"
INDEX_NAMES = ("NIRv", "kNDVI")


def _table_exists(path: Path, info: ValidationInfo) -> Path:
    """A pattern names a file of each tower, whose absence is the job's to tell."""
    folder = folder_of(info)
    known = path.parent if SITE_PLACEHOLDER in path.name else path
    if folder is not None and not (folder / known).exists():
        raise ValueError(f"file not found: {known}")
    return path


class FeatureTable(Block):
    """A table of features at the towers, which GPP is predicted from."""

    file: Annotated[Path, AfterValidator(_table_exists)] = Field(
        description="CSV or Parquet of all towers, or a pattern with `{site}` of one file each"
    )
    site: str = Field("site", description="Column of the towers' names; unused with a pattern")
    date: str = Field(
        "date", description="Column of the days, as 2017-04-30 or 20170430, or of whole years"
    )
    columns: Distinct[str] = Field((), description="Columns of features; empty: all numeric ones")
    scale: Positive = Field(1, description="Factor of all features")
    red: str | None = Field(None, description="Column of red reflectance, for NIRv and kNDVI")
    nir: str | None = Field(None, description="Column of near-infrared reflectance")
    drop_above: dict[str, float] = Field(
        {}, description="Rows in which a column exceeds this value, after scaling, are dropped"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.red is None) != (self.nir is None):
            raise ValueError("red and nir: give both or neither")
        named = {*self.drop_above, *filter(None, (self.red, self.nir))}
        if self.columns and (unknown := sorted(named - {*self.columns})):
            raise ValueError(f"columns: {', '.join(unknown)} is not among them; add it")
        return self

    def file_of(self, tower: str) -> Path:
        """The file that holds the rows of a tower."""
        return Path(str(self.file).replace(SITE_PLACEHOLDER, tower))


WindowDays = Annotated[int, Field(ge=3)]


class Windowing(Block):
    """Windows of days from which the GPP of their last day is predicted."""

    length_days: Count = Field(
        90, description="Length of a window, days; 1 (single days) only for tables without cubes"
    )
    other_lengths_days: Distinct[WindowDays] = Field(
        (60, 75, 105, 120), description="Further lengths for the temporal holdout, days"
    )
    stride_days: Count = Field(10, description="Days between two training windows")
    validation_years: tuple[int, ...] = Field((2020,), description="Years held out for validation")


class Regressor(Block):
    """The transformer that maps a window of embeddings to GPP."""

    width: int = Field(64, ge=8, description="Channels")
    blocks: Count = Field(4, description="Encoder blocks")
    heads: Count = Field(4, description="Attention heads")
    dropout: Fraction = Field(0.1, lt=1, description="Dropout")
    learning_rate: Positive = Field(5e-4, description="Learning rate of AdamW")
    weight_decay: NonNegative = Field(1e-4, description="Weight decay of AdamW")
    batch_size: Count = Field(64, description="Windows per step")
    max_epochs: Count = Field(200, description="Maximum number of epochs")
    stop_patience: Count = Field(25, description="Epochs without improvement before training stops")
    seeds: Count = Field(3, description="Number of fits, each with a seed of its own")

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        return self


def _of_file(towers: Any, info: ValidationInfo) -> Any:
    """The towers of a CSV or a vector file, where the config names one."""
    folder = folder_of(info)
    if not isinstance(towers, str) or folder is None:
        return towers
    try:
        rows = read_points(folder / towers)
    except UserError as error:
        raise ValueError(str(error)) from None
    # Cells may be empty: None, NaN or, in a CSV, nothing.
    return [
        {k: row[k] for k in Tower.model_fields if row.get(k) not in (None, "") and row[k] == row[k]}
        for row in rows
    ]


class FluxTowers(Block):
    """Flux towers and their measured GPP."""

    fluxnet: ExistingPath | None = Field(
        None,
        description="Folder of daily FLUXNET files; null: the table of `fluxes`, or the simulated "
        "files of the demo",
    )
    towers: Annotated[
        Distinct[Tower],
        BeforeValidator(_of_file, json_schema_input_type=Path | tuple[Tower, ...]),
    ] = Field(
        (
            Tower(name="CZ-Lnz", lon=16.9463, lat=48.6815, vegetation="DBF"),
            Tower(name="DE-HoH", lon=11.2224, lat=52.0866, vegetation="DBF"),
            Tower(name="FR-Hes", lon=7.0646, lat=48.6742, vegetation="DBF"),
            Tower(name="BE-Bra", lon=4.5198, lat=51.3076, vegetation="ENF"),
            Tower(name="IT-Lav", lon=11.2813, lat=45.9562, vegetation="ENF"),
            Tower(name="IT-Ren", lon=11.4337, lat=46.5869, vegetation="ENF"),
            Tower(name="CH-Cha", lon=8.4104, lat=47.2102, vegetation="GRA"),
            Tower(name="CH-Fru", lon=8.5378, lat=47.1158, vegetation="GRA"),
            Tower(name="IT-MBo", lon=11.0458, lat=46.0147, vegetation="GRA"),
        ),
        description="Flux towers: a list, or a CSV or vector file of points with these columns",
    )
    period: Period = Field(
        Period(start=date(2017, 1, 1), end=date(2020, 12, 31)), description="Days compared"
    )
    fluxes: Fluxes = Field(Fluxes(), description="Selection of days and towers")

    @property
    def measured(self) -> bool:
        """Whether files of measured GPP are known."""
        return self.fluxnet is not None or self.fluxes.table is not None


class Gpp(FluxTowers):
    """Comparison with GPP measured at flux towers."""

    features: dict[Name, FeatureTable] = Field(
        {},
        description="Tables of features at the towers, by name: inputs beside the embeddings, or "
        "alone where `sites` is null and `own_cubes` empty. The name weather adds it to the others",
    )
    series: DailySeries = Field(DailySeries(), description="Daily series around the towers")
    windows: Windowing = Field(Windowing(), description="Windows of days")
    regressor: Regressor = Field(Regressor(), description="Regressor")

    def contradictions(self) -> Iterator[str]:
        """What is wrong between keys."""
        windows, smoothing = self.windows, self.series.smoothing
        first, last = self.period.start.year, self.period.end.year
        if self.fluxes.weather and "weather" in self.features:
            yield "gpp.features.weather: there is also gpp.fluxes.weather; give one of them"
        if outside := [str(y) for y in windows.validation_years if not first <= y <= last]:
            yield f"gpp.windows.validation_years: {', '.join(outside)} outside gpp.period; fix one"
        if windows.length_days in windows.other_lengths_days:
            yield "gpp.windows.other_lengths_days: repeats gpp.windows.length_days"
        if smoothing and smoothing.window_days > min(
            windows.length_days, *windows.other_lengths_days
        ):
            yield "gpp.series.smoothing.window_days: is longer than a window"
