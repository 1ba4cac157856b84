"""Figures of GPP: by day, method by method, point by point, by length of a window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline_lib.files import read_json
from pipeline_lib.gpp.crossval import read_predictions
from pipeline_lib.gpp.methods import (
    BANDS,
    CLIMATOLOGY,
    EMBEDDING,
    INPUTS,
    LEAVE_ONE_SITE_OUT,
    REGRESSORS,
    SCHEMES,
    TEMPORAL_HOLDOUT,
    TRANSFORMER,
    Experiment,
    label_of,
)
from pipeline_lib.gpp.metrics import agreement
from pipeline_lib.gpp.series import SPREAD, features_of, read_series
from pipeline_lib.gpp.targets import read_sites, read_targets
from pipeline_lib.gpp.windows import VALIDATION
from pipeline_lib.report.style import COLOURS, INK, MUTED, drawing

OBSERVED, PREDICTED, LEFT_OUT = "0.62", COLOURS[0], COLOURS[4]
GPP_LABEL = "GPP (g C m$^{-2}$ d$^{-1}$)"
RMSE_LABEL = "RMSE (g C m$^{-2}$ d$^{-1}$)"
SHOWN = (0.01, 0.99)
"""Quantiles of a tower's embeddings between which its panel is sure to reach."""
METHOD_COLOURS = dict(zip([*REGRESSORS, CLIMATOLOGY], (*COLOURS[:3], MUTED), strict=True))
SCHEME_TITLES = {
    TEMPORAL_HOLDOUT: "temporal holdout",
    LEAVE_ONE_SITE_OUT: "leave-one-site-out",
}


def plot_days(*, folder: Path, output: Path) -> None:
    """Draw a panel per site: kept days, predictions, validation years shaded (Fig. 7 of the paper).

    ``folder`` is that of `score_gpp`, for all figures; ``output`` a PNG.
    """
    years = read_json(folder / "metrics.json")["validation_years"]
    predicted = pd.read_csv(folder / "predictions.csv", parse_dates=["date"])
    towers = read_sites(folder / "sites.csv").sort_values(["vegetation", "site"])
    columns = min(3, len(towers))
    rows = -(-len(towers) // columns)
    with drawing(output, width=4.6 * columns, height=2.5 * rows + 0.9) as figure:
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for panel, (site, about) in zip(panels.flat, towers.iterrows(), strict=False):
            panel.set_title(f"{site} ({about['vegetation']})", loc="left")
            own = predicted[predicted["site"] == site]
            targets = read_targets(folder / "targets" / f"{site}.csv")
            _draw_days(panel, about, own, targets, years)
        for panel in panels.flat[len(towers) :]:
            panel.set_axis_off()
        for panel in panels[:, 0]:
            panel.set_ylabel(GPP_LABEL)
        _legend(figure, panels.flat, markerscale=4)


def _draw_days(
    panel: Any,
    about: pd.Series[Any],
    predicted: pd.DataFrame,
    targets: pd.DataFrame,
    validation_years: Sequence[int],
) -> None:
    for year in validation_years:
        start, end = pd.Timestamp(year, 1, 1), pd.Timestamp(year + 1, 1, 1)
        panel.axvspan(start, end, color="0.93", zorder=0, label="validation year")
    kept = targets.loc[targets["kept"], "gpp"]
    dots = {"ms": 2.5, "color": OBSERVED, "mew": 0, "rasterized": True}
    panel.plot(kept.index, kept, ".", label="observed", **dots)
    first, last = targets.index[[0, -1]]
    panel.set_xlim(first, last)
    years = range(first.year, last.year + 1)
    panel.set_xticks([pd.Timestamp(year, 1, 1) for year in years], labels=years)
    panel.set_ylim(bottom=0)
    if predicted.empty:
        _note(panel, "no window" if about["used"] else f"not used: {about['reason']}")
        return
    line = predicted.set_index("date").reindex(targets.index)
    mean, std = line[TEMPORAL_HOLDOUT], line[f"{TEMPORAL_HOLDOUT}_std"]
    if std.notna().any():
        band = {"color": PREDICTED, "alpha": 0.25, "lw": 0, "label": "standard deviation over fits"}
        panel.fill_between(line.index, mean - std, mean + std, **band)
    left_out = line[LEAVE_ONE_SITE_OUT]
    if left_out.notna().any():
        panel.plot(line.index, left_out, color=LEFT_OUT, lw=0.8, label="leave-one-site-out")
    panel.plot(line.index, mean, color=PREDICTED, lw=1.2, label="temporal holdout")
    scored = predicted[(predicted["part"] == VALIDATION) & predicted["observed"].notna()]
    _note(panel, _summary(agreement(scored["observed"], scored[TEMPORAL_HOLDOUT])))


def _summary(scores: Mapping[str, float | int | None]) -> str:
    if scores["rmse"] is None:
        return "no validation day"
    r2 = "" if scores["r2"] is None else f"R² = {scores['r2']:.2f}, "
    return f"validation: {r2}RMSE = {scores['rmse']:.2f}".replace("-", "−")


def _note(panel: Axes, text: str) -> None:
    box = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1.5}
    panel.text(0.015, 0.97, text, transform=panel.transAxes, va="top", fontsize=8, bbox=box)


def _legend(figure: Figure, panels: Iterable[Any], *, markerscale: float = 1) -> None:
    entries: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        entries |= {label: handle for handle, label in zip(handles, labels, strict=True)}
    place: dict[str, Any] = {"loc": "outside lower center", "ncols": len(entries)}
    figure.legend(entries.values(), entries.keys(), markerscale=markerscale, **place)


def plot_series(*, folder: Path, output: Path) -> None:
    """Draw the daily embeddings around each tower, above its GPP."""
    towers = read_sites(folder / "sites.csv").index
    with drawing(output, width=11, height=1.9 * len(towers) + 0.7) as figure:
        panels = figure.subplots(len(towers), 1, sharex=True, squeeze=False)[:, 0]
        for panel, tower in zip(panels, towers, strict=True):
            table = read_series(folder / "series" / EMBEDDING / f"{tower}.csv")
            for index, name in enumerate(features_of(table)):
                colour = COLOURS[index % len(COLOURS)]
                mean, spread = table[name], table[f"{name}{SPREAD}"]
                panel.plot(table.index, mean, color=colour, lw=0.9, label=f"dimension {index + 1}")
                panel.fill_between(
                    table.index, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0
                )
                seen = table["observed"]
                panel.plot(table.index[seen], mean[seen], ".", ms=3.5, color=colour, mew=0)
            # A few dates of snow or missed cloud would flatten all others.
            values = table[features_of(table)].to_numpy()
            if np.isfinite(values).any():
                low, high = np.nanquantile(values, SHOWN)
                panel.set_ylim(low - 0.2 * (high - low), high + 0.2 * (high - low))
            panel.set_title(tower, loc="left")
            panel.set_ylabel("embedding (1)")
            own = panel.twinx()
            kept = read_targets(folder / "targets" / f"{tower}.csv").query("kept")["gpp"]
            own.plot(kept.index, kept, ".", ms=2.5, color="0.8", mew=0, label="GPP")
            own.set_ylabel(GPP_LABEL, color=MUTED)
            own.spines["right"].set_visible(True)
            own.set_zorder(panel.get_zorder() - 1)
            panel.patch.set_visible(False)
        _legend(figure, [*panels, own], markerscale=4)


def plot_methods(*, folder: Path, output: Path) -> None:
    """Draw the error of every method without weather, by scheme and vegetation type."""
    methods = {
        name: about
        for name, about in read_json(folder / "metrics.json")["methods"].items()
        if "weather" not in name
    }
    methods = dict(sorted(methods.items(), key=lambda item: _order(item[0])))
    scores = {
        TEMPORAL_HOLDOUT: {n: one[TEMPORAL_HOLDOUT][VALIDATION] for n, one in methods.items()},
        LEAVE_ONE_SITE_OUT: {n: one[LEAVE_ONE_SITE_OUT] for n, one in methods.items()},
    }
    # All methods are scored on the same days.
    days = {scheme: found[CLIMATOLOGY] for scheme, found in scores.items()}
    scores = {scheme: found for scheme, found in scores.items() if days[scheme]["overall"]["n"]}
    types = sorted({kind for scheme in scores for kind in days[scheme]["per_vegetation"]})
    with drawing(output, width=11, height=0.4 + 3.4 * len(scores)) as figure:
        widths = [1.4, *[1] * len(types)]
        layout: dict[str, Any] = {
            "sharex": True,
            "sharey": True,
            "squeeze": False,
            "width_ratios": widths,
        }
        grid = figure.subplots(len(scores), 1 + len(types), **layout)
        for row, (scheme, found) in zip(grid, scores.items(), strict=True):
            for panel, group in zip(row, [None, *types], strict=True):
                _draw_methods(panel, found, group)
                title = "all sites" if group is None else group
                whole = f"{SCHEME_TITLES[scheme]}: {title}" if group is None else title
                panel.set_title(whole, loc="left")
        labels = [", ".join(about["label"]) for about in methods.values()]
        grid[0, 0].set_yticks(range(len(methods)), labels)
        grid[0, 0].invert_yaxis()
        for panel in grid[-1]:
            panel.set_xlabel(RMSE_LABEL)
        _legend(figure, grid.flat)


def _order(method: str) -> tuple[int, int]:
    """Methods of one regressor together, the climatology last."""
    inputs, _, regressor = method.rpartition("-")
    if not inputs:
        return len(REGRESSORS), 0
    return list(REGRESSORS).index(regressor), list(INPUTS).index(inputs.partition("+")[0])


def _draw_methods(panel: Axes, scores: Mapping[str, Mapping[str, Any]], group: str | None) -> None:
    for place, (method, one) in enumerate(scores.items()):
        regressor = method.rpartition("-")[2]
        shown = one["overall"] if group is None else one["per_vegetation"].get(group)
        if not shown or shown["rmse"] is None:
            continue
        label = REGRESSORS.get(regressor, regressor)
        panel.plot(shown["rmse"], place, "o", color=METHOD_COLOURS[regressor], ms=6, label=label)
        if group is None and len(one["by_fit"]) > 1:
            fits = [fit["rmse"] for fit in one["by_fit"]]
            panel.plot(fits, [place] * len(fits), "|", color=INK, ms=8, label="single fits")
        if method == CLIMATOLOGY:
            panel.axvline(shown["rmse"], color=MUTED, lw=0.8, ls=":")
    panel.grid(axis="x")


def plot_points(*, folder: Path, output: Path) -> None:
    """Draw predicted against observed GPP of the scored days, by scheme and method."""
    metrics = read_json(folder / "metrics.json")
    days = pd.read_csv(folder / "predictions.csv", parse_dates=["date"])
    days = days.loc[days["observed"].notna(), ["site", "date", "vegetation", "observed"]]
    length = metrics["window_days"]
    methods = ((EMBEDDING, TRANSFORMER), (BANDS, TRANSFORMER), ("", CLIMATOLOGY))
    shown = [Experiment(inputs, regressor, length) for inputs, regressor in methods]
    types = sorted(days["vegetation"].unique())
    colours = dict(zip(types, COLOURS * len(types), strict=False))
    top = float(days["observed"].max())
    with drawing(output, width=9, height=6.4) as figure:
        grid = figure.subplots(2, len(shown), sharex=True, sharey=True)
        for column, experiment in zip(grid.T, shown, strict=True):
            own = days.merge(read_predictions(folder / experiment.file), on=["site", "date"])
            for panel, scheme in zip(column, SCHEMES, strict=True):
                temporal = scheme == TEMPORAL_HOLDOUT
                scored = own[own["part"] == VALIDATION] if temporal else own
                mean = scored.filter(regex=rf"^{scheme}_\d+$").mean(axis=1)
                scored = scored.assign(predicted=mean)[mean.notna()]
                dots = {"ms": 2.5 if temporal else 1.5, "mew": 0, "alpha": 0.6, "rasterized": True}
                for kind, one in scored.groupby("vegetation"):
                    colour = colours[str(kind)]
                    panel.plot(
                        one["observed"], one["predicted"], ".", color=colour, label=kind, **dots
                    )
                panel.plot([0, top], [0, top], color=INK, lw=0.8)
                panel.set_aspect("equal")
                label = ", ".join(label_of(experiment.method))
                panel.set_title(f"{label}\n{SCHEME_TITLES[scheme]}")
                _note(panel, _agreement_text(agreement(scored["observed"], scored["predicted"])))
        for panel in grid[-1]:
            panel.set_xlabel(f"observed {GPP_LABEL}")
        for panel in grid[:, 0]:
            panel.set_ylabel(f"predicted {GPP_LABEL}")
        _legend(figure, grid.flat, markerscale=5)


def _agreement_text(scores: Mapping[str, float | int | None]) -> str:
    if scores["r2"] is None:
        return "no day"
    text = (
        f"n = {scores['n']:,}\nR² = {scores['r2']:.2f}\nRMSE = {scores['rmse']:.2f}\n"
        f"NRMSE = {scores['nrmse']:.3f}\nbias = {scores['bias']:.2f}"
    )
    return text.replace("-", "−")


def plot_lengths(*, folder: Path, output: Path) -> None:
    """Draw the error by length of the window."""
    lengths = read_json(folder / "metrics.json")["lengths"]
    with drawing(output, width=5.5, height=3.2) as figure:
        panel = figure.subplots()
        for (inputs, found), colour in zip(lengths.items(), COLOURS, strict=False):
            days = [int(day) for day in found]
            whole = [one["overall"]["rmse"] for one in found.values()]
            panel.plot(days, whole, "o-", color=colour, label=f"{INPUTS[inputs]}, mean of the fits")
            for day, one in zip(days, found.values(), strict=True):
                fits = [fit["rmse"] for fit in one["by_fit"]]
                panel.plot([day] * len(fits), fits, "_", color=colour, ms=9)
        panel.set_xticks(days)
        panel.set_xlabel("length of a window (days)")
        panel.set_ylabel(RMSE_LABEL)
        panel.set_ylim(bottom=0)
        panel.grid(axis="y")
        panel.legend()
