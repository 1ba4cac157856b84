"""Training of one sensor's autoencoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from pipeline_lib.config import Context, Sensor, Training
from pipeline_lib.dataset import Noise, Normalisation, inputs_of
from pipeline_lib.errors import UserError
from pipeline_lib.models import Autoencoder, save_encoder
from pipeline_lib.seeds import generator
from pipeline_lib.training.data import SensorDataset, centre_of, data_digest
from pipeline_lib.training.runs import (
    CUBES,
    TrainingData,
    initial_weights,
    splits_of,
    train_and_save,
)
from pipeline_lib.training.tasks import EncoderTask

SAMPLES = 8192
"""Samples, at most, that a start in closed form is taken of: beyond it, it hardly changes."""


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
    noise: Path | None = None,
) -> None:
    """Train the autoencoder of a sensor and write it to the folder ``output``.

    ``cubes`` are the files of the sensor's cubes, of every split; ``split_table``,
    ``normalisation`` and ``noise`` the files of `dataset.write_split`,
    `dataset.fit_normalisation` and `dataset.measure_noise` (None: `Noise.unknown`). ``state`` is a
    folder for the cubes' arrays and the checkpoints, which a killed training goes on from; it
    is removed at the end. ``config_digest`` is kept with the model.

    Raises UserError if a split has no usable cube, a file is broken, or the loss becomes
    non-finite.
    """
    state = Path(state)
    chosen = splits_of(cubes, split_table)
    scaling = Normalisation.read(normalisation)
    scaling.check_bands(sensor.bands, str(normalisation))
    known = Noise.unknown(sensor.bands) if noise is None else Noise.read(noise)
    datasets = {
        split: SensorDataset.load(
            sensor_name, paths, sensor, context, scaling, state / CUBES / split
        )
        for split, paths in chosen.items()
    }
    with initial_weights(seed, sensor_name):
        autoencoder = Autoencoder(sensor, context)
    _initialise(autoencoder, datasets["training"], known, seed)
    train_and_save(
        EncoderTask(autoencoder, sensor, context, scaling),
        TrainingData(sensor_name, seed, training, datasets),
        chosen=chosen,
        split_table=split_table,
        identity={
            "sensor": sensor.model_dump(mode="json"),
            "context": context.model_dump(mode="json"),
        },
        data_digest=data_digest(
            [*chosen["training"], *chosen["validation"]],
            split_table,
            *(file for file in (normalisation, noise) if file is not None),
        ),
        config_digest=config_digest,
        record={"inputs": inputs_of(chosen["training"])},
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


def _initialise(autoencoder: Autoencoder, dataset: SensorDataset, noise: Noise, seed: int) -> None:
    """Start from what is known in closed form of the training samples and their noise."""
    blind, components = autoencoder.encoder.blind, autoencoder.decoder.components
    if not blind and not components:
        return
    what = f"initialisation of {dataset.name}"
    drawn = dataset.draw(generator(seed, what), SAMPLES, what)
    if len(drawn) <= components:
        raise UserError(
            f"sensors.{dataset.name}.encoder.components: {len(drawn)} training samples do not "
            f"suffice for {components} components; add cubes or lower it"
        )
    patches = (batch.sensors[dataset.name].patches for batch in dataset.loader(drawn))
    if blind:
        autoencoder.initialise_blind(patches, noise.correlated_px)
    else:
        spectra = torch.cat([centre_of(values) for values, _, _ in patches])
        autoencoder.initialise(spectra, noise.covariance)
