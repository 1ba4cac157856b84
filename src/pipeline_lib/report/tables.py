"""Tables of a run's report, from the JSON files of its evaluations."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_lib.config import Sensor
from pipeline_lib.cubes import read_cube
from pipeline_lib.report.paper import METRICS, PAPER

SPLITS = ("training", "validation", "test")
_NONE = "–"


@dataclass(frozen=True)
class Table:
    """A table as text: its caption, columns, rows, and how many first columns are words."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    groups: tuple[tuple[str, int], ...] = ()
    """Headings above the columns: text and number of columns."""
    folded: bool = False
    """Shown only when the reader opens it."""


def number(value: float | int | None, digits: int = 3) -> str:
    """A number with ``digits`` significant digits; a dash where there is none.

    Counts keep all their digits, so do the leading ones of numbers from 1000 on.
    """
    if value is None or not np.isfinite(value):
        return _NONE
    if isinstance(value, int) or value == 0:
        return f"{value:,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    return f"{value:#.{digits}g}".rstrip(".")


def split_table(split: Mapping[str, str]) -> Table:
    """Which cubes were learned from, and which were held out, from the split of each cube."""
    members = {
        name: [cube for cube, of in sorted(split.items()) if of == name]
        for name in dict.fromkeys((*SPLITS, *sorted(split.values())))
    }
    return Table(
        caption="Cubes by split; all cubes of a site are in one. Models learn from training alone; "
        "validation chooses the epoch, and test is held out until the end.",
        columns=("split", "cubes", "number"),
        rows=tuple(
            (name, ", ".join(cubes) or _NONE, number(len(cubes))) for name, cubes in members.items()
        ),
        words=2,
    )


def facts_of_cubes(cubes: Iterable[Path], sensors: Mapping[str, Sensor]) -> tuple[Table, ...]:
    """Cubes, frames and clear share of each sensor, and what cubes lack."""
    found: dict[str, list[tuple[int, float, int]]] = {name: [] for name in sensors}
    missing: dict[str, Counter[str]] = defaultdict(Counter)
    for path in cubes:
        cube = read_cube(path, load=False)
        sensor = str(cube.attrs["sensor"])
        counts = json.loads(cube.attrs["valid_counts"])
        pixels = cube.sizes["y"] * cube.sizes["x"]
        share = cube["clear_share"].values if "clear_share" in cube else np.asarray(counts) / pixels
        texts = json.loads(cube.attrs["missing"])
        missing[sensor].update(texts)
        found[sensor].append((len(counts), float(np.mean(share)), bool(texts)))
        cube.close()
    rows = []
    for name, cubes_of in found.items():
        frames = [frames for frames, _, _ in cubes_of]
        shares = [share for _, share, _ in cubes_of]
        rows.append(
            (
                name,
                number(len(cubes_of)),
                number(sum(frames)),
                f"{min(frames)} to {max(frames)}" if frames else _NONE,
                _percent(float(np.mean(shares)) if shares else None),
                number(sum(lacks for _, _, lacks in cubes_of)),
            )
        )
    summary = Table(
        caption="Cubes of each sensor. The usable share of a frame is that of its clear pixels, "
        "or, where a cube does not tell it, of its pixels with data; mean over frames and cubes.",
        columns=("sensor", "cubes", "frames", "frames per cube", "usable share", "lack something"),
        rows=tuple(rows),
    )
    gaps = tuple(
        (sensor, text, number(count))
        for sensor, texts_of in missing.items()
        for text, count in sorted(texts_of.items(), key=lambda item: (-item[1], item[0]))
    )
    if not gaps:
        return (summary,)
    return summary, Table(
        caption="What cubes lack, as they record it themselves.",
        columns=("sensor", "what", "cubes"),
        rows=gaps,
        words=2,
        folded=len(gaps) > 8,
    )


_Errors = tuple[tuple[str, ...], Mapping[str, Any]]
"""What a row is about, and its errors."""

_GROUPS = {
    "land_cover": ("land cover", "land-cover class of the site"),
    "seasons": ("season", "season of the centre frame (DJF: December to February, and so on)"),
}
"""Kind of group in an evaluation -> head of its column, and what the groups are."""


ABSENCES = {
    "never": "never",
    "half_the_dates": "half of the dates",
    "those_dates": "half of the dates, only these",
    "always": "always",
}
"""When a sensor is left out in an evaluation of the fusion -> words for it."""


def encoder_tables(name: str, evaluation: Mapping[str, Any], quantity: str) -> tuple[Table, ...]:
    """Errors of a trained model and of its baselines by split, by land cover and by season.

    Parameters
    ----------
    name
        Sensor.
    evaluation
        ``evaluation/<sensor>.json``.
    quantity
        What the sensor measures.
    """

    def rows_of(part: Mapping[str, Any]) -> list[_Errors]:
        named = {"this model": part.get("model", {}), **part.get("baselines", {})}
        return [((_spelt(label),), errors) for label, errors in named.items()]

    caption = f"Reconstruction by the encoder and decoder of {name}, and by simple baselines"
    return _reconstruction_tables(evaluation, caption, ("method",), rows_of, quantity)


def fusion_tables(evaluation: Mapping[str, Any]) -> tuple[Table, ...]:
    """Errors of what each sensor gets back from the embedding, as `encoder_tables`.

    Where a sensor was left out for trial, a second table tells what that costs.

    Parameters
    ----------
    evaluation
        ``evaluation/fusion.json``: as an encoder's, with the sensor one level below.
    """

    def rows_of(part: Mapping[str, Any]) -> list[_Errors]:
        named = {"from the embedding": part.get("model", {}), **part.get("baselines", {})}
        return [
            ((sensor, _spelt(label)), by_sensor[sensor])
            for sensor in part.get("model", {})
            for label, by_sensor in named.items()
            if sensor in by_sensor
        ]

    caption = (
        "Reconstruction of each sensor from the embedding alone, by the sensor's own encoder, "
        "and by simple baselines"
    )
    tables = _reconstruction_tables(evaluation, caption, ("sensor", "method"), rows_of)
    absent = [
        ((split, label, ABSENCES[case], sensor), errors)
        for split in SPLITS
        for label, cases in evaluation.get("splits", {}).get(split, {}).get("absence", {}).items()
        for case, by_sensor in cases.items()
        for sensor, errors in by_sensor.items()
        if errors["samples"]
    ]
    if not absent:
        return tables
    gaps = _errors_table(
        "What it costs that a sensor is missing: reconstruction from the embedding, of samples "
        "that have that sensor, where it is left out.",
        ("split", "left out", "when", "sensor"),
        absent,
    )
    return tables[0], gaps, *tables[1:]


def _reconstruction_tables(
    evaluation: Mapping[str, Any],
    caption: str,
    heads: tuple[str, ...],
    rows_of: Callable[[Mapping[str, Any]], list[_Errors]],
    quantity: str | None = None,
) -> tuple[Table, ...]:
    """One table of all samples, one of each kind of group, and one of what was left out."""
    splits = evaluation.get("splits", {})
    known = [(split, splits[split]) for split in SPLITS if split in splits]
    whole = [((split, *about), errors) for split, part in known for about, errors in rows_of(part)]
    tables = [_errors_table(f"{caption}.", ("split", *heads), whole, quantity=quantity)]
    for kind, (head, text) in _GROUPS.items():
        rows = [
            ((split, group, *about), errors)
            for split, part in known
            for group, own in part.get(kind, {}).items()
            for about, errors in rows_of(own)
        ]
        tables.append(
            _errors_table(
                f"{caption}, by {text}.",
                ("split", head, *heads),
                rows,
                quantity=quantity,
                folded=True,
            )
        )
    return (*tables, *_left_out(evaluation))


def _spelt(label: str) -> str:
    words = label.replace("_", " ")
    count = words.removeprefix("pca ")
    return f"{count} principal components" if count.isdigit() else words


def _errors_table(
    caption: str,
    heads: tuple[str, ...],
    rows: Sequence[_Errors],
    *,
    quantity: str | None = None,
    folded: bool = False,
) -> Table:
    metrics = [m for m in METRICS if any(errors.get(m) is not None for _, errors in rows)]
    return Table(
        caption=caption,
        columns=(*heads, *(metric_heading(metric, quantity) for metric in metrics), "samples"),
        rows=tuple(
            (
                *about,
                *(number(errors.get(metric)) for metric in metrics),
                number(errors.get("samples")),
            )
            for about, errors in rows
        ),
        words=len(heads),
        folded=folded,
    )


def _left_out(evaluation: Mapping[str, Any]) -> tuple[Table, ...]:
    reasons = evaluation.get("left_out", {})
    if not reasons:
        return ()
    return (
        Table("What was not evaluated, and why.", ("what", "why"), tuple(reasons.items()), words=2),
    )


def metric_heading(metric: str, quantity: str | None = None) -> str:
    """Name and unit of a metric, as the heading of a column.

    ``quantity`` is what the sensor measures, where the heading is of one sensor alone.
    """
    label, unit = METRICS[metric]
    if quantity and metric in ("centre_mae", "context_mae"):
        unit = quantity
    return label if unit == "1" else f"{label} ({unit})"


def comparison_table(ours: Mapping[tuple[str, str | None, str], Mapping[str, Any]]) -> Table:
    """The run's results beside those of the paper.

    Parameters
    ----------
    ours
        Stage, sensor (none: all together) and metric -> split -> value.
    """
    rows = []
    for result in PAPER:
        values = ours.get((result.stage, result.sensor, result.metric), {})
        label, unit = METRICS[result.metric]
        rows.append(
            (
                "GPP" if result.stage == "gpp" else result.stage,
                result.sensor or "all",
                label,
                unit if result.same_unit else f"{unit} (paper: weighted, scaled 0..1)",
                *(number(values.get(split)) for split in SPLITS),
                *(_as_printed(getattr(result, split)) for split in SPLITS),
            )
        )
    return Table(
        caption="Results of this run beside those that the paper reports.",
        columns=("model", "sensor", "result", "unit", *SPLITS, *SPLITS),
        rows=tuple(rows),
        words=4,
        groups=(("", 4), ("this run", 3), ("the paper", 3)),
    )


def embeddings_tables(manifests: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[Table, ...]:
    """Dates, embedded pixels and size of each cube's product.

    Parameters
    ----------
    manifests
        Cube and its ``manifest.json``.
    """
    rows, totals = [], np.zeros(3)
    for cube, manifest in manifests:
        counts = manifest.get("embeddings", [])
        size = sum(manifest.get("files", {}).values())
        totals += (len(counts), sum(counts), size)
        rows.append((cube, number(len(counts)), number(sum(counts)), f"{size / 1e6:.1f}"))
    dates, pixels, size = totals
    columns = ("dates", "embedded pixels", "size, MB")
    total = Table(
        caption="Embeddings of this run, one vector per cloud-free pixel and date.",
        columns=("cubes", *columns),
        rows=((number(len(rows)), number(int(dates)), number(int(pixels)), f"{size / 1e6:.1f}"),),
        words=0,
    )
    each = Table("Embeddings of each cube.", ("cube", *columns), tuple(rows), folded=True)
    return total, each


def _as_printed(value: float | None) -> str:
    """The paper prints four decimals, and two where a number exceeds one."""
    if value is None:
        return _NONE
    return f"{value:.4f}" if value < 1 else f"{value:.2f}"


def _percent(share: float | None) -> str:
    return _NONE if share is None or not np.isfinite(share) else f"{100 * share:.0f} %"
