"""What the linear probes found, as tables and as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pipeline_lib.evaluate.style import COLOURS, INK, MUTED, drawing
from pipeline_lib.evaluate.tables import Table, number
from pipeline_lib.files import read_json

TARGETS = {
    "surroundings_mean": "surroundings: mean",
    "surroundings_spread": "surroundings: spread",
    "next_change": "spectrum: change to the next date",
    "ndvi_change": "NDVI: change to the next date",
    "leaf_area": "leaf area",
    "leaf_area_change": "leaf area: change to the next date",
    "land_cover": "land cover",
}
METRICS = {"r2": "R²", "balanced_accuracy": "balanced accuracy"}
SETS = {
    "spectrum": "centre spectrum",
    "latents": "latents of all sensors",
    "alone": "embedding without other sensors",
    "embedding": "embedding",
    "spectrum+embedding": "spectrum and embedding",
}
_SET_COLOURS = {
    "spectrum": COLOURS[0],
    "latents": COLOURS[3],
    "alone": COLOURS[6],
    "embedding": COLOURS[1],
    "spectrum+embedding": COLOURS[2],
}
_PCA_COLOUR = COLOURS[5]
SHOWN = ("test", "validation")
"""Splits in the order of preference: where one has no score at all, the next one is shown."""
CHANCE = "chance"
LEGEND_COLUMNS = 5
LOWEST = -0.5
"""Lower end of the axis of R2. Below it a probe is of no use, however far it falls."""


def shown_split(evaluation: Mapping[str, Any]) -> str | None:
    """The split that stands for a sensor: the first of `SHOWN` with a score."""
    for split in SHOWN:
        targets = evaluation["splits"].get(split, {}).get("targets", {})
        if any(target["reason"] is None for target in targets.values()):
            return split
    return None


def probe_tables(name: str, evaluation: Mapping[str, Any]) -> tuple[Table, ...]:
    """Scores by target and set of features, one table per split, and what is left out.

    Parameters
    ----------
    name
        Sensor, or ``fusion``.
    evaluation
        ``evaluation/probes-<name>.json``.
    """
    first = shown_split(evaluation)
    sets = list(evaluation["features"])
    tables = []
    reasons = [(split, "everything", text) for split, text in evaluation["left_out"].items()]
    for split in SHOWN:
        targets = evaluation["splits"].get(split, {}).get("targets", {})
        scored = {label: one for label, one in targets.items() if one["reason"] is None}
        reasons += [
            (split, TARGETS[label], one["reason"])
            for label, one in targets.items()
            if one["reason"] is not None
        ]
        reasons += [
            (split, TARGETS[label], f"{one['unseen_classes']} classes that the fit has not seen")
            for label, one in targets.items()
            if one.get("unseen_classes")
        ]
        tables.append(
            Table(
                caption=f"Linear probes of {name}, {split} samples: score of each set of features.",
                columns=(
                    "target",
                    "score",
                    *(f"{_set_label(label)} ({evaluation['features'][label]})" for label in sets),
                    "chance",
                    "samples",
                    "samples of the fit",
                ),
                rows=tuple(
                    (
                        TARGETS[label],
                        METRICS[one["metric"]],
                        *(f"{one['scores'][features]:.3f}" for features in sets),
                        f"{_chance(one):.3f}",
                        number(one["samples"]),
                        number(one["fit_samples"]),
                    )
                    for label, one in scored.items()
                ),
                words=2,
                folded=split != first,
            )
        )
    tables.append(
        Table(
            caption=f"What the linear probes of {name} leave out.",
            columns=("split", "target", "left out"),
            rows=tuple(reasons),
            words=3,
            folded=True,
        )
    )
    return tuple(tables)


def _set_label(features: str) -> str:
    count = features.removeprefix("pca_")
    return SETS.get(features, f"{count} principal components")


def _chance(target: Mapping[str, Any]) -> float:
    """The score of a guess that looks at nothing."""
    return 0.0 if target["metric"] == "r2" else 1 / target["classes"]


def plot_probes(*, evaluation: Path, output: Path) -> None:
    """Draw the scores of the probes of a sensor or of the fusion as bars, grouped by target.

    R2 and balanced accuracy have an axis each. A bar that would leave its axis has its value
    written above it. Where nothing has a score, the picture says so.

    Parameters
    ----------
    evaluation
        ``evaluation/probes-<name>.json``.
    output
        PNG file to write.

    Raises
    ------
    UserError
        If the file is absent or unreadable.
    """
    content = read_json(evaluation)
    split = shown_split(content)
    with drawing(output, width=11, height=3.8) as figure:
        if split is None:
            axes = figure.subplots()
            axes.set_axis_off()
            axes.text(0.5, 0.5, "No probe has enough samples for a score.", ha="center")
            return
        targets = {
            label: one
            for label, one in content["splits"][split]["targets"].items()
            if one["reason"] is None
        }
        by_metric = {
            metric: {label: one for label, one in targets.items() if one["metric"] == metric}
            for metric in METRICS
        }
        panels = {metric: found for metric, found in by_metric.items() if found}
        grid = figure.subplots(
            1, len(panels), squeeze=False, width_ratios=[len(found) for found in panels.values()]
        )[0]
        for axes, (metric, found) in zip(grid, panels.items(), strict=True):
            _draw(axes, found, list(content["features"]), METRICS[metric])
        samples = content["splits"][split]["samples"]
        figure.suptitle(
            f"{content['model']}: linear probes on {samples:,} {split} samples", x=0.01, ha="left"
        )
        handles, labels = grid[0].get_legend_handles_labels()
        # Lines come first by themselves; the reader looks for the bars.
        order = sorted(range(len(labels)), key=lambda index: labels[index] == CHANCE)
        rows = -(-len(labels) // LEGEND_COLUMNS)
        figure.legend(
            [handles[index] for index in order],
            [labels[index] for index in order],
            loc="outside lower center",
            ncols=-(-len(labels) // rows),
        )


def _draw(
    axes: Axes, targets: Mapping[str, Mapping[str, Any]], sets: list[str], label: str
) -> None:
    wide = 0.8 / len(sets)
    places = np.arange(len(targets))
    for position, features in enumerate(sets):
        scores = np.array([one["scores"][features] for one in targets.values()])
        x = places + (position - (len(sets) - 1) / 2) * wide
        axes.bar(
            x,
            scores.clip(LOWEST),
            wide * 0.92,
            color=_SET_COLOURS.get(features, _PCA_COLOUR),
            label=_set_label(features),
        )
        for at, score in zip(x, scores, strict=True):
            if score < LOWEST:
                axes.text(at, 0.02, f"{score:.1f}".replace("-", "−"), ha="center", fontsize=7)
    for place, one in zip(places, targets.values(), strict=True):
        axes.plot(
            [place - 0.45, place + 0.45],
            [_chance(one)] * 2,
            color=MUTED,
            linestyle=":",
            label=CHANCE if place == 0 else None,
        )
    ticks = [TARGETS[name].replace(": ", ":\n") for name in targets]
    axes.set_xticks(places, [tick.replace(" to the next", "\nto the next") for tick in ticks])
    axes.tick_params(axis="x", length=0, labelcolor=INK)
    low = min(score for one in targets.values() for score in one["scores"].values())
    axes.set_ylim(min(0.0, max(LOWEST, low - 0.05)), 1)
    axes.set_xlim(-0.6, len(targets) - 0.4)
    axes.set_ylabel(label)
    axes.grid(axis="y")
