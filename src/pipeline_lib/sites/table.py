"""The table of sites: as files, and how its sites are distributed, compared with the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.config import Sites
from pipeline_lib.files import atomic_path, write_csv
from pipeline_lib.sites.sampling import counts_of


def write_site_table(rows: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Write rows as a CSV, and in the same folder as a GeoPackage of points for a GIS."""
    import geopandas
    import pyogrio

    write_csv(output, rows)
    table = pd.DataFrame(list(rows)).astype({"lon": float, "lat": float})
    points = geopandas.points_from_xy(table["lon"], table["lat"], crs=4326)
    layer = geopandas.GeoDataFrame(table, geometry=points)
    # Equal tables give equal bytes: the time of writing is not kept.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z"})
    with atomic_path(output.with_suffix(".gpkg")) as partial:
        layer.to_file(partial, layer="sites", driver="GPKG")


def distribution(rows: Sequence[Mapping[str, Any]], sites: Sites) -> str:
    """A text table: fraction and number of sites per stratum, planned and drawn, the minimum
    distance from its sites to any other site, and the number of periods in each year.
    """
    table = pd.DataFrame(list(rows))
    places = table.drop_duplicates("site")
    nearest = nearest_km(places["lon"].to_numpy(float), places["lat"].to_numpy(float))
    planned = counts_of(sites.strata, sites.count)
    lines = []
    for name, fraction, count in [
        *((s.name, s.fraction, n) for s, n in zip(sites.strata, planned, strict=True)),
        ("all", 1.0, sites.count),
    ]:
        member = (places["land_cover"] == name) | (name == "all")
        distance = nearest[member].min(initial=np.inf)
        lines.append(
            {
                "stratum": name,
                "planned fraction": f"{fraction:.1%}",
                "planned sites": count,
                "drawn sites": member.sum(),
                "drawn fraction": f"{member.mean():.1%}",
                "nearest site": f"{distance:.1f} km" if np.isfinite(distance) else "-",
            }
        )
    counts = table["start"].astype(str).str[:4].value_counts().sort_index()
    years = ", ".join(f"{year}: {count}" for year, count in counts.items())
    text = pd.DataFrame(lines).to_string(index=False)
    return f"Drawn sites, compared with Table I\n{text}\nPeriods per year: {years}"


def nearest_km(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each place to the nearest other one on the ellipsoid, km; infinite if alone."""
    from pyproj import Geod

    nearest = np.full(len(lon), np.inf)
    first, second = np.triu_indices(len(lon), k=1)
    _, _, metres = Geod(ellps="WGS84").inv(lon[first], lat[first], lon[second], lat[second])
    np.minimum.at(nearest, first, metres)
    np.minimum.at(nearest, second, metres)
    return nearest / 1000
