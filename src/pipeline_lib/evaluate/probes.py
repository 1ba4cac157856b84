"""Linear probes: what an embedding tells that the centre's spectrum alone does not.

The weights of the probes are learnt on the training split and scored on the others, so no cube
is both; the strength of their penalty is chosen on training sites left out in turn. A probe is
linear, so that what it finds lies open in the features (Alain and Bengio 2017, arXiv:1610.01644).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline_lib.dataset import Draw, cube_name, cubes_of, read_split
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.probe_scores import Origin, class_scores, number_scores
from pipeline_lib.evaluate.probe_targets import Array, Targets, Truth, context_targets
from pipeline_lib.files import write_json
from pipeline_lib.models import TrainedEncoder, load_encoder
from pipeline_lib.seeds import generator
from pipeline_lib.training.evaluation import encoder_source, principal_components
from pipeline_lib.training.groups import land_cover_of
from pipeline_lib.training.sources import EncoderSource
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
        ``(sample, band)``, scaled: the centre pixel in the centre frame.
    embedding
        ``(sample, latent)``.
    targets, origin
        Of the same samples.
    """

    spectrum: Array
    embedding: Array
    targets: Targets
    origin: Origin

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
    frame = trained.context.frames // 2
    spectra, embeddings = [], []
    with torch.inference_mode():
        for batch in source.batches(drawn, BATCH):
            spectra.append(centre_of(batch.values).double().numpy())
            embeddings.append(trained.autoencoder.encoder(*batch).double().numpy())
    targets = context_targets(
        source.index.stack,
        drawn,
        context=trained.context,
        normalisation=trained.normalisation,
        land_cover=land_cover,
        truth=truth,
    )
    cube = np.array([source.index.stack[number].name for number in drawn.cube])
    origin = Origin(
        site=np.array([sites[name] for name in cube]),
        cube=cube,
        position=np.stack([drawn.top, drawn.left, drawn.frames[:, frame]], axis=1),
    )
    return Probed(np.concatenate(spectra), np.concatenate(embeddings), targets, origin)


def _distinct(
    source: EncoderSource, trained: TrainedEncoder, rng: np.random.Generator, max_samples: int
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
        ``fit_samples``; ``features``, set -> how many; ``splits`` -> split -> ``samples`` and
        ``targets`` -> target -> ``metric``, ``scores`` by set of features (none where there is a
        ``reason``), ``samples`` and ``fit_samples`` that have the target, for classes also
        ``classes`` and ``unseen_classes`` (see `class_score`); ``left_out``, splits without
        samples, and why. The sets: ``spectrum``, the centre's scaled bands; ``pca_<latent>``,
        as many of their principal components as the embedding has numbers, fitted on the samples
        of the fit, where these are fewer than the bands; ``embedding``; ``spectrum+embedding``.

    Raises
    ------
    UserError
        If the training split has no sample, or a truth does not fit its cube.
    ValueError
        If a cube is both fitted and scored on.
    """
    fitted = {cube_name(path) for path in cubes.get(FITTED_ON, ())}
    both = fitted & {cube_name(path) for split in SCORED_ON for path in cubes.get(split, ())}
    if both:
        raise ValueError(f"both fitted and scored on: {', '.join(sorted(both))}")

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

    fit = samples(FITTED_ON)
    fit_features = _features(fit, fit)
    splits: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for split in SCORED_ON:
        if not cubes.get(split):
            left_out[split] = "it has no cube"
            continue
        try:
            held_out = samples(split)
        except UserError as error:
            left_out[split] = str(error)
            continue
        features = _features(fit, held_out)
        numbers = held_out.targets.numbers
        splits[split] = {
            "samples": len(held_out),
            "targets": {
                **{
                    name: number_scores(
                        fit_features,
                        fit.targets.numbers[name],
                        fit.origin,
                        features,
                        numbers[name],
                    )
                    for name in numbers
                    if name in fit.targets.numbers
                },
                **{
                    name: class_scores(
                        fit_features, fit.targets.classes[name], fit.origin, features, labels
                    )
                    for name, labels in held_out.targets.classes.items()
                },
            },
        }
    return {
        "fit_samples": len(fit),
        "features": {name: values.shape[1] for name, values in fit_features.items()},
        "splits": splits,
        "left_out": left_out,
    }


def _features(fit: Probed, held_out: Probed) -> dict[str, Array]:
    """Sets of features of some samples; what is fitted is fitted on the first ones."""
    count = fit.embedding.shape[1]
    sets = {"spectrum": held_out.spectrum}
    if count < fit.spectrum.shape[1]:
        mean, axes = (part.numpy() for part in principal_components(fit.spectrum))
        sets[f"pca_{count}"] = (held_out.spectrum - mean) @ axes[:count].T
    sets["embedding"] = held_out.embedding
    sets["spectrum+embedding"] = np.concatenate([held_out.spectrum, held_out.embedding], axis=1)
    return sets


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


def _sites_of(split_table: Path) -> dict[str, str]:
    read_split(split_table)
    with split_table.open(newline="") as handle:
        return {row["cube"]: row["site"] for row in csv.DictReader(handle)}
