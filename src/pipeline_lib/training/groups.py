"""Samples measured one by one, and their means over all, by land-cover class and by season."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.dataset import SampleIndex, SequenceIndex, read_split_table
from pipeline_lib.training.data import Batch, SampleDataset
from pipeline_lib.training.tasks import CRITERION, Task

CARD_SAMPLES = 2048
"""Samples at most that a model card's results by group are taken from: one CPU reads them in
seconds, and a class that holds a twentieth of them still has a hundred."""

SEASONS = ("DJF", "MAM", "JJA", "SON")
"""Meteorological seasons, by the initials of their months."""

Rows = NDArray[np.int64]
Errors = dict[str, NDArray[np.float64]]
"""Metric -> ``(sample,)``, NaN where it does not apply."""
Groups = dict[str, dict[str, dict[str, float]]]
"""``land_cover`` and ``seasons`` -> group -> metric -> mean."""


@dataclass(frozen=True)
class Chosen:
    """Samples to be measured, and which rows of them represent all and each group."""

    drawn: SampleIndex
    whole: Rows
    groups: dict[str, dict[str, Rows]]


def season_of(days: NDArray[np.int64]) -> NDArray[np.str_]:
    """Season, one of `SEASONS`, of days since 1970-01-01."""
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
    return np.array(SEASONS)[(months + 1) % 12 // 3]


def land_cover_of(split_table: Path) -> dict[str, str]:
    """Land-cover class of each cube, from the file of `dataset.write_split`."""
    return {row["cube"]: row["land_cover"] for row in read_split_table(split_table)}


def choose(
    drawn: SampleIndex, index: SequenceIndex, land_cover: Mapping[str, str], count: int | None
) -> Chosen:
    """Choose from samples in random order those that represent all, each class and each season.

    The first ``count`` represent all (None: all do). A class is represented by its samples among
    these; where they are fewer than an equal share of ``count``, by the first ones of the class up
    to that share; a season likewise. So rare groups get means worth reading, and none of the means
    is biased towards another kind of group. ``land_cover`` is the class of each cube.
    """
    count = len(drawn) if count is None else min(count, len(drawn))
    cubes = [index.stack[number] for number in drawn.cube]
    days = [cube.days[frame] for cube, frame in zip(cubes, drawn.centre, strict=True)]
    classes = [land_cover[cube.name] for cube in cubes]
    seasons = season_of(np.array(days, np.int64))
    groups = {
        "land_cover": _first(np.array(classes), sorted(set(classes)), count),
        "seasons": _first(seasons, [name for name in SEASONS if name in seasons], count),
    }
    several = [rows for group in groups.values() for rows in group.values()]
    kept = np.unique(np.concatenate([np.arange(count), *several]))
    return Chosen(
        drawn.take(kept),
        np.arange(count),
        {
            kind: {name: np.searchsorted(kept, rows) for name, rows in group.items()}
            for kind, group in groups.items()
        },
    )


@torch.inference_mode()
def measure(
    batches: Iterable[Batch], methods: Mapping[str, Callable[[Batch], dict[str, Tensor]]]
) -> dict[str, Errors]:
    """Errors of each method, sample by sample; a method returns errors ``(B,)`` by metric."""
    parts: dict[str, list[dict[str, Tensor]]] = {name: [] for name in methods}
    for batch in batches:
        for name, method in methods.items():
            parts[name].append(method(batch))
    return {
        name: {key: torch.cat([part[key] for part in own]).double().numpy() for key in own[0]}
        for name, own in parts.items()
    }


def means(errors: Errors, rows: Rows) -> dict[str, float]:
    """Means over the samples that a metric applies to, NaN where there is none.

    Beside each name that ends with the criterion's there is ``samples``, their number.
    """
    result: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, values in errors.items():
        applies = values[rows][~np.isnan(values[rows])]
        result[name] = float(applies.mean()) if len(applies) else math.nan
        if name.endswith(CRITERION):
            counts[f"{name.removesuffix(CRITERION)}samples"] = len(applies)
    return result | counts


def group_metrics(
    task: Task, dataset: SampleDataset, drawn: SampleIndex, land_cover: Mapping[str, str]
) -> tuple[dict[str, float], Groups]:
    """Metrics of a model, and those by land-cover class and by season, for its card.

    The first `CARD_SAMPLES` of the drawn samples, which are in random order, are measured on the
    CPU. A metric that applies to no sample of a group is left out. ``land_cover`` is the class of
    each cube.
    """
    chosen = choose(drawn.take(slice(CARD_SAMPLES)), dataset.index, land_cover, None)
    # Not the call of the module, which may be compiled for another device.
    errors = measure(dataset.loader(chosen.drawn), {"model": task.eval().forward})["model"]

    def finite(rows: Rows) -> dict[str, float]:
        return {key: value for key, value in means(errors, rows).items() if math.isfinite(value)}

    groups = {
        kind: {name: finite(rows) for name, rows in group.items()}
        for kind, group in chosen.groups.items()
    }
    return finite(chosen.whole), groups


@torch.inference_mode()
def embeddings(task: Task, dataset: SampleDataset, drawn: SampleIndex) -> NDArray[np.float64]:
    """``(sample, dimension)`` of the first `CARD_SAMPLES` of the drawn samples."""
    batches = dataset.loader(drawn.take(slice(CARD_SAMPLES)))
    return torch.cat([task.eval().embedding(batch) for batch in batches]).double().numpy()


def _first(labels: NDArray[np.str_], names: Sequence[str], count: int) -> dict[str, Rows]:
    """Rows of each name: those below ``count``, or the first ones up to an equal share of it."""
    share = math.ceil(count / max(1, len(names)))
    members = {name: np.flatnonzero(labels == name) for name in names}
    return {name: rows[: max(int((rows < count).sum()), share)] for name, rows in members.items()}
