"""Granule metadata in the format of the Level-2A product's ``MTD_TL.xml``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from simulated_archive.bands import BANDS
from simulated_archive.geometry import ANGLE_STEP_M, DETECTORS, Granule, SceneAngles

NAMESPACE = "https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd"


@dataclass(frozen=True)
class GranuleNames:
    """Identifiers of a granule, and its sensing time as ISO text."""

    tile_id: str
    datastrip_id: str
    sensing_time: str


def granule_xml(
    *, names: GranuleNames, granule: Granule, angles: SceneAngles, cloudy_percent: float
) -> str:
    """Metadata of a granule: its place, and the grids of sun and view angles.

    Element names, units and the order of elements are those of real files, so that a
    reader of them reads this one. The grids are smaller, as the granule is.
    """
    epsg = granule.epsg
    zone = f"{epsg % 100}{'N' if epsg < 32700 else 'S'}"
    size = [
        f'<Size resolution="{r}"><NROWS>{int(granule.side // r)}</NROWS>'
        f"<NCOLS>{int(granule.side // r)}</NCOLS></Size>"
        for r in (10, 20, 60)
    ]
    place = [
        f'<Geoposition resolution="{r}"><ULX>{int(granule.left)}</ULX>'
        f"<ULY>{int(granule.top)}</ULY><XDIM>{r}</XDIM><YDIM>-{r}</YDIM></Geoposition>"
        for r in (10, 20, 60)
    ]
    views = [
        f'<Viewing_Incidence_Angles_Grids bandId="{band.number}" detectorId="{detector}">\n'
        f"{_grid('Zenith', angles.view_zenith_grid[i, j])}\n"
        f"{_grid('Azimuth', angles.view_azimuth_grid[i, j])}\n"
        "</Viewing_Incidence_Angles_Grids>"
        for i, band in enumerate(BANDS.values())
        for j, detector in enumerate(DETECTORS)
    ]
    means = [
        f'<Mean_Viewing_Incidence_Angle bandId="{band.number}">\n'
        f"{_pair(angles.view_zenith[i], angles.view_azimuth[i])}\n"
        "</Mean_Viewing_Incidence_Angle>"
        for i, band in enumerate(BANDS.values())
    ]
    lines = [
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?>',
        f'<n1:Level-2A_Tile_ID xmlns:n1="{NAMESPACE}"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">',
        "<n1:General_Info>",
        f'<TILE_ID metadataLevel="Brief">{escape(names.tile_id)}</TILE_ID>',
        f'<DATASTRIP_ID metadataLevel="Standard">{escape(names.datastrip_id)}</DATASTRIP_ID>',
        '<DOWNLINK_PRIORITY metadataLevel="Standard">NOMINAL</DOWNLINK_PRIORITY>',
        f'<SENSING_TIME metadataLevel="Standard">{escape(names.sensing_time)}</SENSING_TIME>',
        "</n1:General_Info>",
        "<n1:Geometric_Info>",
        '<Tile_Geocoding metadataLevel="Brief">',
        f"<HORIZONTAL_CS_NAME>WGS84 / UTM zone {zone}</HORIZONTAL_CS_NAME>",
        f"<HORIZONTAL_CS_CODE>EPSG:{epsg}</HORIZONTAL_CS_CODE>",
        *size,
        *place,
        "</Tile_Geocoding>",
        '<Tile_Angles metadataLevel="Standard">',
        "<Sun_Angles_Grid>",
        _grid("Zenith", angles.sun_zenith_grid),
        _grid("Azimuth", angles.sun_azimuth_grid),
        "</Sun_Angles_Grid>",
        "<Mean_Sun_Angle>",
        _pair(angles.sun_zenith, angles.sun_azimuth),
        "</Mean_Sun_Angle>",
        *views,
        "<Mean_Viewing_Incidence_Angle_List>",
        *means,
        "</Mean_Viewing_Incidence_Angle_List>",
        "</Tile_Angles>",
        "</n1:Geometric_Info>",
        '<n1:Quality_Indicators_Info metadataLevel="Standard">',
        "<Image_Content_QI>",
        f"<CLOUDY_PIXEL_PERCENTAGE>{cloudy_percent:.6f}</CLOUDY_PIXEL_PERCENTAGE>",
        "</Image_Content_QI>",
        "</n1:Quality_Indicators_Info>",
        "</n1:Level-2A_Tile_ID>",
    ]
    return "\n".join(lines) + "\n"


def _pair(zenith: float, azimuth: float) -> str:
    return (
        f'<ZENITH_ANGLE unit="deg">{zenith:.12f}</ZENITH_ANGLE>\n'
        f'<AZIMUTH_ANGLE unit="deg">{azimuth:.12f}</AZIMUTH_ANGLE>'
    )


def _grid(name: str, values: NDArray[np.float64]) -> str:
    rows = "\n".join(f"<VALUES>{_row(row)}</VALUES>" for row in values.tolist())
    step = ANGLE_STEP_M
    return (
        f'<{name}>\n<COL_STEP unit="m">{step}</COL_STEP>\n<ROW_STEP unit="m">{step}</ROW_STEP>\n'
        f"<Values_List>\n{rows}\n</Values_List>\n</{name}>"
    )


def _row(values: Iterable[float]) -> str:
    return " ".join("NaN" if value != value else f"{value:.6g}" for value in values)
