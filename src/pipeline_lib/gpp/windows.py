"""Windows of daily embeddings with the GPP of their last day, and their split by year.

A window belongs to a part (training or validation years) only if everything it was made
from does: its days, and the observations that its first and last days are interpolated
from. A window that touches both parts belongs to neither. Hence the windows of a validation
year begin in that year, and its first ``window_days`` days are no targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

TRAINING, VALIDATION, SPANNING = "training", "validation", "spanning"


@dataclass(frozen=True)
class Windows:
    """Windows of one or several sites, ordered by site and date."""

    site: NDArray[np.str_]
    """Site, ``(window,)``."""
    end: NDArray[np.datetime64]
    """Last day, whose GPP is the target, ``(window,)``."""
    first_source: NDArray[np.datetime64]
    """Earliest observation that the window was made from, ``(window,)``."""
    last_source: NDArray[np.datetime64]
    """Latest observation that the window was made from, or its last day, ``(window,)``."""
    inputs: NDArray[np.float32]
    """Embeddings, ``(window, day, feature)``."""
    target: NDArray[np.float32]
    """GPP, g C m-2 d-1, ``(window,)``."""

    def __len__(self) -> int:
        return len(self.site)

    def take(self, chosen: NDArray[np.bool_]) -> Self:
        """The chosen windows."""
        return type(self)(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Windows of several sites, one after the other."""
        return cls(
            **{
                f.name: np.concatenate([getattr(part, f.name) for part in parts])
                for f in fields(cls)
            }
        )


def cut_windows(
    *,
    site: str,
    series: pd.DataFrame,
    targets: pd.DataFrame,
    window_days: int,
    stride_days: int,
) -> Windows:
    """Cut the windows of a site.

    Parameters
    ----------
    site
        Its name.
    series
        ``e0``, ... and ``observed`` for every day of the period.
    targets
        ``gpp`` and ``kept`` for the same days.
    window_days
        Length of a window.
    stride_days
        Days between two windows; the first one begins on the first day of the period.

    Returns
    -------
    Windows
        Those without a missing day whose last day's GPP is kept.

    Raises
    ------
    ValueError
        If series and targets are not of the same days.
    """
    if not series.index.equals(targets.index):
        raise ValueError(f"{site}: series and targets are of different days")
    days = series.index.to_numpy().astype("datetime64[D]")
    values = series.drop(columns="observed").to_numpy(np.float32)
    missing = np.concatenate([[0], np.cumsum(~np.isfinite(values).all(axis=1))])
    ends = np.arange(window_days - 1, len(days), stride_days)
    starts = ends - window_days + 1
    whole = missing[ends + 1] == missing[starts]
    usable = whole & targets["kept"].to_numpy(bool)[ends]
    starts, ends = starts[usable], ends[usable]
    before, after = _sources(series["observed"].to_numpy(bool))
    return Windows(
        site=np.full(len(ends), site),
        end=days[ends],
        first_source=days[np.minimum(before[starts], starts)],
        last_source=days[np.maximum(after[ends], ends)],
        inputs=values[starts[:, np.newaxis] + np.arange(window_days)],
        target=targets["gpp"].to_numpy(np.float32)[ends],
    )


def _sources(observed: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indexes of the last observation up to each day, and of the first one from it on."""
    index = np.arange(len(observed))
    before = np.maximum.accumulate(np.where(observed, index, 0))
    after = np.minimum.accumulate(np.where(observed, index, len(observed) - 1)[::-1])[::-1]
    return before, after


def part_of(windows: Windows, validation_years: Sequence[int]) -> NDArray[np.str_]:
    """Part of each window: ``training``, ``validation``, or ``spanning`` where it touches both."""
    first = _years(windows.first_source)
    last = _years(windows.last_source)
    count = last - first + 1
    inside = np.zeros(len(windows), dtype=np.int64)
    for year in set(validation_years):
        inside += (first <= year) & (year <= last)
    names = np.where(inside == 0, TRAINING, SPANNING)
    return np.where(inside == count, VALIDATION, names)


def _years(days: NDArray[np.datetime64]) -> NDArray[np.int64]:
    return days.astype("datetime64[Y]").astype(np.int64) + 1970


def hold_out(
    windows: Windows, *, run: int, share: float, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Choose training windows that decide when training stops.

    Neighbouring windows share most of their days, so runs of consecutive windows of a site
    are held out together. At least one run is, and at least one is not.

    Parameters
    ----------
    windows
        The training windows.
    run
        Windows of a run.
    share
        Share of the runs to hold out.
    generator
        Source of chance.

    Returns
    -------
    ndarray of bool, ``(window,)``

    Raises
    ------
    ValueError
        If there are fewer than two runs.
    """
    _, first, site = np.unique(windows.site, return_index=True, return_inverse=True)
    within = (np.arange(len(windows)) - first[site]) // run
    new_run = np.diff(site, prepend=-1).astype(bool) | np.diff(within, prepend=-1).astype(bool)
    number = np.cumsum(new_run) - 1
    count = int(new_run.sum())
    if count < 2:
        raise ValueError("fewer than two runs of windows")
    held = min(max(1, round(share * count)), count - 1)
    return np.isin(number, generator.choice(count, size=held, replace=False))
