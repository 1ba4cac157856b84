"""Training and validation metrics by epoch (the paper's Fig. 5)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
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
    tables = {name: pd.read_csv(path) for name, path in curves.items()}
    panels = {name: shown_metrics(tables[name], path) for name, path in curves.items()}
    rows = [math.ceil(len(own) / _COLUMNS) for own in panels.values()]
    with drawing(output, width=11, height=2.3 * sum(rows) + 0.4) as figure:
        parts = figure.subfigures(len(rows), 1, height_ratios=rows, squeeze=False)[:, 0]
        legend: dict[str, Artist] = {}
        for part, count, (name, own) in zip(parts, rows, panels.items(), strict=True):
            part.suptitle(name, x=0.01, ha="left", fontsize=10, fontweight="bold")
            grid = part.subplots(count, _COLUMNS, squeeze=False).ravel()
            for axes, (sensor, metric, column) in zip(grid, own, strict=False):
                values = tables[name].set_index("epoch").groupby("split")[column]
                _draw(axes, {str(split): series.dropna() for split, series in values})
                paper = published("fusion" if sensor else "encoder", sensor or name, metric)
                if paper and paper.same_unit and paper.validation is not None:
                    label = "the paper's validation value"
                    axes.axhline(paper.validation, color=MUTED, linestyle=":", label=label)
                if metric in _LOGARITHMIC:
                    axes.set_yscale("log")
                words, unit = METRICS[metric]
                title = "\n".join(filter(None, (sensor, words, f"({unit})")))
                axes.set_title(title, loc="left", fontsize=8)
                handles, labels = axes.get_legend_handles_labels()
                legend.update(zip(labels, handles, strict=True))
            for axes in grid[len(own) :]:
                axes.set_axis_off()
        figure.legend(
            list(legend.values()), list(legend), loc="outside lower center", ncols=len(legend)
        )


def shown_metrics(table: pd.DataFrame, path: Path) -> list[tuple[str, str, str]]:
    """What is drawn of a table: sensor (empty if not prefixed), metric and column.

    Raises UserError if there are no metrics by epoch and split.
    """
    found: dict[str, dict[str, str]] = {}
    for column in table.columns:
        match = _COLUMN.fullmatch(column)
        if match and table[column].notna().any():
            found.setdefault(match["sensor"] or "", {})[match["metric"]] = column
    if not found or not {"epoch", "split"} <= set(table.columns):
        raise UserError(f"{path}: no metrics by epoch and split; train this model again")
    prefixed = any(found)
    return [
        (sensor, metric, columns[metric])
        for sensor, columns in found.items()
        if sensor or not prefixed
        for alternatives in (_AT_CENTRE if prefixed else _METRICS)
        for metric in [one for one in alternatives if one in columns][:1]
    ]


def _draw(axes: Axes, values: Mapping[str, pd.Series]) -> None:
    """Draw a metric by epoch, of each split."""
    styles = (("train", "training", COLOURS[0], "o"), ("validation", "validation", COLOURS[4], "s"))
    for split, label, colour, marker in styles:
        series = values.get(split, pd.Series(dtype=float))
        axes.plot(
            series.index,
            series.to_numpy(),
            color=colour,
            marker=marker if len(series) <= _FEW_EPOCHS else "",
            markersize=3.5,
            label=label,
        )
    axes.set_xlabel("epoch", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.grid()
