"""Training of the fusion between frozen encoders and decoders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from shutil import rmtree

import torch

from pipeline_lib.config import Context
from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.dataset import cubes_of, load_stack
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_of
from pipeline_lib.models import Fusion, TrainedEncoder, load_encoder, save_fusion
from pipeline_lib.seeds import generator
from pipeline_lib.training.encoders import splits_of, validation_count, weights_seed
from pipeline_lib.training.loop import fit
from pipeline_lib.training.sources import FusionBatch, FusionSource, data_digest
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
    trained = {name: _encoder(encoders[name], context) for name in sorted(encoders)}
    chosen = splits_of(list(cubes[fusion.reference]), split_table, fusion.reference)
    sources = {
        split: load_fusion_source(
            trained,
            {name: cubes_of(list(cubes[name]), split_table, split) for name in trained},
            fusion.reference,
        )
        for split in chosen
    }
    used = [
        digest
        for name in trained
        for split in chosen
        for digest in [data_digest(cubes_of(list(cubes[name]), split_table, split))]
    ]
    data = digest_of({"cubes": used, "split": data_digest([], split_table)})
    latents = {name: encoder.sensor.latent for name, encoder in trained.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights_seed(seed, NAME))
        task = FusionTask(Fusion(latents, fusion), fusion, trained)
    block = fusion.training

    def train(epoch: int) -> Iterable[FusionBatch]:
        rng = generator(seed, f"{NAME} training", epoch)
        source = sources["training"]
        drawn = source.primary.draw(rng, block.max_samples, f"training of the {NAME}")
        return source.batches(drawn, block.batch_size)

    validation = sources["validation"]
    held_out = validation.primary.draw(
        generator(seed, f"{NAME} validation"),
        validation_count(block),
        f"validation of the {NAME}",
    )
    digests = {name: encoder.digest for name, encoder in trained.items()}
    outcome = fit(
        task,
        block=block,
        train=train,
        validation=validation.batches(held_out, block.batch_size),
        state=Path(state),
        identity=digest_of(
            {
                "fusion": fusion.model_dump(mode="json"),
                "encoders": digests,
                "seed": seed,
                "data": data,
            }
        ),
    )
    save_fusion(
        output,
        block=fusion,
        fusion=task.model,
        latents=latents,
        encoders=digests,
        metrics=outcome.metrics,
        training={
            "cubes": {split: len(paths) for split, paths in chosen.items()},
            "data_digest": data,
            "config_digest": config_digest,
            "seed": seed,
            "epochs": outcome.epochs,
            "best_epoch": outcome.best_epoch,
        },
        curves=outcome.curves,
    )
    rmtree(state)


def load_fusion_source(
    encoders: Mapping[str, TrainedEncoder], cubes: Mapping[str, list[Path]], reference: str
) -> FusionSource:
    """Read the cubes of all sensors into memory, scaled as the encoders want them."""
    return FusionSource(
        {name: load_stack(cubes[name], encoders[name].normalisation) for name in encoders},
        sensors={name: encoder.sensor for name, encoder in encoders.items()},
        reference=reference,
        context=encoders[reference].context,
    )


def _encoder(folder: Path, context: Context) -> TrainedEncoder:
    trained = load_encoder(folder)
    if trained.context != context:
        raise UserError(f"{folder}: was trained with another context; train the encoder again")
    return trained
