"""Figure of observed and predicted GPP by site, as Fig. 7 of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline_lib.config import Gpp, Tower
from pipeline_lib.files import atomic_path
from pipeline_lib.gpp.fluxnet import good_share, read_targets
from pipeline_lib.gpp.metrics import agreement
from pipeline_lib.gpp.windows import VALIDATION

OBSERVED, PREDICTED, LEFT_OUT = "0.55", "#0072b2", "#d55e00"
"""Grey, and two colours that the colour-blind tell apart (Okabe and Ito 2008)."""

BRIDGED = 3
"""Strides that a line bridges: days whose GPP is not kept have no window."""


def plot_gpp(*, predictions: Path, targets: Mapping[str, Path], gpp: Gpp, output: Path) -> None:
    """Draw a panel per site: kept days, predictions, validation years shaded.

    Parameters
    ----------
    predictions
        CSV written by ``evaluate_gpp``.
    targets
        Tower -> file written by ``write_targets``.
    gpp
        Towers, period and validation years.
    output
        PNG.
    """
    from matplotlib.figure import Figure

    predicted = pd.read_csv(predictions, parse_dates=["date"])
    towers = sorted(
        (tower for tower in gpp.towers if tower.name in targets),
        key=lambda tower: (tower.vegetation, tower.name),
    )
    columns = min(3, len(towers))
    rows = -(-len(towers) // columns)
    figure = Figure(figsize=(4.6 * columns, 2.5 * rows + 0.9), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel, tower in zip(panels.flat, towers, strict=False):
        own = predicted[predicted["site"] == tower.name]
        _draw_site(panel, tower, own, read_targets(targets[tower.name]), gpp)
    for panel in panels.flat[len(towers) :]:
        panel.set_axis_off()
    for panel in panels[:, 0]:
        panel.set_ylabel("GPP (g C m$^{-2}$ d$^{-1}$)")
    _legend(figure, panels)
    with atomic_path(output) as partial:
        figure.savefig(partial, format="png", dpi=150, metadata={"Software": None})


def _draw_site(
    panel: Any, tower: Tower, predicted: pd.DataFrame, targets: pd.DataFrame, gpp: Gpp
) -> None:
    panel.set_title(f"{tower.name} ({tower.vegetation})", fontsize=10)
    for year in gpp.validation_years:
        panel.axvspan(
            pd.Timestamp(year, 1, 1),
            pd.Timestamp(year + 1, 1, 1),
            color="0.92",
            zorder=0,
            label="validation year",
        )
    kept = targets.loc[targets["kept"], "gpp"]
    panel.plot(
        kept.index, kept, ".", ms=2.5, color=OBSERVED, mew=0, label="observed", rasterized=True
    )
    panel.set_xlim(pd.Timestamp(gpp.period.start), pd.Timestamp(gpp.period.end))
    years = range(gpp.period.start.year, gpp.period.end.year + 1)
    panel.set_xticks([pd.Timestamp(year, 1, 1) for year in years], labels=years)
    panel.set_ylim(bottom=0)
    panel.tick_params(labelsize=8)
    if predicted.empty:
        share = good_share(targets, gpp.min_quality)
        _note(panel, f"left out: {share:.0%} good days")
        return
    line = _broken(predicted.set_index("date"), pd.Timedelta(days=BRIDGED * gpp.stride_days))
    if line["spread"].notna().any():
        panel.fill_between(
            line.index,
            line["predicted"] - line["spread"],
            line["predicted"] + line["spread"],
            color=PREDICTED,
            alpha=0.25,
            lw=0,
            label="spread over seeds",
        )
    if line["left_out"].notna().any():
        panel.plot(line.index, line["left_out"], color=LEFT_OUT, lw=0.9, label="site left out")
    panel.plot(line.index, line["predicted"], color=PREDICTED, lw=1.3, label="predicted")
    scored = predicted[predicted["split"] == VALIDATION]
    _note(panel, _summary(agreement(scored["observed"], scored["predicted"])))


def _broken(line: pd.DataFrame, bridged: pd.Timedelta) -> pd.DataFrame:
    """Put an empty row into every gap longer than ``bridged``, which breaks a drawn line."""
    dates = pd.DatetimeIndex(line.sort_index().index)
    before = dates[:-1][np.diff(dates) > bridged]
    return line.reindex(dates.union(before + pd.Timedelta(days=1)))


def _summary(scores: Mapping[str, float | int | None]) -> str:
    if scores["rmse"] is None:
        return "no validation windows"
    r2 = "" if scores["r2"] is None else f"R² = {scores['r2']:.2f}, "
    return f"validation: {r2}RMSE = {scores['rmse']:.2f}"


def _note(panel: Any, text: str) -> None:
    panel.text(
        0.015,
        0.97,
        text,
        transform=panel.transAxes,
        va="top",
        fontsize=8,
        bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1.5},
    )


def _legend(figure: Any, panels: np.ndarray[Any, Any]) -> None:
    entries: dict[str, Any] = {}
    for panel in panels.flat:
        handles, labels = panel.get_legend_handles_labels()
        entries |= {label: handle for handle, label in zip(handles, labels, strict=True)}
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=len(entries),
        frameon=False,
        fontsize=9,
        markerscale=4,
    )
