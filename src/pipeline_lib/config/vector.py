"""Vector files of the user: outlines of areas, tables of sites and towers."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any

from pipeline_lib.errors import UserError, in_a_line


@cache
def outline_of(path: Path) -> Any:
    """The polygons of a vector file as one prepared geometry of shapely, in degrees."""
    import shapely

    shapes = read_vector(path).geometry
    shapes = shapes[shapes.geom_type.isin(["Polygon", "MultiPolygon"])]
    if shapes.empty:
        raise UserError(f"{path}: contains no polygons")
    outline = shapes.make_valid().union_all()
    shapely.prepare(outline)
    return outline


def read_vector(path: Path) -> Any:
    """The GeoDataFrame of a file in degrees (EPSG:4326), without empty geometries.

    Raises UserError if it cannot be read or has no coordinate reference system.
    """
    import geopandas

    parquet = path.suffix in (".parquet", ".geoparquet")
    try:
        layer = (geopandas.read_parquet if parquet else geopandas.read_file)(path)
    except Exception as error:  # of pyogrio, pyarrow, or geopandas itself
        raise UserError(f"{path}: not a readable vector file ({in_a_line(error)})") from error
    if not isinstance(layer, geopandas.GeoDataFrame):
        raise UserError(f"{path}: contains no geometries")
    if layer.crs is None:
        raise UserError(f"{path}: has no coordinate reference system; assign one")
    layer = layer[~(layer.geometry.isna() | layer.geometry.is_empty)].to_crs(4326)
    west, south, east, north = layer.total_bounds
    if not layer.empty and not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        raise UserError(
            f"{path}: coordinates from {west:g}, {south:g} to {east:g}, {north:g} are not degrees "
            "from -180 to 180; correct its coordinate reference system, or cut it at 180 degrees"
        )
    return layer


def read_points(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV, or of a vector file of points with ``lon`` and ``lat`` of each.

    Raises UserError if the file cannot be read.
    """
    if path.suffix.lower() in (".csv", ".txt"):
        try:
            with path.open(newline="", encoding="utf-8-sig") as handle:
                return list(csv.DictReader(handle))
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{path}: not a readable CSV ({in_a_line(error)})") from error
    layer = read_vector(path).explode(ignore_index=True)  # a GIS may write points as MultiPoint
    if not (layer.geom_type == "Point").all():
        raise UserError(f"{path}: contains other geometries than points")
    points = layer.geometry
    table = layer.drop(columns=points.name).assign(lon=points.x, lat=points.y)
    rows: list[dict[str, Any]] = table.to_dict("records")
    return rows
