"""Cubes that the user brings: from NetCDF or Zarr into the contract of this package."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import OwnCube, OwnCubeFile, SensorSource
from pipeline_lib.cubes.grid import Grid
from pipeline_lib.cubes.own_file import grid_of_file, read_own_file
from pipeline_lib.cubes.resampling import nearest, refine
from pipeline_lib.cubes.rolling import rolling_mean
from pipeline_lib.cubes.schema import (
    CLEAR,
    FRAME_SAMPLE,
    NO_DATA,
    THICK_CLOUD,
    clear_sample,
    doubtful,
    implausible,
    implausible_frames,
    make_cube,
    write_cube,
)
from pipeline_lib.errors import UserError, in_a_line

log = logging.getLogger(__name__)


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
    """Write a cube from one sensor's files of a user's cube.

    All sensors of the cube get one grid: the pixels of the finest of its files, where all of them
    overlap. Coarser bands are interpolated and coarser masks taken from the nearest pixel, as in
    cubes of an archive. Files are joined by day. Frames of one day are merged by the mean of their
    clear values; dates without a clear pixel, with a smaller clear fraction than
    ``sensor.min_clear``, or with implausible values are left out. The attribute ``missing`` counts
    what is not in the cube, ``remarks`` names odd values, and the log lists dates and values. The
    rolling mean of the sensor is applied. ``resolution_m`` is the pixel size that the finest file
    must have unless its block states another one.

    Raises UserError if the files lack what the config names, do not fit each other, have no usable
    date, or their values are not the sensor's quantity.
    """
    blocks = own.files[sensor_name]
    where = _files(blocks)
    grid = grid_of_cube(own, resolution_m)
    days, values, clear, unpaired = _joined(blocks, sensor.bands, grid)
    for day in unpaired:
        log.info("%s: dropped, since not all files have it alike", day)
    days, values, clear, merged = merge_days(days, values, clear)
    finite = _finite(values)
    clear &= finite
    share = clear.mean(axis=(1, 2))
    kept = (share >= sensor.min_clear) & (share > 0)
    least = f": dropped, at least {100 * sensor.min_clear:g} % are needed"
    for day, part, used in zip(days, share, kept, strict=True):
        end = "" if used else least if part else ": dropped"
        log.info("%s: %.1f %% clear%s", day, 100 * part, end)
    if not kept.any():
        raise UserError(
            f"{where}: no date has enough valid pixels (at most {100 * share.max():.3g} % are "
            "clear); check bands, no_data, valid_range, mask_clear and min_clear"
        )
    reason = implausible(clear_sample(values[kept], clear[kept]), sensor.bands, sensor.quantity)
    if reason:
        raise UserError(
            f"{where}: {reason}; set scale, offset, conversion and no_data in the config"
        )
    missing = {
        "days that not all files have alike": len(unpaired),
        "dates without enough clear pixels": int((~kept).sum()),
        "frames merged with another of the same day": merged,
    }
    frames = [
        clear_sample(values[[index]], clear[[index]] & used, FRAME_SAMPLE)
        for index, used in enumerate(kept)
    ]
    odd = implausible_frames(frames, sensor.bands, sensor.quantity)
    for index, reason in odd.items():
        log.warning("%s: dropped, %s", days[index], reason)
        kept[index] = False
    if not kept.any():
        raise UserError(f"{where}: all dates have implausible values ({reason}); check them")
    missing["dates with implausible values"] = len(odd)
    values, clear, finite, days = values[kept], clear[kept], finite[kept], days[kept]
    remarks = _remarks(clear_sample(values, clear), sensor)
    names = " ".join(dict.fromkeys(block.file.name for block in blocks))
    cube = make_cube(
        values=rolling_mean(values, sensor.rolling_mean),
        unfiltered=values if sensor.rolling_mean > 1 else None,
        mask=np.where(finite, np.where(clear, CLEAR, THICK_CLOUD), NO_DATA).astype(np.uint8),
        times=days,
        bands=sensor.bands,
        grid=grid,
        quantity=sensor.quantity,
        frames={
            "item": [f"{names} {day}" for day in days],
            "clear_share": share[kept],
        },
        attributes={
            "sensor": sensor_name,
            "cube": name,
            "site": own.site,
            "land_cover": own.land_cover,
            "config_digest": config_digest,
            "source": names,
            "license": "unknown (user-supplied file)",
            "missing": [f"{number} {what}" for what, number in missing.items() if number],
            **({"remarks": json.dumps(remarks)} if remarks else {}),
        },
    )
    write_cube(cube, output)


def _files(blocks: Sequence[OwnCubeFile]) -> str:
    return " and ".join(dict.fromkeys(str(block.file) for block in blocks))


def grid_of_cube(own: OwnCube, resolution_m: float) -> Grid:
    """The pixels of a user's cube; raises as `shared_grid`, or if the window does not fit."""
    blocks = [block for files in own.files.values() for block in files]
    return _cut(shared_grid(blocks, resolution_m), own.window, _files(blocks))


def shared_grid(blocks: Sequence[OwnCubeFile], resolution_m: float) -> Grid:
    """The pixels of the finest of some files, where all of them overlap.

    Raises UserError unless these pixels have the size ``resolution_m``, or the one that their block
    states, and those of the other files consist of them.
    """
    grids = [grid_of_file(block) for block in blocks]
    size = min(grid.resolution for grid in grids)
    first = next(i for i, grid in enumerate(grids) if grid.resolution <= size * 1.001)
    finest, base = grids[first], blocks[first].file
    bounds = []
    for block, grid in zip(blocks, grids, strict=True):
        coarse = grid.resolution > size * 1.001
        wanted = block.resolution_m or (grid.resolution if coarse else resolution_m)
        if not np.isclose(grid.resolution, wanted, rtol=1e-3):
            raise UserError(
                f"{block.file}: has pixels of {grid.resolution:g} m, not {wanted:g} m; resample "
                "it, or set resolution_m in its block if that is meant"
            )
        if grid.epsg != finest.epsg:
            raise UserError(
                f"{block.file}: is in EPSG:{grid.epsg}, and {base} in EPSG:{finest.epsg}; warp one"
            )
        west, south, east, north = grid.bounds
        sides = finest.top - north, finest.top - south, west - finest.left, east - finest.left
        # Edges in pixels of the finest file, and the size of a pixel.
        edges = np.array([*sides, grid.resolution]) / size
        whole = np.round(edges)
        if np.abs(edges - whole).max() > 0.1:
            raise UserError(
                f"{block.file}: its pixels of {grid.resolution:g} m do not consist of those of "
                f"{base} of {size:g} m; resample one to the other's grid"
            )
        bounds.append(whole.astype(int))
    top, _, left, _, _ = np.max(bounds, axis=0).tolist()
    _, bottom, _, right, _ = np.min(bounds, axis=0).tolist()
    if top >= bottom or left >= right:
        raise UserError(f"{_files(blocks)}: do not overlap; give files of one place")
    return finest.cut(top, left, bottom - top, right - left)


def _joined(
    blocks: Sequence[OwnCubeFile], bands: Sequence[str], grid: Grid
) -> tuple[NDArray[np.datetime64], NDArray[np.float32], NDArray[np.bool_], list[str]]:
    """Files of a sensor put together on a grid, and the days that not all of them have alike.

    Returns days ``(time,)``, values ``(time, band, y, x)`` and clear ``(time, y, x)``.
    """
    read = [read_own_file(block, bands) for block in blocks]
    held = [band for frames in read for band in frames.values]
    files = _files(blocks)
    if absent := [band for band in bands if band not in held]:
        labels = [label for frames in read for label in frames.labels]
        raise UserError(
            f"{files}: bands {', '.join(absent)} are not among {in_a_line(labels)}; leave them out "
            "of the sensor, or name the variable of each band in `bands`"
        )
    if twice := sorted({band for band in held if held.count(band) > 1}):
        raise UserError(
            f"{files}: both have {', '.join(twice)}; name the `bands` of each file (join files of "
            "different dates before)"
        )
    # Frames of a day are paired in their order, where all files have as many of them.
    counts = [dict(zip(*np.unique(f.days, return_counts=True), strict=True)) for f in read]
    every = np.unique(np.concatenate([frames.days for frames in read]))
    alike = [day for day in every if len({count.get(day, 0) for count in counts}) == 1]
    if not alike:
        raise UserError(f"{files}: have no day in common; give files of one period")
    orders = [np.argsort(frames.days, kind="stable") for frames in read]
    orders = [o[np.isin(f.days[o], alike)] for o, f in zip(orders, read, strict=True)]
    days = read[0].days[orders[0]]
    stack = np.empty((len(days), len(bands), *grid.shape), np.float32)
    clear = np.ones((len(days), *grid.shape), bool)
    for frames, order in zip(read, orders, strict=True):
        near = partial(nearest, source=frames.grid, target=grid)
        fine = np.isclose(frames.grid.resolution, grid.resolution, rtol=1e-3)
        put = near if fine else partial(refine, source=frames.grid, target=grid)
        for band in [*frames.values]:
            stack[:, bands.index(band)] = put(frames.values.pop(band)[order])
        if frames.clear is not None:
            clear = near(frames.clear[order])
    unpaired = [str(day) for day in np.setdiff1d(every, alike)]
    return days, stack, clear & _finite(stack), unpaired


def _remarks(sample: NDArray[np.float32], sensor: SensorSource) -> list[str]:
    """What is odd in the clear values ``(n, band)`` of a cube; logged with their range."""
    for band, column in zip(sensor.bands, sample.T, strict=True):
        least, median, most = np.quantile(column, (0, 0.5, 1))
        log.info("%s: %.4g to %.4g, median %.4g, where clear", band, least, most, median)
    remarks = doubtful(sample, sensor.bands, sensor.quantity)
    for remark in remarks:
        log.warning("%s", remark)
    return remarks


def merge_days(
    days: NDArray[np.datetime64], values: NDArray[np.float32], clear: NDArray[np.bool_]
) -> tuple[NDArray[np.datetime64], NDArray[np.float32], NDArray[np.bool_], int]:
    """Frames of one day merged by the mean of their clear values, in order of time.

    Takes and returns days ``(time,)``, values ``(time, band, y, x)`` and clear ``(time, y, x)``,
    and returns the number of frames that were merged into others.
    """
    unique, place = np.unique(days.astype("datetime64[D]"), return_inverse=True)
    if np.array_equal(place, np.arange(len(days))):
        return unique, values, clear, 0
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


def _cut(grid: Grid, window: tuple[int, int, int, int] | None, where: str) -> Grid:
    """The rows and columns of a grid from top, bottom, left, right; None: all."""
    if window is None:
        return grid
    top, bottom, left, right = window
    if not (0 <= top < bottom <= grid.height and 0 <= left < right <= grid.width):
        raise UserError(
            f"{where}: window {window} does not fit {grid.height} x {grid.width} pixels; change it"
        )
    return grid.cut(top, left, bottom - top, right - left)
