"""Loss and metrics of a reconstruction, one value per sample."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline_lib.config import Sensor
from pipeline_lib.dataset import Normalisation
from pipeline_lib.models.losses import (
    neighbourhood,
    spectral_angle,
    structural_similarity,
    weighted_mae,
)
from pipeline_lib.training.data import SensorBatch, centre_of

METRICS = ("centre_mae", "centre_mae_scaled", "context_mae", "sam", "ssim_loss")


class Scale(torch.nn.Module):
    """Bounds of a normalisation as buffers, to return to physical units on any device."""

    lower: Tensor
    extent: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        lower, upper = (torch.from_numpy(a) for a in (normalisation.lower, normalisation.upper))
        self.register_buffer("lower", lower, persistent=False)
        self.register_buffer("extent", upper - lower, persistent=False)

    def forward(self, scaled: Tensor) -> Tensor:
        """Physical values of ``(..., band)``."""
        return self.lower + scaled * self.extent


def reconstruction_terms(
    prediction: Tensor, moments: Tensor, batch: SensorBatch, weights: Tensor, scale: Scale
) -> dict[str, Tensor]:
    """Loss terms and metrics of one sensor's reconstruction, each ``(B,)``.

    ``prediction`` are patches, ``moments`` mean and spread of the neighbourhood
    (`losses.neighbourhood`), both scaled; ``batch`` is the truth, ``weights`` those of
    `losses.weighted_mae`, and ``scale`` returns to physical units.

    ``weighted_mae``, ``centre_mae_scaled`` and ``neighbourhood_mae`` (scaled; 0 for a sample
    without enough neighbourhood), ``sam`` (radians, in physical units at the target pixel) and
    ``ssim_loss`` carry gradients; ``centre_mae`` and ``context_mae`` (physical, the latter over all
    valid pixels alike) do not. Further ``ssim_bands`` ``(B, C)``.
    """
    # In bf16 the local variances of SSIM would drown in rounding.
    with torch.autocast(prediction.device.type, enabled=False):
        prediction = prediction.float()
        centre, truth = centre_of(prediction), centre_of(batch.values)
        similarity = structural_similarity(prediction, batch.values, batch.valid)
        around, enough = neighbourhood(batch.values, batch.valid)
        missed = (moments.float() - around).abs().mean(dim=(1, 2))
        terms = {
            "weighted_mae": weighted_mae(prediction, batch.values, batch.valid, weights),
            "centre_mae_scaled": (centre - truth).abs().mean(dim=1),
            "neighbourhood_mae": torch.where(enough, missed, 0.0),
            "sam": spectral_angle(scale(centre), scale(truth)),
            "ssim_loss": 1 - similarity.mean(dim=1),
            "ssim_bands": similarity,
        }
    with torch.no_grad():
        error = (centre - truth).abs()
        apart = (prediction - batch.values).abs() * batch.valid[:, :, None]
        bands = apart.sum(dim=(1, 3, 4)) / batch.valid.sum(dim=(1, 2, 3))[:, None]
        terms["centre_mae"] = (error * scale.extent).mean(dim=1)
        terms["context_mae"] = (bands * scale.extent).mean(dim=1)
    return terms


def encoder_loss(terms: dict[str, Tensor], sensor: Sensor) -> Tensor:
    """Loss ``(B,)`` of a sensor's autoencoder: the terms as its config weighs them."""
    block = sensor.loss
    weights = {
        "weighted_mae": block.mae,
        "centre_mae_scaled": block.centre,
        "neighbourhood_mae": block.neighbourhood,
        "ssim_loss": block.ssim,
        "sam": block.sam,
    }
    weighed = [weight * terms[name] for name, weight in weights.items() if weight > 0]
    return torch.stack(weighed).sum(dim=0)


def repeated_terms(
    spectra: Tensor, batch: SensorBatch, weights: Tensor, scale: Scale, sensor: Sensor
) -> dict[str, Tensor]:
    """Loss and `METRICS`, each ``(B,)``, of one spectrum at every pixel of every frame.

    The spectra are ``(B, C)``, scaled; NaN where there is none, which makes every metric of the
    sample NaN. For the rest see `reconstruction_terms`; the sensor weighs the loss.
    """
    everywhere = spectra[:, None, :, None, None].expand_as(batch.values)
    moments = torch.stack([spectra, torch.zeros_like(spectra)], dim=1)
    terms = reconstruction_terms(everywhere, moments, batch, weights, scale)
    return {"loss": encoder_loss(terms, sensor)} | {name: terms[name] for name in METRICS}
