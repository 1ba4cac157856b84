"""How well GPP follows from embeddings: jobs that read the towers' tables and write results."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.code_digest import code_digest
from pipeline_lib.config import Regressor, Windowing
from pipeline_lib.errors import UserError
from pipeline_lib.files import write_json
from pipeline_lib.gpp.days import columns_of, read_days
from pipeline_lib.gpp.experiments import (
    BY_YEAR,
    DESIGNS,
    LEFT_OUT,
    last_days,
    predict,
    predict_climatology,
    read_predictions,
    write_predictions,
)
from pipeline_lib.gpp.fluxnet import GPP_UNITS
from pipeline_lib.gpp.methods import (
    BOOSTING,
    CLIMATOLOGY,
    NIRV,
    PAPERS,
    RIDGE,
    RIVAL,
    TRANSFORMER,
    compared_inputs,
    told_method,
)
from pipeline_lib.gpp.metrics import DEFINITIONS, agreement, agreement_by_group, rmse_difference
from pipeline_lib.gpp.observed import day_numbers
from pipeline_lib.gpp.readers import boosting, resumable, ridge, transformer
from pipeline_lib.gpp.series import features_of, read_series
from pipeline_lib.gpp.targets import read_sites
from pipeline_lib.gpp.windows import TRAINING, VALIDATION, Windows, cut_windows
from pipeline_lib.seeds import generator

PAPER = {
    TRAINING: {"nrmse": 0.0917, "rmse": 3.09},
    VALIDATION: {"nrmse": 0.0958, "rmse": 4.40},
    "note": "By year, nine sites. The text does not define its NRMSE; RMSE / NRMSE implies ranges "
    "of 33.7 and 45.9 g C m-2 d-1, so it may be defined otherwise than here.",
}

RESAMPLES = 2000

Series = Mapping[str, Mapping[str, Path]]


def _windows(table: pd.DataFrame, windowing: Windowing, days: int) -> Windows:
    """Windows in which no input of any method lacks a day, so that all are compared on the same."""
    features = [name for name in table.columns if ":" in name]
    windows = cut_windows(
        table,
        columns=features,
        window_days=days,
        stride_days=windowing.stride_days,
        validation_years=windowing.validation_years,
    )
    if (windows.part == VALIDATION).any():
        return windows
    empty = sorted({name.partition(":")[0] for name in features if table[name].isna().all()})
    if empty:
        raise UserError(
            f"gpp: no tower has any day of {', '.join(empty)}; check what it is made from, "
            "or drop it"
        )
    key = "length_days" if days == windowing.length_days else "other_lengths_days"
    raise UserError(
        f"gpp: no window of {days} days lies wholly in the validation years; "
        f"change gpp.windows.validation_years, gpp.windows.{key} or gpp.series.max_gap_days"
    )


def regress_gpp(
    *,
    windowing: Windowing,
    regressor: Regressor,
    seed: int,
    sites: Path,
    targets: Mapping[str, Path],
    series: Series,
    inputs: str,
    days: int,
    state: Path,
    output: Path,
) -> None:
    """Predict GPP by the paper's regressor from one kind of input and one length of a window.

    What was fitted before a kill is not fitted again.

    Parameters
    ----------
    windowing, regressor
        Windows with their split, and the regressor.
    seed
        Seed of everything that is drawn.
    sites, targets, series
        As in `read_days`.
    inputs
        See `methods.INPUTS`.
    days
        Length of a window. Sites are left out in turn for ``windowing.length_days`` alone.
    state
        Working folder of a run under way; removed at the end.
    output
        CSV, as of `write_predictions`.

    Raises
    ------
    UserError
        If no site is selected, or a part of the split has too few windows.
    """
    years = windowing.validation_years
    table = read_days(sites=sites, targets=targets, series=series, validation_years=years)
    predicted = predict(
        table,
        _windows(table, windowing, days),
        inputs=inputs,
        reader=resumable(
            transformer(regressor),
            about=regressor.model_dump_json() + code_digest(Path(__file__)),
            folder=state,
        ),
        designs=DESIGNS if days == windowing.length_days else (BY_YEAR,),
        repeats=regressor.seeds,
        stride_days=windowing.stride_days,
        seed=seed,
        name=f"{inputs}-{TRANSFORMER}",
    )
    write_predictions(predicted, output)
    shutil.rmtree(state)


def predict_baselines(
    *,
    windowing: Windowing,
    seeds: int,
    seed: int,
    sites: Path,
    targets: Mapping[str, Path],
    series: Series,
    folder: Path,
) -> None:
    """Predict GPP by what any new method has to be compared with.

    Parameters
    ----------
    windowing, seed, sites, targets, series
        As in `regress_gpp`.
    seeds
        Fits of the boosted trees, each with a seed of its own.
    folder
        Receives a CSV per method of `methods.baselines`, as of `write_predictions`.

    Raises
    ------
    UserError
        As `regress_gpp`.
    """
    years = windowing.validation_years
    table = read_days(sites=sites, targets=targets, series=series, validation_years=years)
    windows = _windows(table, windowing, windowing.length_days)
    found = predict_climatology(table, windows, validation_years=years)
    write_predictions(found, folder / f"{CLIMATOLOGY}.csv")
    for inputs in compared_inputs(indices=bool(columns_of(table, NIRV))):
        for name, reader, repeats in ((RIDGE, ridge, 1), (BOOSTING, boosting, seeds)):
            found = predict(
                table,
                windows,
                inputs=inputs,
                reader=reader,
                designs=DESIGNS,
                repeats=repeats,
                stride_days=windowing.stride_days,
                seed=seed,
                name=f"{inputs}-{name}",
            )
            write_predictions(found, folder / f"{inputs}-{name}.csv")


def score_gpp(
    *,
    windowing: Windowing,
    seed: int,
    sites: Path,
    targets: Mapping[str, Path],
    series: Series,
    methods: Mapping[str, Path],
    lengths: Mapping[str, Mapping[int, Path]],
    metrics: Path,
    predictions: Path,
) -> None:
    """Score every method on the same days.

    Parameters
    ----------
    windowing, seed, sites, targets, series
        As in `regress_gpp`.
    methods
        Method -> its predictions. Named ``<inputs>-<reader>``, or ``climatology``.
    lengths
        Inputs -> length of a window -> predictions of the paper's regressor, by year.
    metrics
        JSON: each site's days and whether it is used; how many days are scored, from when to
        when, and how far ahead of a day its inputs look; the agreement of each method, by year
        and with each site left out, of the mean over its fits and of each fit; how much the paper's
        method differs from its rival; the agreement by length of the window, on the days that all
        lengths predict; the paper's figures.
    predictions
        CSV, a row per day that has a window: ``site``, ``vegetation``, ``date``, ``part``
        (``spanning`` days are learned from and scored by year by no method), ``observed`` (empty
        where it is not kept), and of the paper's method ``predicted`` and ``spread`` (mean and
        standard deviation over fits, by year), ``left_out`` and ``left_out_spread``. GPP in g C
        m-2 d-1.
    """
    years = windowing.validation_years
    table = read_days(sites=sites, targets=targets, series=series, validation_years=years)
    windows = _windows(table, windowing, windowing.length_days)
    days = last_days(table, windows, ["site", "vegetation", "date", "gpp", "kept"])
    found = {name: _on(days, read_predictions(path)) for name, path in methods.items()}
    rows = _rows(days, found)
    about = {
        name: _about(name) | {"features": len(columns_of(table, _about(name)["inputs"]))}
        for name in found
    }
    write_json(
        metrics,
        {
            "units": GPP_UNITS,
            "definitions": DEFINITIONS,
            "paper": PAPER,
            "sites": _described(sites),
            "days": {name: int(chosen.sum()) for name, chosen in rows.items()},
            "dates": {name: _dates(days[chosen]) for name, chosen in rows.items()},
            "look_ahead_days": {name: _look_ahead(files) for name, files in series.items()},
            "learned_windows": int((windows.learnable & (windows.part == TRAINING)).sum()),
            "methods": {
                name: about[name]
                | {
                    BY_YEAR: {
                        part: _scores(days[rows[part]], found[name][BY_YEAR][rows[part]])
                        for part in (TRAINING, VALIDATION)
                    },
                    LEFT_OUT: _scores(days[rows[LEFT_OUT]], found[name][LEFT_OUT][rows[LEFT_OUT]]),
                }
                for name in found
            },
            "difference": _difference(days, rows, found, seed),
            "lengths": _by_length(days[rows[VALIDATION]], lengths),
        },
    )
    own = found[PAPERS]
    write_predictions(
        days[["site", "vegetation", "date", "part"]].assign(
            observed=days["gpp"].where(days["kept"]),
            predicted=own[BY_YEAR].mean(axis=1),
            spread=_spread(own[BY_YEAR]),
            left_out=own[LEFT_OUT].mean(axis=1),
            left_out_spread=_spread(own[LEFT_OUT]),
        ),
        predictions,
    )


def _described(sites: Path) -> dict[str, Any]:
    """The table of towers, None where a cell is empty."""
    table = read_sites(sites).astype(object)
    return {str(site): dict(row.where(row.notna(), None)) for site, row in table.iterrows()}


def _rows(
    days: pd.DataFrame, found: Mapping[str, Mapping[str, NDArray[np.float64]]]
) -> dict[str, NDArray[np.bool_]]:
    """Kept days of each part, and of sites left out, that every method predicts."""
    kept, part = days["kept"].to_numpy(bool), days["part"].to_numpy(str)
    told = {
        design: np.all([np.isfinite(one[design]).all(axis=1) for one in found.values()], axis=0)
        for design in DESIGNS
    }
    parts = {name: kept & (part == name) & told[BY_YEAR] for name in (TRAINING, VALIDATION)}
    return parts | {LEFT_OUT: kept & told[LEFT_OUT]}


def _dates(days: pd.DataFrame) -> list[str] | None:
    """First and last of some days."""
    if days.empty:
        return None
    return [f"{bound:%Y-%m-%d}" for bound in (days["date"].min(), days["date"].max())]


def _look_ahead(files: Mapping[str, Path]) -> float | None:
    """Median of the days from a day to the last image that its values know, over all sites."""
    ahead = []
    for path in files.values():
        table = read_series(path)
        known = table[features_of(table)].notna().all(axis=1)
        ahead.append((table["to_image"] - day_numbers(table.index))[known])
    together = pd.concat(ahead)
    return float(together.median()) if len(together) else None


def _on(days: pd.DataFrame, predicted: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Predictions of each design on some days, ``(day, fit)``."""
    merged = days[["site", "date"]].merge(predicted, on=["site", "date"], how="left")
    return {
        design: merged.filter(regex=rf"^{design}_\d+$").to_numpy(np.float64) for design in DESIGNS
    }


def _about(method: str) -> dict[str, Any]:
    inputs, _, reader = method.rpartition("-")
    return {"inputs": inputs, "reader": reader, "words": told_method(method)}


def _spread(fits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation over fits; NaN where there is one alone."""
    if fits.shape[1] < 2:
        return np.full(len(fits), np.nan)
    return np.asarray(fits.std(axis=1, ddof=1))


def _scores(days: pd.DataFrame, fits: NDArray[np.float64]) -> dict[str, Any]:
    """Agreement of the mean over fits, by groups, and of each fit."""
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
    found: Mapping[str, Mapping[str, NDArray[np.float64]]],
    seed: int,
) -> dict[str, Any]:
    """RMSE of the paper's method minus that of its rival, design by design."""
    block = (days["site"] + days["date"].dt.strftime(" %Y-%m")).to_numpy(str)
    told: dict[str, Any] = {}
    for design, chosen in ((BY_YEAR, rows[VALIDATION]), (LEFT_OUT, rows[LEFT_OUT])):
        if chosen.any():
            told[design] = rmse_difference(
                days["gpp"].to_numpy(np.float64)[chosen],
                *(found[name][design][chosen] for name in (PAPERS, RIVAL)),
                block=block[chosen],
                resamples=RESAMPLES,
                rng=generator(seed, "difference", design),
            )
    return {"of": PAPERS, "from": RIVAL} | told


def _by_length(days: pd.DataFrame, lengths: Mapping[str, Mapping[int, Path]]) -> dict[str, Any]:
    """Agreement by year on those of the validation days that windows of all lengths predict."""
    read = {
        inputs: {length: read_predictions(path) for length, path in found.items()}
        for inputs, found in lengths.items()
    }
    for found in read.values():
        for predicted in found.values():
            validated = predicted.loc[predicted["part"] == VALIDATION, ["site", "date"]]
            days = days.merge(validated, on=["site", "date"])
    told: dict[str, Any] = {}
    for inputs, found in read.items():
        told[inputs] = {}
        for length, predicted in sorted(found.items()):
            scores = _scores(days, _on(days, predicted)[BY_YEAR])
            told[inputs][str(length)] = {
                "dates": _dates(days),
                **{key: scores[key] for key in ("overall", "by_fit")},
            }
    return told
