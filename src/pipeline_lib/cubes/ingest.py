"""Cubes that the user brings: from NetCDF or Zarr into the contract of this package."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.config import OwnCube, OwnCubeFile, SensorSource
from pipeline_lib.cubes.grid import Grid
from pipeline_lib.cubes.opening import open_file, readable
from pipeline_lib.cubes.rolling import rolling_mean
from pipeline_lib.cubes.schema import (
    CLEAR,
    NO_DATA,
    THICK_CLOUD,
    implausible,
    make_cube,
    write_cube,
)
from pipeline_lib.errors import UserError, in_a_line

GRID_MAPPINGS = ("spatial_ref", "crs")
"""Variables whose attributes hold the coordinate reference system."""

_readable = partial(readable, what="NetCDF or Zarr file", advice="check it, or get it again")


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
    with _readable(block.file):
        source = open_file(block.file, mask_and_scale=False)
    grid = _grid(source, block, resolution_m)
    if own.window is not None:
        source, grid = _crop(source, grid, own.window, block)
    values = _band_stack(source, block, sensor)
    clear = _clear(source, block, values)
    days, values, clear, merged = merge_days(_days(source, block), values, clear)
    finite = _finite(values)
    share = (clear & finite).mean(axis=(1, 2))
    kept = (share >= sensor.min_clear) & (share > 0)
    if not kept.any():
        raise UserError(f"{block.file}: no date has a valid pixel; check bands and no_data")
    values, clear, finite, days = values[kept], clear[kept], finite[kept], days[kept]
    median = float(np.median(np.moveaxis(values, 1, -1)[clear & finite]))
    if reason := implausible(median, sensor.quantity):
        raise UserError(f"{block.file}: {reason}; set scale, offset and conversion in the config")
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
    out = np.full((len(unique), *values.shape[1:]), np.nan, np.float32)
    seen = np.zeros((len(unique), *clear.shape[1:]), bool)
    for day in range(len(unique)):
        members = np.flatnonzero(place == day)
        good = clear[members][:, None] & np.isfinite(values[members])
        count = good.sum(axis=0)
        total = np.where(good, values[members], 0).sum(axis=0)
        cloudy = values[members[0]]
        out[day] = np.where(count > 0, total / np.maximum(count, 1), cloudy)
        seen[day] = clear[members].any(axis=0)
    return unique, out, seen, len(days) - len(unique)


def _numbers(variable: xr.DataArray, file: Path) -> NDArray[Any]:
    if variable.dtype.kind not in "biuf":
        raise UserError(
            f"{file}: {str(variable.name)!r} holds {variable.dtype}, not numbers; name another one"
        )
    with _readable(file):
        return np.asarray(variable.values)


def _variable(source: xr.Dataset, block: OwnCubeFile, name: str) -> xr.DataArray:
    if name not in source:
        names = in_a_line(", ".join(str(v) for v in source.data_vars))
        raise UserError(f"{block.file}: no variable {name!r}; name one of {names}")
    _check_dimensions(source[name], repr(name), block)
    return source[name]


def _check_dimensions(data: xr.DataArray | xr.Dataset, what: str, block: OwnCubeFile) -> None:
    missing = {block.time, block.y, block.x} - set(data.dims)
    if missing:
        raise UserError(
            f"{block.file}: {what} has dimensions {tuple(data.dims)}, not {sorted(missing)}; "
            "set time, x and y in the config"
        )


def _band_stack(
    source: xr.Dataset, block: OwnCubeFile, sensor: SensorSource
) -> NDArray[np.float32]:
    """Physical values ``(time, band, y, x)`` in the sensor's order of bands."""
    if block.bands is not None:
        layers = [_variable(source, block, block.bands[band]) for band in sensor.bands]
    else:
        variable = _variable(source, block, str(block.variable))
        if block.band_dim not in variable.dims:
            raise UserError(
                f"{block.file}: {block.variable!r} has no dimension {block.band_dim!r}; set "
                "band_dim, or name the variable of each band in `bands`"
            )
        labels = [str(label) for label in variable[block.band_dim].values]
        position = {label.upper(): index for index, label in reversed([*enumerate(labels)])}
        absent = [band for band in sensor.bands if band.upper() not in position]
        if absent:
            raise UserError(
                f"{block.file}: bands {', '.join(absent)} are not among {in_a_line(labels)}; leave "
                "them out of the sensor, or name the variable of each band in `bands`"
            )
        layers = [variable.isel({block.band_dim: position[b.upper()]}) for b in sensor.bands]
    return np.stack([_physical(layer, block) for layer in layers], axis=1)


def _physical(layer: xr.DataArray, block: OwnCubeFile) -> NDArray[np.float32]:
    raw = _numbers(layer.transpose(block.time, block.y, block.x), block.file)
    missing = ~np.isfinite(raw) | np.isin(raw, block.no_data)
    numbers = raw.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if block.logarithm_first:
            numbers = np.log10(numbers)
        numbers = numbers * block.scale + block.offset
        if block.conversion == "decibel":
            numbers = 10 ** (numbers / 10)
    numbers[missing | ~np.isfinite(numbers)] = np.nan
    return numbers.astype(np.float32)


def _clear(
    source: xr.Dataset, block: OwnCubeFile, values: NDArray[np.float32]
) -> NDArray[np.bool_]:
    finite = _finite(values)
    if block.mask is None:
        return finite
    layer = _variable(source, block, block.mask).transpose(block.time, block.y, block.x)
    return finite & np.isin(_numbers(layer, block.file), block.mask_clear)


def _finite(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where all bands of ``(time, band, y, x)`` have a value, ``(time, y, x)``."""
    return np.asarray(np.isfinite(values).all(axis=1))


def _days(source: xr.Dataset, block: OwnCubeFile) -> NDArray[np.datetime64]:
    with _readable(block.file):
        times = source[block.time].values
    if times.dtype.kind != "M" or np.isnat(times).any():
        raise UserError(f"{block.file}: {block.time!r} is not a time axis; set time in the config")
    return times.astype("datetime64[D]")


def _grid(source: xr.Dataset, block: OwnCubeFile, resolution_m: float) -> Grid:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    _check_dimensions(source, "the file", block)
    text = block.crs or _crs_text(source)
    if text is None:
        raise UserError(f"{block.file}: has no coordinate reference system; set crs in the config")
    try:
        crs = CRS.from_user_input(text)
        epsg = crs.to_epsg()
    except CRSError as error:
        raise UserError(
            f"{block.file}: {in_a_line(text)!r} is not a coordinate reference system; set crs, for "
            "instance to EPSG:32632"
        ) from error
    if epsg is None:
        raise UserError(f"{block.file}: the coordinate reference system has no EPSG code; set crs")
    axis = crs.axis_info[0]
    if not (crs.is_projected and axis.unit_conversion_factor == 1):
        raise UserError(
            f"{block.file}: its coordinates are in units of {axis.unit_name}; warp it to a system "
            "in metres, such as UTM"
        )
    x, y = _numbers(source[block.x], block.file), _numbers(source[block.y], block.file)
    steps = np.concatenate([np.diff(x), -np.diff(y)])
    regular = steps.size and 0 < steps[0] < np.inf and np.allclose(steps, steps[0], rtol=1e-3)
    if not (x.size and y.size and regular):
        raise UserError(
            f"{block.file}: x must rise and y must fall in equal steps of square pixels; warp it "
            "to such a grid"
        )
    size, wanted = float(steps[0]), block.resolution_m or resolution_m
    if not np.isclose(size, wanted, rtol=1e-3):
        raise UserError(
            f"{block.file}: has pixels of {size:g} m, not {wanted:g} m; resample it, or set "
            "resolution_m in its block if that is meant"
        )
    return Grid(epsg, float(x[0]) - size / 2, float(y[0]) + size / 2, size, len(y), len(x))


def _crs_text(source: xr.Dataset) -> str | None:
    for name in GRID_MAPPINGS:
        if name in source.variables:
            for key in ("crs_wkt", "spatial_ref"):
                if text := str(source[name].attrs.get(key, "")):
                    return text
    return str(source.attrs["crs"]) if "crs" in source.attrs else None


def _crop(
    source: xr.Dataset, grid: Grid, window: tuple[int, int, int, int], block: OwnCubeFile
) -> tuple[xr.Dataset, Grid]:
    """Rows and columns of the file, from top, bottom, left, right, and their grid."""
    top, bottom, left, right = window
    if not (0 <= top < bottom <= grid.height and 0 <= left < right <= grid.width):
        raise UserError(
            f"{block.file}: window {window} does not fit {grid.height} x {grid.width} pixels; "
            "change it"
        )
    part = source.isel({block.y: slice(top, bottom), block.x: slice(left, right)})
    return part, grid.cut(top, left, bottom - top, right - left)
