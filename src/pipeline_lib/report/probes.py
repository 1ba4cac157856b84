"""Scores of the probes, as tables and as a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline_lib.files import read_json
from pipeline_lib.report.style import COLOURS, INK, MUTED, drawing
from pipeline_lib.report.tables import Table

TARGETS = {
    "neighbourhood_mean": "neighbourhood: mean",
    "neighbourhood_std": "neighbourhood: standard deviation",
    "next_change": "bands: change to the next date",
    "ndvi_change": "NDVI: change to the next date",
    "leaf_area": "leaf area",
    "soil_moisture": "soil moisture",
    "leaf_area_change": "leaf area: change to the next date",
    "land_cover": "land cover",
    "label": "field label",
}
METRICS = {"r2": "R²", "balanced_accuracy": "balanced accuracy"}
SETS = {
    "bands": ("bands", COLOURS[0]),
    "bands_averaged": ("bands, radar averaged", COLOURS[5]),
    "latents": ("latents of all sensors", COLOURS[3]),
    "reference_only": ("embedding without other sensors", COLOURS[6]),
    "embedding_mixed": ("embedding, half without other sensors", COLOURS[4]),
    "embedding": ("embedding", COLOURS[1]),
    "bands+embedding": ("bands and embedding", MUTED),
}
"""Set of features -> words for it, and its colour in every figure; `set_style` has the others."""
DRAWN = ("bands", "bands_averaged", "mean_5", "mean_15", "latents", "reference_only", "embedding")
"""Sets of the figure, besides principal components; the tables have all."""
SHOWN = ("test", "validation")
"""Splits in the order of preference: where one has no score at all, the next one is shown."""
PROBES = {"scores": "linear", "boosting": "boosting", "nearest": "k nearest"}
"""Scores of a target -> by which probe, where there is more than one."""
CHANCE = "chance"
LEGEND_COLUMNS = 5
LOWEST = -0.5
"""Lower end of the axis of R2. Below it a probe is of no use, however far it falls."""


class Scored(NamedTuple):
    """The scores of one probe of a target by set of features, and that of chance."""

    label: str
    metric: str
    scores: Mapping[str, float]
    chance: float
    samples: int
    fit_samples: int | None = None


def scored_probes(evaluation: Mapping[str, Any], split: str) -> list[Scored]:
    """The probes of a split that have scores."""
    return list(_scored(evaluation["splits"].get(split, {}).get("targets", {})))


def site_probes(evaluation: Mapping[str, Any]) -> list[Scored]:
    """The probes that are scored at sites left out."""
    return list(_scored(evaluation["leave_one_site_out"]))


def _scored(targets: Mapping[str, Any]) -> Iterator[Scored]:
    for name, one in targets.items():
        kinds = [kind for kind in PROBES if kind in one]
        for kind in kinds if one["reason"] is None else ():
            yield Scored(
                TARGETS[name] + f", {PROBES[kind]}" * (len(kinds) > 1),
                one["metric"],
                one[kind],
                0.0 if one["metric"] == "r2" else 1 / one["classes"],
                one["samples"],
                one.get("fit_samples"),
            )


def shown_split(evaluation: Mapping[str, Any]) -> str | None:
    """The split that stands for a model: the first of `SHOWN` with a score."""
    return next((split for split in SHOWN if scored_probes(evaluation, split)), None)


def set_style(features: str) -> tuple[str, str]:
    """Words for a set of features, and its colour."""
    if features in SETS:
        return SETS[features]
    kind, _, rest = features.partition("_")
    if kind == "mean":
        return f"average of {rest} x {rest} px", COLOURS[5 if rest == "5" else 6]
    if kind == "latents":
        return f"latents of {rest}", COLOURS[3]
    count, _, averaged = rest.partition("_")
    return f"{count} principal components" + ", radar averaged" * bool(averaged), COLOURS[2]


def probe_tables(name: str, evaluation: Mapping[str, Any]) -> tuple[Table, ...]:
    """Scores by target and set of features, at sites left out and by split, how sharp a sensor's
    features are, and what is skipped.

    ``evaluation`` is ``evaluation/probes-<name>.json``.
    """
    first, sets = shown_split(evaluation), evaluation["features"]
    tables = []
    skipped = [(split, "all", why) for split, why in evaluation["skipped"].items()]
    for split in SHOWN:
        for target, one in evaluation["splits"].get(split, {}).get("targets", {}).items():
            unseen = one.get("unseen_classes")
            reasons = (one["reason"], unseen and f"{unseen} classes that the fit has not seen")
            skipped += [(split, TARGETS[target], why) for why in reasons if why]
        rows = (_row(one, sets) for one in scored_probes(evaluation, split))
        caption = f"Probes of {name}, {split} samples: score of each set of features."
        tables.append(Table.of(caption, rows, words=2, folded=split != first))
    caption, heads = f"What the probes of {name} skip.", ("split", "target", "why")
    sharp = evaluation.get("sharpness") or {"pairs": 0, "sets": {}}
    steps = Table.of(
        f"Neighbouring pixels of {name} in held-out cubes, {sharp['pairs']:,} pairs within a field "
        "and as many at the edge of one: the step within a field in standard deviations of the "
        "training samples, and how many times as large it is at edges.",
        (
            {"features": set_style(features)[0], "step within a field": one["step_within_field"]}
            | {"contrast at edges": one["contrast"]}
            for features, one in sharp["sets"].items()
        ),
    )
    return (
        _site_table(name, evaluation),
        *tables,
        steps,
        Table(caption, heads, tuple(skipped), words=3, folded=True),
    )


def _site_table(name: str, evaluation: Mapping[str, Any]) -> Table:
    """Scores at sites left out, a row for each set of features."""
    probes = site_probes(evaluation)
    counts = sorted({one.samples for one in probes})
    samples = " to ".join(dict.fromkeys(f"{count:,}" for count in (*counts[:1], *counts[-1:])))
    return Table.of(
        f"Probes of {name}, leave-one-site-out: every site is predicted by models that were fitted "
        f"on the others; {samples} samples by target.",
        (
            {"features": f"{set_style(features)[0]} ({size})"}
            | {f"{one.label} ({METRICS[one.metric]})": one.scores[features] for one in probes}
            for features, size in evaluation["features"].items()
            if probes and features in probes[0].scores
        ),
    )


def _row(one: Scored, sets: Mapping[str, int]) -> dict[str, Any]:
    scores = {
        f"{set_style(features)[0]} ({size})": f"{one.scores[features]:.3f}"
        for features, size in sets.items()
    }
    about: dict[str, Any] = {"target": one.label, "score": METRICS[one.metric], **scores}
    about |= {CHANCE: f"{one.chance:.3f}", "samples": one.samples}
    return about | {"samples of the fit": one.fit_samples}


def plot_probes(*, evaluation: Path, output: Path) -> None:
    """Draw the scores of the probes of a model as bars, by target and probe.

    R2 and balanced accuracy have an axis each. A bar that would leave its axis has its value
    written above it. Where nothing has a score, the picture says so.
    """
    content = read_json(evaluation)
    split = shown_split(content)
    with drawing(output, width=12, height=4) as figure:
        if split is None:
            say(figure, "No probe has enough samples for a score.")
            return
        probes = scored_probes(content, split)
        panels = {metric: [one for one in probes if one.metric == metric] for metric in METRICS}
        panels = {metric: own for metric, own in panels.items() if own}
        widths = [len(own) for own in panels.values()]
        grid = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
        for axes, (metric, own) in zip(grid, panels.items(), strict=True):
            _draw(axes, own, METRICS[metric])
        samples = content["splits"][split]["samples"]
        figure.suptitle(
            f"{content['model']}: probes on {samples:,} {split} samples", x=0.01, ha="left"
        )
        # Lines come first by themselves; people look for the bars.
        line, *bars = zip(*grid[0].get_legend_handles_labels(), strict=True)
        handles, labels = zip(*bars, line, strict=True)
        rows = -(-len(labels) // LEGEND_COLUMNS)
        figure.legend(handles, labels, loc="outside lower center", ncols=-(-len(labels) // rows))


def say(figure: Figure, text: str) -> None:
    """Write on an empty figure why it is empty."""
    axes = figure.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center")


def draw_bars(axes: Axes, groups: Sequence[Mapping[str, float | None]], lowest: float) -> None:
    """Bars of a value by set of features, side by side in each group; none where there is none."""
    sets = list(groups[0])
    wide = 0.8 / len(sets)
    for position, features in enumerate(sets):
        values = np.array([one[features] for one in groups], np.float64)
        x = np.arange(len(groups)) + (position - (len(sets) - 1) / 2) * wide
        label, colour = set_style(features)
        axes.bar(x, values.clip(lowest), wide * 0.92, color=colour, label=label)
        for at, value in zip(x, values, strict=True):
            if value < lowest:
                axes.text(at, 0.02, f"{value:.1f}".replace("-", "−"), ha="center", fontsize=7)
    axes.tick_params(axis="x", length=0, labelcolor=INK)
    axes.grid(axis="y")


def _draw(axes: Axes, probes: Sequence[Scored], label: str) -> None:
    shown = [
        name
        for name in probes[0].scores
        if name in DRAWN or (name.startswith("pca_") and f"{name}_averaged" not in probes[0].scores)
    ]
    groups = [{name: one.scores[name] for name in shown} for one in probes]
    draw_bars(axes, groups, LOWEST)
    places = np.arange(len(probes))
    chance = [one.chance for one in probes]
    axes.hlines(chance, places - 0.45, places + 0.45, color=MUTED, linestyle=":", label=CHANCE)
    ticks = [one.label.replace(": ", ":\n").replace(", ", ",\n") for one in probes]
    axes.set_xticks(places, [tick.replace(" to the next", "\nto the next") for tick in ticks])
    low = min(score for one in groups for score in one.values())
    axes.set_ylim(min(0.0, max(LOWEST, low - 0.05)), 1)
    axes.set_xlim(-0.6, len(probes) - 0.4)
    axes.set_ylabel(label)
