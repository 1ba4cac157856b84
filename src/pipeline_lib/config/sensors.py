"""A sensor is data: one block per sensor, and nothing about it elsewhere."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from pipeline_lib.config.base import Block, Count, Distinct, Fraction, NonNegative, Odd, Positive

Scale = Literal["linear", "square-root", "decibel"]


class Sequence(Block):
    """Which samples are drawn from a cube, and how far their windows reach."""

    frames: Count = Field(20, description="Frames per sequence, one of which is a sample's centre")
    stride_time: Count = Field(17, description="Stride between sequences, frames")
    stride_space: Count = Field(9, description="Stride between patches, pixels")
    max_span_days: Positive = Field(
        195, description="Maximum time span of a window, days; half of it on each side"
    )


class Encoder(Block):
    """Architecture of a sensor's autoencoder."""

    kind: Literal["dense", "patch"] = Field(
        "dense",
        description="dense: fully convolutional; patch: the paper's, run on each pixel's patch",
    )
    width: int = Field(64, ge=8, description="Channels of the frame encoder")
    head_width: int = Field(128, ge=8, description="Channels of the temporal transformer")
    head_layers: Count = Field(2, description="Layers of the temporal transformer")
    heads: Count = Field(4, description="Attention heads")
    components: int = Field(
        0,
        ge=0,
        description="Latent dimensions that are components of the target pixel's spectrum, those "
        "with the least noise; the others are learned (0: all are learned, as in the paper)",
    )
    blind: bool = Field(
        False,
        description="Latent without the target pixel, nor what shares its noise on its date: what "
        "the rest foretells of it, and its mean over the other dates",
    )
    decoder_width: int = Field(32, ge=8, description="Channels of the decoder")

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.head_width % self.heads:
            raise ValueError("head_width must be a multiple of heads")
        return self


class Loss(Block):
    """Weights of the training loss."""

    mae: NonNegative = Field(1.0, description="Weight of the weighted MAE, on bands scaled to 0..1")
    centre: NonNegative = Field(0.0, description="Weight of the MAE of the target pixel alone")
    neighbourhood: NonNegative = Field(
        0.0,
        description="Weight of the MAE of a linear prediction of the neighbourhood from the "
        "latent: mean and standard deviation around the target pixel in the centre frame",
    )
    ssim: NonNegative = Field(0.0, description="Weight of 1 - SSIM")
    sam: NonNegative = Field(0.0, description="Weight of the target pixel's spectral angle, rad")
    time_factor: Fraction = Field(0.1, description="Factor of the weight per frame from the centre")
    first_ring_factor: Fraction = Field(0.01, description="Factor of the weight in the first ring")
    ring_factor: Fraction = Field(0.1, description="Factor of the weight per further ring")


class Physics(NamedTuple):
    """What a loader can do.

    ``function``: its name, so that each sensor's cubes depend on the code of its own loader
    alone. ``bands``: the only ones that it can read; None: whatever the items have. ``nadir``:
    whether it can correct to nadir view.
    """

    function: str
    quantity: str
    clouds: tuple[str, ...]
    nadir: bool = False
    bands: tuple[str, ...] | None = None


LOADERS = {
    "sentinel-2-l2a": Physics(
        "pipeline_lib.acquire.sentinel2.load_sentinel2",
        "reflectance",
        ("cloudsen12", "scl", "none"),
        nadir=True,
    ),
    "sentinel-1-rtc": Physics(
        "pipeline_lib.acquire.sentinel1.load_sentinel1", "backscatter", ("none",)
    ),
    "landsat-c2-l2": Physics(
        "pipeline_lib.acquire.landsat.load_landsat",
        "reflectance",
        ("qa_pixel", "none"),
        bands=("coastal", "blue", "green", "red", "nir08", "swir16", "swir22"),
    ),
}


class SensorSource(Block):
    """The keys of a sensor that determine its cubes, without those of learning."""

    collection: str = Field(description="STAC collection")
    loader: Literal["sentinel-2-l2a", "sentinel-1-rtc", "landsat-c2-l2"] = Field(
        description="Reader of the collection: how its assets become a cube"
    )
    quantity: Literal["reflectance", "backscatter"] = Field(description="Quantity of the cube")
    bands: Distinct[str] = Field(description="Bands of the cube, in order", min_length=1)
    brdf: bool = Field(False, description="Correct to nadir view with the c-factor")
    clouds: Literal["cloudsen12", "scl", "qa_pixel", "none"] = Field(
        "none", description="Cloud mask: cloudsen12 or scl for Sentinel-2, qa_pixel for Landsat"
    )
    min_clear: Fraction = Field(0.0, description="Minimum clear fraction for a date to be kept")
    rolling_mean: Odd = Field(1, description="Centred rolling mean over time, frames (1: none)")

    @model_validator(mode="after")
    def _source_consistent(self) -> Self:
        problems = []
        physics = LOADERS[self.loader]
        if self.quantity != physics.quantity:
            problems.append(f"quantity: {self.loader} is {physics.quantity}")
        if self.clouds not in physics.clouds:
            problems.append(
                f"clouds: {self.loader} has no {self.clouds}; use {' or '.join(physics.clouds)}"
            )
        if self.brdf and not physics.nadir:
            problems.append(f"brdf: {self.loader} is not corrected to nadir view; use false")
        if unknown := sorted(set(self.bands) - set(physics.bands or self.bands)):
            problems.append(
                f"bands: {self.loader} has no {self.quantity} {', '.join(unknown)}; use some of "
                f"{', '.join(physics.bands or ())}"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self


OTHERS_SCALE = {"reflectance": "decibel", "backscatter": "square-root"}
"""Quantity -> the scale of the other one."""


class Sensor(SensorSource):
    """One sensor, from its collection to its latent."""

    rgb: tuple[str, str, str] | None = Field(None, description="Bands of a true-colour image")
    scale: Scale = Field(
        "linear",
        description="Scale that bands are learned on: square-root (of reflectance) and decibel "
        "(of backscatter) make their noise even",
    )
    quantiles: tuple[Fraction, Fraction] = Field(
        (0.001, 0.999), description="Quantiles of the training split that are scaled to 0 and 1"
    )
    latent_dim: Count = Field(description="Latent dimension")
    sequence: Sequence = Field(Sequence(), description="Training samples")
    encoder: Encoder = Field(Encoder(), description="Autoencoder")
    loss: Loss = Field(Loss(), description="Training loss")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.quantiles[0] >= self.quantiles[1]:
            raise ValueError("the lower quantile must lie below the upper one")
        if self.encoder.components >= min(self.latent_dim, len(self.bands)):
            raise ValueError("encoder.components must be fewer than the bands and than latent_dim")
        if self.encoder.blind and (
            self.encoder.components or self.latent_dim != 2 * len(self.bands)
        ):
            raise ValueError(
                "encoder.blind needs two latent dimensions per band, latent_dim: "
                f"{2 * len(self.bands)}, and components: 0"
            )
        loss = self.loss
        if not any((loss.mae, loss.centre, loss.neighbourhood, loss.ssim, loss.sam)):
            raise ValueError("loss: at least one weight must be above 0")
        if unknown := set(self.rgb or ()) - set(self.bands):
            raise ValueError(f"rgb: unknown bands: {', '.join(sorted(unknown))}")
        if self.scale == OTHERS_SCALE[self.quantity]:
            raise ValueError(f"scale: {self.scale} is not for {self.quantity}")
        return self

    def source(self) -> SensorSource:
        """The part of the block that decides the cubes."""
        return SensorSource.model_validate(self.model_dump(include=set(SensorSource.model_fields)))


SENTINEL_2 = Sensor(
    collection="sentinel-2-l2a",
    loader="sentinel-2-l2a",
    quantity="reflectance",
    bands=("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    rgb=("B04", "B03", "B02"),
    brdf=True,
    clouds="cloudsen12",
    min_clear=0.03,
    scale="square-root",
    latent_dim=9,
    sequence=Sequence(frames=20, stride_time=17, stride_space=9),
    encoder=Encoder(components=5),
    loss=Loss(
        mae=0.23,
        centre=0.23,
        neighbourhood=0.1,
        ssim=0.03,
        sam=0.74,
        time_factor=0.8,
        first_ring_factor=0.05,
        ring_factor=0.95,
    ),
)

SENTINEL_1 = Sensor(
    collection="sentinel-1-rtc",
    loader="sentinel-1-rtc",
    quantity="backscatter",
    bands=("vv", "vh"),
    rolling_mean=3,
    scale="decibel",
    latent_dim=4,
    sequence=Sequence(frames=40, stride_time=40, stride_space=15),
    encoder=Encoder(blind=True),
)
