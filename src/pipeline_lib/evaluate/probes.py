"""Probes: what an embedding holds that the spectrum of the target pixel alone does not.

They are fitted on the training split and scored on the others, so no cube is in both; their
penalty is chosen by cross-validation over training sites. A probe is linear, so that what it finds
is explicit in the features (Alain and Bengio 2017, arXiv:1610.01644). A few targets are also
predicted by nearest neighbours, which find what lies close together without lying on a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from torch import Tensor

from pipeline_lib.dataset import SampleIndex, cube_name, cubes_of, read_split_table
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.probe_scores import NEAREST_TARGETS, Origin, target_scores
from pipeline_lib.evaluate.probe_targets import Array, Targets, Truth, context_targets
from pipeline_lib.evaluate.reconstruction import fusion_dataset
from pipeline_lib.files import write_json
from pipeline_lib.models import TrainedEncoder, TrainedFusion, load_encoder, load_fusion
from pipeline_lib.seeds import generator
from pipeline_lib.training.data import Batch, FusionDataset, SensorDataset, centre_of
from pipeline_lib.training.tasks import FusionTask

FITTED_ON = "training"
SCORED_ON = ("validation", "test")
ROUNDS = 8
"""Maximum number of samples of one sequence, on different dates: small runs have few sequences."""


@dataclass(frozen=True)
class Probed:
    """Samples that probes are fitted on or scored on; all features are ``(sample, feature)``.

    The spectrum is the scaled bands of the target pixel in the centre frame. Spectra and latents
    are of all sensors side by side, NaN where one is absent; there are no latents where the
    embedding is one. ``reference_only`` are embeddings from the reference sensor alone, none where
    there are no others.
    """

    spectrum: Array
    embedding: Array
    targets: Targets
    origin: Origin
    latents: Array | None = None
    reference_only: Array | None = None

    def __len__(self) -> int:
        return len(self.spectrum)


@dataclass(frozen=True)
class SiteFacts:
    """What is known of cubes by their name: site, land cover, and the truth of a simulation."""

    site: Mapping[str, str]
    land_cover: Mapping[str, str]
    truth: Mapping[str, Truth]

    @classmethod
    def read(cls, split_table: Path, truth: Mapping[str, Path]) -> SiteFacts:
        """Read the split table, and the truth of each cube that has one."""
        rows = read_split_table(split_table)
        site, land_cover = (
            {row["cube"]: row[key] for row in rows} for key in ("site", "land_cover")
        )
        return cls(site, land_cover, {cube: Truth.read(path) for cube, path in truth.items()})


def probed_samples(
    trained: TrainedEncoder,
    cubes: Sequence[Path],
    facts: SiteFacts,
    *,
    rng: np.random.Generator,
    max_samples: int,
) -> Probed:
    """Spectra, latents and targets of random samples of a sensor's cubes, no target pixel and
    date twice, at most `ROUNDS` of a sequence.

    Raises UserError if no sample can be drawn.
    """

    def features(batch: Batch) -> dict[str, Array]:
        own = batch.sensors[trained.name]
        latents = trained.autoencoder.encoder(*own.patches)
        return {"spectrum": _numpy(centre_of(own.values)), "embedding": _numpy(latents)}

    dataset = SensorDataset.of(trained, cubes)
    return _samples(dataset, features, trained, facts, rng, max_samples)


def fused_samples(
    trained: TrainedFusion,
    encoders: Mapping[str, TrainedEncoder],
    cubes: Mapping[str, Sequence[Path]],
    facts: SiteFacts,
    *,
    rng: np.random.Generator,
    max_samples: int,
) -> Probed:
    """Samples of the reference sensor as `probed_samples`, with fused embeddings.

    Raises UserError as `probed_samples`, or if the encoders are not the fusion's.
    """
    trained.check_encoders(encoders)
    dataset = fusion_dataset(trained, encoders, cubes)
    task = FusionTask(trained.fusion, trained.block, encoders).eval()

    def features(batch: Batch) -> dict[str, Array]:
        centres = {name: centre_of(batch.sensors[name].values) for name in task.names}
        found = {
            "spectrum": _side_by_side(centres, batch),
            "latents": _side_by_side(task.latents(batch), batch),
            "embedding": _numpy(task.embedding(batch)),
        }
        if dataset.others:
            masked = batch.without_any(dataset.others)
            found["reference_only"] = _numpy(task.embedding(masked))
        return found

    reference = encoders[trained.block.reference]
    return _samples(dataset, features, reference, facts, rng, max_samples)


def _numpy(features: Tensor) -> Array:
    return np.asarray(features.double())


def _side_by_side(features: Mapping[str, Tensor], batch: Batch) -> Array:
    """Features of all sensors, NaN where a sensor is absent."""
    parts = [
        torch.where(batch.sensors[name].present[:, None], values, torch.nan)
        for name, values in features.items()
    ]
    return _numpy(torch.cat(parts, dim=1))


def _samples(
    dataset: SensorDataset | FusionDataset,
    features: Callable[[Batch], dict[str, Array]],
    trained: TrainedEncoder,
    facts: SiteFacts,
    rng: np.random.Generator,
    max_samples: int,
) -> Probed:
    """Features, targets and origin of random samples of the (reference) sensor's encoder."""
    drawn, places = _distinct(dataset, trained, rng, max_samples)
    with torch.inference_mode():
        batches = [features(batch) for batch in dataset.loader(drawn)]
    stack = dataset.index.stack
    cube = np.array([stack[number].name for number in drawn.cube])
    targets = context_targets(
        stack,
        drawn,
        context=trained.context,
        normalisation=trained.normalisation,
        land_cover=facts.land_cover,
        truth=facts.truth,
    )
    site = np.array([facts.site[name] for name in cube])
    return Probed(
        **{name: np.concatenate([one[name] for one in batches]) for name in batches[0]},
        targets=targets,
        origin=Origin(site, cube, places[:, 1:]),
    )


def _distinct(
    dataset: SensorDataset | FusionDataset,
    trained: TrainedEncoder,
    rng: np.random.Generator,
    max_samples: int,
) -> tuple[SampleIndex, NDArray[np.int64]]:
    """Samples of different pixels and dates, drawn repeatedly where there are few sequences; their
    places ``(sample, 4)``: cube, top, left and centre frame."""
    parts: list[SampleIndex] = []
    for _ in range(ROUNDS):
        parts.append(dataset.draw(rng, max_samples, f"probes of {trained.name}"))
        drawn = SampleIndex.joined(parts)
        places = np.stack([drawn.cube, drawn.top, drawn.left, drawn.centre], axis=1)
        first = np.sort(np.unique(places, axis=0, return_index=True)[1])[:max_samples]
        parts = [drawn.take(first)]
        if len(first) == max_samples:
            break
    return parts[0], places[first]


def split_samples(
    samples: Callable[[str], Probed], cubes: Mapping[str, Sequence[Path]]
) -> tuple[dict[str, Probed], dict[str, str]]:
    """Samples of each split, and why a split has none.

    ``cubes`` are those of the (reference) sensor by split. Raises UserError if the training split
    has no sample, ValueError if a cube is both fitted and scored on.
    """
    fitted = {cube_name(path) for path in cubes.get(FITTED_ON, ())}
    both = fitted & {cube_name(path) for split in SCORED_ON for path in cubes.get(split, ())}
    if both:
        raise ValueError(f"both fitted and scored on: {', '.join(sorted(both))}")
    found = {FITTED_ON: samples(FITTED_ON)}
    skipped: dict[str, str] = {}
    for split in SCORED_ON:
        if not cubes.get(split):
            skipped[split] = "it has no cube"
            continue
        try:
            found[split] = samples(split)
        except UserError as error:
            skipped[split] = str(error)
    return found, skipped


def probe_scores(samples: Mapping[str, Probed]) -> dict[str, Any]:
    """Scores of probes of embeddings, beside those of the spectrum.

    ``samples`` are of `FITTED_ON` and of any of `SCORED_ON`. What a change of the embeddings costs,
    their rounding for example, is the difference between the scores of the samples and of copies
    with changed embeddings (`dataclasses.replace`).

    Returns
    -------
    dict
        ``fit_samples``; ``features``, set -> how many; ``splits`` -> split -> ``samples`` and
        ``targets`` -> target -> ``metric``, ``scores`` by set of features (none where there is a
        ``reason``), ``samples`` and ``fit_samples`` that have the target, for classes also
        ``classes`` and ``unseen_classes``, for `NEAREST_TARGETS` also ``nearest``, the scores of
        the nearest neighbours by set of features. The sets: ``spectrum``, the scaled bands of the
        target pixel; ``pca_<n>``, as many of their principal components as the embedding has
        dimensions, fitted on the samples of the fit that have all sensors, where these are more
        and the bands are too; ``latents`` and ``reference_only``, if known; ``embedding``;
        ``spectrum+embedding``. What is absent has the mean of the fit.
    """
    fit = samples[FITTED_ON]
    held_out = {split: samples[split] for split in SCORED_ON if split in samples}
    fit_features = _features(fit, fit)
    features = {split: _features(fit, one) for split, one in held_out.items()}
    scores = {
        name: target_scores(
            fit_features,
            values,
            fit.origin,
            {
                split: (features[split], one.targets[name])
                for split, one in held_out.items()
                if name in one.targets
            },
            nearest=name in NEAREST_TARGETS,
        )
        for name, values in fit.targets.items()
    }
    return {
        "fit_samples": len(fit),
        "features": {name: values.shape[1] for name, values in fit_features.items()},
        "splits": {
            split: {
                "samples": len(one),
                "targets": {name: own[split] for name, own in scores.items() if split in own},
            }
            for split, one in held_out.items()
        },
    }


def _features(fit: Probed, held_out: Probed) -> dict[str, Array]:
    """Sets of features of some samples; imputation and components are fitted on the first."""
    count = fit.embedding.shape[1]
    spectrum = _imputed(fit.spectrum, held_out.spectrum)
    sets = {"spectrum": spectrum}
    complete = fit.spectrum[np.isfinite(fit.spectrum).all(axis=1)]
    if count < min(complete.shape):
        sets[f"pca_{count}"] = PCA(count).fit(complete).transform(spectrum)
    if fit.latents is not None and held_out.latents is not None:
        sets["latents"] = _imputed(fit.latents, held_out.latents)
    if held_out.reference_only is not None:
        sets["reference_only"] = held_out.reference_only
    sets["embedding"] = held_out.embedding
    sets["spectrum+embedding"] = np.concatenate([spectrum, held_out.embedding], axis=1)
    return sets


def _imputed(fit: Array, values: Array) -> Array:
    """Values with the fit's mean, or 0 where it has none, in place of NaN."""
    return SimpleImputer(keep_empty_features=True).fit(fit).transform(values)


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
    """Probe a trained encoder's latents and write the scores.

    ``cubes`` are those of its sensor, of every split; ``truth`` is cube -> file of its site's
    truth, as a simulated archive has it; ``max_samples`` is of each split. The JSON file holds the
    ``model``, its ``digest``, what `probe_scores` returns, and ``skipped``: splits without samples,
    and why. Raises UserError if the training split has no sample, or a truth does not fit its cube.
    """
    trained, facts = load_encoder(model), SiteFacts.read(split_table, truth)
    own = {split: cubes_of(list(cubes), split_table, split) for split in (FITTED_ON, *SCORED_ON)}

    def samples(split: str) -> Probed:
        rng = generator(seed, "probes", split)
        return probed_samples(trained, own[split], facts, rng=rng, max_samples=max_samples)

    found, skipped = split_samples(samples, own)
    content = {"model": trained.name, "digest": trained.digest}
    write_json(output, {**content, **probe_scores(found), "skipped": skipped})


def probe_fusion(*, output: Path, **inputs: Any) -> None:
    """Probe the fused embeddings of `fused_splits` as `probe_encoder` does a sensor's latents."""
    samples, skipped = fused_splits(**inputs)
    content = {"model": "fusion", "digest": load_fusion(inputs["fusion"]).digest}
    write_json(output, {**content, **probe_scores(samples), "skipped": skipped})


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
    """Samples by split with their fused embeddings, for `probe_scores`; splits without samples,
    and why.

    ``encoders`` are folders and ``cubes`` files of every split, by sensor; the other arguments are
    those of `probe_encoder`. Raises UserError as that, or if the encoders are not the fusion's.
    """
    joined = load_fusion(fusion)
    trained = {name: load_encoder(folder) for name, folder in encoders.items()}
    facts = SiteFacts.read(split_table, truth)
    own = {
        split: {name: cubes_of(list(cubes[name]), split_table, split) for name in joined.encoders}
        for split in (FITTED_ON, *SCORED_ON)
    }

    def samples(split: str) -> Probed:
        rng = generator(seed, "probes", split)
        return fused_samples(joined, trained, own[split], facts, rng=rng, max_samples=max_samples)

    reference = joined.block.reference
    return split_samples(samples, {split: paths[reference] for split, paths in own.items()})
