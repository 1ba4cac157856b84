"""Daily series around flux towers: of the embeddings, and of each sensor's own bands.

A series holds for every day what the footprint shows, and from which days and which images this
was made, so that training and validation years can be kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.config import DailySeries, Period, Smoothing
from pipeline_lib.files import atomic_path

SPREAD = "_spread"
SOURCES = ("from_day", "to_day", "from_image", "to_image")
"""First and last day that a day's values are interpolated and smoothed from, and first and last
day of an image that those were made from, the context of an embedding included."""

Days = NDArray[np.int64]
"""Days since 1970-01-01."""
Values = NDArray[np.float64]


def day_numbers(dates: pd.Index | NDArray[np.datetime64]) -> Days:
    """Dates as days since 1970-01-01."""
    return np.asarray(dates).astype("datetime64[D]").astype(np.int64)


def years_of(days: NDArray[np.integer]) -> NDArray[np.int64]:
    """Calendar years of days since 1970-01-01."""
    return days.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970


def write_table(table: pd.DataFrame, output: Path) -> None:
    """Write a series as CSV."""
    with atomic_path(output) as partial:
        table.to_csv(partial, lineterminator="\n", date_format="%Y-%m-%d", float_format="%.6g")


def read_series(path: Path) -> pd.DataFrame:
    """Read a series, as `daily_series` returns it."""
    kinds = {"observed": bool, **dict.fromkeys(SOURCES, np.int64)}
    table = pd.read_csv(path, parse_dates=["date"], index_col="date")
    return table.astype({name: kinds.get(name, np.float64) for name in table.columns})


def features_of(series: pd.DataFrame) -> list[str]:
    """Names of the features of a series."""
    others = {"observed", *SOURCES}
    return [name for name in series.columns if name not in others and not name.endswith(SPREAD)]


def observed_table(
    day: Days,
    names: Sequence[str],
    mean: Values,
    spread: Values,
    weight: Values,
    from_image: Days,
    to_image: Days,
) -> pd.DataFrame:
    """What the footprint shows on the dates of some images, by day; a day may occur repeatedly.

    Columns: the features of these names (the weighted means ``(date, feature)`` over the
    footprint, NaN where no pixel of it is valid), their spreads, ``weight`` (the fraction of the
    footprint that they stand for), and days of the first and last image that they were made from.
    """
    values = np.concatenate([mean, spread], axis=1)
    table = pd.DataFrame(values, index=day, columns=[*names, *(f"{n}{SPREAD}" for n in names)])
    return table.assign(weight=weight, from_image=from_image, to_image=to_image)


def daily_series(observed: pd.DataFrame, *, period: Period, series: DailySeries) -> pd.DataFrame:
    """A series for every day of the period, by ``date``, from a table of `observed_table`.

    Its columns are the features, their spreads (``<name>_spread``, never smoothed), whether the
    day was ``observed``, and `SOURCES` (days since 1970; those of the day itself where nothing is
    known). Days between two observations are interpolated linearly, if these are no further apart
    than ``series.max_gap_days``. Observations outside the period are not used, so that a series
    knows nothing beyond it. Several observations of one day are averaged by their weight.
    """
    calendar = pd.date_range(period.start, period.end, name="date")
    days = pd.Series(day_numbers(calendar), index=calendar)
    daily = _one_per_day(observed).reindex(calendar)
    images = daily[["from_image", "to_image"]]
    seen = images["from_image"].notna()
    own = days.where(seen)
    before, after = own.ffill(), own.bfill()
    known = (after - before) <= series.max_gap_days
    values = daily.drop(columns=images.columns).interpolate(method="time").where(known)
    earlier, later = images.ffill(), images.bfill()
    made_from = (
        before,
        after,
        earlier["from_image"].clip(upper=later["from_image"]),
        earlier["to_image"].clip(lower=later["to_image"]),
    )
    sources = {
        name: source.where(known, days).to_numpy(np.int64)
        for name, source in zip(SOURCES, made_from, strict=True)
    }
    if series.smoothing is not None:
        names = features_of(values)
        values[names] = smooth_daily(values[names].to_numpy(), series.smoothing)
        sources = _widened(sources, known.to_numpy(), series.smoothing.window_days - 1)
    return values.assign(observed=seen, **sources)


def _one_per_day(observed: pd.DataFrame) -> pd.DataFrame:
    """The observations by date, those of one day averaged by their weight."""
    used = observed[observed["weight"] > 0]
    days = used.groupby(level=0)
    share = used["weight"] / days["weight"].transform("sum")
    values = used.drop(columns=["weight", "from_image", "to_image"])
    table = values.mul(share.to_numpy(), axis=0).groupby(level=0).sum()
    table["from_image"], table["to_image"] = days["from_image"].min(), days["to_image"].max()
    return table.set_axis(pd.to_datetime(table.index, unit="D"))


def smooth_daily(values: Values, smoothing: Smoothing) -> Values:
    """Smooth a daily series ``(day, feature)`` by local polynomials, within runs of known days.

    Savitzky and Golay 1964, doi 10.1021/ac60214a047; at the ends of a run the polynomial of its
    first or last days is taken. Runs shorter than the polynomial's window stay as they are.
    """
    from scipy.signal import savgol_filter

    smooth = values.copy()
    for start, stop in _runs(np.asarray(np.isfinite(values).all(axis=1))):
        if stop - start >= smoothing.window_days:
            smooth[start:stop] = savgol_filter(
                values[start:stop], smoothing.window_days, smoothing.order, axis=0
            )
    return smooth


def _widened(sources: dict[str, Days], known: NDArray[np.bool_], reach: int) -> dict[str, Days]:
    """Sources of smoothed days: those of all days of the run that a polynomial may touch."""
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    wide = {name: values.copy() for name, values in sources.items()}
    for start, stop in _runs(known):
        for name, values in sources.items():
            furthest = minimum_filter1d if name.startswith("from") else maximum_filter1d
            wide[name][start:stop] = furthest(values[start:stop], 2 * reach + 1, mode="nearest")
    return wide


def _runs(known: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last-plus-one index of each run of true elements."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
