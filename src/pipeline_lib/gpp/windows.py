"""Windows of days with the GPP of their last day, and their split by year.

Nothing of a validation year reaches the training: a training window, the days that its first and
last days are interpolated from, and every image that all of these were made from, the context of
the embeddings included, lie outside the validation years. (The encoders themselves were trained
on other sites, in all years.) A validation window and the days that it is interpolated from lie
within them, so the first ``days`` days of such a year are no targets; its embeddings may know
images of other years. A window that is neither belongs to no part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline_lib.config import Windowing
from pipeline_lib.errors import UserError
from pipeline_lib.gpp.series import SOURCES, years_of

TRAINING, VALIDATION, SPANNING = "training", "validation", "spanning"
LAST_DAY = ["site", "vegetation", "date", "gpp", "kept"]


def cut_windows(table: pd.DataFrame, windowing: Windowing, days: int) -> pd.DataFrame:
    """A row per window of this many days: what `read_days` holds of its last day, and its part.

    The index is the row of ``table`` that a window ends on. Of the last day: ``site``,
    ``vegetation``, ``date``, ``gpp``, ``kept``; of the window: ``part`` (training, validation or
    spanning) and ``trainable``: it is on the stride, which starts on the first day of the period,
    and its last day is kept. All inputs of all methods have all its days, so that all methods are
    compared on the same windows. Raises UserError if there is no validation window.
    """
    features = [name for name in table.columns if ":" in name]
    last_rows = [np.zeros(0, np.int64)]
    whole = np.isfinite(table[features].to_numpy(np.float64)).all(axis=1)
    on_stride = np.zeros(len(table), dtype=bool)
    for rows in table.groupby("site").indices.values():
        start, stop = rows[0], rows[-1] + 1
        if stop - start >= days:
            complete = sliding_window_view(whole[start:stop], days).all(axis=1)
            last_rows.append(start + days - 1 + np.flatnonzero(complete))
            on_stride[start + days - 1 : stop : windowing.stride_days] = True
    windows = table.iloc[np.concatenate(last_rows)][LAST_DAY]
    last = windows.index.to_numpy()
    part = _parts(table, last, days, windowing.validation_years)
    if not (part == VALIDATION).any():
        raise _no_validation(table, features, windowing, days)
    return windows.assign(part=part, trainable=windows["kept"] & on_stride[last])


def gather(values: NDArray[np.float32], last: pd.Index, days: int) -> NDArray[np.float32]:
    """Values ``(row, feature)`` of windows that end on these rows, ``(window, day, feature)``."""
    return values[last.to_numpy()[:, np.newaxis] + np.arange(1 - days, 1)]


def _no_validation(
    table: pd.DataFrame, features: list[str], windowing: Windowing, days: int
) -> UserError:
    empty = sorted({name.partition(":")[0] for name in features if table[name].isna().all()})
    if empty:
        return UserError(
            f"gpp: no tower has any day of {', '.join(empty)}; check its input, or drop it"
        )
    key = "length_days" if days == windowing.length_days else "other_lengths_days"
    return UserError(
        f"gpp: no window of {days} days lies wholly in the validation years; change "
        f"gpp.windows.validation_years, gpp.windows.{key} or gpp.series.max_gap_days"
    )


def _parts(
    table: pd.DataFrame, last: NDArray[np.int64], days: int, validation_years: Sequence[int]
) -> NDArray[np.str_]:
    rows = last[:, np.newaxis] + np.arange(1 - days, 1)
    # Sources are never later, or earlier, than the day they belong to.
    first, last_day, first_image, last_image = (
        years_of(furthest(table[source].to_numpy(np.int64)[rows], axis=1))
        for source, furthest in zip(SOURCES, (np.min, np.max, np.min, np.max), strict=True)
    )
    inside, seen = np.zeros(len(last), dtype=np.int64), np.zeros(len(last), dtype=bool)
    for year in set(validation_years):
        inside += (first <= year) & (year <= last_day)
        seen |= (first_image <= year) & (year <= last_image)
    names = np.where(seen, SPANNING, TRAINING)
    return np.where(inside == last_day - first + 1, VALIDATION, names)


def runs(windows: pd.DataFrame, days: int, stride_days: int) -> NDArray[np.int64]:
    """Number of the run that each window on the stride belongs to, from 0 on.

    Neighbouring windows share most of their days, so as many consecutive windows of a site as
    fit into a window's ``days`` are a run, and runs are held out whole. The ends of two runs still
    share days, so what is chosen on held-out runs is a little optimistic, for every method alike.
    """
    sites = windows.groupby("site", sort=False)
    within = sites.cumcount() // -(-days // stride_days)
    number = windows.groupby(["site", within], sort=False).ngroup()
    return np.asarray(number, dtype=np.int64)


def hold_out(
    run: NDArray[np.int64], *, fraction: float, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Windows of some randomly chosen runs: a fraction of them, at least one and not all.

    Raises ValueError if there are fewer than two runs.
    """
    count = len(np.unique(run))
    if count < 2:
        raise ValueError("fewer than two runs of windows")
    held = min(max(1, round(fraction * count)), count - 1)
    return np.isin(run, generator.choice(count, size=held, replace=False))
