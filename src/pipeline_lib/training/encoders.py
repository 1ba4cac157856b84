"""Training of one sensor's autoencoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pipeline_lib.config import Context, Sensor, Training
from pipeline_lib.dataset import Normalisation
from pipeline_lib.errors import UserError
from pipeline_lib.models import Autoencoder, save_encoder
from pipeline_lib.seeds import generator
from pipeline_lib.training.runs import CUBES, Draws, splits_of, train_and_save, weights_seed
from pipeline_lib.training.sources import EncoderSource, data_digest
from pipeline_lib.training.tasks import EncoderTask

SPECTRA = 8192
"""Spectra, at most, that principal components are taken of: they move no more beyond it."""


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
        Folder of the cubes' arrays and of the checkpoint, which a killed training goes on from;
        removed at the end.
    output
        Folder of the model (see `models.save_encoder`).
    config_digest
        Kept with the model.

    Raises
    ------
    UserError
        If a split has no usable cube, a file is broken, or the loss becomes non-finite.
    """
    state = Path(state)
    chosen = splits_of(cubes, split_table, sensor_name)
    scaling = Normalisation.read(normalisation)
    scaling.check_bands(sensor.bands, str(normalisation))
    sources = {
        split: EncoderSource.load(paths, sensor, context, scaling, state / CUBES / split)
        for split, paths in chosen.items()
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(weights_seed(seed, sensor_name))
        autoencoder = Autoencoder(sensor, context)
    if sensor.encoder.components:
        autoencoder.initialise(_spectra(sources["training"], sensor_name, sensor, seed))
    task = EncoderTask(autoencoder, sensor, context, scaling)
    train_and_save(
        task,
        Draws(sensor_name, seed, training, sources),
        chosen=chosen,
        split_table=split_table,
        held_out=sources["validation"].index,
        identity={
            "sensor": sensor.model_dump(mode="json"),
            "context": context.model_dump(mode="json"),
        },
        data_digest=data_digest(
            [*chosen["training"], *chosen["validation"]], split_table, normalisation
        ),
        config_digest=config_digest,
        state=state,
        save=partial(
            save_encoder,
            output,
            name=sensor_name,
            sensor=sensor,
            context=context,
            autoencoder=autoencoder,
            normalisation=scaling,
        ),
    )


def _spectra(source: EncoderSource, name: str, sensor: Sensor, seed: int) -> Tensor:
    """Spectra that the first numbers of the latent are the principal components of."""
    what = f"principal components of {name}"
    drawn = source.draw(generator(seed, what), SPECTRA, what)
    if len(drawn) <= sensor.encoder.components:
        raise UserError(
            f"sensors.{name}.encoder.components: {len(drawn)} training samples do not suffice for "
            f"{sensor.encoder.components} components; add cubes or lower it"
        )
    return source.spectra(drawn)
