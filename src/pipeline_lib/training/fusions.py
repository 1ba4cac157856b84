"""Training of the fusion between frozen encoders and decoders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.config import Context
from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.dataset import cubes_of, load_stack
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_of
from pipeline_lib.models import Fusion, TrainedEncoder, load_encoder, save_fusion
from pipeline_lib.seeds import generator
from pipeline_lib.training.initialisation import Inputs, begin
from pipeline_lib.training.loop import threads
from pipeline_lib.training.runs import CUBES, Draws, splits_of, train_and_save, weights_seed
from pipeline_lib.training.sources import PART, FusionSource, GappySource, data_digest
from pipeline_lib.training.tasks import FusionTask

NAME = "fusion"
SAMPLES = 4096
"""Training samples, at most, that the beginning is fitted on and the embedding is scaled by."""
LEAST_DEVIATION = 1e-6
"""Standard deviation under which a number of the embedding is constant but for rounding."""


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
) -> None:
    """Train the fusion of all sensors and write it.

    Samples are those of the reference sensor; each other sensor joins with the window around
    its frame closest in time, in the cube of the same name. A sensor without such a cube, or
    without a valid centre pixel in that frame, is absent from the sample.

    Parameters
    ----------
    fusion, context
        Config blocks; the optimisation is ``fusion.training``.
    seed
        Seed of the weights and of all draws.
    cubes
        Sensor -> files of its cubes, of every split.
    split_table
        File of `dataset.write_split`.
    encoders
        Sensor -> folder of its trained encoder; read only.
    state, output, config_digest
        As in `train_encoder`.

    Raises
    ------
    UserError
        If an encoder was trained with another context, or as `train_encoder`.
    """
    state = Path(state)
    trained = {name: _encoder(encoders[name], context) for name in sorted(encoders)}
    chosen = splits_of(list(cubes[fusion.reference]), split_table, fusion.reference)
    used = {
        split: {name: cubes_of(list(cubes[name]), split_table, split) for name in trained}
        for split in chosen
    }
    sources = {
        split: load_fusion_source(trained, paths, fusion.reference, state / CUBES / split)
        for split, paths in used.items()
    }
    data = [data_digest(used[split][name]) for name in trained for split in chosen]
    latents = {name: encoder.sensor.latent_dim for name, encoder in trained.items()}
    digests = {name: encoder.digest for name, encoder in trained.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights_seed(seed, NAME))
        task = FusionTask(Fusion(latents, fusion), fusion, trained)
    drawn = sources["training"].draw(generator(seed, NAME), SAMPLES, f"training of {NAME}")
    with threads(fusion.training.threads):
        inputs = begin(task, sources["training"].batches(drawn, PART))
    gappy = GappySource(sources["training"], fusion.sensor_dropout)
    train_and_save(
        task,
        Draws(NAME, seed, fusion.training, {**sources, "training": gappy}),
        chosen=chosen,
        split_table=split_table,
        held_out=sources["validation"].primary.index,
        identity={
            "fusion": fusion.model_dump(mode="json", exclude={"training"}),
            "encoders": digests,
        },
        data_digest=digest_of({"cubes": data, "split": data_digest([], split_table)}),
        config_digest=config_digest,
        state=state,
        save=partial(
            _scale_and_save,
            output,
            task=task,
            inputs=inputs,
            block=fusion,
            latents=latents,
            encoders=digests,
        ),
    )


def _scale_and_save(
    output: Path, *, task: FusionTask, inputs: Iterable[Inputs], **about: Any
) -> None:
    """Scale the embedding's numbers by some samples, and save.

    Their means become 0, and their variances 1: that of all samples or of those that have all
    sensors, whichever is larger. A number that tells of a rare sensor hardly varies where that is
    absent.
    """
    parts, whole = [], []
    with threads(task.block.training.threads), torch.inference_mode():
        for latents, days, present in inputs:
            parts.append(task.model.fuse(latents, days, present).double())
            whole.append(torch.stack(list(present.values())).all(dim=0))
    found, complete = torch.cat(parts), torch.cat(whole)
    deviation = found.std(dim=0, correction=0)
    if complete.any():
        deviation = torch.maximum(deviation, found[complete].std(dim=0, correction=0))
    task.model.scale(found.mean(dim=0), torch.where(deviation > LEAST_DEVIATION, deviation, 1.0))
    save_fusion(output, fusion=task.model, **about)


def load_fusion_source(
    encoders: Mapping[str, TrainedEncoder],
    cubes: Mapping[str, list[Path]],
    reference: str,
    folder: Path | None = None,
) -> FusionSource:
    """Read the cubes of all sensors, scaled as the encoders want them.

    They are read into memory, or into a folder of each sensor in ``folder`` (see `load_stack`).
    """
    return FusionSource(
        {
            name: load_stack(cubes[name], encoder.normalisation, folder and folder / name)
            for name, encoder in encoders.items()
        },
        sensors={name: encoder.sensor for name, encoder in encoders.items()},
        reference=reference,
        context=encoders[reference].context,
    )


def _encoder(folder: Path, context: Context) -> TrainedEncoder:
    trained = load_encoder(folder)
    if trained.context != context:
        raise UserError(f"{folder}: was trained with another context; train the encoder again")
    return trained
