"""The table of sites as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.files import atomic_path, write_csv


def write_site_table(rows: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Write rows as a CSV, and in the same folder as a GeoPackage of points for a GIS."""
    import geopandas
    import pandas as pd
    import pyogrio

    write_csv(output, rows)
    table = pd.DataFrame(list(rows)).astype({"lon": float, "lat": float})
    points = geopandas.points_from_xy(table["lon"], table["lat"], crs=4326)
    layer = geopandas.GeoDataFrame(table, geometry=points)
    # Equal tables give equal bytes: the time of writing is not kept.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z"})
    with atomic_path(output.with_suffix(".gpkg")) as partial:
        layer.to_file(partial, layer="sites", driver="GPKG")
