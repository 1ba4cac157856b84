"""Cubes that the user brings: from NetCDF or Zarr into the contract of this package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import OwnCube, SensorSource
from pipeline_lib.cubes.grid import Grid
from pipeline_lib.cubes.own_file import grid_of_file, read_own_file
from pipeline_lib.cubes.rolling import rolling_mean
from pipeline_lib.cubes.schema import (
    CLEAR,
    NO_DATA,
    THICK_CLOUD,
    clear_sample,
    implausible,
    make_cube,
    write_cube,
)
from pipeline_lib.errors import UserError, in_a_line


def ingest_cube(
    *,
    name: str,
    sensor_name: str,
    sensor: SensorSource,
    own: OwnCube,
    resolution_m: float,
    config_digest: str,
    output: Path,
) -> None:
    """Write a cube from one sensor's file of a user's cube.

    Frames of one day are merged by the mean of their clear values; dates without a clear pixel, or
    with a smaller clear fraction than ``sensor.min_clear``, are left out; the attribute ``missing``
    counts both. The rolling mean of the sensor is applied. ``resolution_m`` is the pixel size that
    the file must have unless its block states another one.

    Raises UserError if the file lacks what the config names, has no usable date, or its values are
    not the sensor's quantity.
    """
    block = own.files[sensor_name]
    wanted, grid = block.resolution_m or resolution_m, grid_of_file(block)
    if not np.isclose(grid.resolution, wanted, rtol=1e-3):
        raise UserError(
            f"{block.file}: has pixels of {grid.resolution:g} m, not {wanted:g} m; resample it, or "
            "set resolution_m in its block if that is meant"
        )
    frames = read_own_file(block, sensor.bands)
    if absent := [band for band in sensor.bands if band not in frames.values]:
        raise UserError(
            f"{block.file}: bands {', '.join(absent)} are not among {in_a_line(frames.labels)}; "
            "leave them out of the sensor, or name the variable of each band in `bands`"
        )
    values = np.stack([frames.values[band] for band in sensor.bands], axis=1)
    clear = _finite(values) if frames.clear is None else frames.clear & _finite(values)
    if own.window is not None:
        values, clear, grid = _crop(values, clear, grid, own.window, block.file)
    days, values, clear, merged = merge_days(frames.days, values, clear)
    finite = _finite(values)
    share = (clear & finite).mean(axis=(1, 2))
    kept = (share >= sensor.min_clear) & (share > 0)
    if not kept.any():
        raise UserError(f"{block.file}: no date has a valid pixel; check bands and no_data")
    values, clear, finite, days = values[kept], clear[kept], finite[kept], days[kept]
    sample = clear_sample(values, clear & finite)
    if reason := implausible(sample, sensor.bands, sensor.quantity):
        raise UserError(
            f"{block.file}: {reason}; set scale, offset, conversion and no_data in the config"
        )
    missing = []
    if not kept.all():
        missing.append(f"{int((~kept).sum())} dates without enough clear pixels")
    if merged:
        missing.append(f"{merged} frames merged with another of the same day")
    cube = make_cube(
        values=rolling_mean(values, sensor.rolling_mean),
        unfiltered=values if sensor.rolling_mean > 1 else None,
        mask=np.where(finite, np.where(clear, CLEAR, THICK_CLOUD), NO_DATA).astype(np.uint8),
        times=days,
        bands=sensor.bands,
        grid=grid,
        quantity=sensor.quantity,
        frames={
            "item": [f"{block.file.name} {day}" for day in days.astype("datetime64[D]")],
            "clear_share": share[kept],
        },
        attributes={
            "sensor": sensor_name,
            "cube": name,
            "site": own.site,
            "land_cover": own.land_cover,
            "config_digest": config_digest,
            "source": block.file.name,
            "license": "unknown (user-supplied file)",
            "missing": missing,
        },
    )
    write_cube(cube, output)


def merge_days(
    days: NDArray[np.datetime64], values: NDArray[np.float32], clear: NDArray[np.bool_]
) -> tuple[NDArray[np.datetime64], NDArray[np.float32], NDArray[np.bool_], int]:
    """Frames of one day merged by the mean of their clear values, in order of time.

    Takes and returns days ``(time,)``, values ``(time, band, y, x)`` and clear ``(time, y, x)``,
    and returns the number of frames that were merged into others.
    """
    unique, place = np.unique(days.astype("datetime64[D]"), return_inverse=True)
    if len(unique) == len(days):
        order = np.argsort(days)
        return unique, values[order], clear[order], 0
    out = np.empty((len(unique), *values.shape[1:]), np.float32)
    seen = np.zeros((len(unique), *clear.shape[1:]), bool)
    for day in range(len(unique)):
        members = np.flatnonzero(place == day)
        seen[day] = clear[members].any(axis=0)
        # Where no frame is clear, all of them show clouds.
        good = (clear[members] | ~seen[day])[:, None] & np.isfinite(values[members])
        total = np.where(good, values[members], 0).sum(axis=0)
        with np.errstate(invalid="ignore"):
            out[day] = total / good.sum(axis=0)
    return unique, out, seen, len(days) - len(unique)


def _finite(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where all bands of ``(time, band, y, x)`` have a value, ``(time, y, x)``."""
    return np.asarray(np.isfinite(values).all(axis=1))


def _crop(
    values: NDArray[np.float32],
    clear: NDArray[np.bool_],
    grid: Grid,
    window: tuple[int, int, int, int],
    file: Path,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Grid]:
    """Values and mask of the rows and columns from top, bottom, left, right, and their grid."""
    top, bottom, left, right = window
    if not (0 <= top < bottom <= grid.height and 0 <= left < right <= grid.width):
        raise UserError(
            f"{file}: window {window} does not fit {grid.height} x {grid.width} pixels; change it"
        )
    part = (..., slice(top, bottom), slice(left, right))
    return values[part], clear[part], grid.cut(top, left, bottom - top, right - left)
