"""How well trained models reconstruct their inputs, beside baselines that need no model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.dataset import cube_name, cubes_of
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.reconstruction_errors import (
    Evaluation,
    centre_spectra,
    encoder_evaluation,
    fusion_evaluation,
    joint_spectra,
)
from pipeline_lib.files import write_json
from pipeline_lib.models import load_encoder, load_fusion
from pipeline_lib.training.groups import land_cover_of

SPLITS = ("training", "validation", "test")
FEW_COMPONENTS = 2
"""Principal components of a baseline, besides as many as the model has dimensions."""

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
    """Measure a trained encoder on each split, beside its baselines.

    Raises UserError if the training split has no sample, or no split has one.

    Parameters
    ----------
    model
        Folder of the trained encoder.
    cubes
        Files of its sensor's cubes, of every split.
    split_table
        Table with the split and the land cover of each cube.
    max_samples
        Of a split, the same for the model and the baselines. A class or season with less than its
        equal share among them gets further ones, for its own numbers only (`groups.choose`).
    output
        JSON file: ``splits`` -> split -> `encoder_evaluation`, with none in place of NaN;
        ``skipped``, what has no sample, and why.
    """
    trained = load_encoder(model)
    name, land_cover = trained.name, land_cover_of(split_table)
    training = cubes_of(list(cubes), split_table, "training")
    spectra = centre_spectra(trained, training, seed=seed, max_samples=max_samples)
    bands = len(trained.sensor.bands)
    components = sorted({n for n in (FEW_COMPONENTS, trained.sensor.latent_dim) if n < bands})

    def measure(chosen: Cubes) -> Evaluation:
        return encoder_evaluation(
            trained,
            chosen[name],
            spectra=spectra,
            components=components,
            land_cover=land_cover,
            seed=seed,
            max_samples=max_samples,
        )

    splits, skipped = _measure_splits({name: cubes}, name, split_table, land_cover, measure)
    content = {"model": name, "digest": trained.digest, "splits": splits}
    write_json(output, content | {"skipped": skipped})


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

    JSON file as of `evaluate_encoder`, of `fusion_evaluation`. Raises UserError if the encoders
    are not the fusion's, or as `evaluate_encoder`.

    Parameters
    ----------
    fusion
        Folder of the trained fusion.
    encoders
        Sensor -> folder of its trained encoder.
    cubes
        Sensor -> cube files of every split.
    """
    joined = load_fusion(fusion)
    trained = {sensor: load_encoder(folder) for sensor, folder in encoders.items()}
    joined.check_encoders(trained)
    trained = {sensor: trained[sensor] for sensor in joined.encoders}
    used = {sensor: cubes[sensor] for sensor in trained}
    land_cover = land_cover_of(split_table)
    training = _of_split(used, split_table, "training")
    spectra = joint_spectra(joined, trained, training, seed=seed, max_samples=max_samples)

    def measure(chosen: Cubes) -> Evaluation:
        return fusion_evaluation(
            joined,
            trained,
            chosen,
            spectra=spectra,
            land_cover=land_cover,
            seed=seed,
            max_samples=max_samples,
        )

    splits, skipped = _measure_splits(
        used, joined.block.reference, split_table, land_cover, measure
    )
    content = {"model": "fusion", "digest": joined.digest, "splits": splits}
    write_json(output, content | {"skipped": skipped})


def _measure_splits(
    cubes: Cubes,
    reference: str,
    split_table: Path,
    land_cover: Mapping[str, str],
    measure: Callable[[Cubes], Evaluation],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Errors by split, and the reason where a split or a class of it has no sample."""
    splits: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for split in SPLITS:
        chosen = _of_split(cubes, split_table, split)
        try:
            splits[split] = _plain(measure(chosen))
        except UserError as error:
            skipped[split] = str(error)
            continue
        classes = {land_cover[cube_name(path)] for path in chosen[reference]}
        for name in sorted(classes - set(splits[split]["land_cover"])):
            skipped[f"{split}, {name}"] = f"no sample can be drawn from its cubes of {reference}"
    if not splits:
        raise UserError(f"{split_table}: nothing to evaluate on: {'; '.join(skipped.values())}")
    return splits, skipped


def _of_split(cubes: Cubes, split_table: Path, split: str) -> dict[str, list[Path]]:
    return {sensor: cubes_of(list(paths), split_table, split) for sensor, paths in cubes.items()}


def _plain(content: Any) -> Any:
    """Numbers as JSON holds them: none in place of NaN, at any depth."""
    if isinstance(content, Mapping):
        return {name: _plain(value) for name, value in content.items()}
    return content if math.isfinite(content) else None
