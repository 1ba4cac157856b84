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
from pipeline_lib.gpp.crossval import DRAWS, last_days, read_predictions, write_predictions
from pipeline_lib.gpp.days import columns_of, read_days
from pipeline_lib.gpp.fluxnet import GPP_UNITS
from pipeline_lib.gpp.methods import (
    BASELINE,
    EMBEDDING,
    LEAVE_ONE_SITE_OUT,
    NIRV,
    PAPERS,
    SCHEMES,
    TEMPORAL_HOLDOUT,
    WEATHER,
    Experiment,
    experiments,
    label_of,
)
from pipeline_lib.gpp.metrics import DEFINITIONS, agreement, agreement_by_group, rmse_difference
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

Fits = Mapping[str, NDArray[np.float64]]
"""Scheme -> predictions ``(day, fit)``."""


def score_gpp(*, folder: Path, sensors: Sequence[str], windowing: Windowing, seed: int) -> None:
    """Write ``metrics.json`` and ``predictions.csv`` to the folder of `read_days`.

    The metrics hold each site's days and whether it is used; how many days are scored, from when
    to when, and how far ahead of a day its inputs look; the agreement of each method under both
    schemes, of the mean over its fits and of each fit; the difference of the paper's method from
    its baseline; the agreement by window length, on the days that all lengths predict; and the
    paper's own figures.

    The predictions have a row per day with a window: ``site``, ``vegetation``, ``date``, ``part``
    (``spanning`` days are in neither part of the temporal holdout), ``observed`` (empty where it
    is not kept), and mean and standard deviation of the paper's method over its fits:
    ``<scheme>`` and ``<scheme>_std``, g C m-2 d-1.
    """
    table = read_days(folder, sensors=sensors, validation_years=windowing.validation_years)
    windows = cut_windows(table, windowing, windowing.length_days)
    days = last_days(table, windows, ["site", "vegetation", "date", "gpp", "kept"])
    weather, indices = (bool(columns_of(table, inputs)) for inputs in (WEATHER, NIRV))
    every = experiments(windowing, weather=weather, indices=indices)
    compared = [one for one in every if one.schemes == SCHEMES]
    fits = {one.method: _on(days, read_predictions(folder / one.file)) for one in compared}
    rows = _rows(days, fits)
    sources = (EMBEDDING, *sensors)
    write_json(
        folder / "metrics.json",
        {
            "units": GPP_UNITS,
            "definitions": DEFINITIONS,
            "paper": PAPER,
            "sites": _sites(folder),
            "validation_years": windowing.validation_years,
            "window_days": windowing.length_days,
            "training_windows": int((windows.trainable & (windows.part == TRAINING)).sum()),
            "days": {name: int(chosen.sum()) for name, chosen in rows.items()},
            "dates": {name: _dates(days[chosen]) for name, chosen in rows.items()},
            "look_ahead_days": {name: _look_ahead(folder / "series" / name) for name in sources},
            "methods": {
                one.method: {
                    "inputs": one.inputs,
                    "regressor": one.regressor,
                    "label": label_of(one.method),
                    "features": len(columns_of(table, one.inputs)),
                    TEMPORAL_HOLDOUT: {
                        part: _scores(days, fits[one.method][TEMPORAL_HOLDOUT], rows[part])
                        for part in (TRAINING, VALIDATION)
                    },
                    LEAVE_ONE_SITE_OUT: _scores(
                        days, fits[one.method][LEAVE_ONE_SITE_OUT], rows[LEAVE_ONE_SITE_OUT]
                    ),
                }
                for one in compared
            },
            "difference": _difference(days, rows, fits, seed),
            "lengths": _by_length(folder, days[rows[VALIDATION]], every),
        },
    )
    predicted = days[["site", "vegetation", "date", "part"]].assign(
        observed=days["gpp"].where(days["kept"])
    )
    for scheme in SCHEMES:
        own = pd.DataFrame(fits[PAPERS][scheme])
        predicted = predicted.assign(
            **{scheme: own.mean(axis=1, skipna=False), f"{scheme}_std": own.std(axis=1)}
        )
    write_predictions(predicted, folder / "predictions.csv")


def _sites(folder: Path) -> dict[str, Any]:
    """The table of towers, None where a cell is empty."""
    table = read_sites(folder / "sites.csv").astype(object)
    return {str(site): dict(row.where(row.notna(), None)) for site, row in table.iterrows()}


def _rows(days: pd.DataFrame, fits: Mapping[str, Fits]) -> dict[str, NDArray[np.bool_]]:
    """Kept days of each part, and of left-out sites, that every method predicts."""
    kept, part = days["kept"].to_numpy(bool), days["part"].to_numpy(str)
    predicted = {
        scheme: np.all([np.isfinite(one[scheme]).all(axis=1) for one in fits.values()], axis=0)
        for scheme in SCHEMES
    }
    parts = {
        name: kept & (part == name) & predicted[TEMPORAL_HOLDOUT] for name in (TRAINING, VALIDATION)
    }
    return parts | {LEAVE_ONE_SITE_OUT: kept & predicted[LEAVE_ONE_SITE_OUT]}


def _dates(days: pd.DataFrame) -> list[str] | None:
    """First and last of some days."""
    if days.empty:
        return None
    return [f"{bound:%Y-%m-%d}" for bound in (days["date"].min(), days["date"].max())]


def _look_ahead(folder: Path) -> float | None:
    """Median of the days from a day to the last image in its values, over a folder of series."""
    ahead = []
    for path in sorted(folder.glob("*.csv")):
        table = read_series(path)
        known = table[features_of(table)].notna().all(axis=1)
        ahead.append((table["to_image"] - day_numbers(table.index))[known])
    together = pd.concat(ahead)
    return float(together.median()) if len(together) else None


def _on(days: pd.DataFrame, predicted: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Predictions of each scheme on some days, ``(day, fit)``."""
    merged = days[["site", "date"]].merge(predicted, on=["site", "date"], how="left")
    return {
        scheme: merged.filter(regex=rf"^{scheme}_\d+$").to_numpy(np.float64) for scheme in SCHEMES
    }


def _scores(
    days: pd.DataFrame, fits: NDArray[np.float64], chosen: NDArray[np.bool_]
) -> dict[str, Any]:
    """Agreement of the mean over fits on the chosen days, by groups, and of each fit."""
    days, fits = days[chosen], fits[chosen]
    observed = days["gpp"].to_numpy(np.float64)
    return agreement_by_group(
        observed,
        fits.mean(axis=1),
        site=days["site"].to_numpy(str),
        vegetation=days["vegetation"].to_numpy(str),
    ) | {"by_fit": [agreement(observed, fit) for fit in fits.T]}


def _difference(
    days: pd.DataFrame,
    rows: Mapping[str, NDArray[np.bool_]],
    fits: Mapping[str, Fits],
    seed: int,
) -> dict[str, Any]:
    """RMSE of the paper's method minus that of its baseline, scheme by scheme."""
    block = (days["site"] + days["date"].dt.strftime(" %Y-%m")).to_numpy(str)
    scored = {TEMPORAL_HOLDOUT: VALIDATION, LEAVE_ONE_SITE_OUT: LEAVE_ONE_SITE_OUT}
    differences = {
        scheme: rmse_difference(
            days["gpp"].to_numpy(np.float64)[rows[name]],
            *(fits[method][scheme][rows[name]] for method in (PAPERS, BASELINE)),
            block=block[rows[name]],
            resamples=RESAMPLES,
            rng=generator(seed, "difference", DRAWS[scheme]),
        )
        for scheme, name in scored.items()
        if rows[name].any()
    }
    return {"method": PAPERS, "baseline": BASELINE} | differences


def _by_length(
    folder: Path, days: pd.DataFrame, every: Sequence[Experiment]
) -> dict[str, dict[str, Any]]:
    """Agreement in the temporal holdout by window length, inputs by inputs.

    On those of the validation days that windows of all lengths predict.
    """
    varied = {one.inputs for one in every if one.schemes != SCHEMES}
    predicted = {
        (one.inputs, one.days): read_predictions(folder / one.file)
        for one in every
        if one.method in (PAPERS, BASELINE) and one.inputs in varied
    }
    for one in predicted.values():
        days = days.merge(one.loc[one["part"] == VALIDATION, ["site", "date"]], on=["site", "date"])
    lengths: dict[str, dict[str, Any]] = {}
    for (inputs, length), one in sorted(predicted.items(), key=lambda item: item[0][1]):
        scores = _scores(days, _on(days, one)[TEMPORAL_HOLDOUT], np.ones(len(days), dtype=bool))
        lengths.setdefault(inputs, {})[str(length)] = {
            "dates": _dates(days),
            **{key: scores[key] for key in ("overall", "by_fit")},
        }
    return lengths
