"""How well trained models reconstruct their inputs, beside baselines that need no network.

A baseline knows one spectrum and nothing around it: its reconstruction of a sample is that spectrum
at every pixel of every frame, measured on the same samples by the same functions as the model's.
``nearest_date`` is the target pixel in the sample's other frame closest in time where it is valid,
``adjacent_pixel`` a valid direct neighbour in the centre frame, and ``pca_<n>`` the target pixel's
own spectrum from its first n principal components, which are fitted on training cubes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

from pipeline_lib.dataset import SampleIndex, cube_name, cubes_of
from pipeline_lib.errors import UserError
from pipeline_lib.files import write_json
from pipeline_lib.models import TrainedEncoder, TrainedFusion, load_encoder, load_fusion
from pipeline_lib.seeds import generator
from pipeline_lib.training.data import (
    Batch,
    FusionDataset,
    SampleDataset,
    SensorBatch,
    SensorDataset,
    centre_of,
)
from pipeline_lib.training.groups import Chosen, Errors, Rows, choose, land_cover_of, means, measure
from pipeline_lib.training.tasks import CRITERION, METRICS, EncoderTask, FusionTask

SPLITS = ("training", "validation", "test")
FEW_COMPONENTS = 2
"""Principal components of a baseline, besides as many as the model has dimensions."""
ABSENCES = ("never", "half_the_dates", "those_dates", "always")
"""How often a sensor is masked: on half of each cube's dates, drawn at random, and of these all
samples, or those on the dates without it."""

Cubes = Mapping[str, Sequence[Path]]
Spectra = NDArray[np.float64]
Evaluation = dict[str, Any]
Method = Callable[[Batch], dict[str, Tensor]]


def evaluate_encoder(
    *,
    model: Path,
    cubes: Sequence[Path],
    split_table: Path,
    seed: int,
    max_samples: int,
    output: Path,
) -> None:
    """Measure a trained encoder on each split, beside its baselines.

    ``cubes`` are those of its sensor, of every split. ``max_samples`` is of a split; a class or
    season with less than its equal share among them gets further ones, for its own numbers only
    (`groups.choose`). The JSON file holds the ``model``, its ``digest``, the
    ``remarks`` of its training, ``splits``, split -> `encoder_evaluation` with none in place of
    NaN, and ``skipped``, what has no sample, and why. Raises UserError if the training
    split has no sample.
    """
    trained, land_cover = load_encoder(model), land_cover_of(split_table)
    name, sampling = trained.name, {"seed": seed, "max_samples": max_samples}
    training = SensorDataset.of(trained, cubes_of(list(cubes), split_table, "training"))
    spectra = target_spectra(training, [name], **sampling)
    bands = len(trained.sensor.bands)
    components = sorted({n for n in (FEW_COMPONENTS, trained.sensor.latent_dim) if n < bands})

    def measured(chosen: Cubes) -> Evaluation:
        return encoder_evaluation(
            trained,
            chosen[name],
            spectra=spectra,
            components=components,
            land_cover=land_cover,
            **sampling,
        )

    content = _measure_splits({name: cubes}, name, split_table, land_cover, measured)
    about = {"model": name, "digest": trained.digest, "remarks": trained.remarks}
    write_json(output, about | content)


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
    """Measure what is reconstructed of each sensor from the fused embedding, on each split.

    ``encoders`` are folders and ``cubes`` files of every split, by sensor. The JSON file is as of
    `evaluate_encoder`, with `fusion_evaluation`. Raises UserError as that, or if the encoders are
    not the fusion's.
    """
    joined, land_cover = load_fusion(fusion), land_cover_of(split_table)
    trained = {sensor: load_encoder(folder) for sensor, folder in encoders.items()}
    joined.check_encoders(trained)
    used = {sensor: cubes[sensor] for sensor in joined.encoders}
    sampling = {"seed": seed, "max_samples": max_samples}
    training = fusion_dataset(joined, trained, _of_split(used, split_table, "training"))
    spectra = target_spectra(training, list(used), **sampling)

    def measured(chosen: Cubes) -> Evaluation:
        return fusion_evaluation(
            joined, trained, chosen, spectra=spectra, land_cover=land_cover, **sampling
        )

    content = _measure_splits(used, joined.block.reference, split_table, land_cover, measured)
    about = {"model": "fusion", "digest": joined.digest, "remarks": joined.remarks}
    write_json(output, about | content)


def _measure_splits(
    cubes: Cubes,
    reference: str,
    split_table: Path,
    land_cover: Mapping[str, str],
    measured: Callable[[Cubes], Evaluation],
) -> dict[str, Any]:
    """Errors by split, and the reason where a split or a class of it has no sample."""
    splits: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for split in SPLITS:
        chosen = _of_split(cubes, split_table, split)
        try:
            splits[split] = _plain(measured(chosen))
        except UserError as error:
            skipped[split] = str(error)
            continue
        classes = {land_cover[cube_name(path)] for path in chosen[reference]}
        for name in sorted(classes - set(splits[split]["land_cover"])):
            skipped[f"{split}, {name}"] = f"no sample can be drawn from its cubes of {reference}"
    return {"splits": splits, "skipped": skipped}


def _of_split(cubes: Cubes, split_table: Path, split: str) -> dict[str, list[Path]]:
    return {sensor: cubes_of(list(paths), split_table, split) for sensor, paths in cubes.items()}


def _plain(content: Any) -> Any:
    """Numbers as JSON holds them: none in place of NaN, at any depth."""
    if isinstance(content, Mapping):
        return {name: _plain(value) for name, value in content.items()}
    return content if math.isfinite(content) else None


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
    """Errors of a trained encoder and of its baselines, on the same samples.

    ``spectra`` are `target_spectra` of the training cubes. Raises UserError if no sample can be
    drawn.

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
    chosen = _chosen(dataset, trained.name, land_cover, seed, max_samples)
    task = _task(trained)

    def repeated(spectrum: Callable[[SensorBatch], Tensor]) -> Method:
        def terms(batch: Batch) -> dict[str, Tensor]:
            own = batch.sensors[trained.name]
            return task.repeat(spectrum(own), own)

        return terms

    def projected(count: int) -> Callable[[SensorBatch], Tensor]:
        project = _projection(spectra, count)
        return lambda batch: project(centre_of(batch.values))

    methods: dict[str, Method] = {
        "model": task,
        "nearest_date": repeated(nearest_date),
        "adjacent_pixel": repeated(adjacent_pixel),
        **{f"pca_{count}": repeated(projected(count)) for count in components},
    }
    return _summary(measure(dataset.loader(chosen.drawn), methods), chosen, means)


def fusion_evaluation(
    trained: TrainedFusion,
    encoders: Mapping[str, TrainedEncoder],
    cubes: Cubes,
    *,
    spectra: Spectra,
    land_cover: Mapping[str, str],
    seed: int,
    max_samples: int | None,
) -> Evaluation:
    """Errors of the reconstructions from fused embeddings, and of two baselines.

    ``encoder_alone`` is a sensor by its own encoder and decoder, and ``pca_<n>`` the stacked target
    spectra of all sensors from as many principal components of ``spectra``, `target_spectra` of
    the training cubes, as an embedding has dimensions, where all sensors are present. Raises
    UserError if the encoders are not the fusion's, or no sample can be drawn.

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
    chosen = _chosen(dataset, "the fusion", land_cover, seed, max_samples)
    tasks = {name: _task(encoder) for name, encoder in own.items()}
    model = FusionTask(trained.fusion, own).eval()
    methods: dict[str, Method] = {"model": model, "encoder_alone": lambda b: _alone(tasks, b)}
    count = trained.block.embedding_dim
    if count < spectra.shape[1] and count <= len(spectra):
        project = _projection(spectra, count)
        methods[f"pca_{count}"] = lambda batch: _joint(tasks, batch, project)
    masked: dict[str, tuple[str, ...]] = {name: (name,) for name in dataset.others}
    if len(masked) > 1:
        masked[" + ".join(masked)] = tuple(masked)
    gaps = {label: _without(model, names) for label, names in masked.items()}
    errors = measure(dataset.loader(chosen.drawn), methods | gaps)
    missed = {label: errors.pop(label) for label in gaps}

    def average(found: Errors, rows: Rows) -> dict[str, dict[str, float]]:
        """Sensor -> metric -> mean, from names that begin with the sensor."""
        every = means(found, rows).items()
        return {
            name: {
                key.removeprefix(f"{name}."): m for key, m in every if key.startswith(f"{name}.")
            }
            for name in own
        }

    hidden = hidden_dates(chosen.drawn, dataset, seed)
    absence = {}
    for label, names in masked.items():
        present = [np.isfinite(errors["model"][f"{name}.{CRITERION}"]) for name in names]
        rows = chosen.whole[np.all(present, axis=0)[chosen.whole]]
        if len(rows):
            cases = _absences(errors["model"], missed[label], rows, hidden)
            absence[label] = {case: average(*found) for case, found in cases.items()}
    return {**_summary(errors, chosen, average), "absence": absence}


def _without(model: FusionTask, names: Sequence[str]) -> Method:
    return lambda batch: model(batch.without(names))


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
    found = np.zeros(len(drawn), bool)
    for number in np.unique(drawn.cube):
        count = len(stack[number].days)
        rng = generator(seed, "dates without other sensors", stack[number].name)
        hidden = rng.permutation(count)[: count // 2]
        found |= (drawn.cube == number) & np.isin(drawn.centre, hidden)
    return found


def target_spectra(
    dataset: SampleDataset, sensors: Sequence[str], *, seed: int, max_samples: int | None
) -> Spectra:
    """Scaled spectra ``(sample, band)`` of target pixels, of all sensors side by side, of drawn
    samples where all sensors are present. Raises UserError if no sample can be drawn."""
    where = f"principal components of {', '.join(sensors)}"
    drawn = dataset.draw(generator(seed, "evaluation"), max_samples, where)
    parts = [_stacked(batch, sensors) for batch in dataset.loader(drawn)]
    return np.concatenate([spectra[present].double().numpy() for spectra, present in parts])


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
    trained: TrainedFusion, encoders: Mapping[str, TrainedEncoder], cubes: Cubes
) -> FusionDataset:
    """Samples of some cubes of all sensors of a fusion, in memory."""
    own = {name: encoders[name] for name in trained.encoders}
    return FusionDataset(own, {name: sorted(cubes[name]) for name in own}, trained.block.reference)


def _chosen(
    dataset: SensorDataset | FusionDataset,
    name: str,
    land_cover: Mapping[str, str],
    seed: int,
    max_samples: int | None,
) -> Chosen:
    drawn = dataset.draw(generator(seed, "evaluation"), None, f"evaluation of {name}")
    return choose(drawn, dataset.index, land_cover, max_samples)


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


def _projection(spectra: Spectra, count: int) -> Callable[[Tensor], Tensor]:
    """What reconstructs spectra ``(B, C)`` from the first principal components of others."""
    components = PCA(min(count, *spectra.shape), svd_solver="full").fit(spectra)

    def project(values: Tensor) -> Tensor:
        scores = components.transform(values.double().numpy())
        return torch.from_numpy(components.inverse_transform(scores)).float()

    return project


def _alone(tasks: Mapping[str, EncoderTask], batch: Batch) -> dict[str, Tensor]:
    """Errors of each sensor's own autoencoder, NaN where the sensor is absent."""
    terms: dict[str, Tensor] = {}
    for sensor, task in tasks.items():
        own = batch.sensors[sensor]
        here = own.present
        found = task(Batch({sensor: own.take(here)})) if here.any() else {}
        for metric in ("loss", *METRICS):
            terms[f"{sensor}.{metric}"] = values = torch.full((len(here),), torch.nan)
            if found:
                values[here] = found[metric]
    return terms


def _joint(
    tasks: Mapping[str, EncoderTask], batch: Batch, project: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Errors of principal components of all sensors' centres, NaN where one is absent."""
    stacked, everywhere = _stacked(batch, list(tasks))
    guess = project(stacked).masked_fill(~everywhere[:, None], torch.nan)
    sizes = [batch.sensors[sensor].values.shape[2] for sensor in tasks]
    terms: dict[str, Tensor] = {}
    for (sensor, task), part in zip(tasks.items(), torch.split(guess, sizes, dim=1), strict=True):
        own = batch.sensors[sensor]
        found = task.repeat(part, own)
        terms |= {f"{sensor}.{metric}": values for metric, values in found.items()}
    return terms


def _stacked(batch: Batch, sensors: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Centre spectra of all sensors side by side ``(B, C)``, and where all are present ``(B,)``."""
    own = [batch.sensors[sensor] for sensor in sensors]
    centres = torch.cat([centre_of(one.values) for one in own], dim=1)
    return centres, torch.stack([one.present for one in own]).all(dim=0)
