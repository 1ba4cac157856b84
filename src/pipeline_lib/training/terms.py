"""Loss and metrics of a reconstruction, one number per sample."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline_lib.config import Sensor
from pipeline_lib.dataset import Normalisation
from pipeline_lib.models.losses import spectral_angle, structural_similarity, weighted_mae
from pipeline_lib.training.batches import Batch

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


def centre_of(patches: Tensor) -> Tensor:
    """Middle pixel ``(B, C)`` of the middle frame of ``(B, T, C, P, P)``."""
    middle = patches.shape[-1] // 2
    return patches[:, patches.shape[1] // 2, :, middle, middle]


def reconstruction_terms(
    prediction: Tensor, batch: Batch, weights: Tensor, scale: Scale
) -> dict[str, Tensor]:
    """Loss terms and metrics of one sensor's reconstruction.

    Returns
    -------
    dict
        Each ``(B,)``: ``weighted_mae`` (scaled), ``sam`` (radians, in physical units at the
        centre) and ``ssim_loss`` carry gradients; ``centre_mae``, ``context_mae`` (physical, the
        latter over all valid pixels alike) and ``centre_mae_scaled`` do not. Further
        ``ssim_bands`` ``(B, C)``.
    """
    # In bf16 the local variances of SSIM would drown in rounding.
    with torch.autocast(prediction.device.type, enabled=False):
        prediction = prediction.float()
        centre, truth = centre_of(prediction), centre_of(batch.values)
        similarity = structural_similarity(prediction, batch.values, batch.valid)
        terms = {
            "weighted_mae": weighted_mae(prediction, batch.values, batch.valid, weights),
            "sam": spectral_angle(scale(centre), scale(truth)),
            "ssim_loss": 1 - similarity.mean(dim=1),
            "ssim_bands": similarity,
        }
    with torch.no_grad():
        error = (centre - truth).abs()
        apart = (prediction - batch.values).abs() * batch.valid[:, :, None]
        bands = apart.sum(dim=(1, 3, 4)) / batch.valid.sum(dim=(1, 2, 3))[:, None]
        terms["centre_mae_scaled"] = error.mean(dim=1)
        terms["centre_mae"] = (error * scale.extent).mean(dim=1)
        terms["context_mae"] = (bands * scale.extent).mean(dim=1)
    return terms


def encoder_loss(terms: dict[str, Tensor], sensor: Sensor) -> Tensor:
    """Loss ``(B,)`` of a sensor's autoencoder: MAE, SSIM and SAM as its config weighs them."""
    loss = sensor.loss.mae * terms["weighted_mae"]
    if sensor.loss.ssim > 0:
        loss = loss + sensor.loss.ssim * terms["ssim_loss"]
    if sensor.loss.sam > 0:
        loss = loss + sensor.loss.sam * terms["sam"]
    return loss
