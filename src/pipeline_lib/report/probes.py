"""What the probes found, as tables and as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pipeline_lib.files import read_json
from pipeline_lib.report.style import COLOURS, INK, MUTED, drawing
from pipeline_lib.report.tables import Table, number

TARGETS = {
    "neighbourhood_mean": "neighbourhood: mean",
    "neighbourhood_std": "neighbourhood: standard deviation",
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
    "reference_only": "embedding without other sensors",
    "embedding": "embedding",
    "spectrum+embedding": "spectrum and embedding",
}
_SET_COLOURS = {
    "spectrum": COLOURS[0],
    "latents": COLOURS[3],
    "reference_only": COLOURS[6],
    "embedding": COLOURS[1],
    "spectrum+embedding": COLOURS[2],
}
_PCA_COLOUR = COLOURS[5]
SHOWN = ("test", "validation")
"""Splits in the order of preference: where one has no score at all, the next one is shown."""
PROBES = {"scores": "linear", "nearest": "k nearest"}
"""Scores of a target -> by which probe, where there is more than one."""
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
    reasons = [(split, "everything", text) for split, text in evaluation["skipped"].items()]
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
                caption=f"Probes of {name}, {split} samples: score of each set of features.",
                columns=(
                    "target",
                    "score",
                    *(f"{set_label(label)} ({evaluation['features'][label]})" for label in sets),
                    "chance",
                    "samples",
                    "samples of the fit",
                ),
                rows=tuple(
                    (
                        text,
                        METRICS[one["metric"]],
                        *(f"{scores[features]:.3f}" for features in sets),
                        f"{_chance(one):.3f}",
                        number(one["samples"]),
                        number(one["fit_samples"]),
                    )
                    for text, one, scores in _by_probe(scored)
                ),
                words=2,
                folded=split != first,
            )
        )
    tables.append(
        Table(
            caption=f"What the probes of {name} leave out.",
            columns=("split", "target", "left out"),
            rows=tuple(reasons),
            words=3,
            folded=True,
        )
    )
    return tuple(tables)


def _by_probe(
    targets: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, Mapping[str, Any], Mapping[str, float]]]:
    """What each target is called, the target, and its scores, for each probe it has."""
    return [
        (f"{TARGETS[name]}, {probe}" if "nearest" in one else TARGETS[name], one, one[kind])
        for name, one in targets.items()
        for kind, probe in PROBES.items()
        if kind in one
    ]


def set_label(features: str) -> str:
    """Words for a set of features."""
    count = features.removeprefix("pca_")
    return SETS.get(features, f"{count} principal components")


def set_colour(features: str) -> str:
    """Colour of a set of features, the same in every figure."""
    return _SET_COLOURS.get(features, _PCA_COLOUR)


def _chance(target: Mapping[str, Any]) -> float:
    """The score of a guess that looks at nothing."""
    return 0.0 if target["metric"] == "r2" else 1 / target["classes"]


def plot_probes(*, evaluation: Path, output: Path) -> None:
    """Draw the scores of the probes of a sensor or of the fusion as bars, by target and probe.

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
            metric: [each for each in _by_probe(targets) if each[1]["metric"] == metric]
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
            f"{content['model']}: probes on {samples:,} {split} samples", x=0.01, ha="left"
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
    axes: Axes,
    targets: Sequence[tuple[str, Mapping[str, Any], Mapping[str, float]]],
    sets: list[str],
    label: str,
) -> None:
    wide = 0.8 / len(sets)
    places = np.arange(len(targets))
    for position, features in enumerate(sets):
        scores = np.array([found[features] for _, _, found in targets])
        x = places + (position - (len(sets) - 1) / 2) * wide
        axes.bar(
            x,
            scores.clip(LOWEST),
            wide * 0.92,
            color=set_colour(features),
            label=set_label(features),
        )
        for at, score in zip(x, scores, strict=True):
            if score < LOWEST:
                axes.text(at, 0.02, f"{score:.1f}".replace("-", "−"), ha="center", fontsize=7)
    for place, (_, one, _) in zip(places, targets, strict=True):
        axes.plot(
            [place - 0.45, place + 0.45],
            [_chance(one)] * 2,
            color=MUTED,
            linestyle=":",
            label=CHANCE if place == 0 else None,
        )
    ticks = [text.replace(": ", ":\n").replace(", ", ",\n") for text, _, _ in targets]
    axes.set_xticks(places, [tick.replace(" to the next", "\nto the next") for tick in ticks])
    axes.tick_params(axis="x", length=0, labelcolor=INK)
    low = min(score for _, _, found in targets for score in found.values())
    axes.set_ylim(min(0.0, max(LOWEST, low - 0.05)), 1)
    axes.set_xlim(-0.6, len(targets) - 0.4)
    axes.set_ylabel(label)
    axes.grid(axis="y")
