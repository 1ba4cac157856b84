"""How smooth and how sharp the maps are, as tables and as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_lib.files import read_json
from pipeline_lib.report.probes import draw_bars, say, set_style
from pipeline_lib.report.style import MUTED, drawing
from pipeline_lib.report.tables import SPLITS, Table

NUMBERS = {
    "noise": ("noise in time", "standard deviations"),
    "step": ("step to the next pixel", "standard deviations"),
    "step_within_field": ("step within a field", "standard deviations"),
    "contrast": ("contrast at boundaries", "ratio"),
}
"""Number -> what it is, and its unit."""
COUNTS = {
    "noise": "triples of dates",
    "step": "adjacent pixels",
    "step_within_field": "adjacent pixels of one class",
    "boundary": "boundaries",
}


def map_tables(maps: Mapping[str, Any]) -> tuple[Table, ...]:
    """Noise, steps and contrast by split and set of features, what they are measured on, and what
    is skipped, from ``evaluation/maps.json``."""
    splits = {split: maps["splits"][split] for split in SPLITS if split in maps["splits"]}
    measured = (
        {
            "split": split,
            "features": f"{set_style(features)[0]} ({one['features']})",
            **{label: one[name] for name, (label, _) in NUMBERS.items()},
        }
        for split, part in splits.items()
        for features, one in part["sets"].items()
    )
    counted = (
        {
            "split": split,
            "cubes": part["cubes"],
            "of these, with known classes": part["mapped_cubes"],
            **{label: part["counts"][name] for name, label in COUNTS.items()},
        }
        for split, part in splits.items()
    )
    skipped = ({"split": split, "why": why} for split, why in maps["skipped"].items())
    return (
        Table.of(
            "Noise and sharpness of the maps of each set of features; noise and steps in standard "
            "deviations of the training pixels.",
            measured,
            words=2,
        ),
        Table.of("What the maps are measured on, all dates counted.", counted, folded=True),
        Table.of("Splits whose maps are not measured.", skipped, words=2, folded=True),
    )


def plot_maps(*, evaluation: Path, output: Path) -> None:
    """Draw the numbers of `evaluate.maps.assess_maps` as bars; where there are none, say so."""
    splits = read_json(evaluation)["splits"]
    names = [split for split in SPLITS if split in splits]
    with drawing(output, width=9.6, height=2.8) as figure:
        if not names:
            say(figure, "No map could be measured.")
            return
        by_split = [splits[split]["sets"] for split in names]
        known = [
            name
            for name in NUMBERS
            if any(one[name] is not None for sets in by_split for one in sets.values())
        ]
        panels = figure.subplots(1, len(known), squeeze=False)[0]
        for axes, name in zip(panels, known, strict=True):
            title, unit = NUMBERS[name]
            values = [{label: one[name] for label, one in sets.items()} for sets in by_split]
            draw_bars(axes, values, 0)
            if name == "contrast":
                axes.axhline(1, color=MUTED, linestyle=":")
                axes.text(1.0, 1, "no edge", transform=axes.get_yaxis_transform(), fontsize=8)
            axes.set_title(title, loc="left")
            axes.set_ylabel(unit)
            axes.set_xticks(range(len(names)), names)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
