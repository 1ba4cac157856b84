"""Whether the maps are smooth in time and sharp in space: embeddings beside bands, in numbers.

A map that tells nothing is smooth too, and noise has edges everywhere: no number stands without
the others, nor without what probes find in the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline_lib.cubes import read_cube
from pipeline_lib.dataset import read_split
from pipeline_lib.embed import read_embedding, same_model
from pipeline_lib.evaluate.map_features import CubeFeatures, fit_basis, observe
from pipeline_lib.evaluate.map_scores import Classes, Sums, measure
from pipeline_lib.evaluate.probe_targets import Truth
from pipeline_lib.files import write_json

FITTED_ON = "training"
SCORED_ON = ("validation", "test")
FIT_PIXELS = 200_000
"""Pixels at most that the features are standardised by, of all training cubes together."""


def assess_maps(
    *,
    embeddings: Mapping[str, Path],
    cubes: Mapping[str, Mapping[str, Path]],
    split_table: Path,
    truth: Mapping[str, Path],
    seed: int,
    output: Path,
) -> None:
    """Measure smoothness and edges of bands, of their principal components and of embeddings.

    Features are standardised by pixels of the training cubes and measured on each of `SCORED_ON`,
    cube by cube, all sets on the same pixels: those that have an embedding.

    Parameters
    ----------
    embeddings
        Cube -> folder of its embeddings.
    cubes
        Sensor, the reference first -> cube -> its file.
    split_table
        Table with the split of each cube.
    truth
        Cube -> file of its site's truth, as a simulated archive has it.
    seed
        Decides which training pixels are drawn.
    output
        JSON file: ``model_digest``, none without embeddings; ``fit_cubes``; ``splits`` -> split ->
        ``cubes``, ``mapped_cubes`` (those whose classes are known), counts over all dates
        (``pixels``, ``triples``, ``pairs``, ``inner_pairs``, ``boundaries``) and ``sets`` -> set
        -> ``features``, how many, and what `Sums.numbers` tells; ``cubes`` -> scored cube ->
        ``split`` and its counts; ``left_out``, a list of ``what``, ``of`` (everything, or edges)
        and ``why``. The sets are named as those of the probes.

    Raises
    ------
    UserError
        If the embeddings come from different models, a file is absent or broken, or a truth does
        not fit its cube.
    """
    split = read_split(split_table)
    own = {
        part: sorted(name for name in embeddings if split.get(name) == part)
        for part in (FITTED_ON, *SCORED_ON)
    }
    opened = {name: read_embedding(embeddings[name], load=False) for name in chain(*own.values())}
    bands = {
        sensor: read_cube(next(iter(files.values())), load=False).sizes["band"]
        for sensor, files in cubes.items()
        if files
    }

    def look(name: str) -> CubeFeatures:
        files = {sensor: cubes[sensor].get(name, count) for sensor, count in bands.items()}
        return observe(embeddings[name], files)

    def classes(name: str, seen: CubeFeatures) -> Classes | None:
        if name not in truth:
            return None
        known = Truth.read(truth[name])
        known.check_grid(name, seen.valid.shape[1:])
        return known.cover

    content: dict[str, Any] = {
        "model_digest": same_model(opened) if opened else None,
        "fit_cubes": len(own[FITTED_ON]),
        "splits": {},
        "cubes": {},
    }
    if own[FITTED_ON]:
        basis = fit_basis(
            ((name, look(name)) for name in own[FITTED_ON]),
            seed=seed,
            pixels=max(1, FIT_PIXELS // len(own[FITTED_ON])),
        )
        for part in SCORED_ON:
            sums: dict[str, Sums] = {}
            for name in own[part]:
                seen = look(name)
                cover = classes(name, seen)
                found = {
                    label: measure(values, seen.valid, seen.days, cover)
                    for label, values in basis.sets(seen)
                }
                sums = {label: sums[label] + one if sums else one for label, one in found.items()}
                content["cubes"][name] = _counts(found["embedding"]) | {"split": part}
            if sums:
                content["splits"][part] = {
                    "cubes": len(own[part]),
                    "mapped_cubes": len(truth.keys() & set(own[part])),
                    **_counts(sums["embedding"]),
                    "sets": {
                        label: {"features": len(one.total), **one.numbers()}
                        for label, one in sums.items()
                    },
                }
    unmapped = [name for part in SCORED_ON for name in own[part] if name not in truth]
    content["left_out"] = [
        {"what": part, "of": "everything", "why": "none of its cubes is embedded"}
        for part, names in own.items()
        if not names
    ] + [
        {"what": name, "of": "edges", "why": "no map tells the classes of its pixels"}
        for name in unmapped
    ]
    write_json(output, content)


def _counts(sums: Sums) -> dict[str, int]:
    return {
        "pixels": sums.pixels,
        "triples": sums.noise.count,
        "pairs": sums.steps.count,
        "inner_pairs": sums.inner.count,
        "boundaries": sums.edges.steps.count,
    }
