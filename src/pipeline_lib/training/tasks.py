"""What is optimised: an autoencoder, or the fusion between frozen autoencoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from pipeline_lib.config import Context, Sensor
from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.dataset import Normalisation
from pipeline_lib.models import Autoencoder, Fusion, TrainedEncoder
from pipeline_lib.models.losses import context_weights, spectral_angle
from pipeline_lib.training.data import Batch, centre_of
from pipeline_lib.training.terms import (
    METRICS,
    Scale,
    encoder_loss,
    reconstruction_terms,
)

CRITERION = "centre_mae_scaled"


class Task(nn.Module):
    """Loss and metrics of a model on a batch.

    Called on a batch it returns ``loss``, `CRITERION` and metrics, each ``(B,)``; a metric is NaN
    for a sample that it does not apply to. The best weights are those with the lowest validation
    mean of ``criterion``.
    """

    model: nn.Module
    criterion: str = CRITERION


class EncoderTask(Task):
    """Reconstruction by one autoencoder.

    The best weights are those of the lowest error at the target pixel, as in the paper; where
    principal components already fix most of that, those of the lowest loss.
    """

    model: Autoencoder
    weights: Tensor

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
        self.scale = Scale(normalisation)
        self.criterion = "loss" if sensor.encoder.components else CRITERION
        self.register_buffer("weights", context_weights(context, sensor.loss), persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``loss`` and metrics, each ``(B,)``, of a batch of one sensor."""
        (own,) = batch.sensors.values()
        latent = self.model.encoder(*own.patches)
        decoder = self.model.decoder
        terms = reconstruction_terms(
            decoder(latent, own.days),
            decoder.neighbourhood(latent),
            own,
            self.weights,
            self.scale,
        )
        return {"loss": encoder_loss(terms, self.sensor)} | {name: terms[name] for name in METRICS}


class FusionTask(Task):
    """Reconstruction of all sensors from one fused embedding; only the fusion learns.

    The loss of a sample is the sum of: each present sensor's own loss, where the target pixel
    weighs more by ``centre_weights`` and the neighbourhood by ``neighbourhood_weight``, over the
    share of samples that have the sensor; and, times ``joint_weight``, ``1 - SSIM`` plus spectral
    angle over the scaled bands of all present sensors together.

    A sensor's own loss is the paper's weighted MAE and spectral angle, in the proportions that
    its encoder was trained with. The neighbourhood weighs more because an embedding has fewer
    dimensions than the latents have together: what contributes least to the loss is given up
    first, and that would be the context. A sensor that few samples have would be given up next;
    divided by its share it weighs as much as the others.

    The best weights are those of the lowest loss: at the target pixel alone the initialisation
    (`initialisation.initialise`), which gives the context up, can hardly be improved on.

    The encoders are frozen. ``shares`` ``(sensor,)`` is the share of the samples that have each
    sensor, 1 unless set.
    """

    model: Fusion
    criterion = "loss"
    shares: Tensor

    def __init__(
        self, fusion: Fusion, block: FusionBlock, encoders: Mapping[str, TrainedEncoder]
    ) -> None:
        super().__init__()
        self.model = fusion
        self.block = block
        self.names = fusion.sensors
        self.sensors = {name: _fused(name, encoders[name].sensor, block) for name in self.names}
        self.frozen = nn.ModuleList(encoders[name].autoencoder for name in self.names)
        self.frozen.requires_grad_(False)
        self.scales = nn.ModuleList(Scale(encoders[name].normalisation) for name in self.names)
        self.register_buffer("shares", torch.ones(len(self.names)), persistent=False)
        for number, name in enumerate(self.names):
            weights = context_weights(
                encoders[name].context,
                self.sensors[name].loss,
                block.centre_weights.get(name, 1.0),
            )
            self.register_buffer(f"weights_{number}", weights, persistent=False)

    @torch.no_grad()
    def latents(self, batch: Batch) -> dict[str, Tensor]:
        """Sensor -> ``(B, latent)``; of absent sensors anything."""
        return {
            name: cast(Autoencoder, model).encoder(*batch.sensors[name].patches)
            for name, model in zip(self.names, self.frozen, strict=True)
        }

    def embedding(self, batch: Batch) -> Tensor:
        """``(B, embedding)``."""
        return self.model.fuse(
            self.latents(batch),
            {name: batch.sensors[name].offset for name in self.names},
            {name: batch.sensors[name].present for name in self.names},
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, the criterion and each sensor's metrics, each ``(B,)``, NaN where absent."""
        frozen = [cast(Autoencoder, model) for model in self.frozen]
        embedding = self.embedding(batch)
        back = self.model.split(embedding)
        loss = torch.zeros(len(embedding), device=embedding.device)
        criterion = torch.zeros_like(loss)
        metrics: dict[str, Tensor] = {}
        similarity, spectra, truths, shown = [], [], [], []
        for number, (name, model, scale) in enumerate(
            zip(self.names, frozen, self.scales, strict=True)
        ):
            own = batch.sensors[name]
            here = own.present
            prediction = model.decoder(back[name], own.days).float()
            # An absent sensor has no valid pixel: its terms are computed on a whole patch of
            # zeros, so that they and their gradients are finite, and then left out.
            whole = own._replace(valid=own.valid | ~here[:, None, None, None])
            terms = reconstruction_terms(
                prediction,
                model.decoder.neighbourhood(back[name]),
                whole,
                getattr(self, f"weights_{number}"),
                cast(Scale, scale),
            )
            weighed = encoder_loss(terms, self.sensors[name]) / self.shares[number]
            loss = loss + torch.where(here, weighed, 0.0)
            criterion = criterion + torch.where(here, terms[CRITERION], 0.0)
            for metric in METRICS:
                metrics[f"{name}.{metric}"] = torch.where(here, terms[metric].detach(), torch.nan)
            similarity.append(torch.where(here[:, None], terms["ssim_bands"], 0.0))
            spectra.append(torch.where(here[:, None], centre_of(prediction), 0.0))
            truths.append(torch.where(here[:, None], centre_of(whole.values), 0.0))
            shown.append(here[:, None].expand_as(terms["ssim_bands"]))
        count = torch.cat(shown, dim=1).sum(dim=1)
        joint = 1 - torch.cat(similarity, dim=1).sum(dim=1) / count
        joint = joint + spectral_angle(torch.cat(spectra, dim=1), torch.cat(truths, dim=1))
        loss = loss + self.block.joint_weight * joint
        return {"loss": loss, CRITERION: criterion} | metrics


def _fused(name: str, sensor: Sensor, block: FusionBlock) -> Sensor:
    """A sensor whose loss weighs its terms as the fusion needs them."""
    changes = {
        "centre": sensor.loss.centre * block.centre_weights.get(name, 1.0),
        "neighbourhood": sensor.loss.neighbourhood * block.neighbourhood_weight,
    }
    return sensor.model_copy(update={"loss": sensor.loss.model_copy(update=changes)})
