"""How well GPP follows from embeddings: jobs that read the towers' tables and write results."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.config import Gpp
from pipeline_lib.errors import UserError
from pipeline_lib.files import library_digest, write_json
from pipeline_lib.gpp.days import columns_of, read_days
from pipeline_lib.gpp.experiments import (
    BY_YEAR,
    DESIGNS,
    LEFT_OUT,
    predict,
    predict_climatology,
    read_predictions,
    write_predictions,
)
from pipeline_lib.gpp.fluxnet import GPP_UNITS
from pipeline_lib.gpp.methods import (
    BANDS,
    BOOSTING,
    CLIMATOLOGY,
    PAPERS,
    RIDGE,
    RIVAL,
    TRANSFORMER,
    compared_inputs,
    told_method,
)
from pipeline_lib.gpp.metrics import DEFINITIONS, agreement, agreement_by_group, rmse_difference
from pipeline_lib.gpp.readers import boosting, resumable, ridge, transformer
from pipeline_lib.gpp.targets import describe_site, read_targets
from pipeline_lib.gpp.windows import SPANNING, TRAINING, VALIDATION, Windows, cut_windows
from pipeline_lib.seeds import generator

PAPER = {
    TRAINING: {"nrmse": 0.0917, "rmse": 3.09},
    VALIDATION: {"nrmse": 0.0958, "rmse": 4.40},
    "note": "By year, nine sites. The text does not define its NRMSE; RMSE / NRMSE implies ranges "
    "of 33.7 and 45.9 g C m-2 d-1, so it may be defined otherwise than here.",
}

RESAMPLES = 2000

Series = Mapping[str, Mapping[str, Path]]


def _windows(table: pd.DataFrame, gpp: Gpp, days: int) -> Windows:
    """Windows in which no input of any method lacks a day, so that all are compared on the same."""
    windows = cut_windows(
        table,
        columns=[name for name in table.columns if ":" in name],
        window_days=days,
        stride_days=gpp.stride_days,
        validation_years=gpp.validation_years,
    )
    if not (windows.part == VALIDATION).any():
        raise UserError(
            f"gpp: no window of {days} days lies wholly in the validation years; "
            "mend gpp.validation_years, gpp.window_days or gpp.max_gap_days"
        )
    return windows


def regress_gpp(
    *,
    gpp: Gpp,
    seed: int,
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
    gpp
        Towers, windows, split and regressor.
    seed
        Seed of everything that is drawn.
    targets, series
        As in `read_days`.
    inputs
        See `methods.INPUTS`.
    days
        Length of a window. Sites are left out in turn for that of ``gpp.window_days`` alone.
    state
        Working folder of a run under way; removed at the end.
    output
        CSV, as of `write_predictions`.

    Raises
    ------
    UserError
        If no site is selected, or a part of the split has too few windows.
    """
    table = read_days(gpp=gpp, targets=targets, series=series)
    predicted = predict(
        table,
        _windows(table, gpp, days),
        inputs=inputs,
        reader=resumable(
            transformer(gpp.regressor),
            about=gpp.regressor.model_dump_json() + library_digest(["gpp"]),
            folder=state,
        ),
        designs=DESIGNS if days == gpp.window_days else (BY_YEAR,),
        repeats=gpp.regressor.seeds,
        stride_days=gpp.stride_days,
        seed=seed,
        name=f"{inputs}-{TRANSFORMER}",
    )
    write_predictions(predicted, output)
    shutil.rmtree(state)


def predict_baselines(
    *, gpp: Gpp, seed: int, targets: Mapping[str, Path], series: Series, folder: Path
) -> None:
    """Predict GPP by what any new method has to be compared with.

    Parameters
    ----------
    gpp, seed, targets, series
        As in `regress_gpp`.
    folder
        Receives a CSV per method of `methods.baselines`, as of `write_predictions`.

    Raises
    ------
    UserError
        As `regress_gpp`.
    """
    table = read_days(gpp=gpp, targets=targets, series=series)
    windows = _windows(table, gpp, gpp.window_days)
    found = predict_climatology(table, windows, validation_years=gpp.validation_years)
    write_predictions(found, folder / f"{CLIMATOLOGY}.csv")
    bands = [name.partition(":")[2] for name in columns_of(table, BANDS)]
    for inputs in compared_inputs(bands):
        for name, reader, repeats in ((RIDGE, ridge, 1), (BOOSTING, boosting, gpp.regressor.seeds)):
            found = predict(
                table,
                windows,
                inputs=inputs,
                reader=reader,
                designs=DESIGNS,
                repeats=repeats,
                stride_days=gpp.stride_days,
                seed=seed,
                name=f"{inputs}-{name}",
            )
            write_predictions(found, folder / f"{inputs}-{name}.csv")


def score_gpp(
    *,
    gpp: Gpp,
    seed: int,
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
    gpp, seed, targets, series
        As in `regress_gpp`.
    methods
        Method -> its predictions. Named ``<inputs>-<reader>``, or ``climatology``.
    lengths
        Inputs -> length of a window -> predictions of the paper's regressor, by year.
    metrics
        JSON: each site's days and whether it is used; the agreement of each method, by year and
        with each site left out, of the mean over its fits and of each fit; how much the paper's
        method differs from its rival; the agreement by length of the window, on the days that all
        lengths predict; the paper's figures.
    predictions
        CSV, a row per day that has a window: ``site``, ``vegetation``, ``date``, ``part``
        (``spanning`` days are learned from and scored by year by no method), ``observed`` (empty
        where it is not kept), and of the paper's method ``predicted`` and ``spread`` (mean and
        standard deviation over fits, by year), ``left_out`` and ``left_out_spread``. GPP in g C
        m-2 d-1.
    """
    table = read_days(gpp=gpp, targets=targets, series=series)
    windows = _windows(table, gpp, gpp.window_days)
    days = _scored_days(table, windows)
    found = {name: _on(days, read_predictions(path)) for name, path in methods.items()}
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
            "sites": {
                tower.name: {"vegetation": tower.vegetation, "lon": tower.lon, "lat": tower.lat}
                | describe_site(read_targets(targets[tower.name]), gpp)
                for tower in gpp.towers
                if tower.name in targets
            },
            "days": {part: int(rows.sum()) for part, rows in _rows_of_parts(days).items()},
            "learned_windows": int((windows.learnable & (windows.part == TRAINING)).sum()),
            "methods": {
                name: about[name]
                | {
                    BY_YEAR: {
                        part: _scores(days[rows], found[name][BY_YEAR][rows])
                        for part, rows in _rows_of_parts(days).items()
                        if part != SPANNING
                    },
                    LEFT_OUT: _scores(
                        days[days["kept"]], found[name][LEFT_OUT][days["kept"].to_numpy()]
                    ),
                }
                for name in found
            },
            "difference": _difference(days, found, seed),
            "lengths": _by_length(table, days, lengths),
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


def _scored_days(table: pd.DataFrame, windows: Windows) -> pd.DataFrame:
    days = table.loc[windows.last, ["site", "vegetation", "date", "gpp", "kept"]]
    return days.reset_index(drop=True).assign(part=windows.part)


def _rows_of_parts(days: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Kept days of each part."""
    kept, part = days["kept"].to_numpy(bool), days["part"].to_numpy(str)
    return {name: kept & (part == name) for name in (TRAINING, VALIDATION, SPANNING)}


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
    known = np.isfinite(fits).all(axis=1)
    observed, fits = days["gpp"].to_numpy(np.float64)[known], fits[known]
    return agreement_by_group(
        observed,
        fits.mean(axis=1),
        site=days["site"].to_numpy(str)[known],
        vegetation=days["vegetation"].to_numpy(str)[known],
    ) | {"by_fit": [agreement(observed, fit) for fit in fits.T]}


def _difference(
    days: pd.DataFrame, found: Mapping[str, Mapping[str, NDArray[np.float64]]], seed: int
) -> dict[str, Any]:
    """RMSE of the paper's method minus that of its rival, design by design."""
    rows = {BY_YEAR: _rows_of_parts(days)[VALIDATION], LEFT_OUT: days["kept"].to_numpy(bool)}
    block = days["site"] + days["date"].dt.strftime(" %Y-%m")
    told: dict[str, Any] = {}
    for design, chosen in rows.items():
        fits = [found[name][design][chosen] for name in (PAPERS, RIVAL)]
        if chosen.any() and all(np.isfinite(each).all() for each in fits):
            told[design] = rmse_difference(
                days["gpp"].to_numpy(np.float64)[chosen],
                *fits,
                block=block.to_numpy(str)[chosen],
                resamples=RESAMPLES,
                rng=generator(seed, "difference", design),
            )
    return {"of": PAPERS, "from": RIVAL} | told


def _by_length(
    table: pd.DataFrame, days: pd.DataFrame, lengths: Mapping[str, Mapping[int, Path]]
) -> dict[str, Any]:
    """Agreement by year on the validation days that windows of all lengths predict."""
    read = {
        inputs: {length: read_predictions(path) for length, path in found.items()}
        for inputs, found in lengths.items()
    }
    common = days[_rows_of_parts(days)[VALIDATION]]
    for found in read.values():
        for predicted in found.values():
            validated = predicted.loc[predicted["part"] == VALIDATION, ["site", "date"]]
            common = common.merge(validated, on=["site", "date"])
    told: dict[str, Any] = {}
    for inputs, found in read.items():
        told[inputs] = {}
        for length, predicted in sorted(found.items()):
            scores = _scores(common, _on(common, predicted)[BY_YEAR])
            told[inputs][str(length)] = {key: scores[key] for key in ("overall", "by_fit")}
    return told
