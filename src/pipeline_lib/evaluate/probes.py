"""Probes: what an embedding tells that the centre's spectrum alone does not.

They are learnt on the training split and scored on the others, so no cube is both; the strength
of their penalty is chosen on training sites left out in turn. A probe is linear, so that what it
finds lies open in the features (Alain and Bengio 2017, arXiv:1610.01644). A few targets are also
told by the nearest neighbours, which find what lies close together though on no line.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline_lib.dataset import Draw, SequenceIndex, cube_name, cubes_of, read_split
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.nearest import NEAREST_TARGETS, nearest_scores
from pipeline_lib.evaluate.probe_scores import Origin, class_scores, number_scores
from pipeline_lib.evaluate.probe_targets import Array, Targets, Truth, context_targets
from pipeline_lib.evaluate.reconstruction_errors import (
    encoder_source,
    fusion_source,
    principal_components,
)
from pipeline_lib.files import write_json
from pipeline_lib.models import TrainedEncoder, TrainedFusion, load_encoder, load_fusion
from pipeline_lib.seeds import generator
from pipeline_lib.training.groups import land_cover_of
from pipeline_lib.training.sources import EncoderSource, FusionBatch, FusionSource, without_any
from pipeline_lib.training.tasks import FusionTask
from pipeline_lib.training.terms import centre_of

FITTED_ON = "training"
SCORED_ON = ("validation", "test")
ROUNDS = 8
"""Samples of one sequence at most, each of another date: small runs have few sequences."""
BATCH = 256


@dataclass(frozen=True)
class Probed:
    """Samples that probes are fitted on or scored on.

    Parameters
    ----------
    spectrum
        ``(sample, band)``, scaled: the centre pixel in the centre frame, of all sensors side by
        side; NaN where one is absent.
    embedding
        ``(sample, number)``.
    targets, origin
        Of the same samples.
    latents
        ``(sample, latent)`` of all sensors side by side, NaN where one is absent; none where the
        embedding is a latent itself.
    alone
        ``(sample, number)``: embeddings with all sensors but the reference left out; none where
        there are no others.
    """

    spectrum: Array
    embedding: Array
    targets: Targets
    origin: Origin
    latents: Array | None = None
    alone: Array | None = None

    def __len__(self) -> int:
        return len(self.spectrum)


def probed_samples(
    trained: TrainedEncoder,
    cubes: Sequence[Path],
    *,
    rng: np.random.Generator,
    max_samples: int,
    sites: Mapping[str, str],
    land_cover: Mapping[str, str],
    truth: Mapping[str, Truth],
) -> Probed:
    """Spectra, embeddings and targets of random samples of some cubes, no centre twice.

    Parameters
    ----------
    trained
        The encoder.
    cubes
        Files of its sensor's cubes.
    rng, max_samples
        Draw the samples; at most `ROUNDS` of each sequence.
    sites
        Cube -> its site.
    land_cover, truth
        As in `context_targets`.

    Raises
    ------
    UserError
        If no sample can be drawn, or as `context_targets`.
    """
    source = encoder_source(trained, cubes)
    drawn = _distinct(source, trained, rng, max_samples)
    spectra, embeddings = [], []
    with torch.inference_mode():
        for batch in source.batches(drawn, BATCH):
            spectra.append(centre_of(batch.values).double().numpy())
            embeddings.append(trained.autoencoder.encoder(*batch).double().numpy())
    told = _told(source.index, drawn, trained, sites, land_cover, truth)
    return Probed(np.concatenate(spectra), np.concatenate(embeddings), *told)


def fused_samples(
    trained: TrainedFusion,
    encoders: Mapping[str, TrainedEncoder],
    cubes: Mapping[str, Sequence[Path]],
    *,
    rng: np.random.Generator,
    max_samples: int,
    sites: Mapping[str, str],
    land_cover: Mapping[str, str],
    truth: Mapping[str, Truth],
) -> Probed:
    """Samples of the reference sensor as `probed_samples`, with fused embeddings.

    Parameters
    ----------
    trained, encoders
        The fusion and its encoders, by sensor.
    cubes
        Sensor -> files of its cubes.
    rng, max_samples, sites, land_cover, truth
        As in `probed_samples`.

    Raises
    ------
    UserError
        As `probed_samples`, or if the encoders are not the fusion's.
    """
    trained.check_encoders(encoders)
    source = fusion_source(trained, encoders, cubes)
    reference = encoders[trained.block.reference]
    drawn = _distinct(source, reference, rng, max_samples)
    task = FusionTask(trained.fusion, trained.block, encoders).eval()
    spectra, latents, embeddings, alone = [], [], [], []
    with torch.inference_mode():
        for batch in source.batches(drawn, BATCH):
            found = task.latents(batch)
            centres = {name: centre_of(batch[name]["values"]) for name in task.names}
            spectra.append(_side_by_side(centres, batch))
            latents.append(_side_by_side(found, batch))
            embeddings.append(task.embedding(batch).double().numpy())
            left = without_any(batch, source.others)
            alone.append(task.embedding(left).double().numpy())
    told = _told(source.primary.index, drawn, reference, sites, land_cover, truth)
    return Probed(
        np.concatenate(spectra),
        np.concatenate(embeddings),
        *told,
        latents=np.concatenate(latents),
        alone=np.concatenate(alone) if source.others else None,
    )


def _side_by_side(numbers: Mapping[str, Tensor], batch: FusionBatch) -> Array:
    """Numbers of all sensors, NaN where a sensor is absent."""
    parts = [
        torch.where(batch[name]["present"][:, None], values, torch.nan)
        for name, values in numbers.items()
    ]
    return np.asarray(torch.cat(parts, dim=1).double())


def _told(
    index: SequenceIndex,
    drawn: Draw,
    trained: TrainedEncoder,
    sites: Mapping[str, str],
    land_cover: Mapping[str, str],
    truth: Mapping[str, Truth],
) -> tuple[Targets, Origin]:
    """Targets and origin of drawn samples of a sensor."""
    targets = context_targets(
        index.stack,
        drawn,
        context=trained.context,
        normalisation=trained.normalisation,
        land_cover=land_cover,
        truth=truth,
    )
    cube = np.array([index.stack[number].name for number in drawn.cube])
    centre = drawn.frames[:, trained.context.frames // 2]
    origin = Origin(
        site=np.array([sites[name] for name in cube]),
        cube=cube,
        position=np.stack([drawn.top, drawn.left, centre], axis=1),
    )
    return targets, origin


def _distinct(
    source: EncoderSource | FusionSource,
    trained: TrainedEncoder,
    rng: np.random.Generator,
    max_samples: int,
) -> Draw:
    """Samples of different centres, from several draws of each sequence where these are few."""
    parts: list[Draw] = []
    for _ in range(ROUNDS):
        parts.append(source.draw(rng, max_samples, f"probes of {trained.name}"))
        drawn = Draw(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("cube", "frames", "present", "top", "left")
            )
        )
        centre = drawn.frames[:, trained.context.frames // 2]
        places = np.stack([drawn.cube, centre, drawn.top, drawn.left], axis=1)
        first = np.sort(np.unique(places, axis=0, return_index=True)[1])[:max_samples]
        parts = [drawn.take(first)]
        if len(first) == max_samples:
            break
    return parts[0]


def probe(
    trained: TrainedEncoder,
    cubes: Mapping[str, Sequence[Path]],
    *,
    seed: int,
    max_samples: int,
    sites: Mapping[str, str],
    land_cover: Mapping[str, str],
    truth: Mapping[str, Truth],
) -> dict[str, Any]:
    """Scores of linear probes of an encoder's embeddings, beside those of the spectrum.

    Parameters
    ----------
    trained
        The encoder.
    cubes
        Split -> files of the sensor's cubes. The probes are fitted on `FITTED_ON` and scored on
        each of `SCORED_ON`.
    seed, max_samples
        They and the cubes decide which samples of a split are drawn.
    sites
        Cube -> its site.
    land_cover, truth
        As in `context_targets`.

    Returns
    -------
    dict
        As `probe_scores`, and ``left_out``, splits without samples, and why.

    Raises
    ------
    UserError
        If the training split has no sample, or a truth does not fit its cube.
    ValueError
        If a cube is both fitted and scored on.
    """

    def samples(split: str) -> Probed:
        return probed_samples(
            trained,
            cubes.get(split, ()),
            rng=generator(seed, "probes", split),
            max_samples=max_samples,
            sites=sites,
            land_cover=land_cover,
            truth=truth,
        )

    found, left_out = _by_split(samples, cubes)
    return {**probe_scores(found), "left_out": left_out}


def _by_split(
    samples: Callable[[str], Probed], cubes: Mapping[str, Sequence[Path]]
) -> tuple[dict[str, Probed], dict[str, str]]:
    """Samples of each split, and why a split has none."""
    fitted = {cube_name(path) for path in cubes.get(FITTED_ON, ())}
    both = fitted & {cube_name(path) for split in SCORED_ON for path in cubes.get(split, ())}
    if both:
        raise ValueError(f"both fitted and scored on: {', '.join(sorted(both))}")
    found = {FITTED_ON: samples(FITTED_ON)}
    left_out: dict[str, str] = {}
    for split in SCORED_ON:
        if not cubes.get(split):
            left_out[split] = "it has no cube"
            continue
        try:
            found[split] = samples(split)
        except UserError as error:
            left_out[split] = str(error)
    return found, left_out


def probe_scores(samples: Mapping[str, Probed]) -> dict[str, Any]:
    """Scores of probes of embeddings, beside those of the spectrum.

    What a change of the embeddings costs, their rounding for example, is the difference between
    the scores of the samples and of their copies with changed embeddings (`dataclasses.replace`).

    Parameters
    ----------
    samples
        Split -> samples: of `FITTED_ON`, and of any of `SCORED_ON`.

    Returns
    -------
    dict
        ``fit_samples``; ``features``, set -> how many; ``splits`` -> split -> ``samples`` and
        ``targets`` -> target -> ``metric``, ``scores`` by set of features (none where there is a
        ``reason``), ``samples`` and ``fit_samples`` that have the target, for classes also
        ``classes`` and ``unseen_classes`` (see `class_score`), for `NEAREST_TARGETS` also
        ``nearest``, the scores of the nearest neighbours by set of features. The sets:
        ``spectrum``, the scaled bands of the centre; ``pca_<n>``, as many of their principal
        components as the embedding has numbers, fitted on the samples of the fit that have all
        sensors, where these are more and the bands are too; ``latents`` and ``alone``, if known;
        ``embedding``; ``spectrum+embedding``. What is absent has the mean of the fit.
    """
    fit = samples[FITTED_ON]
    fit_features = _features(fit, fit)
    splits: dict[str, Any] = {}
    for split in SCORED_ON:
        if split not in samples:
            continue
        held_out = samples[split]
        features = _features(fit, held_out)
        known, asked = fit.targets, held_out.targets
        targets = {
            name: number_scores(fit_features, known.numbers[name], fit.origin, features, values)
            for name, values in asked.numbers.items()
            if name in known.numbers
        } | {
            name: class_scores(fit_features, known.classes[name], fit.origin, features, labels)
            for name, labels in asked.classes.items()
        }
        for name in set(NEAREST_TARGETS) & set(targets):
            targets[name]["nearest"] = nearest_scores(
                fit_features, known.of(name), fit.origin, features, asked.of(name)
            )
        splits[split] = {"samples": len(held_out), "targets": targets}
    return {
        "fit_samples": len(fit),
        "features": {name: values.shape[1] for name, values in fit_features.items()},
        "splits": splits,
    }


def _features(fit: Probed, held_out: Probed) -> dict[str, Array]:
    """Sets of features of some samples; what is fitted is fitted on the first ones."""
    count = fit.embedding.shape[1]
    spectrum = _filled(fit.spectrum, held_out.spectrum)
    sets = {"spectrum": spectrum}
    whole = fit.spectrum[np.isfinite(fit.spectrum).all(axis=1)]
    if count < min(whole.shape):
        mean, axes = (part.numpy() for part in principal_components(whole))
        sets[f"pca_{count}"] = (spectrum - mean) @ axes[:count].T
    if fit.latents is not None and held_out.latents is not None:
        sets["latents"] = _filled(fit.latents, held_out.latents)
    if held_out.alone is not None:
        sets["alone"] = held_out.alone
    sets["embedding"] = held_out.embedding
    sets["spectrum+embedding"] = np.concatenate([spectrum, held_out.embedding], axis=1)
    return sets


def _filled(fit: Array, values: Array) -> Array:
    """Values with the fit's mean, or 0 where it has none, in place of NaN."""
    known = np.isfinite(fit)
    mean = np.where(known, fit, 0.0).sum(axis=0) / known.sum(axis=0).clip(1)
    return np.where(np.isfinite(values), values, mean)


def probe_encoder(
    *,
    model: Path,
    cubes: Sequence[Path],
    split_table: Path,
    truth: Mapping[str, Path],
    seed: int,
    max_samples: int,
    output: Path,
) -> None:
    """Probe a trained encoder's embeddings and write the scores.

    Parameters
    ----------
    model
        Folder of the trained encoder.
    cubes
        Files of its sensor's cubes, of every split.
    split_table
        Table with the split, the site and the land cover of each cube.
    truth
        Cube -> file of its site's truth, as a simulated archive has it.
    seed, max_samples
        As in `probe`; samples of each split.
    output
        JSON file: the ``model``, its ``digest``, and what `probe` returns.

    Raises
    ------
    UserError
        As `probe`, or if a file is broken.
    """
    trained = load_encoder(model)
    found = probe(
        trained,
        {split: cubes_of(list(cubes), split_table, split) for split in (FITTED_ON, *SCORED_ON)},
        seed=seed,
        max_samples=max_samples,
        sites=_sites_of(split_table),
        land_cover=land_cover_of(split_table),
        truth={cube: Truth.read(path) for cube, path in truth.items()},
    )
    write_json(output, {"model": trained.name, "digest": trained.digest, **found})


def probe_fusion(
    *,
    fusion: Path,
    encoders: Mapping[str, Path],
    cubes: Mapping[str, Sequence[Path]],
    split_table: Path,
    truth: Mapping[str, Path],
    seed: int,
    max_samples: int,
    output: Path,
) -> None:
    """Probe the fused embeddings as `probe_encoder` does a sensor's, and write the scores.

    Parameters
    ----------
    fusion, encoders, cubes, split_table, truth, seed, max_samples
        As in `fused_splits`.
    output
        JSON file as of `probe_encoder`.

    Raises
    ------
    UserError
        As `fused_splits`.
    """
    samples, left_out = fused_splits(
        fusion=fusion,
        encoders=encoders,
        cubes=cubes,
        split_table=split_table,
        truth=truth,
        seed=seed,
        max_samples=max_samples,
    )
    content = {"model": "fusion", "digest": load_fusion(fusion).digest}
    write_json(output, {**content, **probe_scores(samples), "left_out": left_out})


def fused_splits(
    *,
    fusion: Path,
    encoders: Mapping[str, Path],
    cubes: Mapping[str, Sequence[Path]],
    split_table: Path,
    truth: Mapping[str, Path],
    seed: int,
    max_samples: int,
) -> tuple[dict[str, Probed], dict[str, str]]:
    """Samples of each split with their fused embeddings, for `probe_scores`.

    Parameters
    ----------
    fusion
        Folder of the trained fusion.
    encoders
        Sensor -> folder of its trained encoder.
    cubes
        Sensor -> files of its cubes, of every split.
    split_table, truth, seed, max_samples
        As in `probe_encoder`.

    Returns
    -------
    samples, left_out
        Split -> samples; split without samples -> why.

    Raises
    ------
    UserError
        If the encoders are not the fusion's, or as `probe_encoder`.
    """
    joined = load_fusion(fusion)
    trained = {name: load_encoder(folder) for name, folder in encoders.items()}
    sites, land_cover = _sites_of(split_table), land_cover_of(split_table)
    known = {cube: Truth.read(path) for cube, path in truth.items()}
    own = {
        split: {name: cubes_of(list(cubes[name]), split_table, split) for name in joined.encoders}
        for split in (FITTED_ON, *SCORED_ON)
    }

    def samples(split: str) -> Probed:
        return fused_samples(
            joined,
            trained,
            own[split],
            rng=generator(seed, "probes", split),
            max_samples=max_samples,
            sites=sites,
            land_cover=land_cover,
            truth=known,
        )

    reference = joined.block.reference
    return _by_split(samples, {split: paths[reference] for split, paths in own.items()})


def _sites_of(split_table: Path) -> dict[str, str]:
    read_split(split_table)
    with split_table.open(newline="") as handle:
        return {row["cube"]: row["site"] for row in csv.DictReader(handle)}
