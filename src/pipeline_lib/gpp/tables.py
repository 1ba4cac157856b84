"""Tables of several towers from the user: features by day or year, and daily GPP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline_lib.config import DailySeries, FeatureTable, FluxTable, Period, Tower
from pipeline_lib.config.gpp import SITE_PLACEHOLDER
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.gpp.fluxnet import MISSING
from pipeline_lib.gpp.methods import KNDVI, NIRV
from pipeline_lib.gpp.series import SOURCES, SPREAD, daily_series, day_numbers, write_table

DAY, YEAR = r"\d{4}-\d\d-\d\d.*|\d{8}", r"\d{4}"
"""Days with or without a time of day, and years, as text."""


def write_features(
    *,
    name: str,
    table: FeatureTable,
    towers: Sequence[Tower],
    period: Period,
    series: DailySeries,
    folder: Path,
) -> str:
    """Write the daily series of a table's features at each tower, as CSV ``<tower>.csv``.

    They are interpolated and smoothed as those of `observed.write_bands`. Returns what was read, as
    text. Raises UserError if a file cannot be read, or has no row of a tower.
    """
    files = {tower.name: table.file_of(tower.name) for tower in towers}
    rows = {file: read_rows(file) for file in dict.fromkeys(files.values())}
    told = []
    for tower, file in files.items():
        own = rows[file]
        try:
            if SITE_PLACEHOLDER not in str(table.file):
                own = own[_column(own, table.site).astype(str) == tower]
            if own.empty:
                raise UserError(f"no rows of {tower}; add them, or remove it from gpp.towers")
            observed = observed_features(own, table)
        except UserError as error:
            raise UserError(f"{file}: {error} (gpp.features.{name})") from error
        told.append(f"{tower}: {len(own)} rows, {len(observed)} days observed")
        write_table(daily_series(observed, period=period, series=series), folder / f"{tower}.csv")
    return "\n".join(told)


def observed_features(rows: pd.DataFrame, table: FeatureTable) -> pd.DataFrame:
    """The rows of one tower as `observed_table` gives them, without spreads.

    Rows with a missing feature, or above a limit of ``drop_above``, are dropped. The row of a year
    stands on each of its days, made from images of the whole year.
    """
    from pipeline_lib.gpp.observed import vegetation_indices  # loads xarray

    others = {table.site, table.date}
    names = table.columns or [
        str(name) for name in rows.select_dtypes("number").columns if name not in others
    ]
    reserved = {NIRV, KNDVI, "observed", "weight", *SOURCES}
    if wrong := [name for name in names if name in reserved or name.endswith(SPREAD)]:
        raise UserError(f"{wrong[0]} is a reserved name; leave it out of `columns`, or rename it")
    if not names:
        raise UserError("has no numeric columns")
    values = pd.DataFrame({name: _numbers(_column(rows, name), name) for name in names})
    values *= table.scale
    limits = {name: _column(values, name) <= limit for name, limit in table.drop_above.items()}
    used = values.notna().all(axis=1) & pd.DataFrame(limits, index=values.index).all(axis=1)
    if table.red and table.nir:
        red, nir = (values[name].to_numpy() for name in (table.red, table.nir))
        values = values.assign(**vegetation_indices(red=red, near_infrared=nir))
    first, last = (day_numbers(days[used]) for days in _days(_column(rows, table.date)))
    length = last - first + 1
    row = np.repeat(np.arange(len(length)), length)
    day = first[row] + np.concatenate([np.arange(n) for n in length] or [np.zeros(0, int)])
    observed = values[used].iloc[row].set_axis(pd.Index(day.astype(np.int64)))
    return observed.assign(weight=1.0, from_image=first[row], to_image=last[row])


def read_gpp(table: FluxTable, tower: str, weather: Sequence[str]) -> pd.DataFrame | None:
    """Daily GPP of a tower, as `fluxnet.read_daily` returns it; None if the table has no row of it.

    Raises UserError if the table cannot be read or misses a column.
    """
    rows = read_rows(table.file)
    try:
        rows = rows[_column(rows, table.site).astype(str) == tower]
        if rows.empty:
            return None
        days = pd.DataFrame({"gpp": _numbers(_column(rows, table.gpp), table.gpp)})
        days["quality"] = days["gpp"].notna().astype(float)
        if table.quality:
            days["quality"] = _numbers(_column(rows, table.quality), table.quality)
        for name in weather:
            days[name] = _numbers(_column(rows, name), name)
        first, last = _days(_column(rows, table.date))
        if (first != last).any():
            raise UserError(f"{table.date} holds years; daily GPP is needed")
        if first.has_duplicates:
            twice = first[first.duplicated()][0]
            raise UserError(f"has several rows of {tower} on {twice:%Y-%m-%d}")
    except UserError as error:
        raise UserError(f"{table.file}: {error} (gpp.fluxes.table)") from error
    return days.set_axis(first.rename("date"))


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of a CSV, plain or gzipped, or a Parquet file."""
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, encoding="utf-8-sig", float_precision="round_trip")
    except (OSError, ValueError) as error:  # of pandas, pyarrow and the operating system
        raise UserError(f"{path}: not a readable CSV or Parquet ({in_a_line(error)})") from error


def _column(rows: pd.DataFrame, name: str) -> pd.Series[Any]:
    if name not in rows:
        there = ", ".join(map(str, rows.columns[:8]))
        raise UserError(f"no column {name}; it has {there} ...")
    return rows[name]


def _numbers(column: pd.Series[Any], name: str) -> pd.Series[float]:
    values = pd.to_numeric(column, errors="coerce").astype(float)
    if (wrong := values.isna() & column.notna()).any():
        raise UserError(f"{name} holds {in_a_line(column[wrong].iloc[0])!r}, not a number")
    return values.mask((values == MISSING) | ~np.isfinite(values))


def _days(column: pd.Series[Any]) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """First and last day that each row stands for: one day, or a whole year."""
    text = column.astype(str).str.strip()
    years = text.str.fullmatch(YEAR)
    if years.all():
        first = pd.DatetimeIndex(pd.to_datetime(text + "0101", format="%Y%m%d"))
        return first, first + pd.offsets.YearEnd()
    days = text.where(text.str.fullmatch(DAY)).str.replace("-", "").str[:8]
    dates = pd.to_datetime(days, format="%Y%m%d", errors="coerce")
    if dates.isna().any():
        wrong = in_a_line(text[dates.isna()].iloc[0])
        raise UserError(
            f"{column.name} {wrong!r} is not a day (write 2017-04-30, 20170430, or years alone)"
        )
    return pd.DatetimeIndex(dates), pd.DatetimeIndex(dates)
