"""Split, training, fusion, embedding and GPP."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline_lib.config.acquisition import Period, Tower
from pipeline_lib.config.base import Block, Count, NonNegative, Positive, Share


class Split(Block):
    """Shares of the sites, stratified by land cover."""

    training: Share = Field(0.75, description="Share of sites for training")
    validation: Share = Field(0.17, description="Share of sites for validation")
    test: Share = Field(0.08, description="Share of sites for the test")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.training + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares add up to {total:g}, not to 1")
        return self


class Context(Block):
    """The neighbourhood that an embedding knows."""

    patch_px: int = Field(15, ge=3, description="Side of a patch, pixels")
    frames: int = Field(11, ge=1, description="Frames of a sample")

    @model_validator(mode="after")
    def _odd(self) -> Self:
        if self.patch_px % 2 == 0 or self.frames % 2 == 0:
            raise ValueError("patch_px and frames must be odd, so that there is a centre")
        return self


class Training(Block):
    """Optimisation, the same for encoders and fusion unless the fusion says otherwise."""

    learning_rate: Positive = Field(1e-4, description="Learning rate of AdamW")
    weight_decay: NonNegative = Field(1.5e-4, description="Weight decay of AdamW")
    batch_size: Count = Field(256, description="Samples per step")
    max_epochs: Count = Field(200, description="Most epochs")
    max_minutes: Positive | None = Field(None, description="Most minutes; none: no limit")
    max_samples: Count | None = Field(
        None, description="Most samples per epoch, drawn anew each epoch; none: all"
    )
    warmup_steps: int = Field(500, ge=0, description="Steps of the linear warm-up")
    plateau_factor: Share = Field(0.35, description="Factor of the learning rate on a plateau")
    plateau_patience: Count = Field(5, description="Epochs without progress before that")
    stop_patience: Count = Field(15, description="Epochs without progress before the end")
    gradient_clip: Positive = Field(1.0, description="Largest norm of the gradient")
    devices: Count = Field(1, description="GPUs of one training; processes where there is none")
    threads: Count = Field(
        4,
        description="CPU threads of each process; fixed, since the last digits of a sum depend on "
        "them",
    )


class Fusion(Block):
    """The layers that join the sensors' latents."""

    reference: str = Field(
        "sentinel-2", description="Sensor whose cloud-free dates the embeddings have"
    )
    embedding_dim: Count = Field(7, description="Numbers of an embedding")
    width: int = Field(64, ge=8, description="Channels of the fusion transformer")
    layers: Count = Field(2, description="Layers of the fusion transformer")
    heads: Count = Field(4, description="Attention heads")
    centre_weights: dict[str, Positive] = Field(
        {"sentinel-1": 1.5, "sentinel-2": 1.75},
        description="Factor of the centre's weight in a sensor's own loss; 1 for a sensor not "
        "named",
    )
    neighbourhood_weight: NonNegative = Field(
        6.0, description="Factor of the weight of the neighbourhood in a sensor's own loss"
    )
    joint_weight: NonNegative = Field(0.1, description="Weight of the joint SSIM + SAM term")
    sensor_dropout: Share = Field(
        0.15,
        description="Share of the training samples that each sensor but the reference is left out "
        "of, so that the fusion learns to do without it",
    )
    training: Training = Field(Training(), description="Optimisation")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        if self.width < self.embedding_dim:
            raise ValueError("width must not be less than features")
        return self


class Embed(Block):
    """Export of embeddings."""

    dtype: Literal["int8", "float16", "float32"] = Field(
        "float16", description="Stored type; int8 in steps of 1/16, up to 7.94 either way"
    )
    tile_px: Count = Field(128, description="Side of a tile, pixels")
    batch: Count = Field(
        256, description="Windows of one step of the temporal head; a GPU takes 64 times as many"
    )
    geotiff_dates: tuple[date, ...] = Field(
        (), description="Dates of which every cube's closest one becomes a GeoTIFF"
    )
    geotiff_tolerance_days: int = Field(
        5, ge=0, description="Most days from such a date; beyond, a cube has no GeoTIFF for it"
    )


class Regressor(Block):
    """The transformer that maps a window of embeddings to GPP."""

    width: int = Field(64, ge=8, description="Channels")
    blocks: Count = Field(4, description="Encoder blocks")
    heads: Count = Field(4, description="Attention heads")
    dropout: Share = Field(0.1, description="Dropout")
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
    min_quality: Share = Field(0.70, description="Least NEE_VUT_REF_QC of a day that is kept")
    min_good_days: Share = Field(0.60, description="Least share of good days of a site")
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
