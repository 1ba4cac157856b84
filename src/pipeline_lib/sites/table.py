"""The table of sites as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.files import atomic_path, write_csv


def write_site_table(rows: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Write rows as a CSV, and in the same folder as a GeoPackage of points for a GIS."""
    import geopandas
    import pyogrio

    write_csv(output, rows)
    table = geopandas.GeoDataFrame(
        rows,
        geometry=geopandas.points_from_xy(
            [float(row["lon"]) for row in rows], [float(row["lat"]) for row in rows]
        ),
        crs=4326,
    )
    # Equal tables give equal bytes: the time of writing is not kept.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z"})
    with atomic_path(output.with_suffix(".gpkg")) as partial:
        table.to_file(partial, layer="sites", driver="GPKG")
