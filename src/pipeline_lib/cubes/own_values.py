"""Variables of a user-supplied file: stored numbers, and the physical values that they mean.

The arithmetic is that of the CF conventions. xarray's own decoding is not used for it: it compares
fill values in another type than the stored one, and rounds what integers hold to float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.config import OwnCubeFile
from pipeline_lib.cubes.opening import DAMAGED, readable
from pipeline_lib.errors import UserError, in_a_line

FILL_KEYS = ("_FillValue", "missing_value", "nodata", "NoData", "nodatavals")
DEFAULT_FILLS = {"f4": 9.969209968386869e36, "f8": 9.969209968386869e36, "i2": -32767}
DEFAULT_FILLS |= {"u2": 65535, "i4": -2147483647, "u4": 4294967295}
"""What NetCDF writes where nothing was written, if a variable has no ``_FillValue``."""
BEYOND = 1e9
"""No quantity reaches it: larger numbers stand for no data."""
DECIBELS, PERCENT = ("db", "decibel", "decibels"), ("%", "percent")
"""Units that decide what numbers mean; others, such as "DN", leave it to the config."""

reading = partial(readable, what="NetCDF or Zarr file", advice=DAMAGED)


def text_of(label: Any) -> str:
    """An entry of a file as text: characters decoded, whole numbers without a decimal point."""
    if isinstance(label, bytes):
        label = label.decode(errors="replace")
    text = str(label).strip("\0 ")
    return text.removesuffix(".0") if isinstance(label, float | np.floating) else text


def stored_numbers(variable: xr.DataArray, block: OwnCubeFile) -> NDArray[Any]:
    """The numbers as they are stored, unsigned where ``_Unsigned`` says so."""
    if variable.dtype.kind not in "biuf":
        raise UserError(
            f"{block.file}: {str(variable.name)!r} holds {variable.dtype}, not numbers; name "
            "another one"
        )
    with reading(block.file):
        stored = np.asarray(variable.values)
    native = "u1" if stored.dtype.kind == "b" else f"{stored.dtype.kind}{stored.dtype.itemsize}"
    stored = stored.astype(native, copy=False)
    unsigned = str(variable.attrs.get("_Unsigned", "")).lower()
    if (unsigned, native[0]) in (("true", "i"), ("false", "u")):
        return stored.view(("u" if unsigned == "true" else "i") + native[1:])
    return stored


def decoded(
    variable: xr.DataArray, stored: NDArray[Any], block: OwnCubeFile
) -> NDArray[np.float64]:
    """Stored numbers with the file's own scale and offset."""
    scale, offset = _packing(variable, block)
    return stored.astype(np.float64) * _or(scale, 1) + _or(offset, 0)


def physical(layer: xr.DataArray, block: OwnCubeFile) -> NDArray[np.float32]:
    """Physical values of a variable, NaN where there is none.

    Raises UserError if the file's packing and that of the config contradict each other.
    """
    stored = stored_numbers(layer, block)
    missing = is_missing(layer, stored, block, block.no_data) | _is_invalid(layer, stored, block)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if block.logarithm_first:
            numbers = np.log10(decoded(layer, stored, block))
            numbers = numbers * _or(block.scale, 1) + _or(block.offset, 0)
        else:
            scale, offset = _scaling(layer, block)
            numbers = stored.astype(np.float64) * scale + offset
        numbers[missing] = np.nan
        # Decibels as power, or power as decibels, are no plausible backscatter: ingest says so.
        if (block.conversion or _units(layer)) in DECIBELS:
            numbers = 10 ** (numbers / 10)
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers.astype(np.float32)


def fills(variable: xr.DataArray) -> Iterator[float]:
    """The values that stand for no data by the attributes of a variable."""
    for key in FILL_KEYS:
        for entry in np.ravel(variable.attrs.get(key, ())):
            try:
                yield float(entry)
            except (TypeError, ValueError):
                continue


def is_missing(
    variable: xr.DataArray, stored: NDArray[Any], block: OwnCubeFile, no_data: Sequence[float]
) -> NDArray[np.bool_]:
    """Where the file, or ``no_data``, says that a stored number is no data."""
    wraps = "_Unsigned" in variable.attrs
    stated = [_equal(stored, number, wraps=wraps) for number in no_data]
    if stated and all(where is None for where in stated):
        raise UserError(
            f"{block.file}: no_data {list(no_data)} cannot occur in {str(variable.name)!r}, "
            f"which holds {stored.dtype}; state it as it is stored"
        )
    own = [*fills(variable)]
    if "_FillValue" not in variable.attrs:
        own.append(DEFAULT_FILLS.get(stored.dtype.str[1:], math.nan))
    missing = ~np.isfinite(stored)
    for where in (*stated, *(_equal(stored, number, wraps=wraps) for number in own)):
        if where is not None:
            missing |= where
    return missing


def _equal(stored: NDArray[Any], number: float, *, wraps: bool) -> NDArray[np.bool_] | None:
    """Where stored numbers are one number as their type holds it; None if it cannot hold it.

    Decimals are compared in float32, which most files were written from; numbers beyond any
    quantity, as tools print them, to three digits. ``wraps``: integers may be stated as signed or
    as unsigned ones.
    """
    if stored.dtype.kind == "f":
        if abs(number) > BEYOND:
            return np.asarray(np.abs(stored / number - 1) < 1e-3)
        return np.asarray(stored.astype(np.float32) == np.float32(number))
    bits, limits = 8 * stored.dtype.itemsize, np.iinfo(stored.dtype)
    if not math.isfinite(number) or number != int(number):
        return None
    if wraps and -(2 ** (bits - 1)) <= number < 2**bits:
        return np.asarray(stored.view(f"u{bits // 8}") == int(number) % 2**bits)
    return stored == int(number) if limits.min <= number <= limits.max else None


def _is_invalid(
    variable: xr.DataArray, stored: NDArray[Any], block: OwnCubeFile
) -> NDArray[np.bool_]:
    """Where numbers lie outside of ``valid_range``, ``valid_min`` and ``valid_max``.

    These limit the stored numbers; decimals beside stored integers limit the decoded ones.
    """
    ends = np.ravel(variable.attrs.get("valid_range", ()))
    low, high = ends if len(ends) == 2 else (None, None)
    limits = variable.attrs.get("valid_min", low), variable.attrs.get("valid_max", high)
    outside = np.zeros(stored.shape, bool)
    for limit, beyond in zip(map(np.asarray, limits), (np.less, np.greater), strict=True):
        if limit.dtype.kind not in "iuf" or limit.size != 1:
            continue
        if limit.dtype.kind == "f" and stored.dtype.kind in "iu":
            outside |= beyond(decoded(variable, stored, block), limit)
        else:
            outside |= beyond(stored, limit)
    return outside


def _attribute(variable: xr.DataArray, key: str, block: OwnCubeFile) -> float | None:
    """A number among the attributes, which some tools write as text or as an array of one."""
    if key not in variable.attrs:
        return None
    try:
        number = float(np.asarray(variable.attrs[key]).astype(np.float64).item())
        if (number == 0 and key == "scale_factor") or not math.isfinite(number):
            raise ValueError
    except ValueError as error:
        raise UserError(
            f"{block.file}: {str(variable.name)!r} has {key} {in_a_line(variable.attrs[key])!r}, "
            "not one number that can be used; correct the attribute"
        ) from error
    return number


def _packing(variable: xr.DataArray, block: OwnCubeFile) -> tuple[float | None, float | None]:
    """``scale_factor`` and ``add_offset`` of a variable; 1 and 0 say nothing: None and None."""
    scale = _attribute(variable, "scale_factor", block)
    offset = _attribute(variable, "add_offset", block)
    return (None, None) if scale in (None, 1) and offset in (None, 0) else (scale, offset)


def _scaling(variable: xr.DataArray, block: OwnCubeFile) -> tuple[float, float]:
    """Scale and offset from stored numbers to physical ones: of the file, or of the config."""
    scale, offset = _packing(variable, block)
    unit = 0.01 if _units(variable) in PERCENT else 1.0
    if scale is None and (offset is not None or unit != 1):
        scale = 1.0
    for key, config, own in ("scale", block.scale, scale), ("offset", block.offset, offset):
        if config is None or own is None or np.isclose(config, (own, own * unit), atol=0).any():
            continue
        raise UserError(
            f"{block.file}: {str(variable.name)!r} has scale_factor {_or(scale, 1):g}, add_offset "
            f"{_or(offset, 0):g} and units {variable.attrs.get('units', '')!r}, and the config has "
            f"{key} {config:g}; remove {key} from the config if the file is right, or correct the "
            "attributes"
        )
    return (
        _or(block.scale, 1) if scale is None else scale * unit,
        _or(block.offset, 0) if offset is None else offset * unit,
    )


def _or(stated: float | None, default: float) -> float:
    return default if stated is None else stated


def _units(variable: xr.DataArray) -> str:
    return str(variable.attrs.get("units", "")).strip().lower()
