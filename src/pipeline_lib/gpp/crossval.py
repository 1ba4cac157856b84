"""Predictions under both validation schemes: temporal holdout and leave-one-site-out.

In the temporal holdout a model is fitted on the windows of the training years. In
leave-one-site-out it is fitted on all windows of the other sites, whatever the year. Both are
fitted on windows on the stride and predict every day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path
from pipeline_lib.gpp.days import columns_of
from pipeline_lib.gpp.methods import LEAVE_ONE_SITE_OUT, TEMPORAL_HOLDOUT, Experiment
from pipeline_lib.gpp.windows import TRAINING, gather, runs
from pipeline_lib.seeds import generator

MIN_RUNS = 2
"""Runs to fit on at least: one decides when training stops."""
DRAWS = {TEMPORAL_HOLDOUT: "by_year", LEAVE_ONE_SITE_OUT: "left_out"}
"""Names of the schemes' random draws; other names would give other results."""

Windowed = NDArray[np.float32]
"""Inputs, ``(window, day, feature)``."""


@dataclass(frozen=True)
class Examples:
    """Training windows: their inputs, the GPP of their last days, and their runs.

    ``target`` is in g C m-2 d-1; ``run`` numbers runs of neighbouring windows, see `windows.runs`.
    """

    inputs: Windowed
    target: NDArray[np.float32]
    run: NDArray[np.int64]


Regress = Callable[[Examples, Windowed, np.random.Generator], NDArray[np.float64]]
"""Fits a model to examples and predicts the GPP of other windows, g C m-2 d-1."""


def predict(
    table: pd.DataFrame,
    windows: pd.DataFrame,
    experiment: Experiment,
    regress: Regress,
    *,
    fits: int,
    stride_days: int,
    seed: int,
) -> pd.DataFrame:
    """Predicted GPP of every window's last day, g C m-2 d-1.

    A row per window of `cut_windows`: ``site``, ``date`` (its last day), ``part``, and a column
    ``<scheme>_<fit>`` for each scheme of the experiment and fit; NaN where a site has no other
    sites, or these too few windows, to fit on. Raises UserError if the training years have too few
    windows.
    """
    values = table[columns_of(table, experiment.inputs)].to_numpy(np.float32)
    predicted = windows[["site", "date", "part"]].copy()
    for fit in range(fits):
        for scheme in experiment.schemes:
            predicted[f"{scheme}_{fit}"] = np.nan
            for held_out, learned, asked in _folds(scheme, windows):
                chosen = windows[learned & windows["trainable"]]
                run = runs(chosen, experiment.days, stride_days)
                if len(np.unique(run)) < MIN_RUNS:
                    if scheme == LEAVE_ONE_SITE_OUT:
                        continue
                    raise UserError(
                        f"gpp: only {len(chosen)} windows of the training years to learn from; "
                        "lengthen gpp.period, shorten gpp.windows.length_days or stride_days, or "
                        "raise gpp.series.max_gap_days"
                    )
                inputs, others = (
                    gather(values, last, experiment.days)
                    for last in (chosen.index, windows.index[asked])
                )
                predicted.loc[asked, f"{scheme}_{fit}"] = regress(
                    Examples(inputs, chosen["gpp"].to_numpy(np.float32), run),
                    others,
                    generator(seed, experiment.method, DRAWS[scheme], held_out, fit),
                )
    return predicted


def _folds(
    scheme: str, windows: pd.DataFrame
) -> Iterator[tuple[str, pd.Series[bool], pd.Series[bool]]]:
    """Held-out site, if any, windows to fit on, and windows to predict, fold by fold."""
    if scheme == TEMPORAL_HOLDOUT:
        yield "", windows["part"] == TRAINING, windows["part"].notna()
        return
    sites = np.unique(windows["site"].to_numpy(str))
    for one in sites if len(sites) > 1 else ():
        yield str(one), windows["site"] != one, windows["site"] == one


def write_predictions(predicted: pd.DataFrame, output: Path) -> None:
    """Write predictions as CSV."""
    with atomic_path(output) as partial:
        predicted.to_csv(
            partial,
            index=False,
            lineterminator="\n",
            date_format="%Y-%m-%d",
            float_format="%.6g",
        )


def read_predictions(path: Path) -> pd.DataFrame:
    """Read what `write_predictions` wrote."""
    return pd.read_csv(path, parse_dates=["date"], dtype={"site": str, "part": str})
