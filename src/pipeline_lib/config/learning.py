"""Split, training, fusion, embedding and GPP."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline_lib.config.acquisition import Period, Tower
from pipeline_lib.config.base import Block, Count, Fraction, NonNegative, Positive


class Split(Block):
    """Fractions of the sites, stratified by land cover."""

    training: Fraction = Field(0.75, description="Fraction of the sites for training")
    validation: Fraction = Field(0.17, description="Fraction of the sites for validation")
    test: Fraction = Field(0.08, description="Fraction of the sites for testing")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.training + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the fractions add up to {total:g}, not to 1")
        return self


class Context(Block):
    """Spatial and temporal context of an embedding."""

    patch_px: int = Field(15, ge=3, description="Patch size, pixels")
    frames: int = Field(11, ge=1, description="Frames per sample")

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.patch_px % 2 == 0 or self.frames % 2 == 0:
            raise ValueError("patch_px and frames must be odd")
        return self


class Training(Block):
    """Optimisation."""

    learning_rate: Positive = Field(1e-4, description="Learning rate of AdamW")
    weight_decay: NonNegative = Field(1.5e-4, description="Weight decay of AdamW")
    batch_size: Count = Field(256, description="Samples per step")
    max_epochs: Count = Field(200, description="Maximum number of epochs")
    max_minutes: Positive | None = Field(None, description="Time limit, minutes; null: none")
    max_samples: Count | None = Field(
        None, description="Maximum number of samples per epoch, redrawn each epoch; null: all"
    )
    warmup_steps: int = Field(500, ge=0, description="Steps of the linear warm-up")
    plateau_factor: Fraction = Field(0.35, description="Learning rate factor on a plateau")
    plateau_patience: Count = Field(
        5, description="Epochs without improvement before the learning rate is reduced"
    )
    stop_patience: Count = Field(15, description="Epochs without improvement before early stopping")
    gradient_clip: Positive = Field(1.0, description="Maximum gradient norm")
    devices: Count = Field(1, description="GPUs per training; processes on a machine without GPU")
    threads: Count = Field(
        4,
        description="CPU threads per process; fixed, since rounding depends on their number",
    )


class Fusion(Block):
    """The model that fuses the sensors' latents."""

    reference: str = Field(
        "sentinel-2", description="Reference sensor, whose cloud-free dates the embeddings have"
    )
    embedding_dim: Count = Field(7, description="Embedding dimension")
    width: int = Field(64, ge=8, description="Channels of the fusion transformer")
    layers: Count = Field(2, description="Layers of the fusion transformer")
    heads: Count = Field(4, description="Attention heads")
    centre_weights: dict[str, Positive] = Field(
        {"sentinel-1": 1.5, "sentinel-2": 1.75},
        description="Factor of the target pixel's weight in the loss of each sensor; default 1",
    )
    neighbourhood_weight: NonNegative = Field(
        6.0, description="Factor of the neighbourhood's weight in the loss of each sensor"
    )
    joint_weight: NonNegative = Field(0.1, description="Weight of the joint SSIM + SAM term")
    sensor_dropout: Fraction = Field(
        0.15,
        description="Fraction of the training samples in which a sensor other than the reference "
        "is dropped, so that the fusion learns to do without it",
    )
    training: Training = Field(Training(), description="Optimisation")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        if self.width < self.embedding_dim:
            raise ValueError("width must not be less than embedding_dim")
        return self


class Embed(Block):
    """Export of embeddings."""

    dtype: Literal["int8", "float16", "float32"] = Field(
        "float16", description="Data type; int8 has steps of 1/16 and a range of -7.94 to 7.94"
    )
    tile_px: Count = Field(128, description="Tile size, pixels")
    batch_size: Count = Field(
        256, description="Windows per batch of the temporal transformer; 64 times as many on a GPU"
    )
    geotiff_dates: tuple[date, ...] = Field(
        (), description="Dates that are exported as GeoTIFF: the closest date of each cube"
    )
    geotiff_tolerance_days: int = Field(
        5,
        ge=0,
        description="Maximum distance from such a date, days; other cubes are skipped",
    )


class Regressor(Block):
    """The transformer that maps a window of embeddings to GPP."""

    width: int = Field(64, ge=8, description="Channels")
    blocks: Count = Field(4, description="Encoder blocks")
    heads: Count = Field(4, description="Attention heads")
    dropout: Fraction = Field(0.1, description="Dropout")
    learning_rate: Positive = Field(5e-4, description="Learning rate of AdamW")
    weight_decay: NonNegative = Field(1e-4, description="Weight decay of AdamW")
    batch_size: Count = Field(64, description="Windows per step")
    max_epochs: Count = Field(200, description="Most epochs")
    stop_patience: Count = Field(25, description="Epochs without progress before the end")
    seeds: Count = Field(3, description="Repetitions with other seeds")

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        return self


WindowDays = Annotated[int, Field(ge=3)]


class Smoothing(Block):
    """The filter of Savitzky and Golay (1964) over a daily series."""

    window_days: int = Field(21, ge=3, description="Days that a polynomial is fitted to; odd")
    order: Count = Field(2, description="Order of the polynomial")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.window_days % 2 == 0:
            raise ValueError("window_days must be odd")
        if self.order >= self.window_days:
            raise ValueError("order must be less than window_days")
        return self


class Gpp(Block):
    """Comparison with GPP measured at flux towers."""

    fluxnet: Path | None = Field(
        None, description="Folder of daily FLUXNET files; none: the simulated ones of the demo"
    )
    towers: tuple[Tower, ...] = Field(
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
        description="Flux towers",
    )
    period: Period = Field(
        Period.model_validate({"start": "2017-01-01", "end": "2020-12-31"}),
        description="Days of the comparison",
    )
    min_quality: Fraction = Field(0.70, description="Least NEE_VUT_REF_QC of a day that is kept")
    min_good_days: Fraction = Field(0.60, description="Least share of good days of a site")
    footprint_radius_m: Positive = Field(
        50, description="Radius of the pixels averaged around a tower, m"
    )
    max_gap_days: Count = Field(
        60, description="Longest gap between observations that is interpolated, days"
    )
    smoothing: Smoothing | None = Field(
        None, description="Smoothing of the interpolated series; null: none"
    )
    window_days: WindowDays = Field(90, description="Length of a window, days")
    other_window_days: tuple[WindowDays, ...] = Field(
        (60, 75, 105, 120), description="Lengths of a window that are tried besides, by year, days"
    )
    stride_days: Count = Field(10, description="Days between two windows that are learned from")
    weather: tuple[Literal["SW_IN_F", "TA_F"], ...] = Field(
        (),
        description="Columns of the FLUXNET files that are tried as further inputs, reported "
        "apart: incoming radiation, air temperature",
    )
    validation_years: tuple[int, ...] = Field((2020,), description="Years of the validation")
    regressor: Regressor = Field(Regressor(), description="Regressor")

    def contradictions(self) -> list[str]:
        """What is wrong between keys; a job that is handed some of them alone cannot tell."""
        problems = []
        names = [tower.name for tower in self.towers]
        if len(set(names)) < len(names):
            problems.append("gpp.towers: two towers have the same name")
        years = range(self.period.start.year, self.period.end.year + 1)
        outside = [str(year) for year in self.validation_years if year not in years]
        if outside:
            problems.append(
                f"gpp.validation_years: {', '.join(outside)} lie outside the period; mend one"
            )
        lengths = (self.window_days, *self.other_window_days)
        if len(set(lengths)) < len(lengths):
            problems.append("gpp.other_window_days: repeats a length, or gpp.window_days")
        if len(set(self.weather)) < len(self.weather):
            problems.append("gpp.weather: names a column twice")
        if self.smoothing is not None and self.smoothing.window_days > min(lengths):
            problems.append("gpp.smoothing.window_days: is longer than a window")
        return problems
