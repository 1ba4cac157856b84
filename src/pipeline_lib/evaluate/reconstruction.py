"""How well trained models give back what they saw, beside what needs no model."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline_lib.dataset import cube_name, cubes_of
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.paper import PAPER
from pipeline_lib.files import write_json
from pipeline_lib.models import TrainedEncoder, TrainedFusion, load_encoder, load_fusion
from pipeline_lib.models.losses import spectral_angle
from pipeline_lib.seeds import generator
from pipeline_lib.training import baseline_metrics, fusion_metrics, sample_metrics
from pipeline_lib.training.batches import Batch, Batches
from pipeline_lib.training.fusions import load_fusion_source
from pipeline_lib.training.loop import Means
from pipeline_lib.training.sources import FusionBatch
from pipeline_lib.training.tasks import EncoderTask

SPLITS = ("training", "validation", "test")
FEW_COMPONENTS = 2
"""Principal components of a baseline, besides as many as the model has numbers."""
BATCH = 256

Metrics = dict[str, float | None]
Cubes = Mapping[str, Sequence[Path]]


def evaluate_encoder(
    *,
    model: Path,
    cubes: Sequence[Path],
    split_table: Path,
    seed: int,
    max_samples: int,
    output: Path,
) -> None:
    """Measure a trained encoder on each split, beside its baselines and the paper's numbers.

    Parameters
    ----------
    model
        Folder of the trained encoder.
    cubes
        Files of its sensor's cubes, of every split.
    split_table
        Table with the split and the land cover of each cube.
    seed, max_samples
        They decide which samples of a split are drawn, the same for the model and the
        baselines. Land-cover classes share ``max_samples`` among them.
    output
        JSON file: ``splits`` -> split -> ``model``, ``baselines`` and ``land_cover``, each
        with the metrics of `training.sample_metrics`; ``left_out``, what has no sample, and
        why; ``paper``.

    Raises
    ------
    UserError
        If a file is broken, or no split has a sample.
    """
    trained = load_encoder(model)
    training = cubes_of(list(cubes), split_table, "training")
    bands = len(trained.sensor.bands)
    components = sorted({n for n in (FEW_COMPONENTS, trained.sensor.latent) if n < bands})

    def measure(chosen: Cubes, samples: int) -> Metrics:
        found = sample_metrics(trained, chosen[trained.name], seed=seed, max_samples=samples)
        return _plain(found)

    def baselines(chosen: Cubes) -> dict[str, Metrics]:
        found = baseline_metrics(
            trained,
            chosen[trained.name],
            training_cubes=training,
            components=components,
            seed=seed,
            max_samples=max_samples,
        )
        return {name: _plain(values) for name, values in found.items()}

    splits, left_out = _measure_splits(
        {trained.name: cubes}, split_table, max_samples, measure, baselines
    )
    write_json(
        output,
        {
            "model": trained.name,
            "digest": trained.digest,
            "splits": splits,
            "left_out": left_out,
            "paper": _paper("encoder"),
        },
    )


def evaluate_fusion(
    *,
    fusion: Path,
    encoders: Mapping[str, Path],
    cubes: Cubes,
    split_table: Path,
    seed: int,
    max_samples: int,
    output: Path,
) -> None:
    """Measure what each sensor gets back from the fused embedding, on each split.

    Beside it, on the same samples: each sensor's encoder and decoder alone, and, where all
    sensors are present, as many principal components of their stacked centre values as an
    embedding has numbers.

    Parameters
    ----------
    fusion
        Folder of the trained fusion.
    encoders
        Folder of the trained encoder, by sensor.
    cubes
        Cube files of every split, by sensor.
    split_table, seed, max_samples
        As for :func:`evaluate_encoder`.
    output
        JSON file like that of :func:`evaluate_encoder`, with one more level below ``model``,
        below each of the ``baselines`` and below each class: the sensor.

    Raises
    ------
    UserError
        If the encoders are not the fusion's, a file is broken, or no split has a sample.
    """
    joined = load_fusion(fusion)
    trained = {sensor: load_encoder(folder) for sensor, folder in encoders.items()}
    joined.check_encoders(trained)
    trained = {sensor: trained[sensor] for sensor in joined.encoders}

    def measure(chosen: Cubes, samples: int) -> dict[str, Metrics]:
        found = fusion_metrics(joined, trained, chosen, seed=seed, max_samples=samples)
        return {
            sensor: _plain(
                {
                    name.removeprefix(f"{sensor}."): value
                    for name, value in found.items()
                    if name.startswith(f"{sensor}.")
                }
            )
            for sensor in trained
        }

    def batches(chosen: Cubes) -> Batches[FusionBatch]:
        own = {sensor: sorted(chosen[sensor]) for sensor in trained}
        source = load_fusion_source(trained, own, joined.block.reference)
        rng = generator(seed, "evaluation")
        drawn = source.primary.draw(rng, max_samples, "evaluation of the fusion")
        return source.batches(drawn, BATCH)

    used = {sensor: cubes[sensor] for sensor in trained}
    fitting = _centres(batches(_of_split(used, split_table, "training")))
    splits, left_out = _measure_splits(
        used,
        split_table,
        max_samples,
        measure,
        lambda chosen: _fusion_baselines(joined, trained, batches(chosen), fitting),
    )
    write_json(
        output,
        {
            "model": "fusion",
            "digest": joined.digest,
            "splits": splits,
            "left_out": left_out,
            "paper": _paper("fusion"),
        },
    )


def _measure_splits(
    cubes: Cubes,
    split_table: Path,
    max_samples: int,
    measure: Callable[[Cubes, int], Any],
    baselines: Callable[[Cubes], Any],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Errors by split and class, and the reason where there is no sample."""
    classes = _land_cover(split_table)
    splits: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for split in SPLITS:
        chosen = _of_split(cubes, split_table, split)
        try:
            splits[split] = {"model": measure(chosen, max_samples), "baselines": baselines(chosen)}
        except UserError as error:
            left_out[split] = str(error)
            continue
        found = sorted({classes[cube_name(path)] for paths in chosen.values() for path in paths})
        splits[split]["land_cover"] = by_class = {}
        for name in found:
            own = {
                sensor: [path for path in paths if classes[cube_name(path)] == name]
                for sensor, paths in chosen.items()
            }
            try:
                by_class[name] = measure(own, math.ceil(max_samples / len(found)))
            except UserError as error:
                left_out[f"{split}, {name}"] = str(error)
    if not splits:
        raise UserError(f"{split_table}: nothing to evaluate on: {'; '.join(left_out.values())}")
    return splits, left_out


def _of_split(cubes: Cubes, split_table: Path, split: str) -> dict[str, list[Path]]:
    return {sensor: cubes_of(list(paths), split_table, split) for sensor, paths in cubes.items()}


def _land_cover(split_table: Path) -> dict[str, str]:
    with Path(split_table).open(newline="") as handle:
        return {row["cube"]: row["land_cover"] for row in csv.DictReader(handle)}


def _fusion_baselines(
    joined: TrainedFusion,
    trained: Mapping[str, TrainedEncoder],
    batches: Batches[FusionBatch],
    fitting: Mapping[str, NDArray[np.float64]],
) -> dict[str, dict[str, Metrics]]:
    """Each sensor alone, and principal components of all sensors' centres together."""
    alone = {sensor: _alone(model, sensor, batches) for sensor, model in trained.items()}
    truth = _centres(batches)
    stacked = np.concatenate([truth[sensor] for sensor in trained], axis=1)
    count = joined.block.features
    pool = np.concatenate([fitting[sensor] for sensor in trained], axis=1)
    if count >= stacked.shape[1] or count > len(pool) or not len(stacked):
        return {"encoder_alone": alone}
    mean = pool.mean(axis=0)
    basis = np.linalg.svd(pool - mean, full_matrices=False)[2][:count]
    guess = mean + (stacked - mean) @ basis.T @ basis
    ends = np.cumsum([truth[sensor].shape[1] for sensor in trained])[:-1]
    parts = dict(zip(trained, np.split(guess, ends, axis=1), strict=True))
    errors = {s: _errors(model, truth[s], parts[s]) for s, model in trained.items()}
    return {"encoder_alone": alone, f"pca_{count}": errors}


@torch.inference_mode()
def _alone(model: TrainedEncoder, sensor: str, batches: Batches[FusionBatch]) -> Metrics:
    """Errors of a sensor's own autoencoder, where the sensor is present."""
    task = EncoderTask(model.autoencoder, model.sensor, model.context, model.normalisation)
    task.eval()
    means, samples = Means(), 0
    for batch in batches:
        own = batch[sensor]
        here = own["present"]
        if here.any():
            means.add(task(Batch(own["values"][here], own["valid"][here], own["days"][here])))
            samples += int(here.sum())
    return _plain({**means.take(), "samples": samples})


def _centres(batches: Batches[FusionBatch]) -> dict[str, NDArray[np.float64]]:
    """Scaled centre values ``(sample, band)`` by sensor, where all sensors are present."""
    parts: dict[str, list[NDArray[np.float64]]] = {}
    for batch in batches:
        everywhere = torch.stack([own["present"] for own in batch.values()]).all(dim=0)
        for sensor, own in batch.items():
            values = own["values"][everywhere]
            frame, middle = values.shape[1] // 2, values.shape[-1] // 2
            centre = values[:, frame, :, middle, middle].double().numpy()
            parts.setdefault(sensor, []).append(centre)
    return {sensor: np.concatenate(found) for sensor, found in parts.items()}


def _errors(
    model: TrainedEncoder, truth: NDArray[np.float64], guess: NDArray[np.float64]
) -> Metrics:
    lower = model.normalisation.lower.astype(np.float64)
    extent = model.normalisation.upper.astype(np.float64) - lower
    angle = spectral_angle(
        torch.from_numpy(lower + guess * extent), torch.from_numpy(lower + truth * extent)
    )
    error = np.abs(guess - truth)
    return {
        "centre_mae": float((error * extent).mean()),
        "centre_mae_scaled": float(error.mean()),
        "sam": float(angle.mean()),
        "samples": len(truth),
    }


def _plain(values: Mapping[str, float]) -> Metrics:
    """Numbers as JSON holds them: none in place of NaN."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _paper(stage: str) -> list[dict[str, Any]]:
    return [
        {
            "sensor": result.sensor,
            "metric": result.metric,
            "same_unit": result.same_unit,
            **{split: getattr(result, split) for split in SPLITS},
        }
        for result in PAPER
        if result.stage == stage
    ]
