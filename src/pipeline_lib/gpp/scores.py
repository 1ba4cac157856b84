"""How well GPP is predicted: all methods scored on the same days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.config import Windowing
from pipeline_lib.files import write_json
from pipeline_lib.gpp.crossval import DRAWS, read_predictions, write_predictions
from pipeline_lib.gpp.days import columns_of, read_days, sources_of
from pipeline_lib.gpp.fluxnet import GPP_UNITS
from pipeline_lib.gpp.methods import (
    LEAVE_ONE_SITE_OUT,
    NIRV,
    SCHEMES,
    TEMPORAL_HOLDOUT,
    TRANSFORMER,
    WEATHER,
    Experiment,
    compared_pair,
    experiments,
    label_of,
)
from pipeline_lib.gpp.metrics import DEFINITIONS, agreement, rmse_difference
from pipeline_lib.gpp.series import day_numbers, features_of, read_series
from pipeline_lib.gpp.targets import read_sites
from pipeline_lib.gpp.windows import TRAINING, VALIDATION, cut_windows
from pipeline_lib.seeds import generator

PAPER = {
    TRAINING: {"nrmse": 0.0917, "rmse": 3.09},
    VALIDATION: {"nrmse": 0.0958, "rmse": 4.40},
    "note": "Temporal holdout, nine sites. The paper does not define its NRMSE; RMSE / NRMSE "
    "implies ranges of 33.7 and 45.9 g C m-2 d-1, so it may be defined otherwise than here.",
}
RESAMPLES = 2000
TAILS = {"low": 0.05, "high": 0.95}
"""Quantiles of the observed GPP that bound the tails."""

Fits = Mapping[str, NDArray[np.float64]]
"""Scheme -> predictions ``(day, fit)``."""
Record = dict[str, Any]


def score_gpp(
    *,
    folder: Path,
    sensors: Sequence[str],
    tables: Sequence[str] = (),
    windowing: Windowing,
    seed: int,
) -> str:
    """Write ``metrics.json`` and ``predictions.csv`` to the folder of `read_days`; scores as text.

    The metrics hold each site's days and whether it is used; how far ahead of a day the inputs
    look; the methods, and a row of scores for each, scheme, part and group of `score_groups`; the
    difference of one method from its baseline (see `compared_pair`); scores by window length, on
    the days that all lengths predict; and the paper's own figures.

    The predictions have a row per day with a window: ``site``, ``vegetation``, ``date``, ``part``
    (``spanning`` days are in neither part of the temporal holdout), ``observed`` (empty where it
    is not kept), and mean and standard deviation of the compared method over its fits:
    ``<scheme>`` and ``<scheme>_std``, g C m-2 d-1.
    """
    years = windowing.validation_years
    table = read_days(folder, sensors=sensors, tables=tables, validation_years=years)
    days = cut_windows(table, windowing, windowing.length_days)
    weather, indices = (bool(columns_of(table, inputs)) for inputs in (WEATHER, NIRV))
    every = experiments(
        windowing, weather=weather, indices=indices, cubes=bool(sensors), tables=tables
    )
    compared = [one for one in every if one.schemes == SCHEMES]
    fits = {one.method: _on(days, read_predictions(folder / one.file)) for one in compared}
    scored = _scored_days(days, fits)
    method, baseline = compared_pair(list(fits))
    scores = [
        {"method": method, "scheme": scheme, "part": part} | row
        for method, own in fits.items()
        for (scheme, part), chosen in scored.items()
        for row in score_groups(days[chosen], own[scheme][chosen])
    ]
    sites = read_sites(folder / "sites.csv").reset_index().astype(object)
    write_json(
        folder / "metrics.json",
        {
            "units": GPP_UNITS,
            "definitions": DEFINITIONS,
            "paper": PAPER,
            "sites": sites.where(sites.notna(), None).to_dict("records"),
            "validation_years": windowing.validation_years,
            "window_days": windowing.length_days,
            "training_windows": int((days["trainable"] & (days["part"] == TRAINING)).sum()),
            "look_ahead_days": {
                name: _look_ahead(folder / "series" / name) for name in sources_of(sensors, tables)
            },
            "methods": {
                one.method: {
                    "inputs": one.inputs,
                    "regressor": one.regressor,
                    "label": label_of(one.method),
                    "features": len(columns_of(table, one.inputs)),
                }
                for one in compared
            },
            "tails": TAILS,
            "scores": scores,
            "difference": _difference(days, scored, fits, (method, baseline), seed),
            "lengths": _by_length(folder, days[scored[TEMPORAL_HOLDOUT, VALIDATION]], every),
        },
    )
    predicted = days[["site", "vegetation", "date", "part"]].assign(
        observed=days["gpp"].where(days["kept"])
    )
    for scheme in SCHEMES:
        own = pd.DataFrame(fits[method][scheme], index=days.index)
        predicted[scheme] = own.mean(axis=1, skipna=False)
        predicted[f"{scheme}_std"] = own.std(axis=1)
    write_predictions(predicted, folder / "predictions.csv")
    return _as_text(scores)


def _as_text(scores: Sequence[Record]) -> str:
    """RMSE and bias of the validation days, of all and of the tails, by scheme and method."""
    table = pd.DataFrame(scores).query("part == 'validation' and by in ('all', 'tail')")
    group = table["group"].replace("", "all")
    columns = ["n", "sites", "rmse", "bias", "r2"]
    shown = table.assign(group=group).set_index(["scheme", "group", "method"])[columns]
    return shown.to_string(float_format="%.3g")


def score_groups(days: pd.DataFrame, fits: NDArray[np.float64]) -> list[Record]:
    """Rows of agreement of predictions ``(day, fit)`` with the ``gpp`` of the same days.

    ``by`` and ``group`` say of what: the mean over fits on ``all`` days, on those of each
    ``vegetation`` type and ``site``, and of each ``tail`` (see `tails_of`), and each ``fit`` on all
    days. A row holds the number of ``sites``, and the ``first`` and ``last`` date besides.
    """
    mean = days.assign(predicted=fits.mean(axis=1))
    groups = [
        ("all", "", mean),
        *((by, group, own) for by in ("vegetation", "site") for group, own in mean.groupby(by)),
        *(("tail", group, mean[own]) for group, own in tails_of(days["gpp"]).items()),
        *(("fit", str(fit), days.assign(predicted=one)) for fit, one in enumerate(fits.T)),
    ]
    return [
        {"by": by, "group": group}
        | agreement(own["gpp"], own["predicted"])
        | {"sites": own["site"].nunique()}
        | _dates(own)
        for by, group, own in groups
    ]


def tails_of(gpp: pd.Series[float]) -> dict[str, pd.Series[bool]]:
    """The days at or below the 5th, and at or above the 95th, percentile of their own GPP.

    Of the scored days of all sites together, so that a tail is the same days for every method, has
    a twentieth of them (more where GPP is often zero), and leave-one-site-out, which has a training
    part for each site, needs no threshold for each. Nothing is fitted by them.
    """
    low, high = (gpp.quantile(TAILS[name]) for name in ("low", "high"))
    return {"low": gpp <= low, "high": gpp >= high}


def _dates(days: pd.DataFrame) -> Record:
    if days.empty:
        return {"first": None, "last": None}
    first, last = days["date"].min(), days["date"].max()
    return {"first": f"{first:%Y-%m-%d}", "last": f"{last:%Y-%m-%d}"}


def _scored_days(
    days: pd.DataFrame, fits: Mapping[str, Fits]
) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Scheme and part -> kept days that every method predicts; left-out sites are validation."""
    temporal, left_out = (
        days["kept"].to_numpy(bool)
        & np.all([np.isfinite(one[scheme]).all(axis=1) for one in fits.values()], axis=0)
        for scheme in SCHEMES
    )
    part = days["part"].to_numpy(str)
    return {
        (TEMPORAL_HOLDOUT, TRAINING): temporal & (part == TRAINING),
        (TEMPORAL_HOLDOUT, VALIDATION): temporal & (part == VALIDATION),
        (LEAVE_ONE_SITE_OUT, VALIDATION): left_out,
    }


def _look_ahead(folder: Path) -> float | None:
    """Median of the days from a day to the last image in its values, over a folder of series."""
    ahead = []
    for path in sorted(folder.glob("*.csv")):
        table = read_series(path)
        known = table[features_of(table)].notna().all(axis=1)
        ahead.append((table["to_image"] - day_numbers(table.index))[known])
    together = pd.concat(ahead)
    return float(together.median()) if len(together) else None


def _on(days: pd.DataFrame, predicted: pd.DataFrame) -> Fits:
    merged = days[["site", "date"]].merge(predicted, on=["site", "date"], how="left")
    return {
        scheme: merged.filter(regex=rf"^{scheme}_\d+$").to_numpy(np.float64) for scheme in SCHEMES
    }


def _difference(
    days: pd.DataFrame,
    scored: Mapping[tuple[str, str], NDArray[np.bool_]],
    fits: Mapping[str, Fits],
    pair: tuple[str, str],
    seed: int,
) -> Record:
    """RMSE of the first of two methods minus that of the other, scheme by scheme."""
    found: Record = {"method": pair[0], "baseline": pair[1]}
    for scheme in SCHEMES:
        chosen = scored[scheme, VALIDATION]
        own = days[chosen]
        if len(own):
            found[scheme] = rmse_difference(
                own["gpp"].to_numpy(np.float64),
                *(fits[method][scheme][chosen] for method in pair),
                block=(own["site"] + own["date"].dt.strftime(" %Y-%m")).to_numpy(str),
                resamples=RESAMPLES,
                rng=generator(seed, "difference", DRAWS[scheme]),
            )
    return found


def _by_length(folder: Path, days: pd.DataFrame, every: Sequence[Experiment]) -> list[Record]:
    """Scores in the temporal holdout by inputs and length of the window.

    On those of the validation days that windows of all lengths predict.
    """
    varied = list(dict.fromkeys(one.inputs for one in every if one.schemes != SCHEMES))
    compared = [one for one in every if one.regressor == TRANSFORMER and one.inputs in varied]
    predicted = {
        one: read_predictions(folder / one.file)
        for one in sorted(compared, key=lambda one: (varied.index(one.inputs), one.days))
    }
    for own in predicted.values():
        days = days.merge(own.loc[own["part"] == VALIDATION, ["site", "date"]], on=["site", "date"])
    return [
        {"inputs": one.inputs, "window_days": one.days} | row
        for one, own in predicted.items()
        for row in score_groups(days, _on(days, own)[TEMPORAL_HOLDOUT])
    ]
