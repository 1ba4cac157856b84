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
from pipeline_lib.training.batches import Batch
from pipeline_lib.training.terms import (
    METRICS,
    Scale,
    centre_of,
    encoder_loss,
    reconstruction_terms,
)

CRITERION = "centre_mae_scaled"


class Task(nn.Module):
    """A module that learns, with the loss and metrics of what it makes of a batch.

    ``criterion`` is the metric whose least validation value tells the best weights.

    Called on a batch it gives ``loss``, `CRITERION` and metrics, each ``(B,)``; a metric is NaN
    for a sample that it does not apply to.
    """

    model: nn.Module
    criterion: str = CRITERION


class EncoderTask(Task):
    """Reconstruction by one autoencoder.

    The best weights are those of the least error at the centre, as in the paper; where
    components tell the centre, which training then hardly moves, those of the least loss.

    Parameters
    ----------
    autoencoder, sensor, context, normalisation
        The model, its config blocks and the scaling of its inputs.
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
        """``loss`` and metrics, each ``(B,)``."""
        latent = self.model.encoder(*batch)
        decoder = self.model.decoder
        terms = reconstruction_terms(
            decoder(latent, batch.days),
            decoder.surroundings(latent),
            batch,
            self.weights,
            self.scale,
        )
        return {"loss": encoder_loss(terms, self.sensor)} | {name: terms[name] for name in METRICS}


class FusionTask(Task):
    """Reconstruction of all sensors from one fused embedding; only the fusion learns.

    The loss of a sample is the sum of: per sensor the weighted MAE, its centre weighing more
    by ``centre_weights``, the MAE of the centre and of the surroundings as the sensor's own loss
    weighs them, and the spectral angle at the centre where the sensor's own loss has one; and,
    times ``joint_weight``, ``1 - SSIM`` plus spectral angle over the scaled bands of all present
    sensors together.

    Parameters
    ----------
    fusion, block
        The layers that learn, and their config.
    encoders
        Sensor -> trained autoencoder; they are frozen.
    """

    model: Fusion

    def __init__(
        self, fusion: Fusion, block: FusionBlock, encoders: Mapping[str, TrainedEncoder]
    ) -> None:
        super().__init__()
        self.model = fusion
        self.block = block
        self.names = fusion.sensors
        self.sensors = {name: encoders[name].sensor for name in self.names}
        self.frozen = nn.ModuleList(encoders[name].autoencoder for name in self.names)
        self.frozen.requires_grad_(False)
        self.scales = nn.ModuleList(Scale(encoders[name].normalisation) for name in self.names)
        for number, name in enumerate(self.names):
            weights = context_weights(
                encoders[name].context,
                self.sensors[name].loss,
                block.centre_weights.get(name, 1.0),
            )
            self.register_buffer(f"weights_{number}", weights, persistent=False)

    def forward(self, batch: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """``loss``, the criterion and each sensor's metrics, each ``(B,)``, NaN where absent.

        Parameters
        ----------
        batch
            Sensor -> ``values``, ``valid``, ``days`` as in `Batch`, and ``offset`` ``(B,)`` and
            ``present`` ``(B,)`` as in `Fusion.fuse`.
        """
        patches = {
            name: Batch(batch[name]["values"], batch[name]["valid"], batch[name]["days"])
            for name in self.names
        }
        frozen = [cast(Autoencoder, model) for model in self.frozen]
        with torch.no_grad():
            latents = {
                name: model.encoder(*patches[name])
                for name, model in zip(self.names, frozen, strict=True)
            }
        present = {name: batch[name]["present"] for name in self.names}
        embedding = self.model.fuse(
            latents, {name: batch[name]["offset"] for name in self.names}, present
        )
        back = self.model.split(embedding)
        loss = torch.zeros(len(embedding), device=embedding.device)
        criterion = torch.zeros_like(loss)
        metrics: dict[str, Tensor] = {}
        similarity, spectra, truths, shown = [], [], [], []
        for number, (name, model, scale) in enumerate(
            zip(self.names, frozen, self.scales, strict=True)
        ):
            here = present[name]
            prediction = model.decoder(back[name], patches[name].days).float()
            # An absent sensor has no valid pixel: its terms are computed on a whole patch of
            # zeros, so that they and their gradients are finite, and then left out.
            whole = patches[name]._replace(valid=patches[name].valid | ~here[:, None, None, None])
            terms = reconstruction_terms(
                prediction,
                model.decoder.surroundings(back[name]),
                whole,
                getattr(self, f"weights_{number}"),
                cast(Scale, scale),
            )
            block = self.sensors[name].loss
            own = terms["weighted_mae"] + block.centre * terms["centre_mae_scaled"]
            own = own + block.surroundings * terms["surroundings_mae"]
            if block.sam > 0:
                own = own + terms["sam"]
            loss = loss + torch.where(here, own, 0.0)
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
