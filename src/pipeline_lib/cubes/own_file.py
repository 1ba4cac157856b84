"""One user-supplied file: NetCDF or Zarr, read into physical values on the grid of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.config import OwnCubeFile
from pipeline_lib.cubes.grid import Grid
from pipeline_lib.cubes.opening import open_file, readable
from pipeline_lib.errors import UserError, in_a_line

GRID_MAPPINGS = ("spatial_ref", "crs")
"""Variables whose attributes hold the coordinate reference system."""

_readable = partial(readable, what="NetCDF or Zarr file", advice="check it, or get it again")


@dataclass(frozen=True)
class OwnFrames:
    """The frames of one file, on its own grid, in the order of the file.

    ``days`` are ``(time,)`` and may repeat; ``values`` are physical, ``(time, y, x)`` for each
    band, NaN where there is none; ``clear`` is ``(time, y, x)``, or None without a mask.
    ``labels`` are the names that the file has for its bands.
    """

    grid: Grid
    days: NDArray[np.datetime64]
    values: dict[str, NDArray[np.float32]]
    clear: NDArray[np.bool_] | None
    labels: tuple[str, ...]


def read_own_file(block: OwnCubeFile, bands: Sequence[str]) -> OwnFrames:
    """The frames of a file, with those of ``bands`` that it holds.

    Raises UserError if the file is unreadable, lacks a variable or dimension that the block names,
    or has no time axis or no grid.
    """
    source = _open(block)
    grid = _grid(source, block)
    values, labels = _bands(source, block, bands)
    return OwnFrames(grid, _days(source, block), values, _clear(source, block), labels)


def grid_of_file(block: OwnCubeFile) -> Grid:
    """The grid of a file, without reading its pixels; raises as :func:`read_own_file`."""
    return _grid(_open(block), block)


def _open(block: OwnCubeFile) -> xr.Dataset:
    with _readable(block.file):
        return open_file(block.file, mask_and_scale=False)


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


def _bands(
    source: xr.Dataset, block: OwnCubeFile, bands: Sequence[str]
) -> tuple[dict[str, NDArray[np.float32]], tuple[str, ...]]:
    """Physical values ``(time, y, x)`` of each band that the file holds, and the file's names."""
    if block.bands is not None:
        labels = tuple(block.bands)
        layers = {b: _variable(source, block, block.bands[b]) for b in bands if b in block.bands}
    else:
        variable = _variable(source, block, str(block.variable))
        if block.band_dim not in variable.dims:
            raise UserError(
                f"{block.file}: {block.variable!r} has no dimension {block.band_dim!r}; set "
                "band_dim, or name the variable of each band in `bands`"
            )
        labels = tuple(str(label) for label in variable[block.band_dim].values)
        position = {label.upper(): index for index, label in reversed([*enumerate(labels)])}
        layers = {
            band: variable.isel({block.band_dim: position[band.upper()]})
            for band in bands
            if band.upper() in position
        }
    return {band: _physical(layer, block) for band, layer in layers.items()}, labels


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


def _clear(source: xr.Dataset, block: OwnCubeFile) -> NDArray[np.bool_] | None:
    if block.mask is None:
        return None
    layer = _variable(source, block, block.mask).transpose(block.time, block.y, block.x)
    return np.isin(_numbers(layer, block.file), block.mask_clear)


def _days(source: xr.Dataset, block: OwnCubeFile) -> NDArray[np.datetime64]:
    with _readable(block.file):
        times = source[block.time].values
    if times.dtype.kind != "M" or np.isnat(times).any():
        raise UserError(f"{block.file}: {block.time!r} is not a time axis; set time in the config")
    return times.astype("datetime64[D]")


def _grid(source: xr.Dataset, block: OwnCubeFile) -> Grid:
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
    size = float(steps[0])
    return Grid(epsg, float(x[0]) - size / 2, float(y[0]) + size / 2, size, len(y), len(x))


def _crs_text(source: xr.Dataset) -> str | None:
    for name in GRID_MAPPINGS:
        if name in source.variables:
            for key in ("crs_wkt", "spatial_ref"):
                if text := str(source[name].attrs.get(key, "")):
                    return text
    return str(source.attrs["crs"]) if "crs" in source.attrs else None
