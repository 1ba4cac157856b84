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
    CLIMATOLOGY,
    EMBEDDING,
    INPUTS,
    LEAVE_ONE_SITE_OUT,
    REGRESSORS,
    SCHEMES,
    TEMPORAL_HOLDOUT,
    WEATHER,
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
METRIC_FORMATS = {
    "n": ("n", ","),
    "r2": ("R²", ".2f"),
    "rmse": ("RMSE", ".2f"),
    "nrmse": ("NRMSE", ".3f"),
    "bias": ("bias", ".2f"),
}
"""Metric -> label and format."""
SHOWN = (0.01, 0.99)
"""Quantiles of a tower's embeddings between which its panel is sure to reach."""
TAIL_TITLES = {"low": "lowest 5 % of GPP", "high": "highest 5 %"}
METHOD_COLOURS = dict(zip([*REGRESSORS, CLIMATOLOGY], (*COLOURS[:3], MUTED), strict=True))
SCHEME_TITLES = {
    TEMPORAL_HOLDOUT: "temporal holdout",
    LEAVE_ONE_SITE_OUT: "leave-one-site-out",
}


def plot_days(*, folder: Path, output: Path) -> None:
    """Draw a panel per site: kept days, predictions, validation years shaded (Fig. 7 of the paper).

    ``folder`` is that of `score_gpp`, for all figures; ``output`` a PNG.
    """
    validation_years = read_json(folder / "metrics.json")["validation_years"]
    predicted = pd.read_csv(folder / "predictions.csv", parse_dates=["date"])
    towers = read_sites(folder / "sites.csv").sort_values(["vegetation", "site"])
    columns = min(3, len(towers))
    rows = -(-len(towers) // columns)
    with drawing(output, width=4.6 * columns, height=2.5 * rows + 0.9) as figure:
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for panel, (site, about) in zip(panels.flat, towers.iterrows(), strict=False):
            panel.set_title(f"{site} ({about['vegetation']})", loc="left")
            targets = read_targets(folder / "targets" / f"{site}.csv")
            _draw_observed(panel, targets, validation_years)
            own = predicted[predicted["site"] == site]
            if len(own):
                _draw_predicted(panel, own, targets.index)
            else:
                _note(panel, "no window" if about["used"] else f"not used: {about['reason']}")
        for panel in panels.flat[len(towers) :]:
            panel.set_axis_off()
        for panel in panels[:, 0]:
            panel.set_ylabel(GPP_LABEL)
        _legend(figure, panels.flat, markerscale=4)


def _draw_observed(panel: Any, targets: pd.DataFrame, validation_years: Sequence[int]) -> None:
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


def _draw_predicted(panel: Any, predicted: pd.DataFrame, dates: pd.Index) -> None:
    line = predicted.set_index("date").reindex(dates)
    mean, std = line[TEMPORAL_HOLDOUT], line[f"{TEMPORAL_HOLDOUT}_std"]
    if std.notna().any():
        band = {"color": PREDICTED, "alpha": 0.25, "lw": 0, "label": "standard deviation over fits"}
        panel.fill_between(line.index, mean - std, mean + std, **band)
    left_out = line[LEAVE_ONE_SITE_OUT]
    if left_out.notna().any():
        panel.plot(line.index, left_out, color=LEFT_OUT, lw=0.8, label="leave-one-site-out")
    panel.plot(line.index, mean, color=PREDICTED, lw=1.2, label="temporal holdout")
    scored = predicted[(predicted["part"] == VALIDATION) & predicted["observed"].notna()]
    text = _agreement_text(scored["observed"], scored[TEMPORAL_HOLDOUT], ("r2", "rmse"), ", ")
    _note(panel, f"validation: {text}")


def _agreement_text(
    observed: pd.Series[float], predicted: pd.Series[float], metrics: Iterable[str], between: str
) -> str:
    scores = agreement(observed, predicted)
    known = [(*METRIC_FORMATS[name], scores[name]) for name in metrics if scores[name] is not None]
    text = between.join(f"{label} = {value:{digits}}" for label, digits, value in known)
    return text.replace("-", "−") if scores["n"] else "no day"


def _note(panel: Axes, text: str) -> None:
    box = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1.5}
    panel.text(0.015, 0.97, text, transform=panel.transAxes, va="top", fontsize=8, bbox=box)


def _legend(figure: Figure, panels: Iterable[Any], *, markerscale: float = 1) -> None:
    entries: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
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
    """Draw the error of every method without weather, by scheme, vegetation type and tail."""
    metrics = read_json(folder / "metrics.json")
    methods = {name: one for name, one in metrics["methods"].items() if WEATHER not in name}
    methods = dict(sorted(methods.items(), key=lambda item: _order(item[1])))
    scores = pd.DataFrame(metrics["scores"]).dropna(subset=["rmse"])
    scores = scores[(scores["part"] == VALIDATION) & scores["method"].isin(list(methods))]
    scores["place"] = scores["method"].map({name: place for place, name in enumerate(methods)})
    scores = scores.sort_values("place", kind="stable")
    schemes = [scheme for scheme in SCHEMES if (scores["scheme"] == scheme).any()]
    types = sorted(scores.loc[scores["by"] == "vegetation", "group"].unique())
    columns = len(types) + len(TAIL_TITLES)
    with drawing(output, width=5 + 1.5 * columns, height=0.4 + 3.4 * len(schemes)) as figure:
        grid = figure.subplots(
            len(schemes),
            1 + columns,
            sharex="col",
            sharey=True,
            squeeze=False,
            width_ratios=[1.4, *[1] * columns],
        )
        for row, scheme in zip(grid, schemes, strict=True):
            own = scores[scores["scheme"] == scheme]
            _draw_methods(row[0], own[own["by"] == "all"])
            row[0].set_title(f"{SCHEME_TITLES[scheme]}: all sites", loc="left")
            fits = own[own["by"] == "fit"].groupby("method").filter(lambda group: len(group) > 1)
            if len(fits):
                row[0].plot(fits["rmse"], fits["place"], "|", color=INK, ms=8, label="single fits")
            groups = [("vegetation", kind, kind) for kind in types]
            groups += [("tail", tail, title) for tail, title in TAIL_TITLES.items()]
            for panel, (by, group, title) in zip(row[1:], groups, strict=True):
                chosen = own[(own["by"] == by) & (own["group"] == group)]
                _draw_methods(panel, chosen)
                panel.set_title(title, loc="left")
                if by == "tail":
                    panel.plot(chosen["bias"], chosen["place"], "x", color=INK, ms=4, label="bias")
        # The tails have other errors, and each an axis of its own.
        top = 1.05 * scores.loc[scores["by"].isin(["fit", "vegetation"]), "rmse"].max()
        for panel in grid[0, : 1 + len(types)]:
            panel.set_xlim(0, top)
        labels = [", ".join(about["label"]) for about in methods.values()]
        grid[0, 0].set_yticks(range(len(methods)), labels)
        grid[0, 0].invert_yaxis()
        for panel in grid[-1]:
            panel.set_xlabel(RMSE_LABEL)
        _legend(figure, grid.flat)


def _order(method: Mapping[str, str]) -> tuple[int, int]:
    """Methods of one regressor together, the climatology last."""
    if not method["inputs"]:
        return len(REGRESSORS), 0
    first = method["inputs"].partition("+")[0]
    place = list(INPUTS).index(first) if first in INPUTS else -1
    return list(REGRESSORS).index(method["regressor"]), place


def _draw_methods(panel: Axes, scores: pd.DataFrame) -> None:
    regressors = scores["method"].str.rpartition("-")[2]
    for name, own in scores.groupby(regressors, sort=False):
        label, colour = REGRESSORS.get(str(name), str(name)), METHOD_COLOURS[str(name)]
        panel.plot(own["rmse"], own["place"], "o", color=colour, ms=6, label=label)
    for rmse in scores.loc[scores["method"] == CLIMATOLOGY, "rmse"]:
        panel.axvline(rmse, color=MUTED, lw=0.8, ls=":")
    panel.grid(axis="x")


def plot_points(*, folder: Path, output: Path) -> None:
    """Draw predicted against observed GPP of the scored days, by scheme and method."""
    metrics = read_json(folder / "metrics.json")
    length, pair = metrics["window_days"], metrics["difference"]
    days = pd.read_csv(folder / "predictions.csv", parse_dates=["date"])
    days = days.loc[days["observed"].notna(), ["site", "date", "vegetation", "observed"]]
    names = dict.fromkeys([pair["method"], pair["baseline"], CLIMATOLOGY])
    methods = [metrics["methods"][name] for name in names]
    shown = [Experiment(one["inputs"], one["regressor"], length) for one in methods]
    types = sorted(days["vegetation"].unique())
    colours = dict(zip(types, COLOURS * len(types), strict=False))
    top = float(days["observed"].max())
    with drawing(output, width=3 * len(shown), height=6.4) as figure:
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
                columns = scored["observed"], scored["predicted"]
                _note(panel, _agreement_text(*columns, METRIC_FORMATS, "\n"))
        for panel in grid[-1]:
            panel.set_xlabel(f"observed {GPP_LABEL}")
        for panel in grid[:, 0]:
            panel.set_ylabel(f"predicted {GPP_LABEL}")
        _legend(figure, grid.flat, markerscale=5)


def plot_lengths(*, folder: Path, output: Path) -> None:
    """Draw the error by length of the window."""
    scores = pd.DataFrame(read_json(folder / "metrics.json")["lengths"])
    with drawing(output, width=5.5, height=3.2) as figure:
        panel = figure.subplots()
        for (inputs, own), colour in zip(
            scores.groupby("inputs", sort=False), COLOURS, strict=False
        ):
            mean, fits = (own[own["by"] == by] for by in ("all", "fit"))
            label = f"{INPUTS.get(str(inputs), inputs)}, mean of the fits"
            panel.plot(mean["window_days"], mean["rmse"], "o-", color=colour, label=label)
            panel.plot(fits["window_days"], fits["rmse"], "_", color=colour, ms=9)
        panel.set_xticks(scores["window_days"].unique())
        panel.set_xlabel("length of a window (days)")
        panel.set_ylabel(RMSE_LABEL)
        panel.set_ylim(bottom=0)
        panel.grid(axis="y")
        panel.legend()
