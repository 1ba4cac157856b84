"""Sun and view angles of a Sentinel-2 granule, from its metadata (``MTD_TL.xml``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.retries import LARGEST_BYTES, Damaged
from pipeline_lib.cubes.grid import UTM_ZONES
from pipeline_lib.errors import in_a_line

MOST_NODES = 1000
"""Nodes along a side; granules of 110 km have 23."""
FARTHEST_M = 2e7
"""No coordinate in UTM lies beyond, nor do two nodes lie farther apart."""

BANDS = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07"),
    *("B08", "B8A", "B09", "B10", "B11", "B12"),
)
BAND_OF_ID = {str(number): band for number, band in enumerate(BANDS)}
"""Band of each ``bandId`` of a granule."""


@dataclass(frozen=True)
class Angles:
    """Angles on the 5 km nodes of a granule, degrees.

    ``x``, ``(node_x,)``, and ``y``, ``(node_y,)``, are metres in ``epsg``. The first node is the
    granule's upper left corner: the declination of the sun that follows from zenith, azimuth and
    latitude is constant over real granules to 0.0001 degrees there, and is not half a step away.
    Sun angles are ``(node_y, node_x)``; view angles are ``(band, node_y, node_x)``, NaN where no
    detector saw the node.
    """

    epsg: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    bands: tuple[str, ...]
    sun_zenith: NDArray[np.float64]
    sun_azimuth: NDArray[np.float64]
    view_zenith: NDArray[np.float64]
    view_azimuth: NDArray[np.float64]


def parse_angles(content: bytes, bands: Sequence[str]) -> Angles:
    """Angle grids of some bands from a granule's XML file.

    Each band is seen by several detectors, each of which has its own grid; where they overlap,
    their lines of sight are averaged as vectors. Angles cannot be: azimuths wrap at 360 degrees,
    and near the nadir two detectors look at a node from opposite sides.

    Raises :class:`Damaged` if the file is truncated, is not granule metadata, has no grids of a
    band, is beyond :data:`LARGEST_BYTES`, or declares a document type: entities are never
    resolved.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    if len(content) > LARGEST_BYTES:
        raise Damaged(f"{len(content) / 2**20:.0f} MB, which no granule metadata has")
    try:
        root = fromstring(content, forbid_dtd=True)
    except DefusedXmlException as error:
        raise Damaged("declares a document type or entities, which no granule does") from error
    except (ParseError, ValueError, LookupError) as error:
        raise Damaged(f"not complete XML ({in_a_line(error)})") from error
    geocoding = root.find(".//Tile_Geocoding")
    sun = root.find(".//Sun_Angles_Grid")
    if geocoding is None or sun is None:
        raise Damaged("no Tile_Geocoding or no Sun_Angles_Grid")
    try:
        epsg = int(geocoding.findtext("HORIZONTAL_CS_CODE").split(":")[1])
        left = float(geocoding.findtext("Geoposition/ULX"))
        top = float(geocoding.findtext("Geoposition/ULY"))
        column_step = float(sun.findtext("Zenith/COL_STEP"))
        row_step = float(sun.findtext("Zenith/ROW_STEP"))
        sun_zenith, sun_azimuth = _values(sun, "Zenith"), _values(sun, "Azimuth")
        detectors = [
            (BAND_OF_ID[grid.get("bandId")], _values(grid, "Zenith"), _values(grid, "Azimuth"))
            for grid in root.iter("Viewing_Incidence_Angles_Grids")
            if BAND_OF_ID[grid.get("bandId")] in bands
        ]
        merged = [_merge([d[1:] for d in detectors if d[0] == band]) for band in bands]
        view_zenith = np.stack([zenith for zenith, _ in merged])
        view_azimuth = np.stack([azimuth for _, azimuth in merged])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"angle grids are incomplete ({in_a_line(error)})") from error
    if sun_zenith.ndim != 2 or {sun_azimuth.shape, view_zenith.shape[1:]} != {sun_zenith.shape}:
        raise Damaged("grids of sun and view are empty or differ in shape")
    rows, columns = sun_zenith.shape
    if not (
        epsg in UTM_ZONES
        and all(abs(edge) <= FARTHEST_M for edge in (left, top))
        and all(1 <= step <= FARTHEST_M for step in (column_step, row_step))
        and all(1 <= count <= MOST_NODES for count in (rows, columns))
    ):
        raise Damaged(
            f"{rows} x {columns} nodes, {row_step:g} x {column_step:g} m apart, from {left:g}, "
            f"{top:g} in EPSG:{epsg}: not the grid of a granule"
        )
    return Angles(
        epsg=epsg,
        x=left + column_step * np.arange(columns, dtype=np.float64),
        y=top - row_step * np.arange(rows, dtype=np.float64),
        bands=tuple(bands),
        sun_zenith=sun_zenith,
        sun_azimuth=sun_azimuth,
        view_zenith=view_zenith,
        view_azimuth=view_azimuth,
    )


def _values(grid: Any, angle: str) -> NDArray[np.float64]:
    rows = [row.text.split() for row in grid.iterfind(f"{angle}/Values_List/VALUES")]
    values = np.array(rows, dtype=np.float64)
    least, most = (0, 180) if angle == "Zenith" else (-360, 360)
    if (wrong := (values < least) | (values > most)).any():
        raise ValueError(f"a {angle.lower()} of {values[wrong][0]:g} degrees")
    return values


def _merge(
    grids: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not grids:
        raise ValueError("a band has no view angles")
    zenith = np.radians(np.stack([grid[0] for grid in grids]))
    azimuth = np.radians(np.stack([grid[1] for grid in grids]))
    seen = np.isfinite(zenith) & np.isfinite(azimuth)
    unseen = ~seen.any(axis=0)

    def total(component: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(unseen, np.nan, np.where(seen, component, 0).sum(axis=0))

    east = total(np.sin(zenith) * np.sin(azimuth))
    north = total(np.sin(zenith) * np.cos(azimuth))
    up = total(np.cos(zenith))
    merged_zenith = np.degrees(np.arctan2(np.hypot(east, north), up))
    return merged_zenith, np.degrees(np.arctan2(east, north)) % 360
