"""Daily series of embeddings around a flux tower."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.config import Gpp, Tower
from pipeline_lib.cubes import Grid, grid_of
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path


def footprint(grid: Grid, *, lon: float, lat: float, radius: float) -> NDArray[np.bool_]:
    """Pixels whose centres lie within a radius of a place.

    The pixel closest to the place always belongs to it, however small the radius.

    Parameters
    ----------
    grid
        Grid of the embeddings.
    lon, lat
        The place, degrees.
    radius
        Radius on the grid's projected plane, m.

    Returns
    -------
    ndarray of bool, ``(y, x)``

    Raises
    ------
    UserError
        If the place lies outside the grid.
    """
    from pyproj import Transformer

    east, north = Transformer.from_crs(4326, grid.epsg, always_xy=True).transform(lon, lat)
    west, south, right, top = grid.bounds
    if not (west <= east <= right and south <= north <= top):
        raise UserError(
            f"the tower at {lon:g} E, {lat:g} N lies outside its cube; mend its coordinates"
        )
    distance = np.hypot(grid.x[np.newaxis, :] - east, grid.y[:, np.newaxis] - north)
    return np.asarray(distance <= max(radius, float(distance.min())))


def mean_embedding(
    embedding: NDArray[np.floating], inside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Mean over the valid pixels of a footprint, date by date.

    Parameters
    ----------
    embedding
        ``(time, feature, y, x)``, NaN where missing. A pixel is valid if all its features are.
    inside
        Footprint, ``(y, x)``.

    Returns
    -------
    ndarray, ``(time, feature)``
        NaN on dates without any valid pixel.
    """
    pixels = embedding[:, :, inside].astype(np.float64)
    valid = np.all(np.isfinite(pixels), axis=1)
    total = np.where(valid[:, np.newaxis], pixels, 0.0).sum(axis=2)
    count = np.sum(valid, axis=1, keepdims=True)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def interpolate_daily(
    *,
    observed_days: NDArray[np.integer],
    values: NDArray[np.float64],
    days: NDArray[np.integer],
    max_gap: int,
) -> NDArray[np.float64]:
    """Interpolate linearly between observations, never beyond the first or the last.

    Parameters
    ----------
    observed_days
        Days of the observations, strictly increasing, ``(n,)``.
    values
        Observations, ``(n, feature)``.
    days
        Days to interpolate to, ``(m,)``.
    max_gap
        Two observations that lie further apart than this, in days, are not joined.

    Returns
    -------
    ndarray, ``(m, feature)``
        NaN where nothing is known.
    """
    daily = np.full((len(days), values.shape[1]), np.nan)
    if len(observed_days) == 0:
        return daily
    after = np.searchsorted(observed_days, days, side="left")
    between = (days >= observed_days[0]) & (days <= observed_days[-1])
    right = np.minimum(after, len(observed_days) - 1)
    exact = between & (observed_days[right] == days)
    left = np.where(exact, right, np.maximum(right - 1, 0))
    gap = observed_days[right] - observed_days[left]
    known = between & (gap <= max_gap)
    weight = (days - observed_days[left]) / np.maximum(gap, 1)
    joined = values[left] + weight[:, np.newaxis] * (values[right] - values[left])
    daily[known] = joined[known]
    return daily


def daily_series(dataset: xr.Dataset, *, tower: Tower, gpp: Gpp) -> pd.DataFrame:
    """Embeddings around a tower for every day of the period.

    Parameters
    ----------
    dataset
        ``embedding`` ``(time, feature, y, x)`` with ``spatial_ref``, NaN where missing.
    tower
        Its place.
    gpp
        Names the period, the footprint and the longest gap.

    Returns
    -------
    DataFrame
        ``e0``, ``e1``, ... and ``observed`` by ``date``. Observations outside the period
        are not used, so that a series knows nothing beyond it. Several observations of one
        day are averaged.
    """
    inside = footprint(grid_of(dataset), lon=tower.lon, lat=tower.lat, radius=gpp.footprint_m)
    rows, columns = np.nonzero(inside)
    box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    near = dataset["embedding"].isel(y=box[0], x=box[1])
    features = [f"e{index}" for index in range(near.sizes["feature"])]
    means = mean_embedding(near.transpose("time", "feature", "y", "x").values, inside[box])
    dates = pd.DatetimeIndex(near["time"].values).normalize()
    observed = pd.DataFrame(means, index=dates, columns=features).dropna()
    period = pd.date_range(gpp.period.start, gpp.period.end, name="date")
    observed = observed.groupby(level=0).mean()
    observed = observed[observed.index.isin(period)]
    daily = interpolate_daily(
        observed_days=_day_numbers(observed.index),
        values=observed.to_numpy(np.float64),
        days=_day_numbers(period),
        max_gap=gpp.max_gap_days,
    )
    table = pd.DataFrame(daily, index=period, columns=features)
    table["observed"] = period.isin(observed.index)
    return table


def _day_numbers(dates: pd.Index) -> NDArray[np.int64]:
    return dates.to_numpy().astype("datetime64[D]").astype(np.int64)


def write_series(*, tower: Tower, gpp: Gpp, embedding: Path, output: Path) -> None:
    """Write a tower's daily series of embeddings.

    Parameters
    ----------
    tower
        The tower.
    gpp
        Names the period, the footprint and the longest gap.
    embedding
        Folder of the tower's exported embeddings.
    output
        CSV: ``date``, ``e0`` to ``e{F-1}``, ``observed``.

    Raises
    ------
    UserError
        If the embeddings cannot be read or the tower lies outside them.
    """
    from pipeline_lib.embed import read_embedding

    try:
        table = daily_series(read_embedding(embedding), tower=tower, gpp=gpp)
    except UserError as error:
        raise UserError(f"{tower.name}: {error}") from error
    with atomic_path(output) as partial:
        table.to_csv(partial, lineterminator="\n", date_format="%Y-%m-%d", float_format="%.6g")


def read_series(path: Path) -> pd.DataFrame:
    """Read what :func:`write_series` wrote: ``e0``, ... and ``observed`` by ``date``."""
    table = pd.read_csv(path, parse_dates=["date"], index_col="date")
    features = {name: np.float64 for name in table.columns if name != "observed"}
    return table.astype({**features, "observed": bool})
