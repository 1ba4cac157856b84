"""Where an item says that its images lie: reference systems and transforms."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, NamedTuple

KEYS = ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson")


class Placement(NamedTuple):
    """What an item states of an image: ``EPSG:n`` or WKT, and six numbers as of affine.Affine."""

    crs: str | None
    transform: tuple[float, ...] | None


def placement_of(item: dict[str, Any], key: str) -> Placement:
    """What the asset ``key`` states, or else its item; None where there is nothing to be used."""
    asset, properties = item["assets"].get(key, {}), item["properties"]
    transform = asset.get("proj:transform") or properties.get("proj:transform")
    try:
        numbers = tuple(float(number) for number in transform[:6])
    except (TypeError, ValueError):
        numbers = ()
    # Nothing on the Earth lies beyond, in metres or degrees.
    usable = len(numbers) == 6 and all(abs(number) < 1e9 for number in numbers)
    return Placement(_crs_of(asset) or _crs_of(properties), numbers if usable else None)


def epsg_of(item: dict[str, Any]) -> int | None:
    """EPSG code of an item, however it states its reference system; None without one."""
    crs = _crs_of(item["properties"])
    return int(crs[5:]) if crs and crs.startswith("EPSG:") else None


def _crs_of(stated: dict[str, Any]) -> str | None:
    values = (stated.get(key) for key in KEYS)
    texts = (json.dumps(v) if isinstance(v, dict) else str(v) for v in values if v is not None)
    return next(filter(None, map(_crs, texts)), None)


@lru_cache(maxsize=256)
def _crs(text: str) -> str | None:
    """``EPSG:n``, or WKT where there is no such code; None for what is no reference system."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    code = re.fullmatch(r"(?:EPSG:)?(\d{1,6})(?:\.0)?", text, re.ASCII | re.I)
    try:
        crs = CRS.from_epsg(int(code[1])) if code else CRS.from_string(text)
    except CRSError:
        return None
    epsg = crs.to_epsg()
    return crs.to_wkt() if epsg is None else f"EPSG:{epsg}"
