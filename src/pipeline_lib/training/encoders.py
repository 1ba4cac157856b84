"""Training of one sensor's autoencoder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from shutil import rmtree
from zlib import crc32

import torch

from pipeline_lib.config import Context, Sensor, Training
from pipeline_lib.dataset import Normalisation, cubes_of
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_of
from pipeline_lib.models import Autoencoder, save_encoder
from pipeline_lib.seeds import generator
from pipeline_lib.training.batches import VALIDATION_SHARE, Batch
from pipeline_lib.training.loop import fit
from pipeline_lib.training.sources import EncoderSource, data_digest
from pipeline_lib.training.tasks import EncoderTask


def train_encoder(
    *,
    sensor_name: str,
    sensor: Sensor,
    context: Context,
    training: Training,
    seed: int,
    cubes: list[Path],
    split_table: Path,
    normalisation: Path,
    state: Path,
    output: Path,
    config_digest: str,
) -> None:
    """Train the autoencoder of a sensor and write it.

    Parameters
    ----------
    sensor_name, sensor, context, training
        What is trained, and how.
    seed
        Seed of the weights and of all draws.
    cubes
        Files of the sensor's cubes, of every split.
    split_table, normalisation
        Files of `dataset.write_split` and `dataset.fit_normalisation`.
    state
        Folder of the checkpoint, which a killed training goes on from; removed at the end.
    output
        Folder of the model (see `models.save_encoder`).
    config_digest
        Kept with the model.

    Raises
    ------
    UserError
        If a split has no usable cube, a file is broken, or the loss becomes non-finite.
    """
    chosen = splits_of(cubes, split_table, sensor_name)
    scaling = Normalisation.read(normalisation)
    scaling.check_bands(sensor.bands, str(normalisation))
    sources = {
        split: EncoderSource.load(paths, sensor, context, scaling)
        for split, paths in chosen.items()
    }
    digest = data_digest([*chosen["training"], *chosen["validation"]], split_table, normalisation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights_seed(seed, sensor_name))
        task = EncoderTask(Autoencoder(sensor, context), sensor, context, scaling)

    def train(epoch: int) -> Iterable[Batch]:
        rng = generator(seed, f"{sensor_name} training", epoch)
        source = sources["training"]
        drawn = source.draw(rng, training.max_samples, f"training of {sensor_name}")
        return source.batches(drawn, training.batch_size)

    held_out = sources["validation"].draw(
        generator(seed, f"{sensor_name} validation"),
        validation_count(training),
        f"validation of {sensor_name}",
    )
    outcome = fit(
        task,
        block=training,
        train=train,
        validation=sources["validation"].batches(held_out, training.batch_size),
        state=Path(state),
        identity=digest_of(
            {
                "sensor": sensor.model_dump(mode="json"),
                "context": context.model_dump(mode="json"),
                "training": training.model_dump(mode="json"),
                "seed": seed,
                "data": digest,
            }
        ),
    )
    save_encoder(
        output,
        name=sensor_name,
        sensor=sensor,
        context=context,
        autoencoder=task.model,
        normalisation=scaling,
        metrics=outcome.metrics,
        training={
            "cubes": {split: len(paths) for split, paths in chosen.items()},
            "data_digest": digest,
            "config_digest": config_digest,
            "seed": seed,
            "epochs": outcome.epochs,
            "best_epoch": outcome.best_epoch,
        },
        curves=outcome.curves,
    )
    rmtree(state)


def splits_of(cubes: list[Path], split_table: Path, what: str) -> dict[str, list[Path]]:
    """Training and validation files.

    Raises
    ------
    UserError
        If one of them is empty.
    """
    chosen = {name: cubes_of(cubes, split_table, name) for name in ("training", "validation")}
    for name, paths in chosen.items():
        if not paths:
            raise UserError(f"{split_table}: no {name} cube of {what}; add sites or preset a split")
    return chosen


def weights_seed(seed: int, name: str) -> int:
    """Seed of a model's first weights, another one for each name."""
    return (seed << 32) ^ crc32(name.encode())


def validation_count(training: Training) -> int | None:
    """Most validation samples; none: no limit."""
    if training.max_samples is None:
        return None
    return max(1, round(training.max_samples * VALIDATION_SHARE))
