"""How many days the windows of samples and of embeddings span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import clear_counts, read_cube
from pipeline_lib.dataset import cubes_of, window_spans
from pipeline_lib.dataset.stacks import days_of
from pipeline_lib.report.style import COLOURS, MUTED, drawing
from pipeline_lib.seeds import generator

REPEATS = 8
"""Augmented windows of each frame."""

Record = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Days of a cube's frames with a clear pixel, and the clear pixels of each."""


def plot_windows(
    *,
    cubes: Mapping[str, Mapping[str, Path]],
    split_table: Path,
    embedded: Sequence[str],
    windows: Mapping[str, Mapping[str, float]],
    frames: int,
    seed: int,
    output: Path,
) -> None:
    """Draw the distribution of days that windows span, a panel for each sensor.

    ``cubes`` are sensor -> cube -> file, and ``embedded`` the names of those whose embeddings are
    exported. ``windows`` are each sensor's ``span_days`` and ``rolling_mean``, as `window_frames`
    takes them. A window counts as often as its centre frame has clear pixels.
    """
    rng = generator(seed, "spans of windows")
    with drawing(output, width=3.6 * len(cubes) + 0.6, height=3) as figure:
        panels = figure.subplots(1, len(cubes), sharey=True, squeeze=False)[0]
        for axes, (sensor, own) in zip(panels, cubes.items(), strict=True):
            records = {path: _record(path) for path in own.values()}
            files = [own[cube] for cube in embedded if cube in own]
            held_out = [
                path
                for split in ("validation", "test")
                for path in cubes_of(list(records), split_table, split)
            ]
            training = cubes_of(list(records), split_table, "training")
            span, apart = windows[sensor]["span_days"], int(windows[sensor]["rolling_mean"])
            curves = (
                ("training", training * REPEATS, rng, COLOURS[1], "-"),
                ("evaluation", held_out, None, COLOURS[0], "-"),
                ("export", files, None, COLOURS[4], "--"),
            )
            for label, chosen, random, colour, style in curves:
                parts = [
                    window_spans(days, frames, span, rolling_mean=apart, rng=random)
                    for days, _ in (records[path] for path in chosen)
                ]
                if not sum(map(len, parts)):
                    continue
                counts = np.concatenate([records[path][1] for path in chosen])
                spans, share = cumulative(np.concatenate(parts), counts)
                axes.step(spans, share, where="post", color=colour, linestyle=style, label=label)
            axes.axvline(span, color=MUTED, linestyle=":")
            axes.set_title(sensor, loc="left")
            axes.set_xlabel("days that a window spans")
            axes.grid()
        panels[0].set_ylabel("fraction that spans no more")
        panels[0].legend(loc="upper left")


def cumulative(
    values: NDArray[np.int64], weights: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Increasing values from 0 on, and the share of the weights up to each."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    return np.concatenate([[0], values[order]]), np.concatenate([[0.0], share])


def _record(path: Path) -> Record:
    with read_cube(path, load=False) as cube:
        counts = clear_counts(cube, path)
        return days_of(cube)[counts > 0], counts[counts > 0]
