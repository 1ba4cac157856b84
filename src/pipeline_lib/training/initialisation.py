"""Initialisation of a fusion: the best linear map of the latents to an embedding and back."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from pipeline_lib.models.losses import neighbourhood
from pipeline_lib.training.data import Batch, centre_of
from pipeline_lib.training.tasks import FusionTask

Inputs = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]
"""What `Fusion.fuse` takes of a batch: latents, days and presence by sensor."""

LEAST_ERROR = 1e-3
"""Error, on bands scaled to 0..1, below which none counts as more precise."""
LEAST_SHARE = 0.05
"""Share of the samples below which a sensor that is rarer weighs no more."""


@torch.inference_mode()
def initialise(task: FusionTask, batches: Iterable[Batch]) -> list[Inputs]:
    """Set a fusion to the linear map that best keeps what its decoders make of the latents.

    What they make is linearised: the target pixel's spectrum, and mean and spread of its
    neighbourhood where the loss has them, as linear functions of the latent, fitted on the
    samples. The square of a change costs the weight that the loss gives to its absolute value,
    over the error that the decoder makes with the true latent: least squares so weighted replace
    least absolute values (Beaton and Tukey 1974).

    How often each sensor is present becomes the task's ``shares``. Returns the inputs of the
    fusion for each batch of training samples, so that the frozen encoders need not run again.
    """
    parts = [_read(task, batch) for batch in batches]
    latents, present, costs = {}, {}, {}
    for number, (name, own) in enumerate(task.encoders.items()):
        read = {key: torch.cat([part[name][key] for part in parts]) for key in parts[0][name]}
        latents[name], present[name] = read["latent"], read["present"]
        task.shares[number] = present[name].float().mean().clamp(min=LEAST_SHARE)
        loss = own.sensor.loss
        centre = loss.centre + loss.mae * float(own.weights.max() / own.weights.sum())
        cost = _cost(read, "centre", "present", centre)
        cost += _cost(read, "around", "surrounded", loss.neighbourhood)
        costs[name] = cost / task.shares[number]
    task.model.initialise(latents, present, costs)
    return [
        (
            {name: read["latent"] for name, read in part.items()},
            {name: read["offset"] for name, read in part.items()},
            {name: read["present"] for name, read in part.items()},
        )
        for part in parts
    ]


def _read(task: FusionTask, batch: Batch) -> dict[str, dict[str, Tensor]]:
    """Latents of a batch, what the decoders make of them, and how far that is from the truth."""
    read = {}
    for name, latent in task.latents(batch).items():
        own, decoder = batch.sensors[name], task.encoders[name].model.decoder
        centre, around = decoder.centre(latent), decoder.neighbourhood(latent)
        moments, enough = neighbourhood(own.values, own.valid)
        read[name] = {
            "latent": latent,
            "offset": own.offset,
            "present": own.present,
            "centre": centre,
            "centre_error": (centre - centre_of(own.values)).abs().mean(dim=1),
            "surrounded": own.present & enough,
            "around": around.flatten(1),
            "around_error": (around - moments).abs().mean(dim=(1, 2)),
        }
    return read


def _cost(read: dict[str, Tensor], what: str, where: str, weight: float) -> Tensor:
    """The matrix C of one term for one sensor (see `models.reduced_rank`)."""
    here = read[where]
    latent, made = read["latent"][here].double(), read[what][here].double()
    if weight == 0 or len(latent) == 0:
        return torch.zeros(latent.shape[1], latent.shape[1], dtype=torch.float64)
    latent, made = latent - latent.mean(dim=0), made - made.mean(dim=0)
    slopes = torch.linalg.pinv(latent) @ made
    error = read[f"{what}_error"][here].double().mean().clamp(min=LEAST_ERROR)
    return weight / error * (slopes @ slopes.T) / made.shape[1]
