"""Baselines: ridge regression, boosted trees, and the climatology of GPP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.config import Windowing
from pipeline_lib.gpp.crossval import Examples, Windowed, predict, write_predictions
from pipeline_lib.gpp.days import columns_of, read_days
from pipeline_lib.gpp.methods import (
    BOOSTING,
    CLIMATOLOGY,
    LEAVE_ONE_SITE_OUT,
    NIRV,
    RIDGE,
    SCHEMES,
    TEMPORAL_HOLDOUT,
    TRANSFORMER,
    WEATHER,
    experiments,
)
from pipeline_lib.gpp.windows import cut_windows

MAX_FOLDS = 10
THIRDS = 3
YEAR_DAYS = 365.25
KERNEL_DAYS = 10.0
"""Standard deviation of the climatology's weights: seasons are kept, weather is smoothed away."""


def predict_baselines(
    *,
    folder: Path,
    sensors: Sequence[str],
    tables: Sequence[str] = (),
    windowing: Windowing,
    fits: int,
    seed: int,
) -> None:
    """Write the predictions of all baselines of `methods.experiments` below a folder.

    ``folder`` is that of `read_days`; ``fits`` boosted models are fitted, each with a seed of its
    own.
    """
    years = windowing.validation_years
    table = read_days(folder, sensors=sensors, tables=tables, validation_years=years)
    windows = cut_windows(table, windowing, windowing.length_days)
    regressors = {RIDGE: (ridge, 1), BOOSTING: (boosting, fits)}
    every = experiments(
        windowing,
        weather=bool(columns_of(table, WEATHER)),
        indices=bool(columns_of(table, NIRV)),
        cubes=bool(sensors),
        tables=tables,
    )
    for experiment in every:
        if experiment.regressor == TRANSFORMER:
            continue
        if experiment.regressor == CLIMATOLOGY:
            predicted = predict_climatology(table, windows, validation_years=years)
        else:
            regress, count = regressors[experiment.regressor]
            stride = windowing.stride_days
            predicted = predict(
                table, windows, experiment, regress, fits=count, stride_days=stride, seed=seed
            )
        write_predictions(predicted, folder / experiment.file)


def summary(inputs: Windowed) -> NDArray[np.float64]:
    """The last day of each window and the means of its thirds, ``(window, 4 * feature)``.

    What a regression without a sense of time is given of a window's past. A window without thirds
    stands as it is.
    """
    if inputs.shape[1] < THIRDS:
        return inputs.astype(np.float64).reshape(len(inputs), -1)
    thirds = np.array_split(inputs.astype(np.float64), THIRDS, axis=1)
    return np.concatenate([inputs[:, -1], *(third.mean(axis=1) for third in thirds)], axis=1)


def ridge(examples: Examples, asked: Windowed, rng: np.random.Generator) -> NDArray[np.float64]:
    """Ridge regression on `summary`, its penalty chosen by cross-validation over runs.

    Deterministic: nothing is drawn from ``rng``.
    """
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    from pipeline_lib.evaluate.probe_scores import RIDGE_PENALTIES, MeanLossRidge

    x, y = summary(examples.inputs), examples.target.astype(np.float64)
    splitter = GroupKFold(min(MAX_FOLDS, len(np.unique(examples.run))))
    folds = list(splitter.split(x, groups=examples.run))
    # One fit of each fold solves all penalties: a column of targets for each.
    columns = np.tile(y[:, np.newaxis], len(RIDGE_PENALTIES))
    candidates = make_pipeline(StandardScaler(), MeanLossRidge(RIDGE_PENALTIES))
    # Sums that several threads share depend in their last digits on how many there are.
    with threadpool_limits(1):
        predicted = cross_val_predict(candidates, x, columns, cv=folds)
        # The first of equals is the strongest.
        best = RIDGE_PENALTIES[((predicted - columns) ** 2).sum(axis=0).argmin()]
        model = make_pipeline(StandardScaler(), MeanLossRidge(best)).fit(x, y)
        return np.asarray(model.predict(summary(asked)), dtype=np.float64)


def boosting(examples: Examples, asked: Windowed, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gradient-boosted trees on `summary`, of a fixed and modest size.

    Friedman 2001, doi 10.1214/aos/1013203451, on histograms as in scikit-learn. Each split looks
    at a random half of the features.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    trees = HistGradientBoostingRegressor(
        learning_rate=0.1,
        max_iter=100,
        max_leaf_nodes=15,
        min_samples_leaf=10,
        max_features=0.5,
        early_stopping=False,
        random_state=int(rng.integers(2**31)),
    )
    with threadpool_limits(1):
        trees.fit(summary(examples.inputs), examples.target)
        return np.asarray(trees.predict(summary(asked)), dtype=np.float64)


def predict_climatology(
    table: pd.DataFrame, windows: pd.DataFrame, *, validation_years: Sequence[int]
) -> pd.DataFrame:
    """Usual GPP of each window's last day under both schemes, as `predict` returns it.

    From all kept days of the training years, or of the other sites; in both, of sites of the same
    vegetation type, or of all where none has such days.
    """
    kept = table[table["kept"]]
    predicted = windows[["site", "date", "part"]].copy()
    predicted[[f"{scheme}_0" for scheme in SCHEMES]] = np.nan
    for (site, vegetation), rows in windows.groupby(["site", "vegetation"]):
        for scheme, training in (
            (TEMPORAL_HOLDOUT, kept[~kept["date"].dt.year.isin(list(validation_years))]),
            (LEAVE_ONE_SITE_OUT, kept[kept["site"] != site]),
        ):
            alike = training[training["vegetation"] == vegetation]
            used = alike if len(alike) else training
            if len(used):
                predicted.loc[rows.index, f"{scheme}_0"] = climatology(
                    fitted_day=used["date"].dt.dayofyear.to_numpy(),
                    fitted_gpp=used["gpp"].to_numpy(np.float64),
                    day=rows["date"].dt.dayofyear.to_numpy(),
                )
    return predicted


def climatology(
    *,
    fitted_day: NDArray[np.integer],
    fitted_gpp: NDArray[np.float64],
    day: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Usual GPP of days of the year, ``(m,)``, from days ``(n,)`` with their GPP.

    Nadaraya-Watson regression with a Gaussian kernel on the circle of the year, so that
    31 December and 1 January are neighbours.
    """
    whole = np.arange(1, 367, dtype=np.float64)
    apart = np.abs(whole[:, np.newaxis] - fitted_day)
    apart = np.minimum(apart, YEAR_DAYS - apart)
    weight = np.exp(-0.5 * (apart / KERNEL_DAYS) ** 2)
    usual = (weight @ fitted_gpp) / weight.sum(axis=1)
    return np.asarray(np.interp(day, whole, usual), dtype=np.float64)
