"""Tables of a run's report, from the JSON files of its evaluations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from pipeline_lib.config import Sensor
from pipeline_lib.cubes import read_cube
from pipeline_lib.report.paper import METRICS, PAPER, Published

SPLITS = ("training", "validation", "test")
NONE = "–"

Record = dict[str, Any]
"""Column -> cell of one row."""


@dataclass(frozen=True)
class Table:
    """A table: cells are text, or numbers that the template formats; none is a dash.

    The first ``words`` columns are text; ``groups`` are headings above the columns, text and
    number of columns; a folded table is shown only when someone opens it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    words: int = 1
    groups: tuple[tuple[str, int], ...] = ()
    folded: bool = False

    @classmethod
    def of(cls, caption: str, records: Iterable[Record], **settings: Any) -> Self:
        """A row per record, with the columns of all of them."""
        rows = list(records)
        columns = tuple(dict.fromkeys(name for row in rows for name in row))
        cells = tuple(tuple(row.get(name) for name in columns) for row in rows)
        return cls(caption, columns, cells, **settings)


def number(value: float | int | None, digits: int = 3) -> str:
    """A number with ``digits`` significant digits, all those of counts and from 1000 on; a dash
    where there is none."""
    if value is None or not np.isfinite(value):
        return NONE
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
    return Table.of(
        "Cubes by split; all cubes of a site are in one. Models learn from training alone; "
        "validation chooses the epoch, and test is held out until the end.",
        (
            {"split": name, "cubes": ", ".join(cubes) or NONE, "number": len(cubes)}
            for name, cubes in members.items()
        ),
        words=2,
    )


def facts_of_cubes(cubes: Iterable[Path], sensors: Mapping[str, Sensor]) -> tuple[Table, ...]:
    """Cubes, frames and clear fraction of each sensor, and what cubes miss."""
    found: dict[str, list[tuple[int, float, bool]]] = {name: [] for name in sensors}
    missing: dict[str, Counter[str]] = {name: Counter() for name in sensors}
    for path in cubes:
        with read_cube(path, load=False) as cube:
            sensor, texts = str(cube.attrs["sensor"]), json.loads(cube.attrs["missing"])
            pixels = cube.sizes["y"] * cube.sizes["x"]
            share = np.asarray(json.loads(cube.attrs["valid_counts"])) / pixels
            if "clear_share" in cube:
                share = cube["clear_share"].values
        missing[sensor].update(texts)
        found[sensor].append((len(share), float(np.mean(share)), bool(texts)))
    rows: list[Record] = []
    for name, own in found.items():
        frames, shares, incomplete = zip(*own, strict=True) if own else ((), (), ())
        about = {"sensor": name, "cubes": len(own), "frames": sum(frames)}
        about["frames per cube"] = f"{min(frames)} to {max(frames)}" if own else None
        about["usable fraction"] = f"{100 * np.mean(shares):.0f} %" if own else None
        rows.append(about | {"incomplete": sum(incomplete)})
    summary = Table.of(
        "Cubes of each sensor. The usable fraction of a frame is that of its clear pixels, or, "
        "where a cube does not say, of its pixels with data; mean over frames and cubes.",
        rows,
    )
    gaps = [
        {"sensor": sensor, "what": text, "cubes": count}
        for sensor, texts in missing.items()
        for text, count in sorted(texts.items(), key=lambda item: (-item[1], item[0]))
    ]
    caption = "What is missing in cubes, as they record it themselves."
    return summary, Table.of(caption, gaps, words=2, folded=len(gaps) > 8)


_Errors = tuple[Record, Mapping[str, Any]]
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
"""When a sensor is masked in an evaluation of the fusion -> words for it."""


def encoder_tables(name: str, evaluation: Mapping[str, Any], quantity: str) -> tuple[Table, ...]:
    """Errors of a trained model and of its baselines by split, by land cover and by season.

    ``evaluation`` is ``evaluation/<sensor>.json``, ``quantity`` what the sensor measures.
    """

    def rows_of(part: Mapping[str, Any]) -> list[_Errors]:
        named = {"this model": part.get("model", {}), **part.get("baselines", {})}
        return [({"method": method_label(label)}, errors) for label, errors in named.items()]

    caption = f"Reconstruction by the encoder and decoder of {name}, and by simple baselines"
    return _reconstruction_tables(evaluation, caption, rows_of, quantity)


def fusion_tables(evaluation: Mapping[str, Any]) -> tuple[Table, ...]:
    """Errors of what is reconstructed of each sensor from the embedding, as `encoder_tables`.

    Where sensors were masked, a second table shows what that costs.
    """

    def rows_of(part: Mapping[str, Any]) -> list[_Errors]:
        named = {"from the embedding": part.get("model", {}), **part.get("baselines", {})}
        return [
            ({"sensor": sensor, "method": method_label(label)}, by_sensor[sensor])
            for sensor in part.get("model", {})
            for label, by_sensor in named.items()
            if sensor in by_sensor
        ]

    first, *others = _reconstruction_tables(
        evaluation,
        "Reconstruction of each sensor from the embedding alone, by the sensor's own encoder, "
        "and by simple baselines",
        rows_of,
    )
    absent: list[_Errors] = [
        ({"split": split, "masked": label, "when": ABSENCES[case], "sensor": sensor}, errors)
        for split in SPLITS
        for label, cases in evaluation.get("splits", {}).get(split, {}).get("absence", {}).items()
        for case, by_sensor in cases.items()
        for sensor, errors in by_sensor.items()
        if errors["samples"]
    ]
    gaps = _errors_table(
        "What it costs that a sensor is missing: reconstruction from the embedding, of samples "
        "that have that sensor, where it is masked.",
        absent,
    )
    return first, gaps, *others


def _reconstruction_tables(
    evaluation: Mapping[str, Any],
    caption: str,
    rows_of: Callable[[Mapping[str, Any]], list[_Errors]],
    quantity: str | None = None,
) -> tuple[Table, ...]:
    """One table of all samples, one of each kind of group, and one of what was skipped."""
    splits = evaluation.get("splits", {})
    known = [(split, splits[split]) for split in SPLITS if split in splits]
    whole: list[_Errors] = [
        ({"split": split, **about}, errors)
        for split, part in known
        for about, errors in rows_of(part)
    ]
    tables = [_errors_table(f"{caption}.", whole, quantity)]
    for kind, (head, text) in _GROUPS.items():
        rows: list[_Errors] = [
            ({"split": split, head: group, **about}, errors)
            for split, part in known
            for group, own in part.get(kind, {}).items()
            for about, errors in rows_of(own)
        ]
        tables.append(_errors_table(f"{caption}, by {text}.", rows, quantity, folded=True))
    skipped = evaluation.get("skipped", {}).items()
    reasons = [{"what": what, "why": why} for what, why in skipped]
    return (*tables, Table.of("What was not evaluated, and why.", reasons, words=2))


def method_label(label: str) -> str:
    """Words for a method of an evaluation."""
    words = label.replace("_", " ")
    count = words.removeprefix("pca ")
    return f"{count} principal components" if count.isdigit() else words


def _errors_table(
    caption: str, rows: Sequence[_Errors], quantity: str | None = None, *, folded: bool = False
) -> Table:
    metrics = [m for m in METRICS if any(errors.get(m) is not None for _, errors in rows)]
    records = (
        {
            **about,
            **{metric_heading(metric, quantity): errors.get(metric) for metric in metrics},
            "samples": errors.get("samples"),
        }
        for about, errors in rows
    )
    words = len(rows[0][0]) if rows else 1
    return Table.of(caption, records, words=words, folded=folded)


def metric_heading(metric: str, quantity: str | None = None) -> str:
    """Name and unit of a metric; ``quantity`` is what the sensor measures, of one sensor alone."""
    label, unit = METRICS[metric]
    if quantity and metric in ("centre_mae", "context_mae"):
        unit = quantity
    return label if unit == "1" else f"{label} ({unit})"


def comparison_table(
    encoders: Mapping[str, Mapping[str, Any]],
    fusion: Mapping[str, Any],
    gpp: Mapping[str, Mapping[str, Any]],
) -> Table:
    """The run's results beside the paper's, from evaluations of encoders by sensor, that of the
    fusion, and scores of GPP by split, of the method that the paper uses."""

    def ours(result: Published, split: str) -> Any:
        if result.stage == "gpp":
            return gpp.get(split, {}).get(result.metric)
        if result.stage == "encoder":
            return _model(encoders.get(result.sensor or "", {}), split).get(result.metric)
        return _model(fusion, split).get(result.sensor, {}).get(result.metric)

    rows = []
    for result in PAPER:
        label, unit = METRICS[result.metric]
        rows.append(
            (
                "GPP" if result.stage == "gpp" else result.stage,
                result.sensor or "all",
                label,
                unit if result.same_unit else f"{unit} (paper: weighted, scaled 0..1)",
                *(ours(result, split) for split in SPLITS),
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


def _model(evaluation: Mapping[str, Any], split: str) -> dict[Any, Any]:
    """What an evaluation says of the model, on a split."""
    return dict(evaluation.get("splits", {}).get(split, {}).get("model", {}))


def _as_printed(value: float | None) -> str:
    """The paper prints four decimals, and two where a number exceeds one."""
    if value is None:
        return NONE
    return f"{value:.4f}" if value < 1 else f"{value:.2f}"


def embeddings_tables(manifests: Mapping[str, Mapping[str, Any]]) -> tuple[Table, ...]:
    """Dates, embedded pixels, clipped values and size of each cube's product, by its manifest."""
    numbers = {
        cube: {
            "dates": len(one["embeddings"]),
            "embedded pixels": sum(one["embeddings"]),
            "clipped values, %": 100 * one["clipped_share"],
            "size, MB": sum(one["files"].values()) / 1e6,
        }
        for cube, one in manifests.items()
    }
    total: Counter[str] = Counter()
    for own in numbers.values():
        total.update(own)
    clipped = sum(own["clipped values, %"] * own["embedded pixels"] for own in numbers.values())
    total["clipped values, %"] = clipped / max(total["embedded pixels"], 1)
    caption = "Embeddings of this run, one vector per cloud-free pixel and date."
    each = ({"cube": cube, **own} for cube, own in numbers.items())
    return (
        Table.of(caption, [{"cubes": len(numbers), **total}], words=0),
        Table.of("Embeddings of each cube.", each, folded=True),
    )
