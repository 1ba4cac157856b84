"""One table of all towers' days: GPP, all inputs, and what these were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline_lib.errors import UserError
from pipeline_lib.gpp.methods import BANDS, EMBEDDING, KNDVI, NIRV, SEASON, WEATHER, YEARLY
from pipeline_lib.gpp.series import SOURCES, features_of, read_series, years_of
from pipeline_lib.gpp.targets import MEASURED, read_sites, read_targets

TABLE = "table "
"""Precedes the name of a table of features where a column names its source."""


def sources_of(sensors: Sequence[str], tables: Sequence[str]) -> list[str]:
    """Names of all series of a tower: without sensors there are no embeddings either."""
    return [*([EMBEDDING, *sensors] if sensors else []), *tables]


def read_days(
    folder: Path,
    *,
    sensors: Sequence[str],
    tables: Sequence[str] = (),
    validation_years: Sequence[int],
) -> pd.DataFrame:
    """Every day of every tower that is used: a row per site and day of the period, ordered.

    Columns: ``site``, ``vegetation``, ``date``, ``gpp`` (g C m-2 d-1), ``kept``; features as
    ``<source>:<name>``; and the `SOURCES` of all of them together. The folder holds ``sites.csv``,
    ``targets/<tower>.csv``, and ``series/<source>/<tower>.csv`` of `sources_of` these sensors and
    tables of features. Raises UserError if no tower is used.
    """
    used = read_sites(folder / "sites.csv").query("used").sort_index()
    if used.empty:
        raise UserError(
            f"gpp: no tower has enough good days in the period, see {folder / 'sites.csv'}; "
            "change gpp.period, gpp.fluxes.min_quality or gpp.fluxes.min_good_days"
        )
    days = []
    for site, vegetation in used["vegetation"].items():
        series = {
            _source(name, tables): read_series(folder / "series" / name / f"{site}.csv")
            for name in sources_of(sensors, tables)
        }
        table = _days_of(read_targets(folder / "targets" / f"{site}.csv"), series, validation_years)
        table.insert(0, "site", str(site))
        table.insert(1, "vegetation", vegetation)
        days.append(table.reset_index(names="date"))
    return pd.concat(days, ignore_index=True)


def _source(name: str, tables: Sequence[str]) -> str:
    return f"{TABLE}{name}" if name in tables and name != WEATHER else name


def _days_of(
    targets: pd.DataFrame, series: Mapping[str, pd.DataFrame], validation_years: Sequence[int]
) -> pd.DataFrame:
    """The days of one site, by date."""
    for source, one in series.items():
        if not one.index.equals(targets.index):
            raise ValueError(f"{source} and targets have different days")
    parts = [one[features_of(one)].add_prefix(f"{source}:") for source, one in series.items()]
    if EMBEDDING in series:
        parts.append(_yearly(series[EMBEDDING], validation_years))
    parts.append(targets.drop(columns=list(MEASURED)).add_prefix(f"{WEATHER}:"))
    day = pd.DatetimeIndex(targets.index)
    angle = 2 * np.pi * day.dayofyear.to_numpy() / 365.25
    season = {f"{SEASON}:sin": np.sin(angle), f"{SEASON}:cos": np.cos(angle)}
    parts.append(pd.DataFrame(season, index=day))
    table = pd.concat([targets[["gpp", "kept"]], *parts], axis=1)
    for name in SOURCES:
        days = np.stack([one[name].to_numpy() for one in series.values()])
        table[name] = days.min(axis=0) if name.startswith("from") else days.max(axis=0)
    return table


def _yearly(embeddings: pd.DataFrame, validation_years: Sequence[int]) -> pd.DataFrame:
    """Mean embedding of each calendar year, on all its days, as a yearly product would give it.

    Of observed days. Those of training years that know an image of a validation year are not
    used, and so that all years are means of the same season, nor are the same days of all years.
    A year without any other day has the mean of the training years.
    """
    names = features_of(embeddings)
    calendar = pd.DatetimeIndex(embeddings.index)
    years, day = calendar.year.to_numpy(), calendar.dayofyear.to_numpy()
    observed = embeddings["observed"].to_numpy(bool)
    training = ~np.isin(years, list(validation_years))
    first, last = (years_of(embeddings[source].to_numpy()) for source in SOURCES[2:])
    used = observed.copy()
    for year in validation_years:
        knows = observed & training & (first <= year) & (year <= last)
        for late in (True, False):
            days = day[knows & ((years < year) == late)]
            if len(days):
                used &= day < days.min() if late else day > days.max()
    mean = embeddings.loc[used, names].groupby(years[used]).mean()
    usual = embeddings.loc[used & training, names].mean()
    yearly = mean.reindex(years).fillna(usual).set_axis(embeddings.index)
    return yearly.add_prefix(f"{YEARLY}:")


def columns_of(table: pd.DataFrame, inputs: str) -> list[str]:
    """Columns of a table of days that belong to some inputs, in order.

    ``inputs`` is a name of `methods.INPUTS` or of a table, or several joined by ``+``.
    """
    features = [name for name in table.columns if ":" in name]
    found: list[str] = []
    for part in inputs.split("+"):
        own = [name for name in features if _belongs(name, part)]
        # The vegetation indices are those of the sensors, and of tables where there are none.
        found += [name for name in own if not name.startswith(TABLE)] or own
    return found


def _belongs(column: str, inputs: str) -> bool:
    source, _, name = column.partition(":")
    if inputs in (NIRV, KNDVI):
        return name == inputs
    if name in (NIRV, KNDVI):
        return False
    if inputs == BANDS:
        others = (EMBEDDING, YEARLY, SEASON, WEATHER)
        return source not in others and not source.startswith(TABLE)
    return source in (inputs, f"{TABLE}{inputs}")
