"""What is optimised: an autoencoder, or the fusion between frozen autoencoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from pipeline_lib.config import Context, Sensor
from pipeline_lib.dataset import Normalisation, from_scale
from pipeline_lib.models import Autoencoder, Fusion, TrainedEncoder
from pipeline_lib.models.losses import (
    context_weights,
    neighbourhood,
    spectral_angle,
    structural_similarity,
    weighted_mae,
)
from pipeline_lib.training.data import Batch, SensorBatch, centre_of

CRITERION = "centre_mae_scaled"
METRICS = ("centre_mae", CRITERION, "context_mae", "sam", "ssim_loss")


class Task(nn.Module, ABC):
    """Loss and metrics of a model on a batch.

    Called on a batch it returns ``loss``, `CRITERION` and metrics, each ``(B,)``; a metric is NaN
    for a sample that it does not apply to. The best weights are those with the lowest validation
    mean of ``criterion``.
    """

    model: nn.Module
    criterion: str = CRITERION

    @abstractmethod
    def embedding(self, batch: Batch) -> Tensor:
        """What the model makes of the samples, ``(B, dimension)``."""


class EncoderTask(Task):
    """Reconstruction by one autoencoder.

    The best weights are those of the lowest error at the target pixel, as in the paper; where
    components already fix most of that, those of the lowest loss.
    """

    model: Autoencoder
    weights: Tensor
    lower: Tensor
    extent: Tensor

    def __init__(
        self,
        autoencoder: Autoencoder,
        sensor: Sensor,
        context: Context,
        normalisation: Normalisation,
    ) -> None:
        super().__init__()
        self.model = autoencoder
        self.sensor = sensor
        self.scale = normalisation.scale
        self.criterion = "loss" if sensor.encoder.components else CRITERION
        weights = context_weights(context, sensor.loss)
        lower, upper = (torch.from_numpy(a) for a in (normalisation.lower, normalisation.upper))
        for name, values in (("weights", weights), ("lower", lower), ("extent", upper - lower)):
            self.register_buffer(name, values, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``loss`` and `METRICS`, each ``(B,)``, of a batch of one sensor."""
        (own,) = batch.sensors.values()
        terms = self.reconstruct(self.embedding(batch), own)
        return {name: terms[name] for name in ("loss", *METRICS)}

    def embedding(self, batch: Batch) -> Tensor:
        """Latents ``(B, latent)`` of a batch of one sensor."""
        (own,) = batch.sensors.values()
        latents: Tensor = self.model.encoder(*own.patches)
        return latents

    def reconstruct(self, latent: Tensor, own: SensorBatch) -> dict[str, Tensor]:
        """`terms` of what the decoder makes of latents ``(B, latent)``."""
        decoder = self.model.decoder
        return self.terms(decoder(latent, own.days), decoder.neighbourhood(latent), own)

    def repeat(self, spectra: Tensor, own: SensorBatch) -> dict[str, Tensor]:
        """``loss`` and `METRICS`, each ``(B,)``, of one spectrum at every pixel of every frame.

        The spectra are ``(B, C)``, scaled; NaN where there is none, which makes every metric of the
        sample NaN.
        """
        everywhere = spectra[:, None, :, None, None].expand_as(own.values)
        moments = torch.stack([spectra, torch.zeros_like(spectra)], dim=1)
        terms = self.terms(everywhere, moments, own)
        return {name: terms[name] for name in ("loss", *METRICS)}

    def terms(self, prediction: Tensor, moments: Tensor, own: SensorBatch) -> dict[str, Tensor]:
        """Loss, its terms and metrics of a reconstruction, each ``(B,)``.

        ``prediction`` are patches, ``moments`` mean and spread of the neighbourhood
        (`losses.neighbourhood`), both scaled; ``own`` is the truth.

        ``weighted_mae``, ``centre_mae_scaled`` and ``neighbourhood_mae`` (scaled; 0 for a sample
        without enough neighbourhood), ``sam`` (radians, in physical units at the target pixel) and
        ``ssim_loss`` carry gradients, and so does ``loss``, their sum as the config weighs them.
        ``centre_mae`` and ``context_mae`` (physical, the latter over all valid pixels alike) do
        not.
        """
        # In bf16 the local variances of SSIM would drown in rounding.
        with torch.autocast(prediction.device.type, enabled=False):
            prediction = prediction.float()
            centre, truth = centre_of(prediction), centre_of(own.values)
            similarity = structural_similarity(prediction, own.values, own.valid)
            around, enough = neighbourhood(own.values, own.valid)
            missed = (moments.float() - around).abs().mean(dim=(1, 2))
            physical = self._physical(centre), self._physical(truth)
            terms = {
                "weighted_mae": weighted_mae(prediction, own.values, own.valid, self.weights),
                "centre_mae_scaled": (centre - truth).abs().mean(dim=1),
                "neighbourhood_mae": torch.where(enough, missed, 0.0),
                "sam": spectral_angle(*physical),
                "ssim_loss": 1 - similarity.mean(dim=1),
            }
        with torch.no_grad():
            made, true = (self._physical(part.movedim(2, -1)) for part in (prediction, own.values))
            apart = (made - true).abs().mean(dim=-1) * own.valid
            errors = {
                "centre_mae": (physical[0] - physical[1]).abs().mean(dim=1),
                "context_mae": apart.sum(dim=(1, 2, 3)) / own.valid.sum(dim=(1, 2, 3)),
            }
        block = self.sensor.loss
        weights = {
            "weighted_mae": block.mae,
            "centre_mae_scaled": block.centre,
            "neighbourhood_mae": block.neighbourhood,
            "ssim_loss": block.ssim,
            "sam": block.sam,
        }
        weighed = [weight * terms[name] for name, weight in weights.items() if weight > 0]
        loss = torch.stack(weighed).sum(dim=0)
        return {"loss": loss} | terms | errors

    def _physical(self, scaled: Tensor) -> Tensor:
        """Scaled spectra ``(..., band)`` in the sensor's own quantity."""
        values: Tensor = from_scale(self.lower + scaled * self.extent, self.scale)
        return values


class FusionTask(Task):
    """Reconstruction of all sensors from one fused embedding, by the decoders of the encoders."""

    model: Fusion

    def __init__(self, fusion: Fusion, encoders: Mapping[str, TrainedEncoder]) -> None:
        super().__init__()
        self.model = fusion
        self.names = fusion.sensors
        self.parts = nn.ModuleList(
            EncoderTask(
                encoders[name].autoencoder,
                encoders[name].sensor,
                encoders[name].context,
                encoders[name].normalisation,
            )
            for name in self.names
        ).requires_grad_(False)

    @property
    def encoders(self) -> dict[str, EncoderTask]:
        """Each sensor's own task, with its frozen autoencoder."""
        parts = (cast(EncoderTask, part) for part in self.parts)
        return dict(zip(self.names, parts, strict=True))

    @torch.no_grad()
    def latents(self, batch: Batch) -> dict[str, Tensor]:
        """Sensor -> ``(B, latent)``; of absent sensors anything."""
        return {
            name: part.model.encoder(*batch.sensors[name].patches)
            for name, part in self.encoders.items()
        }

    def embedding(self, batch: Batch) -> Tensor:
        """``(B, embedding)``."""
        return self.model.fuse(
            self.latents(batch),
            {name: batch.sensors[name].offset for name in self.names},
            {name: batch.sensors[name].present for name in self.names},
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Each sensor's metrics, each ``(B,)``, NaN where it is absent."""
        back = self.model.split(self.embedding(batch))
        metrics: dict[str, Tensor] = {}
        for name, part in self.encoders.items():
            own = batch.sensors[name]
            # An absent sensor has no valid pixel: its terms are computed on a whole patch of
            # zeros, so that they are finite, and then left out.
            whole = own._replace(valid=own.valid | ~own.present[:, None, None, None])
            terms = part.reconstruct(back[name], whole)
            for metric in METRICS:
                metrics[f"{name}.{metric}"] = torch.where(own.present, terms[metric], torch.nan)
        return metrics
