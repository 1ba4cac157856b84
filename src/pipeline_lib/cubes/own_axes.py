"""Dates, reference system and pixel grid of a user-supplied file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.config import OwnCubeFile
from pipeline_lib.cubes.grid import UTM_ZONES, Grid
from pipeline_lib.cubes.own_values import decoded, reading, stored_numbers, text_of
from pipeline_lib.errors import UserError, in_a_line

if TYPE_CHECKING:
    from pyproj import CRS

CALENDARS = {
    *("", "standard", "gregorian", "proleptic_gregorian"),
    *("noleap", "365_day", "all_leap", "366_day", "360_day"),
}
"""Calendars whose days have the names of real ones."""
ISO_DAY = r"\d{4}-?\d{2}-?\d{2}(?!\d)"
CRS_TEXTS = ("crs_wkt", "spatial_ref", "wkt", "epsg_code")
"""Attributes of a grid mapping with its CRS as a whole."""
CODES = ("proj:code", "proj:epsg", "epsg")
"""Attributes, or scalar variables, with the CRS, where no variable describes it."""
PARAMETERS = {
    *("longitude_of_central_meridian", "latitude_of_projection_origin"),
    *("false_easting", "false_northing"),
}
Transform = tuple[str, float, float, float, float]
"""Where it is stated; left, width, top and (negative) height of a pixel, m."""
TRANSFORM_KEYS = ("GeoTransform", "geotransform", "transform", "spatial:transform")
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
UTM_CODES = UTM_ZONES | {*range(25828, 25839)}
LATTICE = 0.02
"""Fraction of a pixel within which two grids are the same."""


def days_of(source: xr.Dataset, block: OwnCubeFile) -> NDArray[np.datetime64]:
    """Days ``(time,)`` of an open file, in UTC. Raises UserError if they are not certain."""
    variable = _along(source, block.time, block)
    with reading(block.file):
        stored = np.atleast_1d(variable.values)
    try:
        days = _parsed(stored, variable.attrs)
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"{block.file}: the dates of {block.time!r} are {in_a_line(error)}; write them as days "
            "since a date, in the standard calendar"
        ) from error
    if missing := int(np.isnat(days).sum()):
        raise UserError(f"{block.file}: {missing} of {len(days)} dates are missing; remove them")
    return days


def _along(source: xr.Dataset, name: str, block: OwnCubeFile) -> xr.DataArray:
    """The coordinate of a dimension, which must lie along it, or be a scalar."""
    if name not in source.variables:
        raise UserError(f"{block.file}: the dimension {name!r} has no coordinate; add one")
    if source[name].dims not in ((name,), ()):
        raise UserError(
            f"{block.file}: the coordinate {name!r} has dimensions {source[name].dims}, not "
            f"{name!r}; write it along that dimension"
        )
    return source[name]


def _parsed(stored: NDArray[Any], attributes: dict[Any, Any]) -> NDArray[np.datetime64]:
    """Days of stored times. Raises ValueError, which says what they are, if no day is certain."""
    import pandas as pd

    units, calendar = (str(attributes.get(key, "")).strip() for key in ("units", "calendar"))
    if stored.dtype.kind == "M":
        return stored.astype("datetime64[D]")
    if stored.dtype.kind in "SUOT":
        texts = [text_of(entry) for entry in stored]
        dates = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
        for text, date in zip(texts, dates, strict=True):
            if pd.isna(date) or not re.match(ISO_DAY, text):
                raise ValueError(f"texts like {text!r}, which are not ISO 8601")
        return dates.tz_localize(None).to_numpy().astype("datetime64[D]")
    if stored.dtype.kind not in "iuf":
        raise ValueError(f"{stored.dtype}, not times")
    if not units:
        numbers = [f"{number:.10g}" for number in stored]
        dates = pd.to_datetime(numbers, format="%Y%m%d", errors="coerce")
        # 32-bit decimals hold every second of these numbers only.
        if stored.dtype == "f4" or {*map(len, numbers)} != {8} or dates.isna().any():
            kind = "numbers" if stored.dtype.kind == "f" else "integers"
            raise ValueError(f"{kind} without units, such as {numbers[0]}")
        return dates.to_numpy().astype("datetime64[D]")
    if calendar.lower() not in CALENDARS:
        raise ValueError(f"in the calendar {calendar!r}")
    keys = {"calendar", "scale_factor", "add_offset", "_FillValue", "missing_value"} & {*attributes}
    plain = {key: attributes[key] for key in keys} | {"units": units.lower()}
    try:
        variable = xr.Variable(("time",), stored, plain)
        times = xr.conventions.decode_cf_variable("time", variable, decode_times=True).values
        if times.dtype.kind == "M":
            # Half a second more, since decimals of days may fall just short of midnight.
            times = times.astype("datetime64[ms]") + np.timedelta64(500, "ms")
            return times.astype("datetime64[D]")
        return np.array([time.isoformat()[:10] for time in times], "datetime64[D]")
    except Exception as error:
        raise ValueError(
            f"numbers with units {units!r} and calendar {calendar!r}, which are not certain days"
        ) from error


def grid_of_source(source: xr.Dataset, block: OwnCubeFile) -> Grid:
    """The pixel grid of an open file, whose rows run from north to south.

    Raises UserError if it is not certain where the pixels are, or if they are not square.
    """
    used = [source[name] for name in _used(block) if name in source.variables]
    mappings = _mappings(source, used)
    epsg = _epsg(_stated(source, used, mappings), block)
    x, y = _axis(source, block.x, block), _axis(source, block.y, block)
    steps = np.concatenate([np.diff(x), -np.diff(y)])
    regular = steps.size and 0 < steps[0] < np.inf and np.allclose(steps, steps[0], rtol=1e-3)
    if not regular:
        raise UserError(
            f"{block.file}: x must rise and y must fall in equal steps of square pixels; warp it "
            "to such a grid"
        )
    size = float(steps.mean())
    held = [source[name].attrs for name in mappings] + [v.attrs for v in used] + [source.attrs]
    left, top = _corner((float(x[0]), float(y[0])), size, [*_transforms(held)], block)
    return Grid(epsg, left, top, size, len(y), len(x))


def _used(block: OwnCubeFile) -> list[str]:
    """Names of the variables that a block names."""
    names = [block.variable] if block.variable else [*(block.bands or {}).values()]
    return [*dict.fromkeys(map(str, names)), *([block.mask] if block.mask else [])]


def _mappings(source: xr.Dataset, used: Sequence[xr.DataArray]) -> list[str]:
    """Variables that describe the CRS: those that ``grid_mapping`` names, or else all that do."""
    # "crs", or "crs: x y other: lat lon".
    texts = {str(v.attrs.get("grid_mapping", "")).strip() for v in used} - {""}
    if texts:
        named = sorted({re.split(r"[:\s]", text)[0] for text in texts})
        return [name for name in named if name in source.variables]
    keys = {"grid_mapping_name", *CRS_TEXTS}
    return [str(n) for n, v in source.variables.items() if v.size <= 1 and keys & {*v.attrs}]


def _stated(
    source: xr.Dataset, used: Sequence[xr.DataArray], mappings: Sequence[str]
) -> list[tuple[str, dict[Any, Any]]]:
    """Where a file states its CRS, and the attributes there, as those of a grid mapping."""
    if mappings:
        return [(f"{name!r}", source[name].attrs) for name in mappings]
    attributes = [
        (f"the attribute {key!r}", {"crs_wkt": holder.attrs[key]})
        for holder in (*used, source)
        for key in ("crs", "crs_wkt", *CODES)
        if key in holder.attrs
    ]
    scalars = [source[key] for key in CODES if key in source.variables and source[key].size == 1]
    return attributes or [(repr(v.name), {"crs_wkt": text_of(v.values.item())}) for v in scalars]


def _epsg(stated: Sequence[tuple[str, dict[Any, Any]]], block: OwnCubeFile) -> int:
    """The EPSG code that the config and the file state. Raises UserError if they differ."""
    from pyproj.exceptions import CRSError

    if block.crs is not None:
        stated = [("crs of the config", {"crs_wkt": block.crs}), *stated]
    held: list[tuple[str, CRS]] = []
    for where, attributes in stated:
        try:
            systems = [*_described(attributes)]
        except (CRSError, LookupError, ValueError, TypeError, OverflowError) as error:
            if held and block.crs is not None:
                continue
            raise UserError(
                f"{block.file}: {where} describes no certain coordinate reference system "
                f"({in_a_line(error)}); set crs in the config, for instance to EPSG:32632"
            ) from error
        # What the file cannot say by a code, the config may.
        held += [(where, crs) for crs in systems if block.crs is None or not held or _code(crs)]
    if not held:
        raise UserError(f"{block.file}: has no coordinate reference system; set crs in the config")
    first, crs = held[0]
    code, axis = _code(crs), crs.axis_info[0]
    for where, other in held[1:]:
        if _code(other) != code:
            raise UserError(
                f"{block.file}: {where} is {_shown(other)}, and {first} is {_shown(crs)}; remove "
                "the wrong one"
            )
    if not (crs.is_projected and axis.unit_conversion_factor == 1):
        raise UserError(
            f"{block.file}: its coordinates are in units of {axis.unit_name}; warp it to a system "
            "in metres, such as UTM"
        )
    if code is None:
        raise UserError(f"{block.file}: the coordinate reference system has no EPSG code; set crs")
    return code


def _described(attributes: dict[Any, Any]) -> Iterator[CRS]:
    """The systems that the attributes of a grid mapping describe, as text and by parameters."""
    from pyproj import CRS

    texts = [attributes[key] for key in CRS_TEXTS if key in attributes]
    for text in texts:
        yield (crs := CRS.from_user_input(text if isinstance(text, str) else int(text)))
        described = crs.to_cf()
        for key in PARAMETERS & {*attributes} & {*described}:
            own = float(np.ravel(attributes[key])[0])
            if not math.isclose(own, float(described[key]), abs_tol=1e-6):
                raise ValueError(f"{key} {own:g} beside {_shown(crs)}")
    if not texts:
        yield CRS.from_cf(attributes)


def _code(crs: CRS) -> int | None:
    """The EPSG code. Of CF's parameters alone, that of the same name, or of a zone of UTM.

    Where these name no datum, several codes have them: then the zone is that of WGS 84 or ETRS89.
    """
    from pyproj import CRS

    if code := crs.to_epsg():
        return code
    codes = [int(match.code) for match in crs.list_authority("EPSG", min_confidence=50)]
    known = (c for c in codes if c in UTM_CODES or CRS.from_epsg(c).name == crs.name)
    return next(known, None)


def _shown(crs: CRS) -> str:
    return f"EPSG:{_code(crs)}" if _code(crs) else in_a_line(crs.name)


def _axis(source: xr.Dataset, name: str, block: OwnCubeFile) -> NDArray[np.float64]:
    """Coordinates of a dimension in metres."""
    axis = _along(source, name, block)
    units = str(axis.attrs.get("units", "")).lower()
    if units.startswith("degree"):
        raise UserError(
            f"{block.file}: {name!r} is in {units}, and the reference system in metres; warp the "
            "file to it, or correct the attribute"
        )
    metres = 1000 if units in ("km", "kilometer", "kilometre") else 1
    return decoded(axis, stored_numbers(axis, block), block) * metres


def _transforms(attributes: Iterable[dict[Any, Any]]) -> Iterator[Transform]:
    """The transforms among attributes, in the order of GDAL or in that of an affine matrix."""
    for holder in attributes:
        for key in TRANSFORM_KEYS:
            stated = " ".join(map(str, np.ravel(holder.get(key, ()))))
            numbers = [float(number) for number in re.findall(NUMBER, stated)]
            if len(numbers) not in (6, 9):
                continue
            a, b, c, d, e, f = numbers[:6]
            if c == e == 0 and b and f:
                yield key, a, b, d, f
            elif b == d == 0 and a and e:
                yield key, c, a, f, e


def _corner(
    first: tuple[float, float], size: float, transforms: Sequence[Transform], block: OwnCubeFile
) -> tuple[float, float]:
    """Left and top edge of a grid whose first pixel has these coordinates.

    They are those of its centre, unless a transform says that they are those of its corner. A part
    of a raster may keep the transform of the whole: it counts by its lattice, not by its origin.
    """
    centre = first[0] - size / 2, first[1] + size / 2
    found: set[tuple[float, float]] = set()
    for key, left, width, top, height in transforms:
        step = abs(width)
        corners = np.array([first[0] - left, top - first[1]]) / step
        at_centres = _whole(corners - size / 2 / step)
        # One step from it may as well be another corner of the first pixel.
        other = tuple(np.round(corners)) in {(0, 1), (1, 0), (1, 1)}
        same = height < 0 and math.isclose(width, size, rel_tol=1e-3)
        at_corners = same and _whole(corners) and not other
        found.add(centre if at_centres else first)
        if not (at_centres or at_corners) or len(found) > 1:
            raise UserError(
                f"{block.file}: by {key} a pixel of {step:g} m has its corner at {left:.10g}, "
                f"{top:.10g}; by the coordinates the first pixel is at {first[0]:.10g}, "
                f"{first[1]:.10g}, in steps of {size:g} m; correct one of them"
            )
    return found.pop() if found else centre


def _whole(steps: NDArray[np.float64]) -> bool:
    return bool(np.abs(steps - np.round(steps)).max() < LATTICE)
