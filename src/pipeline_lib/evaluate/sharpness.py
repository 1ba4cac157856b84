"""How smooth a sensor's features are within fields, and how sharp at their edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.dataset import SampleIndex
from pipeline_lib.evaluate.maps import REACH, boundaries
from pipeline_lib.evaluate.probe_features import Array, Pixels
from pipeline_lib.training.data import SensorDataset

MIN_PAIRS = 50
"""Minimum number of pairs of pixels, within fields and at edges, for a number to be given."""

Features = Callable[[SampleIndex, Pixels], Mapping[str, Array]]
Pairs = NDArray[np.bool_]


def sharpness(
    dataset: SensorDataset,
    drawn: SampleIndex,
    fields: Mapping[str, NDArray[np.int64]],
    features: Features,
    fit: Mapping[str, Array],
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """Differences between neighbouring pixels within fields and at their edges, by set of features.

    On the dates of drawn samples, a pair of pixels is drawn within a field of their cube and one at
    an edge (`pairs`). ``fields`` are classes ``(y, x)`` by cube, negative where there is none. Sets
    are standardised by their ``fit``. None where there are too few pairs.

    Returns
    -------
    dict
        ``pairs``, of each kind; ``sets`` -> set -> ``step_within_field``, root mean square of the
        differences in standard deviations, and ``contrast``, that at edges divided by it.
    """
    half, stack = dataset.index.context.patch_px // 2, dataset.index.stack
    rows, places = [], []
    for row in range(len(drawn)):
        cube = stack[drawn.cube[row]]
        kinds = pairs(cube.valid[drawn.centre[row]], fields[cube.name], half)
        if all(kind.any() for kind in kinds):
            rows.append(row)
            places.append([rng.choice(np.argwhere(kind)) for kind in kinds])
    if len(rows) < MIN_PAIRS:
        return None
    kept = drawn.take(np.array(rows))
    names = np.array([stack[number].name for number in kept.cube])
    days = np.array([stack[n].days[frame] for n, frame in zip(kept.cube, kept.centre, strict=True)])

    def at(y: NDArray[np.int64], x: NDArray[np.int64]) -> dict[str, Array]:
        moved = replace(kept, top=y - half, left=x - half)
        found = features(moved, Pixels(names, days, y, x))
        spread = {name: fit[name].std(axis=0) for name in found}
        return {name: found[name] / np.where(own > 0, own, 1.0) for name, own in spread.items()}

    roots = []
    for y, x in np.array(places).transpose(1, 2, 0):
        left, right = at(y, x), at(y, x + 1)
        roots.append({n: float(np.sqrt(((left[n] - right[n]) ** 2).mean())) for n in left})
    within, edge = roots
    return {
        "pairs": len(rows),
        "sets": {
            name: {"step_within_field": step, "contrast": edge[name] / step if step else None}
            for name, step in within.items()
        },
    }


def pairs(valid: Pairs, fields: NDArray[np.int64], half: int) -> tuple[Pairs, Pairs]:
    """Where a pixel and the next one of its row, at least ``half`` pixels from the border, are
    valid and within one field, and where they are at an edge (`maps.boundaries`), ``(y, x)``."""
    both = valid & (fields >= 0)
    both[:, :-1] &= both[:, 1:]
    both[:half], both[len(both) - half :], both[:, :half] = False, False, False
    both[:, fields.shape[1] - half - 1 :] = False
    edge = np.zeros_like(both)
    between = boundaries(fields)
    edge[:, REACH - 1 : REACH - 1 + between.shape[1]] = between
    same = fields == np.roll(fields, -1, axis=1)
    return both & same, both & edge
