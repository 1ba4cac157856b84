"""Probes: what an embedding holds, beside the bands that it was made from and averages of them.

They are fitted on the training split and scored on the others, so no cube is in both; their
penalty is chosen by cross-validation over training sites. A probe is linear, so that what it finds
is explicit in the features (Alain and Bengio 2017, arXiv:1610.01644). The state of the ground is
also predicted by a second probe that need not be, and at sites left out of the fit, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold
from torch import Tensor

from pipeline_lib.dataset import SampleIndex, cube_name, read_split_table
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.probe_features import (
    AVERAGED,
    RADAR_WINDOW,
    WINDOWS,
    Array,
    Pixels,
    bands_at,
    feature_sets,
)
from pipeline_lib.evaluate.probe_scores import (
    GROUND_TARGETS,
    MAX_GROUPS,
    Origin,
    left_out_scores,
    target_scores,
)
from pipeline_lib.evaluate.probe_targets import FieldLabels, Targets, Truth, context_targets
from pipeline_lib.evaluate.reconstruction import fusion_dataset
from pipeline_lib.evaluate.sharpness import sharpness
from pipeline_lib.files import write_json
from pipeline_lib.models import TrainedEncoder, TrainedFusion, load_encoder, load_fusion
from pipeline_lib.seeds import generator
from pipeline_lib.training.data import Batch, FusionDataset, SensorDataset
from pipeline_lib.training.tasks import FusionTask

FITTED_ON = "training"
SCORED_ON = ("validation", "test")
OTHER = "other"
"""Cubes of no split, such as those around towers, whose truth or labels are known: no model learns
from them, and they are sites to leave out like the others."""
PARTS = (FITTED_ON, *SCORED_ON, OTHER)
ROUNDS = 8
"""Maximum number of samples of one sequence, on different dates: small runs have few sequences."""


@dataclass(frozen=True)
class Probed:
    """Samples that probes are fitted on or scored on.

    ``features``, set -> ``(sample, feature)``, NaN where a sensor is absent: ``bands`` of the
    target pixel, of all sensors side by side, backscatter in decibel; of backscatter alone
    ``mean_<side>``, its moving averages in decibel over the valid pixels of a square, and beside
    other sensors ``bands_averaged``, the bands with backscatter averaged over `RADAR_WINDOW`
    pixels; ``embedding``. Of a fusion also ``latents_<sensor>`` and ``latents``, those of all
    sensors, and where it has other sensors than the reference ``reference_only``, embeddings
    without these, and ``embedding_mixed``, where a random half of the samples lacks them.
    """

    features: Mapping[str, Array]
    targets: Targets
    origin: Origin

    def __len__(self) -> int:
        return len(self.origin.site)

    def take(self, rows: NDArray[np.int64]) -> Probed:
        """Some of the samples."""
        return Probed(
            {name: values[rows] for name, values in self.features.items()},
            {name: values[rows] for name, values in self.targets.items()},
            self.origin.take(rows),
        )

    @classmethod
    def joined(cls, parts: Sequence[Probed]) -> Probed:
        """The samples of several, with the sets of features and targets that all of them have."""

        def together(each: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
            names = [name for name in each[0] if all(name in one for one in each)]
            return {name: np.concatenate([one[name] for one in each]) for name in names}

        origin = together([vars(part.origin) for part in parts])
        return cls(
            together([part.features for part in parts]),
            together([part.targets for part in parts]),
            Origin(**origin),
        )


@dataclass(frozen=True)
class SiteFacts:
    """What is known of cubes by their name: site, land cover, the truth of a simulation, and
    labels of fields."""

    split: Mapping[str, str]
    site: Mapping[str, str]
    land_cover: Mapping[str, str]
    truth: Mapping[str, Truth]
    labels: Mapping[str, FieldLabels]

    @classmethod
    def read(
        cls, split_table: Path, truth: Mapping[str, Path], labels: Mapping[str, Path]
    ) -> SiteFacts:
        """Read the split table, and the truth and the labels of each cube that has some."""
        rows = read_split_table(split_table)
        split, site, land_cover = (
            {row["cube"]: row[key] for row in rows} for key in ("split", "site", "land_cover")
        )
        known = {cube: Truth.read(path) for cube, path in truth.items()}
        mapped = {cube: FieldLabels.read(path) for cube, path in labels.items()}
        return cls(split, site, land_cover, known, mapped)

    def by_split(self, cubes: Iterable[Path]) -> dict[str, list[Path]]:
        """Files by `PARTS`, sorted by name."""
        found: dict[str, list[Path]] = {part: [] for part in PARTS}
        for path in sorted(cubes, key=cube_name):
            name = cube_name(path)
            known = OTHER if name in self.truth or name in self.labels else ""
            found.get(self.split.get(name, known), []).append(path)
        return found


def probed_samples(
    trained: TrainedEncoder,
    cubes: Sequence[Path],
    facts: SiteFacts,
    *,
    rng: np.random.Generator,
    max_samples: int,
) -> Probed:
    """Features and targets of random samples of a sensor's cubes, no target pixel and date twice,
    at most `ROUNDS` of a sequence.

    Raises UserError if no sample can be drawn.
    """

    dataset = SensorDataset.of(trained, cubes)
    drawn, pixels, origin = _samples(dataset, trained, facts, rng, max_samples)
    features = _features(trained, dataset, cubes, drawn, pixels)
    return Probed(features, _targets(trained, cubes, pixels, facts), origin)


def _features(
    trained: TrainedEncoder,
    dataset: SensorDataset,
    cubes: Sequence[Path],
    drawn: SampleIndex,
    pixels: Pixels,
) -> dict[str, Array]:
    """Features of samples of one sensor, as `Probed` holds them."""

    def embedding(batch: Batch) -> dict[str, Array]:
        latents = trained.autoencoder.encoder(*batch.sensors[trained.name].patches)
        return {"embedding": _numpy(latents)}

    sides = (1, *WINDOWS) if trained.sensor.quantity == "backscatter" else (1,)
    names = ["bands", *(f"mean_{side}" for side in sides[1:])]
    means = bands_at(cubes, pixels, sides, len(trained.sensor.bands))
    return {**dict(zip(names, means, strict=True)), **_computed(dataset, drawn, embedding)}


def encoder_sharpness(
    trained: TrainedEncoder,
    cubes: Sequence[Path],
    facts: SiteFacts,
    fit: Probed,
    *,
    rng: np.random.Generator,
    max_samples: int,
) -> dict[str, Any] | None:
    """`sharpness` of a sensor's features, beside its bands and their averages, in the cubes whose
    fields are known: the truth of a simulation, or labels. None where there are too few."""
    fields = {
        name: truth.cover if (truth := facts.truth.get(name)) else facts.labels[name].labels - 1
        for name in map(cube_name, cubes)
        if name in facts.truth or name in facts.labels
    }
    known = [path for path in cubes if cube_name(path) in fields]
    dataset = SensorDataset.of(trained, known)
    if not len(dataset.index):
        return None
    drawn = dataset.draw(rng, max_samples, f"sharpness of {trained.name}")
    features = partial(_features, trained, dataset, known)
    return sharpness(dataset, drawn, fields, features, fit.features, rng)


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
    task = FusionTask(trained.fusion, encoders).eval()

    def features(batch: Batch) -> dict[str, Array]:
        latents, own = task.latents(batch), batch.sensors
        days = {name: own[name].offset for name in task.names}
        present = {name: own[name].present for name in task.names}
        known = {
            f"latents_{name}": _numpy(torch.where(present[name][:, None], values, torch.nan))
            for name, values in latents.items()
        }
        found = known | {"latents": np.concatenate([*known.values()], axis=1)}
        if dataset.others:
            masked = present | {name: torch.zeros_like(present[name]) for name in dataset.others}
            found["reference_only"] = _numpy(trained.fusion.fuse(latents, days, masked))
        return found | {"embedding": _numpy(trained.fusion.fuse(latents, days, present))}

    reference = encoders[trained.block.reference]
    drawn, pixels, origin = _samples(dataset, reference, facts, rng, max_samples)
    found = _computed(dataset, drawn, features)
    sides = {
        name: RADAR_WINDOW if encoders[name].sensor.quantity == "backscatter" else 1
        for name in task.names
    }
    means = [
        bands_at(cubes[name], pixels, (1, side), len(encoders[name].sensor.bands))
        for name, side in sides.items()
    ]
    sets = {"bands": np.concatenate([single for single, _ in means], axis=1)}
    if RADAR_WINDOW in sides.values():
        sets[f"bands{AVERAGED}"] = np.concatenate([averaged for _, averaged in means], axis=1)
    if "reference_only" in found:
        masked = rng.random((len(pixels), 1)) < 0.5
        found["embedding_mixed"] = np.where(masked, found["reference_only"], found["embedding"])
    targets = _targets(reference, cubes[reference.name], pixels, facts)
    return Probed(sets | found, targets, origin)


def _numpy(features: Tensor) -> Array:
    return np.asarray(features.double())


def _samples(
    dataset: SensorDataset | FusionDataset,
    trained: TrainedEncoder,
    facts: SiteFacts,
    rng: np.random.Generator,
    max_samples: int,
) -> tuple[SampleIndex, Pixels, Origin]:
    """Random samples of the (reference) sensor's encoder, their target pixels and their origin."""
    drawn, places = _distinct(dataset, trained, rng, max_samples)
    stack, half = dataset.index.stack, trained.context.patch_px // 2
    names = np.array([stack[number].name for number in drawn.cube])
    day = np.array([stack[number].days[frame] for number, frame in places[:, [0, 3]]])
    site = np.array([facts.site.get(name, name) for name in names])
    origin = Origin(site, names, places[:, 1:])
    return drawn, Pixels(names, day, drawn.top + half, drawn.left + half), origin


def _computed(
    dataset: SensorDataset | FusionDataset,
    drawn: SampleIndex,
    features: Callable[[Batch], dict[str, Array]],
) -> dict[str, Array]:
    """Features of samples, computed batch by batch."""
    with torch.inference_mode():
        batches = [features(batch) for batch in dataset.loader(drawn)]
    return {name: np.concatenate([one[name] for one in batches]) for name in batches[0]}


def _targets(
    trained: TrainedEncoder, cubes: Sequence[Path], pixels: Pixels, facts: SiteFacts
) -> Targets:
    return context_targets(
        cubes,
        pixels,
        bands=trained.sensor.bands,
        patch_px=trained.context.patch_px,
        land_cover=facts.land_cover,
        truth=facts.truth,
        labels=facts.labels,
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
    """Samples of each split and of `OTHER`, and why a split has none.

    ``cubes`` are those of the (reference) sensor by split. Raises UserError if the training split
    has no sample, ValueError if a cube is both fitted and scored on.
    """
    fitted = {cube_name(path) for path in cubes.get(FITTED_ON, ())}
    both = fitted & {cube_name(path) for split in SCORED_ON for path in cubes.get(split, ())}
    if both:
        raise ValueError(f"both fitted and scored on: {', '.join(sorted(both))}")
    found = {FITTED_ON: samples(FITTED_ON)}
    skipped: dict[str, str] = {}
    for split in (*SCORED_ON, OTHER):
        if not cubes.get(split):
            if split in SCORED_ON:
                skipped[split] = "it has no cube"
            continue
        try:
            found[split] = samples(split)
        except UserError as error:
            skipped[split] = str(error)
    return found, skipped


def probe_scores(samples: Mapping[str, Probed]) -> dict[str, Any]:
    """Scores of probes of embeddings, beside those of bands.

    ``samples`` are of `FITTED_ON` and of any of `SCORED_ON` and `OTHER`. What a change of the
    embeddings costs, their rounding for example, is the difference between the scores of the
    samples and of copies with changed embeddings (`dataclasses.replace`).

    Returns
    -------
    dict
        ``fit_samples``; ``features``, set -> how many, the sets of `Probed` and `feature_sets`;
        ``splits`` -> split -> ``samples`` and ``targets`` -> target -> ``metric``, ``scores`` of
        the linear probe by set of features (none where there is a ``reason``), ``samples`` and
        ``fit_samples`` that have the target, for classes also ``classes`` and ``unseen_classes``,
        for `GROUND_TARGETS` also ``boosting`` or ``nearest``, the scores of the second probe;
        ``leave_one_site_out``, target -> `left_out_scores`, where there are several sites.
    """
    fit = samples[FITTED_ON]
    held_out = {split: samples[split] for split in SCORED_ON if split in samples}
    fit_features = feature_sets(fit.features, fit.features)
    features = {split: feature_sets(fit.features, one.features) for split, one in held_out.items()}
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
            second=name in GROUND_TARGETS,
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
        "leave_one_site_out": leave_one_site_out(Probed.joined(list(samples.values()))),
    }


def leave_one_site_out(samples: Probed) -> dict[str, Any]:
    """`left_out_scores` of each of `GROUND_TARGETS`, of all samples; none where all are of a site.

    Samples of a site are predicted by probes of the other sites; of more than `MAX_GROUPS` sites
    several are left out at once.
    """
    site = samples.origin.site
    sites = len(np.unique(site))
    if sites < 2:
        return {}
    parts = []
    for rows, held_out in GroupKFold(min(MAX_GROUPS, sites)).split(site, groups=site):
        fit, rest = (samples.take(part).features for part in (rows, held_out))
        parts.append((rows, held_out, feature_sets(fit, fit), feature_sets(fit, rest)))
    return {
        name: left_out_scores(parts, values, site)
        for name, values in samples.targets.items()
        if name in GROUND_TARGETS
    }


def probe_encoder(
    *,
    model: Path,
    cubes: Sequence[Path],
    split_table: Path,
    truth: Mapping[str, Path],
    labels: Mapping[str, Path],
    seed: int,
    max_samples: int,
    output: Path,
) -> None:
    """Probe a trained encoder's latents and write the scores.

    ``cubes`` are those of its sensor, of every split and of `OTHER`; ``truth`` is cube -> file of
    its site's truth, as a simulated archive has it, and ``labels`` cube -> file of its
    `FieldLabels`; ``max_samples`` is of each split. The JSON file holds the ``model``, its
    ``digest``, ``sharpness`` in the held-out cubes (`encoder_sharpness`), what `probe_scores`
    returns, and ``skipped``: splits without samples, and why. Raises UserError if the training
    split has no sample, or a truth or labels do not fit their cube.
    """
    trained, facts = load_encoder(model), SiteFacts.read(split_table, truth, labels)
    own = facts.by_split(cubes)

    def samples(split: str) -> Probed:
        rng = generator(seed, "probes", split)
        return probed_samples(trained, own[split], facts, rng=rng, max_samples=max_samples)

    found, skipped = split_samples(samples, own)
    sharp = encoder_sharpness(
        trained,
        [path for split in SCORED_ON for path in own[split]],
        facts,
        found[FITTED_ON],
        rng=generator(seed, "probes", "sharpness"),
        max_samples=max_samples // 2,
    )
    content = {"model": trained.name, "digest": trained.digest, "sharpness": sharp}
    write_json(output, {**content, **probe_scores(found), "skipped": skipped})


def probe_fusion(*, output: Path, **inputs: Any) -> None:
    """Probe the fused embeddings of `fused_splits` as `probe_encoder` does a sensor's latents; how
    sharp their maps are says `maps.assess_maps`."""
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
    labels: Mapping[str, Path],
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
    facts = SiteFacts.read(split_table, truth, labels)
    split = {name: facts.by_split(cubes[name]) for name in joined.encoders}
    own = {part: {name: split[name][part] for name in split} for part in PARTS}

    def samples(split: str) -> Probed:
        rng = generator(seed, "probes", split)
        return fused_samples(joined, trained, own[split], facts, rng=rng, max_samples=max_samples)

    reference = joined.block.reference
    return split_samples(samples, {split: paths[reference] for split, paths in own.items()})
