"""The two designs that GPP is predicted in: by year, and with each site left out.

By year, a reader learns from the windows of the training years. Left out, it learns from every
window of the other sites, whatever the year. Both learn from windows on the stride and predict
every day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path
from pipeline_lib.gpp.climatology import climatology
from pipeline_lib.gpp.days import columns_of
from pipeline_lib.gpp.readers import Examples, Reader
from pipeline_lib.gpp.windows import TRAINING, Windows, runs
from pipeline_lib.seeds import generator

BY_YEAR, LEFT_OUT = "by_year", "left_out"
DESIGNS = (BY_YEAR, LEFT_OUT)
MIN_RUNS = 2
"""Runs to learn from at least: one decides when learning stops."""


def predict(
    table: pd.DataFrame,
    windows: Windows,
    *,
    inputs: str,
    reader: Reader,
    designs: Sequence[str],
    repeats: int,
    stride_days: int,
    seed: int,
    name: str,
) -> pd.DataFrame:
    """Predict the GPP of every window's last day.

    Parameters
    ----------
    table, windows
        Days of all sites, and their windows.
    inputs
        What GPP is predicted from; see `methods.INPUTS`.
    reader
        How.
    designs
        Of `DESIGNS`.
    repeats
        Fits of each kind, with other seeds.
    stride_days
        Days between two windows that are learned from.
    seed, name
        Seed of the run, and name of the method: they decide what is drawn.

    Returns
    -------
    DataFrame
        A row per window: ``site``, ``date`` (its last day), ``part``, and a column
        ``<design>_<repeat>`` for each design and repeat, g C m-2 d-1; NaN where a site has no
        other sites, or these too few windows, to learn from.

    Raises
    ------
    UserError
        If there are too few windows to learn from by year.
    """
    values = table[columns_of(table, inputs)].to_numpy(np.float32)
    target = table["gpp"].to_numpy(np.float32)
    site = table["site"].to_numpy(str)[windows.last]
    predicted = last_days(table, windows, ["site", "date"])
    for repeat in range(repeats):
        for design in designs:
            predicted[f"{design}_{repeat}"] = np.nan
    terminal = Console(stderr=True)
    fits = [
        (repeat, design, *fit)
        for repeat in range(repeats)
        for design in designs
        for fit in _fits(design, windows, site)
    ]
    for repeat, design, left_out, learned, asked in track(
        fits, name, console=terminal, disable=not terminal.is_terminal
    ):
        chosen = windows.take(learned & windows.learnable)
        run = runs(chosen, site[learned & windows.learnable], stride_days)
        if len(np.unique(run)) < MIN_RUNS:
            if design == LEFT_OUT:
                continue
            raise UserError(
                f"gpp: only {len(chosen)} windows of the training years to learn from; lengthen "
                "gpp.period, shorten gpp.windows.length_days or stride_days, or raise "
                "gpp.series.max_gap_days"
            )
        predicted.loc[asked, f"{design}_{repeat}"] = reader(
            Examples(chosen.gather(values), target[chosen.last], run),
            windows.take(asked).gather(values),
            generator(seed, name, design, left_out, repeat),
        )
    return predicted


def _fits(
    design: str, windows: Windows, site: NDArray[np.str_]
) -> Iterable[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Site left out, if any, windows to learn from, and windows to predict, fit by fit."""
    if design == BY_YEAR:
        yield "", windows.part == TRAINING, np.ones(len(windows), dtype=bool)
        return
    sites = np.unique(site)
    for one in sites if len(sites) > 1 else ():
        yield str(one), site != one, site == one


def last_days(table: pd.DataFrame, windows: Windows, columns: list[str]) -> pd.DataFrame:
    """Some columns of each window's last day, and its ``part``."""
    return table.loc[windows.last, columns].reset_index(drop=True).assign(part=windows.part)


def predict_climatology(
    table: pd.DataFrame, windows: Windows, *, validation_years: Sequence[int]
) -> pd.DataFrame:
    """Usual GPP of each window's last day, in both designs, as `predict` returns it.

    By year: from all kept days of the training years. Left out: from all kept days of the other
    sites. In both, of sites of the same vegetation type, or of all where none has such days.
    """
    kept = table[table["kept"]]
    predicted = last_days(table, windows, ["site", "date"])
    predicted[[f"{design}_0" for design in DESIGNS]] = np.nan
    for site, rows in predicted.groupby("site"):
        vegetation = table.loc[table["site"] == site, "vegetation"].iloc[0]
        for design, told in (
            (BY_YEAR, kept[~kept["date"].dt.year.isin(list(validation_years))]),
            (LEFT_OUT, kept[kept["site"] != site]),
        ):
            alike = told[told["vegetation"] == vegetation]
            known = alike if len(alike) else told
            if len(known):
                predicted.loc[rows.index, f"{design}_0"] = climatology(
                    fitted_day=known["date"].dt.dayofyear.to_numpy(),
                    fitted_gpp=known["gpp"].to_numpy(np.float64),
                    day=rows["date"].dt.dayofyear.to_numpy(),
                )
    return predicted


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
