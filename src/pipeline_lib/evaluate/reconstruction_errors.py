"""Reconstruction of fixed samples by trained models and by what needs no model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

from pipeline_lib.dataset import SampleIndex
from pipeline_lib.models import TrainedEncoder, TrainedFusion
from pipeline_lib.seeds import generator
from pipeline_lib.training.data import Batch, FusionDataset, SensorBatch, SensorDataset, centre_of
from pipeline_lib.training.groups import Chosen, Errors, Rows, choose, means, measure
from pipeline_lib.training.tasks import CRITERION, EncoderTask, FusionTask
from pipeline_lib.training.terms import METRICS, repeated_terms

Spectra = NDArray[np.float64]
Evaluation = dict[str, Any]

ABSENCES = ("never", "half_the_dates", "those_dates", "always")
"""How often a sensor is masked: on half of each cube's dates, drawn at random, and of these all
samples, or those on the dates without it."""


def encoder_evaluation(
    trained: TrainedEncoder,
    cubes: Sequence[Path],
    *,
    spectra: Spectra,
    components: Sequence[int],
    land_cover: Mapping[str, str],
    seed: int,
    max_samples: int | None,
) -> Evaluation:
    """Errors of a trained encoder and of what needs no network, on the same samples.

    A baseline knows one spectrum and nothing around it: its reconstruction of a sample is that
    spectrum at every pixel of every frame, measured by the same functions as the model's.
    ``nearest_date`` is the target pixel in the sample's other frame closest in time where it is
    valid, ``adjacent_pixel`` a valid direct neighbour in the centre frame, and ``pca_<n>`` the
    target pixel's spectrum itself, reconstructed from its first n principal components, which are
    fitted on ``spectra``: `centre_spectra` of the training cubes. Raises UserError if no sample
    can be drawn.

    Returns
    -------
    dict
        ``model`` -> metric -> mean; ``baselines`` -> baseline -> metric -> mean; ``land_cover``
        -> class -> ``model`` and ``baselines``; ``seasons`` -> season -> the same. The metrics
        are ``loss``, ``centre_mae`` and ``context_mae`` (physical units), ``centre_mae_scaled``
        (0..1), ``sam`` (radians), ``ssim_loss`` and ``samples``, the number of samples where
        the method exists. A baseline that exists nowhere is omitted.
    """
    dataset = SensorDataset.of(trained, cubes)
    drawn = dataset.draw(generator(seed, "evaluation"), None, f"evaluation of {trained.name}")
    chosen = choose(drawn, dataset.index, land_cover, max_samples)
    task = _task(trained)

    def repeated(
        spectrum: Callable[[SensorBatch], Tensor],
    ) -> Callable[[Batch], dict[str, Tensor]]:
        def terms(batch: Batch) -> dict[str, Tensor]:
            own = batch.sensors[trained.name]
            return repeated_terms(spectrum(own), own, task.weights, task.scale, task.sensor)

        return terms

    def projected(count: int) -> Callable[[SensorBatch], Tensor]:
        components = PCA(min(count, *spectra.shape), svd_solver="full").fit(spectra)
        return lambda batch: _projected(centre_of(batch.values), components)

    methods: dict[str, Callable[[Batch], dict[str, Tensor]]] = {
        "model": task,
        "nearest_date": repeated(nearest_date),
        "adjacent_pixel": repeated(adjacent_pixel),
        **{f"pca_{count}": repeated(projected(count)) for count in components},
    }
    return _summary(measure(dataset.loader(chosen.drawn), methods), chosen, means)


def centre_spectra(
    trained: TrainedEncoder, cubes: Sequence[Path], *, seed: int, max_samples: int | None
) -> Spectra:
    """Scaled spectra ``(sample, band)`` of the target pixels of samples drawn from some cubes.

    Raises UserError if no sample can be drawn.
    """
    dataset = SensorDataset.of(trained, cubes)
    rng = generator(seed, "evaluation")
    drawn = dataset.draw(rng, max_samples, f"principal components of {trained.name}")
    return dataset.spectra(drawn).double().numpy()


def fusion_evaluation(
    trained: TrainedFusion,
    encoders: Mapping[str, TrainedEncoder],
    cubes: Mapping[str, Sequence[Path]],
    *,
    spectra: Spectra,
    land_cover: Mapping[str, str],
    seed: int,
    max_samples: int | None,
) -> Evaluation:
    """Errors of the reconstructions from fused embeddings, and of two baselines.

    The baselines, on the same samples: ``encoder_alone``, a sensor by its own encoder and
    decoder, and ``pca_<n>``, the stacked target spectra of all sensors from as many principal
    components of ``spectra``, `joint_spectra` of the training cubes, as an embedding has
    dimensions, where all sensors are present. Raises UserError if the encoders are not the
    fusion's, or no sample can be drawn.

    Returns
    -------
    dict
        As of `encoder_evaluation`, with one more level below ``model`` and below each baseline:
        the sensor, over those of the samples that have it. Further ``absence`` -> sensor other
        than the reference, or, if there are several, all of them -> one of `ABSENCES` -> sensor ->
        metric -> mean: the model's errors where that sensor is masked, over samples that have it.
    """
    trained.check_encoders(encoders)
    own = {name: encoders[name] for name in trained.encoders}
    dataset = fusion_dataset(trained, own, cubes)
    where = "evaluation of the fusion"
    drawn = dataset.draw(generator(seed, "evaluation"), None, where)
    chosen = choose(drawn, dataset.index, land_cover, max_samples)
    tasks = {name: _task(encoder) for name, encoder in own.items()}
    model = FusionTask(trained.fusion, trained.block, own).eval()
    methods: dict[str, Callable[[Batch], dict[str, Tensor]]] = {
        "model": model,
        "encoder_alone": lambda batch: _alone(tasks, batch),
    }
    count = trained.block.embedding_dim
    if count < spectra.shape[1] and count <= len(spectra):
        components = PCA(min(count, *spectra.shape), svd_solver="full").fit(spectra)
        methods[f"pca_{count}"] = lambda batch: _joint(tasks, batch, components)
    several = _masked(dataset)
    gaps = {label: _without(model, names) for label, names in several.items()}
    errors = measure(dataset.loader(chosen.drawn), methods | gaps)
    missed = {label: errors.pop(label) for label in gaps}

    def average(found: Errors, rows: Rows) -> dict[str, dict[str, float]]:
        return _by_sensor(means(found, rows), own)

    hidden = hidden_dates(chosen.drawn, dataset, seed)
    absence = {}
    for label, names in several.items():
        present = [np.isfinite(errors["model"][f"{name}.{CRITERION}"]) for name in names]
        rows = chosen.whole[np.all(present, axis=0)[chosen.whole]]
        if len(rows):
            cases = _absences(errors["model"], missed[label], rows, hidden)
            absence[label] = {case: average(*found) for case, found in cases.items()}
    return {**_summary(errors, chosen, average), "absence": absence}


def _masked(dataset: FusionDataset) -> dict[str, tuple[str, ...]]:
    """What is masked in turn: each sensor but the reference, and all of these if several."""
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in dataset.others}
    return found if len(found) < 2 else {**found, " + ".join(found): tuple(found)}


def _without(model: FusionTask, names: Sequence[str]) -> Callable[[Batch], dict[str, Tensor]]:
    return lambda batch: model(batch.without_any(names))


def _absences(
    whole: Errors, missed: Errors, rows: Rows, hidden: NDArray[np.bool_]
) -> dict[str, tuple[Errors, Rows]]:
    """Errors and their rows for each of `ABSENCES`, from those with and without a sensor."""
    mixed = {name: np.where(hidden, missed[name], values) for name, values in whole.items()}
    cases = ((whole, rows), (mixed, rows), (missed, rows[hidden[rows]]), (missed, rows))
    return dict(zip(ABSENCES, cases, strict=True))


def hidden_dates(drawn: SampleIndex, dataset: FusionDataset, seed: int) -> NDArray[np.bool_]:
    """Whether samples lie on the half of their cube's dates on which other sensors are masked."""
    stack = dataset.index.stack
    centre = drawn.frames[:, drawn.frames.shape[1] // 2]
    found = np.zeros(len(drawn), bool)
    for number in np.unique(drawn.cube):
        count = len(stack[number].days)
        rng = generator(seed, "dates without other sensors", stack[number].name)
        hidden = rng.permutation(count)[: count // 2]
        found |= (drawn.cube == number) & np.isin(centre, hidden)
    return found


def joint_spectra(
    trained: TrainedFusion,
    encoders: Mapping[str, TrainedEncoder],
    cubes: Mapping[str, Sequence[Path]],
    *,
    seed: int,
    max_samples: int | None,
) -> Spectra:
    """Scaled target spectra of all sensors side by side, of samples where all are present.

    Raises UserError if no sample can be drawn.
    """
    dataset = fusion_dataset(trained, encoders, cubes)
    where = "principal components of all sensors"
    drawn = dataset.draw(generator(seed, "evaluation"), max_samples, where)
    found = []
    for batch in dataset.loader(drawn):
        stacked, everywhere = _stacked(batch, list(trained.encoders))
        found.append(stacked[everywhere].double().numpy())
    return np.concatenate(found)


def nearest_date(batch: SensorBatch) -> Tensor:
    """Spectra ``(B, C)`` of the target pixel in the valid frame closest in time to the centre's.

    NaN where the pixel is valid in no other frame.
    """
    frame, middle = batch.values.shape[1] // 2, batch.values.shape[-1] // 2
    here = batch.valid[:, :, middle, middle].clone()
    here[:, frame] = False
    closest = batch.days.abs().masked_fill(~here, torch.inf).argmin(dim=1)
    rows = torch.arange(len(closest))
    spectra = batch.values[rows, closest, :, middle, middle]
    return spectra.masked_fill(~here.any(dim=1)[:, None], torch.nan)


def adjacent_pixel(batch: SensorBatch) -> Tensor:
    """Spectra ``(B, C)`` of a valid direct neighbour in the centre frame; NaN without one."""
    frame, middle = batch.values.shape[1] // 2, batch.values.shape[-1] // 2
    spectra = torch.full_like(batch.values[:, frame, :, middle, middle], torch.nan)
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        y, x = middle + dy, middle + dx
        shown = batch.valid[:, frame, y, x, None]
        spectra = torch.where(shown, batch.values[:, frame, :, y, x], spectra)
    return spectra


def fusion_dataset(
    trained: TrainedFusion,
    encoders: Mapping[str, TrainedEncoder],
    cubes: Mapping[str, Sequence[Path]],
) -> FusionDataset:
    """Samples of some cubes of all sensors of a fusion, in memory."""
    own = {name: encoders[name] for name in trained.encoders}
    return FusionDataset(own, {name: sorted(cubes[name]) for name in own}, trained.block.reference)


def _task(trained: TrainedEncoder) -> EncoderTask:
    task = EncoderTask(trained.autoencoder, trained.sensor, trained.context, trained.normalisation)
    return task.eval()


def _summary(
    errors: Mapping[str, Errors],
    chosen: Chosen,
    average: Callable[[Errors, Rows], dict[str, Any]],
) -> Evaluation:
    """Means over all samples, and over each group, of the model and of its baselines."""

    def over(rows: Rows) -> Evaluation:
        baselines = {
            name: average(found, rows)
            for name, found in errors.items()
            if name != "model" and any(np.isfinite(values[rows]).any() for values in found.values())
        }
        return {"model": average(errors["model"], rows), "baselines": baselines}

    groups = {
        kind: {name: over(rows) for name, rows in found.items()}
        for kind, found in chosen.groups.items()
    }
    return {**over(chosen.whole), **groups}


def _by_sensor(found: Mapping[str, float], sensors: Iterable[str]) -> dict[str, dict[str, float]]:
    """Sensor -> metric -> mean, from names that begin with the sensor."""
    return {
        sensor: {
            name.removeprefix(f"{sensor}."): value
            for name, value in found.items()
            if name.startswith(f"{sensor}.")
        }
        for sensor in sensors
    }


def _projected(spectra: Tensor, components: PCA) -> Tensor:
    """Spectra reconstructed from principal components."""
    scores = components.transform(spectra.double().numpy())
    return torch.from_numpy(components.inverse_transform(scores)).float()


def _alone(tasks: Mapping[str, EncoderTask], batch: Batch) -> dict[str, Tensor]:
    """Errors of each sensor's own autoencoder, NaN where the sensor is absent."""
    terms: dict[str, Tensor] = {}
    for sensor, task in tasks.items():
        own = batch.sensors[sensor]
        here = own.present
        found: dict[str, Tensor] = {}
        if here.any():
            found = task(Batch({sensor: own.take(here)}))
        for metric in ("loss", *METRICS):
            terms[f"{sensor}.{metric}"] = values = torch.full((len(here),), torch.nan)
            if found:
                values[here] = found[metric]
    return terms


def _joint(tasks: Mapping[str, EncoderTask], batch: Batch, components: PCA) -> dict[str, Tensor]:
    """Errors of principal components of all sensors' centres, NaN where one is absent."""
    stacked, everywhere = _stacked(batch, list(tasks))
    guess = _projected(stacked, components).masked_fill(~everywhere[:, None], torch.nan)
    sizes = [batch.sensors[sensor].values.shape[2] for sensor in tasks]
    terms: dict[str, Tensor] = {}
    for (sensor, task), part in zip(tasks.items(), torch.split(guess, sizes, dim=1), strict=True):
        own = batch.sensors[sensor]
        found = repeated_terms(part, own, task.weights, task.scale, task.sensor)
        terms |= {f"{sensor}.{metric}": values for metric, values in found.items()}
    return terms


def _stacked(batch: Batch, sensors: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Centre spectra of all sensors side by side ``(B, C)``, and where all are present ``(B,)``."""
    centres = [centre_of(batch.sensors[sensor].values) for sensor in sensors]
    present = [batch.sensors[sensor].present for sensor in sensors]
    return torch.cat(centres, dim=1), torch.stack(present).all(dim=0)
