"""One user-supplied file: NetCDF or Zarr, read into physical values on the grid of the file.

What the file says of itself holds wherever the config is silent. Where both speak and disagree,
the error names both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.config import OwnCubeFile
from pipeline_lib.cubes.grid import Grid
from pipeline_lib.cubes.opening import open_file
from pipeline_lib.cubes.own_axes import days_of, grid_of_source
from pipeline_lib.cubes.own_values import (
    decoded,
    fills,
    is_missing,
    physical,
    reading,
    stored_numbers,
    text_of,
)
from pipeline_lib.errors import UserError, in_a_line


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
    contradicts the block, or has no time axis or no grid.
    """
    source = _open(block)
    grid = grid_of_source(source, block)
    days = days_of(source, block)
    labels, layers = _layers(source, block, bands)
    values = {band: physical(layer, block) for band, layer in layers.items()}
    return OwnFrames(grid, days, values, _clear(source, block), labels)


def grid_of_file(block: OwnCubeFile) -> Grid:
    """The grid of a file, without reading its pixels; raises as :func:`read_own_file`."""
    return grid_of_source(_open(block), block)


def read_classes(block: OwnCubeFile) -> tuple[Grid, NDArray[np.float64], NDArray[np.bool_]]:
    """Classes ``(y, x)`` of a file's one variable, which has no dates, and where there is none.

    Raises UserError as :func:`read_own_file`.
    """
    source = _open(block, dated=False)
    (name,) = (block.bands or {}).values()
    layer = _variable(source, block, name)
    layer = layer.squeeze([dim for dim in layer.dims if layer.sizes[dim] == 1])
    if {*layer.dims} != {block.y, block.x}:
        raise UserError(
            f"{block.file}: {name!r} has dimensions {in_a_line(dict(layer.sizes))}, not {block.y}, "
            f"{block.x}; set x and y in the config, or write a file with one class per pixel"
        )
    layer = layer.transpose(block.y, block.x)
    stored = stored_numbers(layer, block)
    grid = grid_of_source(source, block)
    return grid, decoded(layer, stored, block), is_missing(layer, stored, block, ())


def _open(block: OwnCubeFile, *, dated: bool = True) -> xr.Dataset:
    """The file as it is stored, but with rows from north to south, whose order tools differ in."""
    source = open_file(block.file, mask_and_scale=False, decode_times=False)
    one_date = {block.time} & {*source.variables}
    wanted = {block.y, block.x} | ({block.time} if dated else set())
    if missing := wanted - {*source.dims} - one_date:
        raise UserError(
            f"{block.file}: has dimensions {in_a_line(', '.join(map(str, source.sizes)))}, not "
            f"{sorted(missing)}; set {'time, ' * dated}x and y in the config"
        )
    rows = source.get(block.y)
    if rows is not None and rows.dims == (block.y,) and rows.size > 1 and rows[-1] > rows[0]:
        return source.isel({block.y: slice(None, None, -1)})
    return source


def _variable(source: xr.Dataset, block: OwnCubeFile, name: str) -> xr.DataArray:
    if name not in source.variables:
        names = in_a_line(", ".join(str(v) for v in source.data_vars))
        raise UserError(f"{block.file}: no variable {name!r}; name one of {names}")
    return source[name]


def _layers(
    source: xr.Dataset, block: OwnCubeFile, bands: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, xr.DataArray]]:
    """The names that the file has for bands, and the variable ``(time, y, x)`` of each band."""
    names = block.bands or ({} if block.variable is None else {band: band for band in bands})
    named = {band: names[band] for band in bands if band in names}
    if block.variable is None:
        labels = tuple(map(str, source.data_vars))
        layers = {band: _variable(source, block, name) for band, name in named.items()}
    else:
        labels = _labels(source, block, [*named.values(), block.mask])
        entries = {band: _entry(source, block, labels, name) for band, name in named.items()}
        layers = {band: entry for band, entry in entries.items() if entry is not None}
    return labels, {band: _layer(layer, block, repr(band)) for band, layer in layers.items()}


def _layer(data: xr.DataArray, block: OwnCubeFile, what: str) -> xr.DataArray:
    """A variable as ``(time, y, x)``; further dimensions of length one are dropped."""
    if block.time not in data.dims and data.coords.get(block.time, data).ndim == 0:
        data = data.expand_dims(block.time)
    wanted = (block.time, block.y, block.x)
    further = [name for name in data.dims if name not in wanted]
    data = data.squeeze([name for name in further if data.sizes[name] == 1])
    if {*data.dims} != {*wanted}:
        raise UserError(
            f"{block.file}: {what} has dimensions {in_a_line(dict(data.sizes))}, not "
            f"{', '.join(wanted)}; set time, x and y in the config, or write a file with one entry "
            "of a further dimension"
        )
    return data.transpose(*wanted)


def _labels(
    source: xr.Dataset, block: OwnCubeFile, wanted: Sequence[str | None]
) -> tuple[str, ...]:
    """The labels of the band dimension: of its coordinate, or else of other texts along it."""
    variable = _variable(source, block, str(block.variable))
    if block.band_dim not in variable.dims:
        raise UserError(
            f"{block.file}: {block.variable!r} has dimensions {variable.dims}, not "
            f"{block.band_dim!r}; set band_dim, or name the variable of each band in `bands`"
        )
    along = [v for v in source.variables if source[v].dims == (block.band_dim,)]
    with reading(block.file):
        texts = [
            tuple(map(text_of, source[name].values))
            for name in sorted(along, key=lambda name: name != block.band_dim)
            if name == block.band_dim or source[name].dtype.kind in "SUOT"
        ]
    if not texts:
        raise UserError(
            f"{block.file}: the dimension {block.band_dim!r} has no labels; add a coordinate with "
            "the names of its bands"
        )
    upper = {str(name).upper() for name in wanted}
    return next((labels for labels in texts if upper & {t.upper() for t in labels}), texts[0])


def _entry(
    source: xr.Dataset, block: OwnCubeFile, labels: Sequence[str], name: str
) -> xr.DataArray | None:
    """The entry with a label: as it is written, or else in other upper and lower case letters."""
    exact = [n for n, label in enumerate(labels) if label == name]
    found = exact or [n for n, label in enumerate(labels) if label.upper() == name.upper()]
    if len(found) > 1:
        raise UserError(
            f"{block.file}: {len(found)} entries of {block.band_dim!r} have the label {name!r}; "
            "write a file with one of them"
        )
    return source[str(block.variable)].isel({block.band_dim: found[0]}) if found else None


def _clear(source: xr.Dataset, block: OwnCubeFile) -> NDArray[np.bool_] | None:
    """Where the class of the mask, a variable or a label of the band dimension, is clear."""
    if block.mask is None:
        return None
    entry = None
    if block.variable is not None and block.mask not in source.variables:
        labels = _labels(source, block, [block.mask])
        entry = _entry(source, block, labels, block.mask)
    if entry is None:
        entry = _variable(source, block, block.mask)
    layer = _layer(entry, block, repr(block.mask))
    stored = stored_numbers(layer, block)
    if both := {*fills(layer)} & {*map(float, block.mask_clear)}:
        raise UserError(
            f"{block.file}: by its attributes (_FillValue, missing_value, nodata) {both.pop():g} "
            f"is no data in {block.mask!r}, and by mask_clear it is clear; correct one of them"
        )
    unpacked = decoded(layer, stored, block)
    # Packing as 32-bit decimals leaves 3.9999999. No whole number: a label among packed bands,
    # whose classes were stored as they are.
    whole = np.allclose(unpacked, np.round(unpacked), rtol=1e-6, atol=1e-6, equal_nan=True)
    classes = np.round(unpacked) if whole else stored
    return np.isin(classes, block.mask_clear) & ~is_missing(layer, stored, block, ())
