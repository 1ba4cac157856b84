"""Training of the fusion between frozen encoders and decoders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.config import Context
from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.dataset import cubes_of
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_of
from pipeline_lib.models import Fusion, load_encoder, save_fusion
from pipeline_lib.seeds import generator
from pipeline_lib.training.data import FusionDataset, data_digest
from pipeline_lib.training.initialisation import Inputs, initialise
from pipeline_lib.training.runs import (
    CUBES,
    FUSION,
    TrainingData,
    initial_weights,
    splits_of,
    threads,
    train_and_save,
)
from pipeline_lib.training.tasks import FusionTask

SAMPLES = 4096
"""Training samples, at most, that the fusion is initialised and the embedding scaled on."""
LEAST_DEVIATION = 1e-6
"""Standard deviation below which a dimension of the embedding is constant but for rounding."""


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
    """Train the fusion of all sensors and write it to the folder ``output``.

    Samples are those of the reference sensor; each other sensor joins with the window around
    its frame closest in time, in the cube of the same name. A sensor without such a cube, or
    without a valid target pixel in that frame, is absent from the sample.

    ``cubes`` and ``encoders`` give the files of each sensor's cubes, of every split, and the
    folder of its trained encoder, which is only read; the rest is as in `train_encoder`.

    Raises UserError if an encoder was trained with another context, or as `train_encoder`.
    """
    state = Path(state)
    trained = {name: load_encoder(encoders[name]) for name in sorted(encoders)}
    for name, encoder in trained.items():
        if encoder.context != context:
            raise UserError(f"{encoders[name]}: was trained with another context; train it again")
    chosen = splits_of(list(cubes[fusion.reference]), split_table)
    used = {
        split: {name: cubes_of(list(cubes[name]), split_table, split) for name in trained}
        for split in chosen
    }
    dropout = {"training": fusion.sensor_dropout, "validation": 0.0}
    datasets = {
        split: FusionDataset(
            trained, paths, fusion.reference, state / CUBES / split, dropout[split]
        )
        for split, paths in used.items()
    }
    data = [data_digest(used[split][name]) for name in trained for split in chosen]
    latents = {name: encoder.sensor.latent_dim for name, encoder in trained.items()}
    digests = {name: encoder.digest for name, encoder in trained.items()}
    with initial_weights(seed, FUSION):
        task = FusionTask(Fusion(latents, fusion), fusion, trained)
    drawn = datasets["training"].draw(generator(seed, FUSION), SAMPLES, f"training of {FUSION}")
    with threads(fusion.training.threads):
        inputs = initialise(task, datasets["training"].loader(replace(drawn, dropped=None)))
    train_and_save(
        task,
        TrainingData(FUSION, seed, fusion.training, datasets),
        chosen=chosen,
        split_table=split_table,
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
    """Scale the dimensions of the embedding by some samples, and save.

    Their means become 0, and their variances 1: that of all samples or of those that have all
    sensors, whichever is larger. A dimension that follows a rare sensor hardly varies where that
    is absent.
    """
    parts, complete = [], []
    with threads(task.block.training.threads), torch.inference_mode():
        for latents, days, present in inputs:
            parts.append(task.model.fuse(latents, days, present).double())
            complete.append(torch.stack(list(present.values())).all(dim=0))
    embedding, rows = torch.cat(parts), torch.cat(complete)
    deviation = embedding.std(dim=0, correction=0)
    if rows.any():
        deviation = torch.maximum(deviation, embedding[rows].std(dim=0, correction=0))
    deviation = torch.where(deviation > LEAST_DEVIATION, deviation, 1.0)
    task.model.scale(embedding.mean(dim=0), deviation)
    save_fusion(output, fusion=task.model, **about)
