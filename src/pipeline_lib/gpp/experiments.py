"""The two designs that GPP is predicted in: by year, and with each site left out.

By year, a regressor learns from the windows of the training years. Left out, it learns from
every window of the other sites, whatever the year. The embeddings of a day look some weeks
ahead (their context of frames), so those of December know January's images, though nothing
that learns in the training years sees GPP of the validation years.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.config import Gpp
from pipeline_lib.errors import UserError
from pipeline_lib.gpp.baselines import climatology
from pipeline_lib.gpp.windows import TRAINING, Windows, hold_out
from pipeline_lib.seeds import generator

HOLD_OUT_SHARE = 0.15
"""Share of the training windows that decides when training stops."""


def predict_by_year(
    windows: Windows, part: NDArray[np.str_], *, gpp: Gpp, seed: int
) -> NDArray[np.float64]:
    """Predict every window by regressors that learned from the training windows.

    Parameters
    ----------
    windows, part
        All windows and the part of each.
    gpp
        Names the regressor and its number of seeds.
    seed
        Seed that the seeds of the repetitions are derived from.

    Returns
    -------
    ndarray, ``(seed, window)``
        g C m-2 d-1.

    Raises
    ------
    UserError
        If there are too few training windows.
    """
    learned = windows.take(part == TRAINING)
    return np.stack(
        [
            _fit_and_predict(learned, windows, gpp=gpp, seed=seed, name=f"by year {repetition}")
            for repetition in range(gpp.regressor.seeds)
        ]
    )


def predict_left_out(windows: Windows, *, gpp: Gpp, seed: int) -> NDArray[np.float64]:
    """Predict each site's windows by one regressor that learned from the other sites alone.

    Returns
    -------
    ndarray, ``(window,)``
        g C m-2 d-1; NaN where there is no other site.
    """
    predicted = np.full(len(windows), np.nan)
    sites = np.unique(windows.site)
    for site in sites if len(sites) > 1 else ():
        own = windows.site == site
        predicted[own] = _fit_and_predict(
            windows.take(~own), windows.take(own), gpp=gpp, seed=seed, name=f"without {site}"
        )
    return predicted


def _fit_and_predict(
    learned: Windows, asked: Windows, *, gpp: Gpp, seed: int, name: str
) -> NDArray[np.float64]:
    from pipeline_lib.gpp.regressor import fit_regressor

    rng = generator(seed, name)
    try:
        held_out = hold_out(
            learned,
            run=math.ceil(gpp.window_days / gpp.stride_days),
            share=HOLD_OUT_SHARE,
            generator=rng,
        )
    except ValueError:
        raise UserError(
            f"gpp: only {len(learned)} windows to learn from ({name}); lengthen gpp.period, "
            "shorten gpp.window_days or gpp.stride_days, or raise gpp.max_gap_days"
        ) from None
    fitted = fit_regressor(
        inputs=learned.inputs,
        target=learned.target,
        held_out=held_out,
        block=gpp.regressor,
        seed=int(rng.integers(2**31)),
    )
    return fitted.predict(asked.inputs)


def climatology_by_year(
    windows: Windows,
    days: Mapping[str, pd.DataFrame],
    *,
    vegetation: Mapping[str, str],
    gpp: Gpp,
) -> NDArray[np.float64]:
    """Usual GPP of each window's last day, from all kept days of the training years.

    Parameters
    ----------
    windows
        All windows.
    days
        Targets of each site of the evaluation.
    vegetation
        Vegetation type of each site; a climatology is fitted per type.
    gpp
        Names the validation years.

    Returns
    -------
    ndarray, ``(window,)``
        g C m-2 d-1; NaN where the type has no kept day in the training years.
    """
    kept = _kept_days(days, vegetation)
    kept = kept[~kept["date"].dt.year.isin(gpp.validation_years)]
    predicted = np.full(len(windows), np.nan)
    for site in np.unique(windows.site):
        own = windows.site == site
        same = kept[kept["vegetation"] == vegetation[site]]
        predicted[own] = _usual(same, windows.end[own])
    return predicted


def climatology_left_out(
    windows: Windows, days: Mapping[str, pd.DataFrame], *, vegetation: Mapping[str, str]
) -> NDArray[np.float64]:
    """Usual GPP of each window's last day, from all kept days of the other sites.

    Of sites of the same vegetation type, or of all others where there is none.

    Returns
    -------
    ndarray, ``(window,)``
        g C m-2 d-1; NaN where there is no other site.
    """
    kept = _kept_days(days, vegetation)
    predicted = np.full(len(windows), np.nan)
    for site in np.unique(windows.site):
        own = windows.site == site
        others = kept[kept["site"] != site]
        same = others[others["vegetation"] == vegetation[site]]
        predicted[own] = _usual(same if len(same) else others, windows.end[own])
    return predicted


def _kept_days(days: Mapping[str, pd.DataFrame], vegetation: Mapping[str, str]) -> pd.DataFrame:
    """One row per kept day of any site: ``site``, ``vegetation``, ``date``, ``gpp``."""
    return pd.concat(
        [
            table.loc[table["kept"], ["gpp"]]
            .reset_index()
            .assign(site=site, vegetation=vegetation[site])
            for site, table in days.items()
        ],
        ignore_index=True,
    )


def _usual(rows: pd.DataFrame, asked: NDArray[np.datetime64]) -> NDArray[np.float64]:
    if rows.empty:
        return np.full(len(asked), np.nan)
    return climatology(
        fitted_day=rows["date"].dt.dayofyear.to_numpy(),
        fitted_gpp=rows["gpp"].to_numpy(np.float64),
        day=pd.DatetimeIndex(asked).dayofyear.to_numpy(),
    )
