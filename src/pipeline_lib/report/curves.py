"""Training and validation metrics by epoch (the paper's Fig. 5)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipeline_lib.errors import UserError
from pipeline_lib.report.paper import METRICS, published
from pipeline_lib.report.style import COLOURS, MUTED, drawing

_COLUMN = re.compile(
    r"(?:(?P<sensor>.+?)[./:_ ])?(?P<metric>centre_mae_scaled|centre_mae|context_mae|sam|ssim_loss)"
)
_METRICS = (("centre_mae_scaled", "centre_mae"), ("sam",), ("context_mae",), ("ssim_loss",))
"""What is drawn, in this order; of alternatives the first that is there."""
_AT_CENTRE = _METRICS[:2]

_COLUMNS = 4

_LOGARITHMIC = {"centre_mae_scaled", "centre_mae"}
_FEW_EPOCHS = 25


def plot_curves(*, curves: Mapping[str, Path], output: Path) -> None:
    """Draw each training's metrics by epoch, training and validation.

    ``curves`` is training (a sensor, or ``fusion``) -> ``curves.csv`` with the columns ``epoch``,
    ``split`` (train or validation) and metrics; the fusion's are prefixed by a sensor. Where the
    paper gives a validation value in the same unit, it is a dotted line. The fusion is judged at
    the target pixel of each sensor, so its other metrics are not drawn.
    """
    trainings = {name: _panels(name, path) for name, path in curves.items()}
    rows = [math.ceil(len(panels) / _COLUMNS) for panels in trainings.values()]
    with drawing(output, width=11, height=2.3 * sum(rows) + 0.4) as figure:
        parts = figure.subfigures(len(rows), 1, height_ratios=rows, squeeze=False)[:, 0]
        legend: dict[str, Artist] = {}
        for part, count, (name, panels) in zip(parts, rows, trainings.items(), strict=True):
            part.suptitle(name, x=0.01, ha="left", fontsize=10, fontweight="bold")
            grid = part.subplots(count, _COLUMNS, squeeze=False).ravel()
            for axes, panel in zip_longest(grid, panels):
                if panel is None:
                    axes.set_axis_off()
                    continue
                _draw(axes, panel)
                handles, labels = axes.get_legend_handles_labels()
                legend.update(zip(labels, handles, strict=True))
        figure.legend(
            list(legend.values()), list(legend), loc="outside lower center", ncols=len(legend)
        )


@dataclass(frozen=True)
class _Panel:
    title: str
    values: dict[str, pd.Series]
    """Split -> metric by epoch."""
    paper: float | None
    logarithmic: bool


def _panels(name: str, path: Path) -> list[_Panel]:
    table = pd.read_csv(path)
    found = metric_columns(table, path)
    by_sensor = {sensor: columns for sensor, columns in found.items() if sensor}
    stage, shown = ("fusion", _AT_CENTRE) if by_sensor else ("encoder", _METRICS)
    panels = []
    for sensor, columns in (by_sensor or found).items():
        for alternatives in shown:
            metric = next((m for m in alternatives if m in columns), None)
            if metric is None:
                continue
            result = published(stage, sensor or name, metric)
            label, unit = METRICS[metric]
            by_epoch = table.set_index("epoch").groupby("split")[columns[metric]]
            panels.append(
                _Panel(
                    title="\n".join(filter(None, (sensor, label, f"({unit})"))),
                    values={str(split): series.dropna() for split, series in by_epoch},
                    paper=result.validation if result and result.same_unit else None,
                    logarithmic=metric in _LOGARITHMIC,
                )
            )
    return panels


def metric_columns(table: pd.DataFrame, path: Path) -> dict[str, dict[str, str]]:
    """The metrics of a table: sensor (empty if not prefixed) -> metric -> column.

    Raises UserError if there are none.
    """
    found: dict[str, dict[str, str]] = {}
    for column in table.columns:
        match = _COLUMN.fullmatch(column)
        if match and table[column].notna().any():
            found.setdefault(match["sensor"] or "", {})[match["metric"]] = column
    if not found or not {"epoch", "split"} <= set(table.columns):
        raise UserError(f"{path}: no metrics by epoch and split; train this model again")
    return found


def _draw(axes: Axes, panel: _Panel) -> None:
    styles = (("train", "training", COLOURS[0], "o"), ("validation", "validation", COLOURS[4], "s"))
    for split, label, colour, marker in styles:
        series = panel.values.get(split, pd.Series(dtype=float))
        axes.plot(
            series.index,
            series.to_numpy(),
            color=colour,
            marker=marker if len(series) <= _FEW_EPOCHS else "",
            markersize=3.5,
            label=label,
        )
    if panel.paper is not None:
        axes.axhline(panel.paper, color=MUTED, linestyle=":", label="the paper's validation value")
    if panel.logarithmic:
        axes.set_yscale("log")
    axes.set_title(panel.title, loc="left", fontsize=8)
    axes.set_xlabel("epoch", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.grid()
