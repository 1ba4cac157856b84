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
CRS_KEYS = ("crs", "crs_wkt", "proj:code", "proj:epsg", "epsg")
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
    if block.time not in source.variables:
        raise UserError(
            f"{block.file}: the dimension {block.time!r} has no dates; add a coordinate with them"
        )
    variable = _along(source, block.time, block)
    with reading(block.file):
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


def _along(source: xr.Dataset, name: str, block: OwnCubeFile) -> xr.DataArray:
    """The coordinate of a dimension, which must lie along it, or be a scalar."""
    if source[name].dims not in ((name,), ()):
        raise UserError(
            f"{block.file}: the coordinate {name!r} has dimensions {source[name].dims}, not "
            f"{name!r}; write it along that dimension"
        )
    return source[name]


def _parsed(variable: xr.DataArray, stored: NDArray[Any]) -> NDArray[np.datetime64]:
    """Days of stored times. Raises ValueError, which says what they are, if no day is certain."""
    import pandas as pd

    units, calendar = (str(variable.attrs.get(key, "")).strip() for key in ("units", "calendar"))
    if stored.dtype.kind == "M":
        return stored.astype("datetime64[D]")
    if stored.dtype.kind in "SUOT":
        texts = [text_of(entry) for entry in stored]
        wrong = [text for text in texts if not re.match(ISO_DAY, text)]
        dates = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
        if wrong := [*wrong, *np.array(texts)[dates.isna()]]:
            raise ValueError(f"texts like {str(wrong[0])!r}, which are not ISO 8601")
        return dates.tz_localize(None).to_numpy().astype("datetime64[D]")
    if stored.dtype.kind not in "iuf":
        raise ValueError(f"{stored.dtype}, not times")
    if " since " not in units.lower():
        return _calendar_numbers(stored, units)
    if calendar.lower() not in CALENDARS:
        raise ValueError(f"in the calendar {calendar!r}")
    if months := re.match(r"(month|year)s? since (.*)", units, re.IGNORECASE):
        return _whole_months(stored, months[1], months[2], units)
    keys = {"calendar", "_FillValue", "missing_value"} & {*variable.attrs}
    attributes = {key: variable.attrs[key] for key in keys} | {"units": units.lower()}
    plain = xr.Variable(("time",), stored, attributes)
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


def _whole_months(
    stored: NDArray[Any], unit: str, since: str, units: str
) -> NDArray[np.datetime64]:
    """Days that lie whole calendar months, or years, after a day that all months have."""
    import pandas as pd

    day = pd.to_datetime(since, errors="coerce")
    if not day.day <= 28 or not (stored == np.round(stored)).all():
        raise ValueError(f"in the unit {units!r}, which has no fixed length")
    each = 12 if unit.lower() == "year" else 1
    days = [day + pd.DateOffset(months=int(number) * each) for number in stored]
    return np.array(days, "datetime64[D]")


def _calendar_numbers(stored: NDArray[Any], units: str) -> NDArray[np.datetime64]:
    """Days of numbers like 20220501, or like 20220501.5 in CDO's absolute time."""
    import pandas as pd

    plain = not units or "%y%m%d" in units.lower() or "yyyymmdd" in units.lower()
    whole = np.floor(stored) if "%f" in units else stored
    # 32-bit decimals hold every second of these numbers only.
    if plain and stored.dtype != np.float32 and (whole % 1 == 0).all():
        texts = [f"{day:.0f}" for day in whole]
        days = pd.to_datetime(texts, format="%Y%m%d", errors="coerce")
        if not days.isna().any() and all(len(text) == 8 for text in texts):
            return days.to_numpy().astype("datetime64[D]")
    kind = "integers" if stored.dtype.kind in "iu" else "numbers"
    known = f"with units {units!r}, which have no first day" if units else "without units"
    raise ValueError(f"{kind} {known}, such as {stored.flat[0]}")


def grid_of_source(source: xr.Dataset, block: OwnCubeFile) -> Grid:
    """The pixel grid of an open file, whose rows run from north to south.

    Raises UserError if it is not certain where the pixels are, or if they are not square.
    """
    used = [source[name] for name in _used(block) if name in source.variables]
    named = {name for v in used for name in v.dims} if used else {*source.dims}
    scalar = {block.time} & {*source.variables} if block.time not in source.dims else set()
    if missing := {block.time, block.y, block.x} - named - scalar:
        raise UserError(
            f"{block.file}: has dimensions {in_a_line(', '.join(map(str, source.sizes)))}, not "
            f"{sorted(missing)}; set time, x and y in the config"
        )
    mappings = _mappings(source, used, block)
    epsg = _epsg(_crs(source, used, mappings, block), block)
    x, y = _axis(source, block.x, block), _axis(source, block.y, block)
    width, height = source.sizes[block.x], source.sizes[block.y]
    held = [source[name].attrs for name in mappings] + [v.attrs for v in used]
    transforms = [*_transforms([*held, source.attrs]), *_bounds(source, block)]
    if x is None or y is None:
        if not transforms:
            raise UserError(
                f"{block.file}: has no coordinates {block.x!r} and {block.y!r}; add them, or a "
                "GeoTransform"
            )
        _, left, step, top, down = transforms[0]
        if not math.isclose(step, -down, rel_tol=1e-3):
            raise UserError(f"{block.file}: its GeoTransform has no square pixels; warp it")
        return Grid(epsg, left, top, step, height, width)
    steps = np.concatenate([np.diff(x), -np.diff(y)])
    regular = steps.size and 0 < steps[0] < np.inf and np.allclose(steps, steps[0], rtol=1e-3)
    if not regular:
        raise UserError(
            f"{block.file}: x must rise and y must fall in equal steps of square pixels; warp it "
            "to such a grid"
        )
    size = float(steps[0])
    left, top = _corner((float(x[0]), float(y[0])), size, transforms, block)
    return Grid(epsg, left, top, size, height, width)


def _mappings(source: xr.Dataset, used: Sequence[xr.DataArray], block: OwnCubeFile) -> list[str]:
    """Variables that describe the CRS: those that ``grid_mapping`` names, or else all that do."""
    # "crs", or "crs: x y other: lat lon".
    texts = {str(v.attrs.get("grid_mapping", "")).strip() for v in used} - {""}
    named = sorted({re.split(r"[:\s]", text)[0] for text in texts})
    held = [name for name in named if name in source.variables]
    if named and not held and block.crs is None:
        raise UserError(
            f"{block.file}: grid_mapping names {in_a_line(named[0])!r}, which the file does not "
            "hold; set crs in the config"
        )
    keys = {"grid_mapping_name", *CRS_TEXTS}
    others = [str(n) for n, v in source.variables.items() if v.size <= 1 and keys & {*v.attrs}]
    return held if named else others


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
        (f"{key!r}", {"crs_wkt": text_of(source[key].values.item())})
        for key in CRS_KEYS
        if key in source.variables and source[key].size == 1
    ]
    for where, attributes in stated:
        try:
            held += [(where, crs) for crs in _described(attributes)]
        except (CRSError, LookupError, ValueError, TypeError, OverflowError) as error:
            if config is None:
                raise UserError(
                    f"{block.file}: {where} describes no certain coordinate reference system "
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
            stated = np.ravel(holder.get(key, ()))
            numbers = [float(n) for n in re.findall(NUMBER, " ".join(map(str, stated)))]
            if len(numbers) not in (6, 9):
                continue
            a, b, c, d, e, f = numbers[:6]
            if c == e == 0 and b and f:
                yield key, a, b, d, f
            elif b == d == 0 and a and e:
                yield key, c, a, f, e


def _bounds(source: xr.Dataset, block: OwnCubeFile) -> Iterator[Transform]:
    """The transform by CF's ``bounds`` of the coordinates, if there are any."""
    names = [
        str(source[n].attrs.get("bounds")) for n in (block.x, block.y) if n in source.variables
    ]
    if len(names) == 2 and all(n in source.variables and source[n].ndim == 2 for n in names):
        x, y = (np.sort(stored_numbers(source[name], block)[0]) for name in names)
        yield "bounds", x[0], x[-1] - x[0], y[-1], y[0] - y[-1]


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
        steps = np.array([(first[0] - left) / width, (first[1] - top) / height])
        half = size / 2 / abs(width)
        at_centres = _whole(steps - (half, math.copysign(half, -height)))
        # One step from it may as well be another corner of the first pixel.
        other = tuple(np.round(steps)) in {(0, 1), (1, 0), (1, 1)}
        at_corners = (
            _whole(steps) and not other and math.isclose(width, size, rel_tol=1e-3) and height < 0
        )
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
