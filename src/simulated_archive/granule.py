"""Granule metadata in the layout of the Level-2A product's ``MTD_TL.xml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import Grid
from simulated_archive.bands import BANDS
from simulated_archive.geometry import ANGLE_STEP_M, DETECTORS, SceneAngles

NAMESPACE = "https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd"


def granule_xml(granule: Grid, angles: SceneAngles, properties: Mapping[str, Any]) -> str:
    """Metadata of a granule: its place, and the grids of sun and view angles.

    Element names, units and order are those of real files. The grids are smaller, as the granule
    is. ``properties`` are those of its item.
    """
    names = ("s2:granule_id", "s2:datastrip_id", "datetime")
    tile_id, datastrip_id, sensing_time = (escape(properties[name]) for name in names)
    epsg, left, top = granule.epsg, int(granule.left), int(granule.top)
    zone = f"{epsg % 100}{'N' if epsg < 32700 else 'S'}"
    sizes = ((r, int(granule.width * granule.resolution // r)) for r in (10, 20, 60))
    size = "\n".join(
        f'<Size resolution="{r}"><NROWS>{n}</NROWS><NCOLS>{n}</NCOLS></Size>' for r, n in sizes
    )
    place = "\n".join(
        f'<Geoposition resolution="{r}"><ULX>{left}</ULX><ULY>{top}</ULY>'
        f"<XDIM>{r}</XDIM><YDIM>-{r}</YDIM></Geoposition>"
        for r in (10, 20, 60)
    )
    views = "\n".join(
        f'<Viewing_Incidence_Angles_Grids bandId="{band.number}" detectorId="{detector}">\n'
        f"{_grid('Zenith', angles.view_zenith_grid[i, j])}\n"
        f"{_grid('Azimuth', angles.view_azimuth_grid[i, j])}\n"
        "</Viewing_Incidence_Angles_Grids>"
        for i, band in enumerate(BANDS.values())
        for j, detector in enumerate(DETECTORS)
    )
    means = "\n".join(
        f'<Mean_Viewing_Incidence_Angle bandId="{band.number}">\n'
        f"{_pair(angles.view_zenith[i], angles.view_azimuth[i])}\n"
        "</Mean_Viewing_Incidence_Angle>"
        for i, band in enumerate(BANDS.values())
    )
    return f"""\
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_Tile_ID xmlns:n1="{NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<n1:General_Info>
<TILE_ID metadataLevel="Brief">{tile_id}</TILE_ID>
<DATASTRIP_ID metadataLevel="Standard">{datastrip_id}</DATASTRIP_ID>
<DOWNLINK_PRIORITY metadataLevel="Standard">NOMINAL</DOWNLINK_PRIORITY>
<SENSING_TIME metadataLevel="Standard">{sensing_time}</SENSING_TIME>
</n1:General_Info>
<n1:Geometric_Info>
<Tile_Geocoding metadataLevel="Brief">
<HORIZONTAL_CS_NAME>WGS84 / UTM zone {zone}</HORIZONTAL_CS_NAME>
<HORIZONTAL_CS_CODE>EPSG:{epsg}</HORIZONTAL_CS_CODE>
{size}
{place}
</Tile_Geocoding>
<Tile_Angles metadataLevel="Standard">
<Sun_Angles_Grid>
{_grid("Zenith", angles.sun_zenith_grid)}
{_grid("Azimuth", angles.sun_azimuth_grid)}
</Sun_Angles_Grid>
<Mean_Sun_Angle>
{_pair(angles.sun_zenith, angles.sun_azimuth)}
</Mean_Sun_Angle>
{views}
<Mean_Viewing_Incidence_Angle_List>
{means}
</Mean_Viewing_Incidence_Angle_List>
</Tile_Angles>
</n1:Geometric_Info>
<n1:Quality_Indicators_Info metadataLevel="Standard">
<Image_Content_QI>
<CLOUDY_PIXEL_PERCENTAGE>{properties["eo:cloud_cover"]:.6f}</CLOUDY_PIXEL_PERCENTAGE>
</Image_Content_QI>
</n1:Quality_Indicators_Info>
</n1:Level-2A_Tile_ID>
"""


def _pair(zenith: float, azimuth: float) -> str:
    return (
        f'<ZENITH_ANGLE unit="deg">{zenith:.12f}</ZENITH_ANGLE>\n'
        f'<AZIMUTH_ANGLE unit="deg">{azimuth:.12f}</AZIMUTH_ANGLE>'
    )


def _grid(name: str, values: NDArray[np.float64]) -> str:
    texts = (" ".join("NaN" if v != v else f"{v:.6g}" for v in row) for row in values.tolist())
    rows = "\n".join(f"<VALUES>{text}</VALUES>" for text in texts)
    step = ANGLE_STEP_M
    return (
        f'<{name}>\n<COL_STEP unit="m">{step}</COL_STEP>\n<ROW_STEP unit="m">{step}</ROW_STEP>\n'
        f"<Values_List>\n{rows}\n</Values_List>\n</{name}>"
    )
