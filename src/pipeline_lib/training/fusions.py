"""Training of the fusion between frozen encoders and decoders."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from pipeline_lib.config import Context
from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.dataset import cubes_of, load_stack
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_of
from pipeline_lib.models import Fusion, TrainedEncoder, load_encoder, save_fusion
from pipeline_lib.training.runs import CUBES, Draws, splits_of, train_and_save, weights_seed
from pipeline_lib.training.sources import FusionSource, data_digest
from pipeline_lib.training.tasks import FusionTask

NAME = "fusion"


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
    latents = {name: encoder.sensor.latent for name, encoder in trained.items()}
    digests = {name: encoder.digest for name, encoder in trained.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights_seed(seed, NAME))
        task = FusionTask(Fusion(latents, fusion), fusion, trained)
    train_and_save(
        task,
        Draws(NAME, seed, fusion.training, sources),
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
            save_fusion,
            output,
            block=fusion,
            fusion=task.model,
            latents=latents,
            encoders=digests,
        ),
    )


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
