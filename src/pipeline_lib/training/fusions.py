"""The fusion between frozen encoders and decoders: fitted in closed form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from pipeline_lib.config import Context
from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.dataset import cubes_of
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_of, remove_folder
from pipeline_lib.models import Fusion, TrainedEncoder, load_encoder, save_fusion
from pipeline_lib.seeds import generator
from pipeline_lib.training import runs
from pipeline_lib.training.data import Batch, FusionDataset, data_digest
from pipeline_lib.training.groups import CARD_SAMPLES, group_metrics, land_cover_of
from pipeline_lib.training.initialisation import joint_moments
from pipeline_lib.training.tasks import FusionTask

SAMPLES = 4096
"""Training samples, at most, that the fusion is fitted on: beyond it, it hardly changes."""
LEAST_VARIANCE = 1e-12
"""Variance of a latent below which it is constant but for rounding."""
LEARNED_WEIGHT = 0.5
"""Weight of what the reference sensor's latents hold of its context, beside the components of its
spectrum."""
FURTHER_WEIGHT = 0.7
"""Weight of the latents of another sensor for which the config gives none."""


def train_fusion(
    *,
    fusion: FusionBlock,
    context: Context,
    seed: int,
    cubes: Mapping[str, list[Path]],
    split_table: Path,
    encoders: Mapping[str, Path],
    state: Path,
    output: Path,
    config_digest: str,
    threads: int = 1,
) -> None:
    """Fit the fusion of all sensors and write it to the folder ``output``.

    Samples are those of the reference sensor; each other sensor joins with the window around
    its frame closest in time, in the cube of the same name. A sensor without such a cube, or
    without a valid target pixel in that frame, is absent from the sample.

    The embedding keeps what the latents of all sensors hold along `latent_axes`, each scaled to
    unit variance and weighted by `latent_weights`: principal components (`Fusion.initialise`), from
    the joint moments of training samples. Nothing is learned in epochs; epoch 0 of ``curves.csv``
    has the metrics of validation samples.

    ``cubes`` and ``encoders`` give the files of each sensor's cubes, of every split, and the
    folder of its trained encoder, which is only read; ``threads`` are torch's; the rest is as in
    `train_encoder`.

    Raises UserError if an encoder was trained with another context, or as `train_encoder`.
    """
    state = Path(state)
    trained = {name: load_encoder(encoders[name]) for name in sorted(encoders)}
    for name, encoder in trained.items():
        if encoder.context != context:
            raise UserError(f"{encoders[name]}: was trained with another context; train it again")
    chosen = runs.splits_of(list(cubes[fusion.reference]), split_table)
    used = {
        split: {name: cubes_of(list(cubes[name]), split_table, split) for name in trained}
        for split in chosen
    }
    datasets = {
        split: FusionDataset(trained, paths, fusion.reference, state / runs.CUBES / split)
        for split, paths in used.items()
    }
    drawn = {
        split: dataset.draw(generator(seed, runs.FUSION, split), count, f"{split} of {runs.FUSION}")
        for (split, dataset), count in zip(datasets.items(), (SAMPLES, CARD_SAMPLES), strict=True)
    }
    latents = {name: encoder.sensor.latent_dim for name, encoder in trained.items()}
    task = FusionTask(Fusion(latents, fusion), trained).eval()
    with runs.threads(threads), torch.inference_mode():
        values, shown = _latents(task, datasets["training"].loader(drawn["training"]))
        fit(task.model, values, shown, latent_axes(trained), latent_weights(fusion, trained))
        metrics, groups = group_metrics(
            task, datasets["validation"], drawn["validation"], land_cover_of(split_table)
        )
    digests = {name: encoder.digest for name, encoder in trained.items()}
    data = [data_digest(used[split][name]) for name in trained for split in chosen]
    save_fusion(
        output,
        block=fusion,
        fusion=task.model,
        latents=latents,
        encoders=digests,
        metrics={"validation": metrics},
        groups=groups,
        training={
            "cubes": {split: len(paths) for split, paths in chosen.items()},
            "data_digest": digest_of({"cubes": data, "split": data_digest([], split_table)}),
            "config_digest": config_digest,
            "seed": seed,
            "epochs": 0,
            "best_epoch": 0,
            "samples": len(drawn["training"]),
        },
        curves=[{"epoch": 0, "step": 0, "split": "validation"} | metrics],
    )
    remove_folder(state)


def _latents(task: FusionTask, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Latents of all sensors side by side, and which of them are of a sensor that is present."""
    values, shown = [], []
    for batch in batches:
        latents = task.latents(batch)
        values.append(torch.cat([latents[name] for name in task.names], dim=1))
        present = [batch.sensors[name].present for name in task.names]
        sizes = torch.tensor(task.model.sizes)
        shown.append(torch.stack(present, dim=1).repeat_interleave(sizes, dim=1))
    return torch.cat(values), torch.cat(shown)


def fit(
    fusion: Fusion,
    values: Tensor,
    shown: Tensor,
    axes: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
) -> None:
    """Set the maps of a fusion from latents of samples.

    ``values`` ``(N, D)`` are those of all sensors side by side, in alphabetical order, ``shown``
    ``(N, D)`` is False where the sensor is absent; ``axes`` are `latent_axes`, ``weights``
    `latent_weights`.
    """
    own = (axes[name] for name in fusion.sensors)
    every: Tensor = torch.block_diag(*own)  # type: ignore[no-untyped-call]
    along = torch.where(shown, values, 0.0).double() @ every.T
    mean, covariance = joint_moments(along, shown)
    weight = torch.cat([weights[name] for name in fusion.sensors]) * shown.any(dim=0)
    variance = covariance.diagonal()
    # What never varies needs no dimension.
    scale = torch.where(variance > LEAST_VARIANCE, weight.square() / variance, 0.0)
    back = torch.linalg.inv(every)
    fusion.initialise(back @ mean, back @ covariance @ back.T, (every.T * scale) @ every)


def latent_axes(encoders: Mapping[str, TrainedEncoder]) -> dict[str, Tensor]:
    """Sensor -> axes ``(axis, latent)`` along which its latents are scaled and weighted.

    The latents themselves; of a blind encoder, in place of the signal of the date, how far it is
    from the mean over the dates, which the other latents are. The two are so much alike that
    the difference, which tells of soil moisture, would have little of their variance.
    """
    axes = {}
    for name, encoder in encoders.items():
        axes[name] = torch.eye(encoder.sensor.latent_dim, dtype=torch.float64)
        if encoder.sensor.encoder.blind:
            bands = len(encoder.sensor.bands)
            axes[name][:bands, bands:] = -torch.eye(bands, dtype=torch.float64)
    return axes


def latent_weights(
    fusion: FusionBlock, encoders: Mapping[str, TrainedEncoder]
) -> dict[str, Tensor]:
    """Sensor -> weights ``(axis,)`` of its latents along `latent_axes`, of unit variance.

    1 for the components of the reference sensor's spectrum, `LEARNED_WEIGHT` for its other
    dimensions, and 1 for all of them where there are no components.
    """
    weights = {}
    for name, encoder in encoders.items():
        size, components = encoder.sensor.latent_dim, encoder.sensor.encoder.components
        every = 1.0 if name == fusion.reference else fusion.weights.get(name, FURTHER_WEIGHT)
        weights[name] = torch.full((size,), every, dtype=torch.float64)
        if name == fusion.reference and components:
            weights[name][components:] = LEARNED_WEIGHT
    return weights
