"""Which parts of a large area are embedded: those that touch its outline."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipeline_lib.config.acquisition import Area
from pipeline_lib.errors import UserError

ADVICE = "draw it in degrees, longitude first"


def parts_of(areas: Mapping[str, Area], base: Path = Path()) -> dict[str, Area]:
    """What is embedded of some areas: each as it is, or its parts that touch its outline.

    Parameters
    ----------
    areas
        Areas of any size, by name.
    base
        Folder that relative paths of outlines start from.

    Returns
    -------
    dict
        Name of the area or part to its bounds and period, in the order of the areas.

    Raises
    ------
    UserError
        If an outline cannot be read, or no part of its area touches it.
    """
    return {name: part for key, area in areas.items() for name, part in _parts(key, area, base)}


def _parts(name: str, area: Area, base: Path) -> Iterator[tuple[str, Area]]:
    parts = area.parts(name)
    if area.outline is None:
        yield from parts.items()
        return
    import shapely

    path = base / area.outline
    boxes = shapely.box(*zip(*(part.bounds for part in parts.values()), strict=True))
    touching = shapely.intersects(outline_of(path), boxes)
    if not touching.any():
        west, south, east, north = area.bounds
        raise UserError(
            f"{path}: does not touch the area {name} ({west:g}, {south:g}, {east:g}, {north:g}); "
            "mend its bounds or name another outline"
        )
    for (key, part), keep in zip(parts.items(), touching, strict=True):
        if keep:
            yield key, part


@cache
def outline_of(path: Path) -> Any:
    """Read the polygons of a GeoJSON file (RFC 7946) as one geometry.

    Parameters
    ----------
    path
        A Polygon, a MultiPolygon, a Feature or a FeatureCollection; what else a collection holds
        is left out.

    Returns
    -------
    shapely geometry
        Longitudes and latitudes, prepared for repeated questions.

    Raises
    ------
    UserError
        If the file is not JSON, holds no polygon, or its coordinates are not degrees.
    """
    import shapely

    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; mend the path") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); give a GeoJSON file") from None
    try:
        polygons = [shapely.geometry.shape(found) for found in _polygons(content)]
    except (ValueError, TypeError, LookupError, AttributeError, shapely.GEOSException):
        raise UserError(f"{path}: holds a broken polygon; {ADVICE}") from None
    outline = shapely.union_all(shapely.make_valid([p for p in polygons if not p.is_empty]))
    if outline.is_empty:
        raise UserError(f"{path}: holds no polygons; give a GeoJSON file with some")
    west, south, east, north = outline.bounds
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        raise UserError(
            f"{path}: coordinates out of range, from {west:g}, {south:g} to {east:g}, {north:g}; "
            f"{ADVICE}"
        )
    shapely.prepare(outline)
    return outline


def _polygons(content: Any) -> Iterator[dict[str, Any]]:
    """Polygons of a GeoJSON object, however deep."""
    if not isinstance(content, dict):
        return
    kind = content.get("type")
    if kind == "FeatureCollection":
        for feature in content["features"]:
            yield from _polygons(feature)
    elif kind == "Feature":
        yield from _polygons(content.get("geometry"))
    elif kind in ("Polygon", "MultiPolygon"):
        yield content
