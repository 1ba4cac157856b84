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
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline_lib.config import Windowing
from pipeline_lib.errors import UserError
from pipeline_lib.gpp.series import SOURCES, years_of

TRAINING, VALIDATION, SPANNING = "training", "validation", "spanning"


@dataclass(frozen=True)
class Windows:
    """Windows of a table of days.

    Parameters
    ----------
    days
        Length of a window.
    last
        ``(window,)``, row of the table that a window ends on, increasing.
    part
        ``(window,)``, ``training``, ``validation`` or ``spanning``.
    trainable
        ``(window,)``, whether it may be trained on: on the stride, its last day's GPP kept.
    """

    days: int
    last: NDArray[np.int64]
    part: NDArray[np.str_]
    trainable: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.last)

    def take(self, chosen: NDArray[np.bool_]) -> Self:
        """The chosen windows."""
        rows = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "days"}
        return type(self)(days=self.days, **rows)

    def gather(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of the windows' days: ``(row, feature)`` -> ``(window, day, feature)``."""
        return values[self.last[:, np.newaxis] + np.arange(1 - self.days, 1)]


def cut_windows(table: pd.DataFrame, windowing: Windowing, days: int) -> Windows:
    """Cut a window of this many days for every day of a table, see `read_days`, that has one.

    All inputs of all methods have all its days, so that all methods are compared on the same
    windows. The stride starts on the first day of the period. Raises UserError if there is no
    validation window.
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
    last = np.concatenate(last_rows)
    part = _parts(table, last, days, windowing.validation_years)
    if not (part == VALIDATION).any():
        raise _no_validation(table, features, windowing, days)
    return Windows(days, last, part, on_stride[last] & table["kept"].to_numpy(bool)[last])


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


def runs(windows: Windows, site: NDArray[np.str_], stride_days: int) -> NDArray[np.int64]:
    """Number of the run that each window on the stride belongs to, from 0 on.

    Neighbouring windows share most of their days, so as many consecutive windows of a site as
    fit into a window's length are a run, and runs are held out whole. The ends of two runs still
    share days, so what is chosen on held-out runs is a little optimistic, for every method alike.
    """
    length = -(-windows.days // stride_days)
    _, first, number = np.unique(site, return_index=True, return_inverse=True)
    within = (np.arange(len(site)) - first[number]) // length
    new = np.diff(number, prepend=-1).astype(bool) | np.diff(within, prepend=-1).astype(bool)
    return np.asarray(np.cumsum(new) - 1)


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
