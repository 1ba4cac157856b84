"""Embeddings and bands within the footprints of flux towers, as daily series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.config import Context, DailySeries, Period, Sensor, Tower
from pipeline_lib.cubes import clear_counts, grid_of, read_cube
from pipeline_lib.cubes.schema import days_layer
from pipeline_lib.dataset import valid_pixels, window_frames
from pipeline_lib.errors import UserError
from pipeline_lib.gpp.footprint import Weights, footprint_weights
from pipeline_lib.gpp.methods import INDEX_BANDS, KNDVI, NIRV, has_indices
from pipeline_lib.gpp.series import (
    Days,
    Values,
    daily_series,
    day_numbers,
    observed_table,
    write_table,
)

Reach = Callable[[Days], tuple[Days, Days]]
"""Days of a record's frames to the days of the first and last image that each one's values see."""


def write_series(
    *,
    towers: Sequence[Tower],
    period: Period,
    series: DailySeries,
    embeddings: Mapping[str, Path],
    reference: str,
    cubes: Mapping[str, Mapping[str, Path]],
    sensors: Mapping[str, Sensor],
    context: Context,
    folder: Path,
) -> None:
    """Write the daily series of embeddings around each tower, as CSV ``<tower>.csv``.

    ``embeddings`` are folders of exported embeddings by tower, which have the dates of the sensor
    ``reference``; ``cubes`` are those of each other sensor by tower. ``sensors`` and ``context``
    are the models', and say how many frames an embedding sees. Raises UserError if a product
    cannot be read, or a tower lies outside it.
    """
    from pipeline_lib.embed import read_embedding

    reach: dict[str, Reach] = {
        name: partial(
            image_range,
            frames=context.frames,
            span_days=sensor.sequence.max_span_days,
            rolling_mean=sensor.rolling_mean,
        )
        for name, sensor in sensors.items()
    }

    def observe(tower: Tower) -> pd.DataFrame:
        dataset = read_embedding(embeddings[tower.name])
        weights = footprint_weights(grid_of(dataset), tower=tower, radius=series.footprint_radius_m)
        others = {name: (_usable_days(own[tower.name]), reach[name]) for name, own in cubes.items()}
        return observed_embeddings(dataset, weights, reach=reach[reference], others=others)

    _write(observe, towers, period, series, folder)


def write_bands(
    *,
    towers: Sequence[Tower],
    period: Period,
    series: DailySeries,
    cubes: Mapping[str, Path],
    rolling_mean: int,
    folder: Path,
) -> None:
    """Write the daily series of a sensor's bands around each tower, as CSV ``<tower>.csv``.

    ``cubes`` are the sensor's, by tower, averaged over ``rolling_mean`` frames. Raises UserError
    if a cube cannot be read, or a tower lies outside it.
    """

    def observe(tower: Tower) -> pd.DataFrame:
        cube = read_cube(cubes[tower.name])
        weights = footprint_weights(grid_of(cube), tower=tower, radius=series.footprint_radius_m)
        return observed_bands(cube, weights, rolling_mean=rolling_mean)

    _write(observe, towers, period, series, folder)


def _write(
    observe: Callable[[Tower], pd.DataFrame],
    towers: Sequence[Tower],
    period: Period,
    series: DailySeries,
    folder: Path,
) -> None:
    for tower in towers:
        try:
            observed = observe(tower)
        except UserError as error:
            raise UserError(f"{tower.name}: {error}") from error
        table = daily_series(observed, period=period, series=series)
        write_table(table, folder / f"{tower.name}.csv")


def _usable_days(path: Path) -> Days:
    cube = read_cube(path, load=False)
    return day_numbers(cube["time"].values[clear_counts(cube, path) > 0])


def weighted_pixels(
    values: NDArray[np.floating], weights: NDArray[np.floating]
) -> tuple[Values, Values, Values]:
    """Weighted mean and standard deviation over pixels, date by date, and the sum of weights.

    Of values ``(date, feature, pixel)`` with weights ``(date, pixel)``, of which NaN is none: a
    pixel counts on a date if all its features are finite. Returns ``(date, feature)`` twice, NaN
    where nothing has weight, and ``(date,)``, the sum of the weights that counted.
    """
    valid = np.isfinite(values).all(axis=1)
    counted = np.where(valid, np.nan_to_num(weights.astype(np.float64)), 0.0)[:, np.newaxis]
    known = np.where(valid[:, np.newaxis], values, 0.0).astype(np.float64)
    total = counted.sum(axis=2)
    seen = np.where(total > 0, total, np.nan)
    mean = (counted * known).sum(axis=2) / seen
    apart = known - np.nan_to_num(mean)[:, :, np.newaxis]
    return mean, np.sqrt((counted * apart**2).sum(axis=2) / seen), total[:, 0]


def image_range(
    days: Days, *, frames: int = 1, span_days: float = 0, rolling_mean: int = 1
) -> tuple[Days, Days]:
    """Days of the first and last image that contribute to each frame's values.

    ``days`` are those of the frames, increasing. A frame's window holds up to ``frames`` of them
    within ``span_days`` (see `window_frames`), each averaged over ``rolling_mean`` frames.
    """
    every = np.arange(len(days))
    windows, _ = window_frames(days, every, frames, span_days, rolling_mean=rolling_mean)
    first = np.maximum(windows.min(axis=1) - rolling_mean // 2, 0)
    last = np.minimum(windows.max(axis=1) + rolling_mean // 2, len(days) - 1)
    return days[first], days[last]


def observed_embeddings(
    dataset: xr.Dataset,
    weights: Weights,
    *,
    reach: Reach,
    others: Mapping[str, tuple[Days, Reach]],
) -> pd.DataFrame:
    """Embeddings within a footprint, as `observed_table`, of pixels with weights ``(y, x)``.

    ``dataset`` is that of `read_embedding`; its ``context_share`` weighs the pixels too.
    ``reach`` gives the days of the first and last image of the reference sensor that an embedding
    sees. ``others`` are the days of every other sensor's usable frames, and its own reach.
    """
    rows, columns = _box(weights)
    near = dataset.isel(y=rows, x=columns).transpose("time", "feature", "y", "x")
    dates = near.sizes["time"]
    pixels = near["embedding"].values.reshape(dates, near.sizes["feature"], -1)
    share = near["context_share"].values.reshape(dates, -1) * weights[rows, columns].ravel()
    days = day_numbers(near["time"].values)
    first, last = reach(days)
    for sensor, (frames, reach_of_other) in others.items():
        apart = near[days_layer(sensor)].values.reshape(dates, -1)
        paired = np.isfinite(apart).any(axis=1)
        if not paired.any():
            continue
        earliest, latest = reach_of_other(frames)
        outermost = [
            days[paired] + furthest(apart[paired], axis=1).astype(np.int64)
            for furthest in (np.nanmin, np.nanmax)
        ]
        # Of several frames of a day, any may be the one that a pixel is paired with.
        before = np.searchsorted(frames, outermost[0], side="left")
        after = np.searchsorted(frames, outermost[1], side="right") - 1
        first[paired] = np.minimum(first[paired], earliest[before])
        last[paired] = np.maximum(last[paired], latest[after])
    names = [f"e{index}" for index in range(near.sizes["feature"])]
    return observed_table(days, names, *weighted_pixels(pixels, share), first, last)


def _box(weights: Weights) -> tuple[slice, slice]:
    """Rows and columns that hold every pixel with weight."""
    rows, columns = np.nonzero(weights)
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


def observed_bands(cube: xr.Dataset, weights: Weights, *, rolling_mean: int) -> pd.DataFrame:
    """Bands of a cube within a footprint, as `observed_table`.

    Vegetation indices are added where the sensor has their bands; they are those of single
    pixels, averaged. ``rolling_mean`` is the number of frames that the cube was averaged over.
    """
    rows, columns = _box(weights)
    near = cube.isel(y=rows, x=columns).transpose("time", "band", "y", "x", ...)
    names = [str(band) for band in near["band"].values]
    values = near[str(cube.attrs["quantity"])].values.astype(np.float64)
    values = np.where(valid_pixels(near)[:, np.newaxis], values, np.nan)
    parts = [values]
    if has_indices(names):
        red, infrared = (values[:, names.index(band)] for band in INDEX_BANDS)
        indices = vegetation_indices(red=red, near_infrared=infrared)
        # Averaged separately, since a pixel that is black in both bands has no index.
        parts += [index[:, np.newaxis] for index in indices.values()]
        names += list(indices)
    near_weights = weights[rows, columns].ravel()
    inside = np.broadcast_to(near_weights, (len(values), len(near_weights)))
    means, spreads, totals = zip(
        *(weighted_pixels(part.reshape(*part.shape[:2], -1), inside) for part in parts), strict=True
    )
    days = day_numbers(near["time"].values)
    averaged = np.concatenate(means, axis=1), np.concatenate(spreads, axis=1), totals[0]
    return observed_table(days, names, *averaged, *image_range(days, rolling_mean=rolling_mean))


def vegetation_indices(*, red: Values, near_infrared: Values) -> dict[str, Values]:
    """NIRv and kNDVI of reflectances, by name.

    NIRv = NDVI * near infrared (Badgley et al. 2017, doi 10.1126/sciadv.1602244); kNDVI with a
    radial basis function of width (near infrared + red) / 2, which equals tanh(NDVI ** 2)
    (Camps-Valls et al. 2021, doi 10.1126/sciadv.abc7447). Both by spyndex.
    """
    import spyndex

    with np.errstate(divide="ignore", invalid="ignore"):
        kernel = spyndex.computeKernel(
            "RBF", {"a": near_infrared, "b": red, "sigma": (near_infrared + red) / 2}
        )
        indices = spyndex.computeIndex(
            [NIRV, KNDVI], {"N": near_infrared, "R": red, "kNN": 1.0, "kNR": kernel}
        )
    return {name: np.asarray(values) for name, values in zip((NIRV, KNDVI), indices, strict=True)}
