"""Split, training, fusion and embedding."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline_lib.config.base import (
    Block,
    Count,
    Day,
    Fraction,
    NonNegative,
    Odd,
    OddWindow,
    Positive,
)


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

    patch_px: OddWindow = Field(15, description="Patch size, pixels")
    frames: Odd = Field(11, description="Frames per sample")


class Training(Block):
    """Optimisation."""

    learning_rate: Positive = Field(1e-4, description="Learning rate of AdamW")
    weight_decay: NonNegative = Field(1.5e-4, description="Weight decay of AdamW")
    batch_size: Count = Field(256, description="Samples per step")
    max_epochs: Count = Field(200, description="Maximum number of epochs")
    max_minutes: Positive | None = Field(None, description="Time limit, minutes; null: none")
    max_samples: Count | None = Field(None, description="Samples drawn per epoch; null: all")
    warmup_steps: int = Field(500, ge=0, description="Steps of the linear warm-up")
    plateau_factor: Fraction = Field(
        0.35, gt=0, lt=1, description="Learning rate factor on a plateau"
    )
    plateau_patience: Count = Field(5, description="Epochs without progress before the rate drops")
    stop_patience: Count = Field(15, description="Epochs without improvement before early stopping")
    gradient_clip: Positive = Field(1.0, description="Maximum gradient norm")
    devices: Count = Field(1, description="GPUs per training; processes on a machine without GPU")
    threads: Count = Field(
        4, le=1024, description="CPU threads per process, on which rounding depends"
    )

    @property
    def known_steps(self) -> int | None:
        """Maximum number of steps, where the config alone limits the samples of an epoch."""
        if self.max_samples is None:
            return None
        return -(-self.max_samples // self.batch_size) * self.max_epochs


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
        0.15, description="Fraction of samples in which a sensor besides the reference is dropped"
    )
    training: Training = Field(Training(), description="Optimisation")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        if self.width < self.embedding_dim:
            raise ValueError("width must not be less than embedding_dim")
        return self


class Devices(Block):
    """Where jobs compute; ``gpu``: on a GPU if there is one. One word sets all stages."""

    training: Literal["gpu", "cpu"] = Field("gpu", description="Encoders and fusion")
    embed: Literal["gpu", "cpu"] = Field("gpu", description="Export of embeddings")
    clouds: Literal["gpu", "cpu"] = Field("cpu", description="Cloud model, while cubes are built")

    @model_validator(mode="before")
    @classmethod
    def _everywhere(cls, given: Any) -> Any:
        return dict.fromkeys(cls.model_fields, given) if isinstance(given, str) else given


class Embed(Block):
    """Export of embeddings."""

    dtype: Literal["int8", "float16", "float32"] = Field(
        "float16",
        description="Precision. float16: float32 rounded to the digits of float16; int8: steps of "
        "1/16, from -7.94 to 7.94",
    )
    tile_px: Count = Field(128, description="Tile size, pixels")
    batch_size: Count = Field(
        256, description="Windows per batch of the temporal transformer; 64 times as many on a GPU"
    )
    geotiff_dates: tuple[Day, ...] = Field(
        (), description="Dates that are exported as GeoTIFF: the closest date of each cube"
    )
    geotiff_tolerance_days: int = Field(
        5, ge=0, description="Maximum distance from such a date, days; other cubes are skipped"
    )
