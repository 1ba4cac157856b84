"""Split, training, fusion and embedding."""

from __future__ import annotations

import logging
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


RETIRED_FUSION = {
    *("width", "layers", "heads", "sensor_dropout", "training"),
    *("centre_weights", "neighbourhood_weight", "joint_weight"),
}
"""Keys that the fusion had while it was trained."""


class Fusion(Block):
    """The model that fuses the sensors' latents."""

    reference: str = Field(
        "sentinel-2", description="Reference sensor, whose cloud-free dates the embeddings have"
    )
    embedding_dim: Count = Field(7, description="Embedding dimension")
    weights: dict[str, Positive] = Field(
        {"sentinel-1": 0.7},
        description="Weight of the latents of each sensor besides the reference, whose spectral "
        "components have 1; default 0.7",
    )

    @model_validator(mode="before")
    @classmethod
    def _retired(cls, given: Any) -> Any:
        """Drop the keys of the fusion that was trained, up to version 0.1."""
        if not isinstance(given, dict) or not (old := sorted(RETIRED_FUSION & given.keys())):
            return given
        logging.getLogger("pipeline_lib.config").warning(
            "fusion: %s: no effect any more, since the fusion is fitted in closed form",
            ", ".join(old),
        )
        return {key: value for key, value in given.items() if key not in old}


class Devices(Block):
    """Where jobs compute; ``gpu``: on a GPU if there is one. One word sets all stages."""

    training: Literal["gpu", "cpu"] = Field("gpu", description="Training of encoders")
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
