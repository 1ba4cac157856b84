"""Where the sun and the sensor stand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import Grid
from simulated_archive.arrays import Float64
from simulated_archive.bands import BANDS

ANGLE_STEP_M = 5000
ANGLE_NODES = 3
NODES_M = np.arange(ANGLE_NODES, dtype=np.float64) * ANGLE_STEP_M
MARGIN_M = 3000
"""The granule that metadata describe reaches this far beyond the simulated window."""
ACROSS_TRACK_AZIMUTH = 105.0
"""Azimuth across the descending track, seen from the ground towards the east."""
ACROSS_GRADIENT = 0.07 / 1000
"""Change of the view angle across the swath, degrees per metre."""
DETECTORS = (6, 7)


@dataclass(frozen=True)
class SceneAngles:
    """Angles of a scene, degrees.

    Sun: at the site and on the grid ``(y, x)``. View: at the site per band, ``(band,)``, and
    on the grid per band and detector, ``(band, detector, y, x)``, NaN where it does not look.
    """

    sun_zenith: float
    sun_azimuth: float
    view_zenith: Float64
    view_azimuth: Float64
    sun_zenith_grid: Float64
    sun_azimuth_grid: Float64
    view_zenith_grid: Float64
    view_azimuth_grid: Float64

    @property
    def relative_azimuth(self) -> Float64:
        """Angle between sun and sensor, 0 to 180, ``(band,)``: 0 has the sun behind."""
        return np.abs((self.sun_azimuth - self.view_azimuth + 180) % 360 - 180)


def granule_of(window: Grid) -> Grid:
    """The granule around a simulated window."""
    return window.padded(round(MARGIN_M / window.resolution))


def sun_position(time: datetime, lon: Any, lat: Any) -> tuple[Any, Any]:
    """Zenith and azimuth of the sun, degrees; azimuth clockwise from north.

    The Astronomical Almanac's low-precision formulas, good to 0.01 degrees until 2050
    (Michalsky 1988, doi:10.1016/0038-092X(88)90045-X); refraction is left out.
    """
    days = (time - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / 86400
    longitude = np.radians(280.460 + 0.9856474 * days)
    anomaly = np.radians(357.528 + 0.9856003 * days)
    ecliptic = longitude + np.radians(1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    obliquity = np.radians(23.439 - 4e-7 * days)
    ascension = np.arctan2(np.cos(obliquity) * np.sin(ecliptic), np.cos(ecliptic))
    declination = np.arcsin(np.sin(obliquity) * np.sin(ecliptic))
    hours = time.hour + time.minute / 60 + time.second / 3600
    sidereal = 6.697375 + 0.0657098242 * days + hours
    hour_angle = np.radians(15 * sidereal + lon) - ascension
    phi = np.radians(lat)
    height = np.sin(phi) * np.sin(declination)
    height = height + np.cos(phi) * np.cos(declination) * np.cos(hour_angle)
    east, north = -np.sin(hour_angle), np.tan(declination) * np.cos(phi)
    azimuth = np.arctan2(east, north - np.sin(phi) * np.cos(hour_angle))
    return np.degrees(np.arccos(height)), np.degrees(azimuth) % 360


@lru_cache(maxsize=16)
def _places(epsg: int, east: float, north: float) -> tuple[Float64, Float64]:
    """Longitude and latitude of the nodes of angle grids that begin at a corner."""
    from pyproj import Transformer

    to_lonlat = Transformer.from_crs(epsg, 4326, always_xy=True)
    return to_lonlat.transform(*np.meshgrid(east + NODES_M, north - NODES_M))


def scene_angles(
    *, time: datetime, lon: float, lat: float, window: Grid, across: float
) -> SceneAngles:
    """Angles of a scene whose window has the site at its centre.

    ``across`` is the angle of the sensor across its track, degrees, positive to the east. Bands
    look ahead of one another by fractions of a degree, and the staggered detectors of the
    instrument look ahead and back by turns; only the first detector sees the window.
    """
    granule = granule_of(window)
    centre = window.left + window.width * window.resolution / 2
    tilt = across - ACROSS_GRADIENT * (granule.left + NODES_M - centre)
    ahead = np.array([0.35 + 0.09 * band.number for band in BANDS.values()])
    zenith, azimuth = _direction(np.array(across), ahead)
    shape = (len(BANDS), len(DETECTORS), ANGLE_NODES, ANGLE_NODES)
    zeniths, azimuths = np.full(shape, np.nan), np.full(shape, np.nan)
    for detector, (sign, seen) in enumerate(zip((1, -1), _footprints(), strict=True)):
        grids = _direction(tilt[None, None, :], sign * ahead[:, None, None])
        for target, values in zip((zeniths, azimuths), grids, strict=True):
            target[:, detector] = np.where(seen, values, np.nan)
    sun_grid = sun_position(time, *_places(granule.epsg, granule.left, granule.top))
    sun = sun_position(time, lon, lat)
    return SceneAngles(
        sun_zenith=float(sun[0]),
        sun_azimuth=float(sun[1]),
        view_zenith=zenith,
        view_azimuth=azimuth,
        sun_zenith_grid=sun_grid[0],
        sun_azimuth_grid=sun_grid[1],
        view_zenith_grid=zeniths,
        view_azimuth_grid=azimuths,
    )


def _footprints() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Nodes that each detector sees: slanted strips that meet east of the window."""
    first = np.ones((ANGLE_NODES, ANGLE_NODES), dtype=bool)
    first[:, -1] = False
    second = np.zeros_like(first)
    second[1:, -1] = True
    second[-1, -2] = True
    return first, second


def _direction(across: Float64, ahead: Float64) -> tuple[Float64, Float64]:
    """Zenith and azimuth from the angles across and along the track."""
    zenith = np.hypot(across, ahead)
    azimuth = (ACROSS_TRACK_AZIMUTH - np.degrees(np.arctan2(ahead, across))) % 360
    return np.broadcast_arrays(zenith, azimuth)  # type: ignore[return-value]
