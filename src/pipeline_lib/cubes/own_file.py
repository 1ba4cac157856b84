"""One user-supplied file: NetCDF or Zarr, read into physical values on the grid of the file.

What the file says of itself holds wherever the config is silent. Where both speak and disagree,
the error names both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.config import OwnCubeFile
from pipeline_lib.cubes.grid import Grid
from pipeline_lib.cubes.opening import DAMAGED, open_file, readable
from pipeline_lib.errors import UserError, in_a_line

if TYPE_CHECKING:
    from pyproj import CRS

GRID_MAPPINGS = ("spatial_ref", "crs")
"""Variables with the coordinate reference system, where no attribute ``grid_mapping`` names one."""
WKT_KEYS = ("crs_wkt", "spatial_ref", "wkt")
CRS_KEYS = ("crs", "crs_wkt", "proj:code", "proj:epsg", "epsg")
"""Attributes of variables, or scalar coordinates, with the CRS, where no variable describes it."""
TRANSFORM_KEYS = ("GeoTransform", "geotransform", "transform", "spatial:transform")
FILL_KEYS = ("_FillValue", "missing_value", "nodata", "NoData", "nodatavals")
DEFAULT_FILLS = {"f4": 9.969209968386869e36, "f8": 9.969209968386869e36, "i2": -32767}
DEFAULT_FILLS |= {"u2": 65535, "i4": -2147483647, "u4": 4294967295}
"""What NetCDF writes where nothing was written, if a variable has no ``_FillValue``."""
DECIBEL = {"db", "decibel", "decibels"}
LINEAR = {"1", "linear", "linear power", "m2 m-2", "m2/m2", "m^2/m^2"}
PERCENT = {"%", "percent", "per cent", "pct"}
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
BEYOND = 1e9
"""No quantity reaches it: larger numbers stand for no data."""
CALENDARS = {
    *("", "standard", "gregorian", "proleptic_gregorian"),
    *("noleap", "365_day", "all_leap", "366_day", "360_day"),
}
"""Calendars whose days have the names of real ones."""
PARAMETERS = {
    *("longitude_of_central_meridian", "latitude_of_projection_origin"),
    *("false_easting", "false_northing"),
}
ISO_DAY = r"\d{4}-?\d{2}-?\d{2}(?!\d)"
LATTICE = 0.02
"""Fraction of a pixel within which two grids are the same."""

_readable = partial(readable, what="NetCDF or Zarr file", advice=DAMAGED)


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
    grid = _grid(source, block)
    days = _days(source, block)
    labels, layers = _layers(source, block, bands)
    values = {band: _physical(layer, block) for band, layer in layers.items()}
    return OwnFrames(grid, days, values, _clear(source, block), labels)


def grid_of_file(block: OwnCubeFile) -> Grid:
    """The grid of a file, without reading its pixels; raises as :func:`read_own_file`."""
    return _grid(_open(block), block)


def _open(block: OwnCubeFile) -> xr.Dataset:
    return open_file(block.file, mask_and_scale=False, decode_times=False)


# ---- variables and dimensions


def _variable(source: xr.Dataset, block: OwnCubeFile, name: str) -> xr.DataArray:
    if name not in source.variables:
        names = in_a_line(", ".join(str(v) for v in source.data_vars))
        raise UserError(f"{block.file}: no variable {name!r}; name one of {names}")
    return source[name]


def _layer(data: xr.DataArray, block: OwnCubeFile, what: str) -> xr.DataArray:
    """A variable as ``(time, y, x)``; further dimensions of length one are dropped."""
    if block.time not in data.dims and data.coords.get(block.time, data).ndim == 0:
        data = data.expand_dims(block.time)
    wanted = (block.time, block.y, block.x)
    further = {name: size for name, size in data.sizes.items() if name not in wanted}
    if missing := set(wanted) - set(data.dims):
        raise UserError(
            f"{block.file}: {what} has dimensions {tuple(data.dims)}, not {sorted(missing)}; "
            "set time, x and y in the config"
        )
    if longer := [f"{name!r} of length {size}" for name, size in further.items() if size != 1]:
        raise UserError(
            f"{block.file}: {what} has a further dimension {in_a_line(' and '.join(longer))}; "
            "write a file with one of its entries"
        )
    return data.squeeze([*further]).transpose(*wanted)


def _layers(
    source: xr.Dataset, block: OwnCubeFile, bands: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, xr.DataArray]]:
    """The names that the file has for bands, and the variable ``(time, y, x)`` of each band."""
    names = block.bands or {band: band for band in bands}
    if block.variable is None:
        layers = {
            b: _variable(source, block, names[b]) for b in bands if block.bands and b in names
        }
        labels = tuple(str(name) for name in source.data_vars)
    else:
        variable = _variable(source, block, block.variable)
        labels = _labels(source, variable, block, [*names.values(), block.mask])
        found = {band: _position(labels, names[band], block) for band in bands if band in names}
        layers = {
            band: variable.isel({block.band_dim: position})
            for band, position in found.items()
            if position is not None
        }
        if absent := [band for band in block.bands or () if found.get(band, 0) is None]:
            raise UserError(
                f"{block.file}: no label {names[absent[0]]!r} in {block.band_dim!r}; name one of "
                f"{in_a_line(', '.join(labels))}"
            )
        if not layers and block.mask is None:
            raise UserError(
                f"{block.file}: bands {', '.join(bands)} are not among {in_a_line(labels)}; name "
                "the label, or the variable, of each band in `bands`"
            )
    return labels, {band: _layer(layer, block, repr(band)) for band, layer in layers.items()}


def _labels(
    source: xr.Dataset, variable: xr.DataArray, block: OwnCubeFile, wanted: Sequence[str | None]
) -> tuple[str, ...]:
    """The labels of the band dimension: of its coordinate, or else of other texts along it."""
    if block.band_dim not in variable.dims:
        raise UserError(
            f"{block.file}: {block.variable!r} has no dimension {block.band_dim!r}; set "
            "band_dim, or name the variable of each band in `bands`"
        )
    along = [v for v in source.variables if source[v].dims == (block.band_dim,)]
    with _readable(block.file):
        texts = [
            tuple(map(_text, source[name].values))
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


def _text(label: Any) -> str:
    """A label of a file as text: characters decoded, whole numbers without a decimal point."""
    if isinstance(label, bytes):
        label = label.decode(errors="replace")
    if isinstance(label, float | np.floating):
        label = f"{label:.10g}"
    return str(label).strip("\0 ")


def _position(labels: Sequence[str], name: str, block: OwnCubeFile) -> int | None:
    """Where a label is: as it is written, or else in other letters of upper and lower case."""
    exact = [n for n, label in enumerate(labels) if label == _text(name)]
    found = exact or [n for n, label in enumerate(labels) if label.upper() == _text(name).upper()]
    if len(found) > 1:
        raise UserError(
            f"{block.file}: {len(found)} entries of {block.band_dim!r} have the label {name!r}; "
            "write a file with one of them"
        )
    return found[0] if found else None


def _numbers(variable: xr.DataArray, block: OwnCubeFile) -> NDArray[Any]:
    """The stored numbers, unsigned where ``_Unsigned`` says so."""
    if variable.dtype.kind not in "biuf":
        raise UserError(
            f"{block.file}: {str(variable.name)!r} holds {variable.dtype}, not numbers; name "
            "another one"
        )
    with _readable(block.file):
        stored = np.asarray(variable.values)
    unsigned = str(variable.attrs.get("_Unsigned", "")).lower()
    if (unsigned, stored.dtype.kind) in (("true", "i"), ("false", "u")):
        kind = "u" if unsigned == "true" else "i"
        return stored.view(stored.dtype.newbyteorder("=").str.replace(stored.dtype.kind, kind))
    return stored.astype(np.uint8) if stored.dtype.kind == "b" else stored


# ---- values


def _attribute(variable: xr.DataArray, key: str, block: OwnCubeFile) -> float | None:
    """A number among the attributes, which some tools write as text or as an array of one."""
    if key not in variable.attrs:
        return None
    try:
        return float(np.asarray(variable.attrs[key]).astype(np.float64).item())
    except ValueError as error:
        raise UserError(
            f"{block.file}: {str(variable.name)!r} has {key} {in_a_line(variable.attrs[key])!r}, "
            "not one number; correct the attribute"
        ) from error


def _fills(
    variable: xr.DataArray, stored: NDArray[Any], *, default: bool = True
) -> Iterator[float]:
    """The values that stand for no data by the attributes of a variable, or by ``default``."""
    if default and "_FillValue" not in variable.attrs:
        kind = f"{stored.dtype.kind}{stored.dtype.itemsize}"
        yield from (DEFAULT_FILLS[kind],) if kind in DEFAULT_FILLS else ()
    for key in FILL_KEYS:
        for entry in np.ravel(variable.attrs.get(key, ())):
            try:
                yield float(entry)
            except (TypeError, ValueError):
                continue


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


def _missing(
    variable: xr.DataArray, stored: NDArray[Any], block: OwnCubeFile, no_data: Sequence[float]
) -> NDArray[np.bool_]:
    """Where the file, or ``no_data``, says that a stored number is no data."""
    wraps = "_Unsigned" in variable.attrs
    missing = ~np.isfinite(stored)
    told = [_equal(stored, number, wraps=wraps) for number in no_data]
    if told and all(where is None for where in told):
        raise UserError(
            f"{block.file}: no_data {list(no_data)} cannot occur in {str(variable.name)!r}, "
            f"which holds {stored.dtype}; state it as it is stored"
        )
    for where in (*told, *(_equal(stored, n, wraps=wraps) for n in _fills(variable, stored))):
        if where is not None:
            missing |= where
    return missing


def _invalid(
    variable: xr.DataArray, stored: NDArray[Any], decoded: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Where numbers lie outside of ``valid_range``, ``valid_min`` and ``valid_max``.

    These limit the stored numbers; decimals beside stored integers limit the decoded ones.
    """
    lowest, highest = np.ravel(variable.attrs.get("valid_range", (None, None)))[[0, -1]]
    limits = (
        (np.less, variable.attrs.get("valid_min", lowest)),
        (
            np.greater,
            variable.attrs.get("valid_max", highest),
        ),
    )
    outside = np.zeros(stored.shape, bool)
    for beyond, limit in limits:
        end = np.asarray(limit)
        if end.dtype.kind not in "iuf" or end.size != 1:
            continue
        if end.dtype.kind == "f" and stored.dtype.kind in "iu":
            outside |= beyond(decoded, end)
        elif end.dtype.kind == "i" and stored.dtype.kind == "u" and "_Unsigned" in variable.attrs:
            outside |= beyond(stored, end.astype(np.int64) % 2 ** (8 * stored.dtype.itemsize))
        else:
            outside |= beyond(stored, end)
    return outside


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
        if config is not None and own is not None and not _close(config, own, own * unit):
            raise UserError(
                f"{block.file}: {str(variable.name)!r} has scale_factor {_or(scale, 1):g}, "
                f"add_offset {_or(offset, 0):g} and units {_units(variable)!r}, and the config has "
                f"{key} {config:g}; remove {key} from the config if the file is right, or correct "
                "the attributes"
            )
    return (
        _or(block.scale, 1) if scale is None else scale * unit,
        _or(block.offset, 0) if offset is None else offset * unit,
    )


def _close(number: float, *others: float) -> bool:
    return any(math.isclose(number, other, rel_tol=1e-6) for other in others)


def _units(variable: xr.DataArray) -> str:
    return str(variable.attrs.get("units", "")).strip().lower()


def _physical(layer: xr.DataArray, block: OwnCubeFile) -> NDArray[np.float32]:
    """Physical values ``(time, y, x)``, NaN where there is none."""
    stored = _numbers(layer, block)
    decoded = _decoded(layer, stored, block)
    missing = _missing(layer, stored, block, block.no_data)
    outside = _invalid(layer, stored, decoded)
    if (outside | missing).all() and not missing.all():
        raise UserError(
            f"{block.file}: every value of {str(layer.name)!r} is outside of its valid_range, "
            "valid_min or valid_max; correct these attributes"
        )
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if block.logarithm_first:
            numbers = np.log10(decoded) * _or(block.scale, 1) + _or(block.offset, 0)
        else:
            scale, offset = _scaling(layer, block)
            numbers = stored.astype(np.float64) * scale + offset
        numbers[missing | outside] = np.nan
        if _is_decibel(layer, numbers, block):
            numbers = 10 ** (numbers / 10)
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers.astype(np.float32)


def _decoded(
    variable: xr.DataArray, stored: NDArray[Any], block: OwnCubeFile
) -> NDArray[np.float64]:
    """Stored numbers with the file's own scale and offset."""
    scale, offset = _packing(variable, block)
    return stored.astype(np.float64) * _or(scale, 1) + _or(offset, 0)


def _or(stated: float | None, default: float) -> float:
    return default if stated is None else stated


def _is_decibel(layer: xr.DataArray, numbers: NDArray[np.float64], block: OwnCubeFile) -> bool:
    """Whether numbers are decibels by the config, or else by the units of the file.

    Power is not negative and backscatter of land in decibels is: where units alone say decibels,
    or config and units disagree, the numbers must bear it out.
    """
    units, config = _units(layer), block.conversion
    says = "decibel" if units in DECIBEL else "linear" if units in LINEAR else None
    negative = bool((numbers < 0).any())
    chosen = config or says or "linear"
    doubtful = says == "decibel" if block.logarithm_first else says not in (None, config)
    if block.logarithm_first:
        misfit = doubtful
    elif config is None and says == "linear":
        misfit = False
    else:
        misfit = doubtful and negative != (chosen == "decibel") and not np.isnan(numbers).all()
    if misfit:
        raise UserError(
            f"{block.file}: {str(layer.name)!r} has units {layer.attrs['units']!r}, the config "
            f"conversion {config or 'unset'}{' and logarithm_first' * block.logarithm_first}, and "
            f"{'some' if negative else 'no'} values are below zero; set the conversion that fits"
        )
    return chosen == "decibel"


def _clear(source: xr.Dataset, block: OwnCubeFile) -> NDArray[np.bool_] | None:
    """Where the class of the mask, a variable or a label of the band dimension, is clear."""
    if block.mask is None:
        return None
    layer: xr.DataArray | None = None
    if block.mask not in source.variables and block.variable is not None:
        variable = _variable(source, block, block.variable)
        labels = _labels(source, variable, block, [block.mask])
        position = _position(labels, block.mask, block)
        if position is None:
            raise UserError(
                f"{block.file}: no variable and no label {block.mask!r}; name the mask as one of "
                f"{in_a_line(', '.join([*map(str, source.data_vars), *labels]))}"
            )
        layer = variable.isel({block.band_dim: position})
    layer = _layer(
        _variable(source, block, block.mask) if layer is None else layer, block, repr(block.mask)
    )
    stored = _numbers(layer, block)
    if fills := set(_fills(layer, stored, default=False)) & set(map(float, block.mask_clear)):
        raise UserError(
            f"{block.file}: {block.mask!r} says by its attributes (_FillValue, missing_value, "
            f"nodata) that {fills.pop():g} is no data, and mask_clear that it is clear; correct one"
        )
    classes: NDArray[Any] = _decoded(layer, stored, block)
    if not np.array_equal(classes, np.round(classes), equal_nan=True):
        # A label among packed bands: the classes were stored as they are.
        classes = stored
    return np.isin(classes, block.mask_clear) & ~_missing(layer, stored, block, ())


# ---- dates


def _days(source: xr.Dataset, block: OwnCubeFile) -> NDArray[np.datetime64]:
    """Days ``(time,)`` of a file in UTC."""
    if block.time not in source.variables:
        raise UserError(
            f"{block.file}: the dimension {block.time!r} has no dates; add a coordinate with them"
        )
    variable = source[block.time]
    with _readable(block.file):
        stored = np.atleast_1d(variable.values)
    try:
        days = _parsed(variable, stored)
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"{block.file}: the dates of {block.time!r} are {in_a_line(error)}; write them as days "
            "since a date, in the standard calendar"
        ) from error
    if missing := int(np.isnat(days).sum()):
        raise UserError(f"{block.file}: {missing} of {len(days)} dates are missing; remove them")
    return days


def _parsed(variable: xr.DataArray, stored: NDArray[Any]) -> NDArray[np.datetime64]:
    """Days of stored times. Raises ValueError, which says what they are, if no day is certain."""
    import pandas as pd

    units, calendar = (str(variable.attrs.get(key, "")) for key in ("units", "calendar"))
    if stored.dtype.kind == "M":
        return stored.astype("datetime64[D]")
    if stored.dtype.kind in "SUOT":
        texts = [_text(entry) for entry in stored]
        wrong = [text for text in texts if not re.match(ISO_DAY, text)]
        dates = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
        if wrong := [*wrong, *np.array(texts)[dates.isna()]]:
            raise ValueError(f"texts like {str(wrong[0])!r}, which are not ISO 8601")
        return dates.tz_localize(None).to_numpy().astype("datetime64[D]")
    if stored.dtype.kind not in "iuf":
        raise ValueError(f"{stored.dtype}, not times")
    if " since " not in units:
        return _calendar_numbers(stored, units)
    if calendar.lower() not in CALENDARS:
        raise ValueError(f"in the calendar {calendar!r}")
    if re.match(r"(month|year)s? since ", units):
        return _whole_months(stored, units)
    keys = {"units", "calendar", "_FillValue", "missing_value"} & {*variable.attrs}
    plain = xr.Variable(("time",), stored, {key: variable.attrs[key] for key in keys})
    try:
        times = xr.conventions.decode_cf_variable("time", plain, decode_times=True).values
    except Exception as error:
        raise ValueError(
            f"numbers with units {units!r} and calendar {calendar!r}, which are not read"
        ) from error
    if times.dtype.kind == "M":
        # Half a second more, since decimals of days may fall just short of midnight.
        return (times.astype("datetime64[ms]") + np.timedelta64(500, "ms")).astype("datetime64[D]")
    days = [f"{time.year:04}-{time.month:02}-{time.day:02}" for time in times]
    try:
        return np.array(days, "datetime64[D]")
    except ValueError as error:
        raise ValueError(f"in the calendar {calendar!r}, with days that do not exist") from error


def _whole_months(stored: NDArray[Any], units: str) -> NDArray[np.datetime64]:
    """Days that lie whole calendar months, or years, after a day that all months have."""
    import pandas as pd

    unit, since = units.split("s since " if "s since " in units else " since ", 1)
    day = pd.to_datetime(since, errors="coerce")
    if not day.day <= 28 or not (stored == np.round(stored)).all():
        raise ValueError(f"in the unit {units!r}, which has no fixed length")
    months = 12 if unit == "year" else 1
    days = [day + pd.DateOffset(months=int(number) * months) for number in stored]
    return np.array(days, "datetime64[D]")


def _calendar_numbers(stored: NDArray[Any], units: str) -> NDArray[np.datetime64]:
    """Days of numbers like 20220501."""
    plain = not units or "%y%m%d" in units.lower() or "yyyymmdd" in units.lower()
    with_decimals = "%f" in units
    if plain and ((stored >= 19000101) & (stored < 21010101)).all():
        days = np.floor(stored).astype(np.int64)
        if with_decimals or (days == stored).all():
            texts = [
                f"{day // 10000}-{day // 100 % 100:02}-{day % 100:02}" for day in days.tolist()
            ]
            return np.array(texts, "datetime64[D]")
    kind = "integers" if stored.dtype.kind in "iu" else "numbers"
    known = f"units {units!r}, which have no first day" if units else "units"
    raise ValueError(f"{kind} {'with' if units else 'without'} {known}, such as {stored.flat[0]}")


# ---- grid


def _grid(source: xr.Dataset, block: OwnCubeFile) -> Grid:
    used = [source[name] for name in _used(block) if name in source.variables]
    named = {name for v in used for name in v.dims} if used else {*source.dims}
    scalar = {block.time} & {*source.variables} if block.time not in source.dims else set()
    if missing := {block.time, block.y, block.x} - named - scalar:
        raise UserError(
            f"{block.file}: has dimensions {in_a_line(', '.join(map(str, source.sizes)))}, not "
            f"{sorted(missing)}; set time, x and y in the config"
        )
    mappings = _mappings(source, used)
    epsg = _epsg(_crs(source, used, mappings, block), block)
    x, y = _axis(source, block.x, block), _axis(source, block.y, block)
    width, height = source.sizes[block.x], source.sizes[block.y]
    held = [source[name].attrs for name in mappings] + [v.attrs for v in used]
    transforms = [*_transforms([*held, source.attrs])]
    if x is None or y is None:
        if not transforms:
            raise UserError(
                f"{block.file}: has no coordinates {block.x!r} and {block.y!r}; add them, or a "
                "GeoTransform"
            )
        _, (left, step, top, down) = transforms[0]
        if not math.isclose(step, -down, rel_tol=1e-3):
            raise UserError(f"{block.file}: its GeoTransform has no square pixels; warp it")
        return Grid(epsg, left, top, step, height, width)
    steps = np.concatenate([np.diff(x), -np.diff(y)])
    regular = steps.size and 0 < steps[0] < np.inf and np.allclose(steps, steps[0], rtol=1e-3)
    if not (x.size and y.size and regular):
        raise UserError(
            f"{block.file}: x must rise and y must fall in equal steps of square pixels; warp it "
            "to such a grid"
        )
    size = float(steps[0])
    left, top = _corner((float(x[0]), float(y[0])), size, transforms, block)
    return Grid(epsg, left, top, size, height, width)


def _mappings(source: xr.Dataset, used: Sequence[xr.DataArray]) -> list[str]:
    """Variables that describe the CRS: those that ``grid_mapping`` names, or else all that do."""
    # "crs", or "crs: x y other: lat lon".
    named = [re.split(r"[:\s]", str(v.attrs.get("grid_mapping", "")).strip())[0] for v in used]
    held = [name for name in dict.fromkeys(named) if name in source.variables]
    keys = {"grid_mapping_name", *WKT_KEYS}
    others = [str(n) for n, v in source.variables.items() if v.size <= 1 and keys & {*v.attrs}]
    return held or others


def _crs(
    source: xr.Dataset, used: Sequence[xr.DataArray], mappings: Sequence[str], block: OwnCubeFile
) -> CRS:
    """The coordinate reference system of the file, or else that of the config."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    config, held = None, []
    if block.crs is not None:
        try:
            config = CRS.from_user_input(block.crs)
        except CRSError as error:
            raise UserError(
                f"{block.file}: {in_a_line(block.crs)!r} is not a coordinate reference system; set "
                "crs, for instance to EPSG:32632"
            ) from error
    stated = [(f"{name!r}", source[name].attrs) for name in mappings] or [
        (f"the attribute {key!r}", {"crs_wkt": holder.attrs[key]})
        for holder in (*used, source)
        for key in CRS_KEYS
        if key in holder.attrs
    ]
    stated = stated or [
        (f"{key!r}", {"crs_wkt": source[key].values.item()})
        for key in CRS_KEYS
        if key in source.coords and source[key].size == 1
    ]
    for where, attributes in stated:
        try:
            held += [(where, crs) for crs in _described(attributes)]
        except (CRSError, KeyError, ValueError, TypeError) as error:
            if config is None:
                raise UserError(
                    f"{block.file}: {where} describes no coordinate reference system that is known "
                    f"({in_a_line(error)}); set crs in the config"
                ) from error
    if config is not None:
        held = [("crs of the config", config), *((w, c) for w, c in held if _code(c) is not None)]
    if not held:
        raise UserError(f"{block.file}: has no coordinate reference system; set crs in the config")
    first = held[0]
    for where, crs in held[1:]:
        if _code(crs) != _code(first[1]):
            raise UserError(
                f"{block.file}: {where} is {_shown(crs)}, and {first[0]} is {_shown(first[1])}; "
                + (
                    "remove crs from the config if the file is right, or correct the file"
                    if config is not None
                    else "remove the wrong one from the file, or name the right one in grid_mapping"
                )
            )
    return first[1]


def _described(attributes: dict[Any, Any]) -> Iterator[CRS]:
    """The systems that the attributes of a grid mapping describe, as text and by parameters."""
    from pyproj import CRS

    texts = [attributes[key] for key in WKT_KEYS if key in attributes]
    for text in texts:
        yield (crs := CRS.from_user_input(text if isinstance(text, str) else int(text)))
        described = crs.to_cf()
        for key in PARAMETERS & {*attributes} & {*described}:
            if not math.isclose(float(attributes[key]), float(described[key]), abs_tol=1e-6):
                raise ValueError(f"{key} {attributes[key]:g} beside {_shown(crs)}")
    if not texts:
        yield CRS.from_cf(attributes)


def _code(crs: CRS) -> int | None:
    """The EPSG code; of CF's parameters alone also where no name of a datum confirms it."""
    return crs.to_epsg() or crs.to_epsg(min_confidence=50)


def _shown(crs: CRS) -> str:
    return f"EPSG:{_code(crs)}" if _code(crs) else in_a_line(crs.name)


def _epsg(crs: CRS, block: OwnCubeFile) -> int:
    axis, epsg = crs.axis_info[0], _code(crs)
    if not (crs.is_projected and axis.unit_conversion_factor == 1):
        raise UserError(
            f"{block.file}: its coordinates are in units of {axis.unit_name}; warp it to a system "
            "in metres, such as UTM"
        )
    if epsg is None:
        raise UserError(f"{block.file}: the coordinate reference system has no EPSG code; set crs")
    return epsg


def _used(block: OwnCubeFile) -> list[str]:
    """Names of the variables that a block names."""
    names = [block.variable] if block.variable else [*(block.bands or {}).values()]
    return [*dict.fromkeys(map(str, names)), *([block.mask] if block.mask else [])]


def _axis(source: xr.Dataset, name: str, block: OwnCubeFile) -> NDArray[np.float64] | None:
    """Coordinates of a dimension in metres, or None where the file has none."""
    if name not in source.variables:
        return None
    metres = 1000 if _units(source[name]) in ("km", "kilometer", "kilometre") else 1
    return _decoded(source[name], _numbers(source[name], block), block) * metres


def _transforms(
    attributes: Iterable[dict[Any, Any]],
) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    """Attributes with a transform: name, and left, width, top and (negative) height of a pixel."""
    for holder in attributes:
        for key in TRANSFORM_KEYS:
            stated = np.ravel(holder.get(key, ()))
            numbers = [float(n) for n in re.findall(NUMBER, " ".join(map(str, stated)))]
            if len(numbers) not in (6, 9):
                continue
            a, b, c, d, e, f = numbers[:6]
            # In the order of GDAL, or in that of an affine matrix.
            if c == e == 0 != b:
                yield key, (a, b, d, f)
            elif b == d == 0 != a:
                yield key, (c, a, f, e)


def _corner(
    first: tuple[float, float],
    size: float,
    transforms: Sequence[tuple[str, tuple[float, float, float, float]]],
    block: OwnCubeFile,
) -> tuple[float, float]:
    """Left and top edge of a grid whose first pixel has these coordinates.

    They are those of its centre, unless a transform says that they are those of its corner. A part
    of a raster may keep the transform of the whole: it counts by its lattice, not by its origin.
    """
    centre = first[0] - size / 2, first[1] + size / 2
    found: set[tuple[float, float]] = set()
    for key, (left, width, top, height) in transforms:
        steps = np.array([(first[0] - left) / width, (first[1] - top) / height])
        half = size / 2 / abs(width)
        at_centres = _whole(steps - (half, math.copysign(half, -height)))
        at_corners = _whole(steps) and math.isclose(width, size, rel_tol=1e-3) and height < 0
        found.add(centre if at_centres else first)
        if not (at_centres or at_corners) or len(found) > 1:
            raise UserError(
                f"{block.file}: by {key} a pixel of {abs(width):g} m has its corner at "
                f"{left:.10g}, {top:.10g}; by the coordinates the first pixel is at "
                f"{first[0]:.10g}, {first[1]:.10g}, in steps of {size:g} m; correct one of them"
            )
    return found.pop() if found else centre


def _whole(steps: NDArray[np.float64]) -> bool:
    return bool(np.abs(steps - np.round(steps)).max() < LATTICE)
