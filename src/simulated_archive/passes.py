"""When the satellites pass, on which orbit, and in which processing a scene is archived."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np

from pipeline_lib.cubes import utm_epsg

OPTICAL_CYCLE, OPTICAL_ORBITS = timedelta(days=10), 143
OPTICAL_ANCHOR = datetime(2019, 6, 28, 10, 10, 31, tzinfo=UTC)
OPTICAL_ANCHOR_ORBIT = 22
OPTICAL_ANCHOR_ABSOLUTE = {"B": 12060, "A": 21040}
"""Sentinel-2B's pass of relative orbit 22, and Sentinel-2A's of the same orbit five days later."""

RADAR_CYCLE, RADAR_ORBITS = timedelta(days=12), 175
RADAR_ANCHOR = datetime(2024, 4, 19, 4, 59, 4, tzinfo=UTC)
RADAR_ANCHOR_ORBIT, RADAR_ANCHOR_ABSOLUTE = 51, 53498

LANDSAT_CYCLE, LANDSAT_PATHS, LANDSAT_ROWS = timedelta(days=16), 233, 248
LANDSAT_PATH_STEP = 16
"""Paths between one orbit and the next."""
LANDSAT_ANCHOR = datetime(2020, 12, 4, 19, 2, 11, tzinfo=UTC)
LANDSAT_ANCHOR_PATH, LANDSAT_ANCHOR_ROW = 47, 27
"""Landsat 8's scene LC80470272020339LGN00."""
LANDSAT_FIRST_NODE = -64.6
"""Longitude at which path 1 crosses the equator southwards, degrees."""
LANDSAT_INCLINATION, LANDSAT_HEIGHT_KM = 98.2, 705
LANDSAT_REACH = 7.5
"""Angle at which the swath ends, degrees."""

OFFSET_FROM = "04.00"
"""Processing baseline from which digital numbers carry an offset of 1000."""

BASELINES = (
    (date(2015, 6, 1), "02.12"),
    (date(2021, 2, 1), "03.00"),
    (date(2021, 7, 1), "03.01"),
    (date(2022, 1, 25), "04.00"),
    (date(2022, 12, 6), "05.09"),
    (date(2023, 12, 13), "05.10"),
    (date(2024, 7, 23), "05.11"),
)
REPROCESSED, REPROCESSED_BEFORE = "05.00", date(2022, 1, 1)


@dataclass(frozen=True)
class OpticalPass:
    """A pass of Sentinel-2. ``sensor_side``: 1 where the sensor stands east of the site."""

    time: datetime
    platform: str
    relative_orbit: int
    absolute_orbit: int
    sensor_side: int


@dataclass(frozen=True)
class RadarPass:
    """A pass of Sentinel-1; ``incidence`` in degrees."""

    time: datetime
    relative_orbit: int
    absolute_orbit: int
    orbit_state: str
    incidence: float


@dataclass(frozen=True)
class LandsatPass:
    """A pass of Landsat 8: place in the Worldwide Reference System 2, UTM zone of its scene.

    ``across``: angle under which the place sees the sensor across the track, degrees, positive
    to the east.
    """

    time: datetime
    path: int
    row: int
    epsg: int
    across: float

    @property
    def identifier(self) -> str:
        """Identifier of the item: the product's name without its date of processing."""
        return f"LC08_L2SP_{self.path:03d}{self.row:03d}_{self.time:%Y%m%d}_02_T1"

    @property
    def scene(self) -> str:
        """Identifier of the scene."""
        return f"LC8{self.path:03d}{self.row:03d}{self.time:%Y%j}LGN00"


@dataclass(frozen=True)
class Processing:
    """One processing of an acquisition."""

    baseline: str
    generated: datetime

    @property
    def offset(self) -> int:
        """What was added to the digital numbers."""
        return 1000 if self.baseline >= OFFSET_FROM else 0


def optical_orbits(lon: float) -> tuple[int, int]:
    """The two relative orbits that see a place, the western track first.

    Neighbouring tracks are 360/143 degrees apart, and 43 orbits: orbits 65 and 22 are the
    pair between 9.5 and 12 degrees east.
    """
    step = math.floor((lon - 12.0) / (360 / OPTICAL_ORBITS)) + 1
    west, east = (65 - 43 * step) % OPTICAL_ORBITS, (22 - 43 * step) % OPTICAL_ORBITS
    return west or OPTICAL_ORBITS, east or OPTICAL_ORBITS


def across_angle(lon: float, sensor_side: int) -> float:
    """Angle under which a place sees the sensor across the track, degrees, positive to the east.

    A place lies between the two tracks that see it, 13.6 degrees apart at 786 km height; the
    swath ends at 10.8 degrees.
    """
    share = (lon - 12.0) / (360 / OPTICAL_ORBITS) % 1
    return max(-share * 13.6, -10.8) if sensor_side < 0 else min((1 - share) * 13.6, 10.8)


def optical_passes(lon: float, start: date, end: date, revisit_days: int) -> list[OpticalPass]:
    """Passes of Sentinel-2 over a place, both days included, in order of time.

    The western track starts at a pass of Sentinel-2A, the eastern one at a pass of Sentinel-2B. On
    the western track the sensor stands west.
    """
    passes = []
    for side, orbit in zip((-1, 1), optical_orbits(lon), strict=True):
        ahead = (orbit - OPTICAL_ANCHOR_ORBIT) * OPTICAL_CYCLE / OPTICAL_ORBITS
        first = OPTICAL_ANCHOR + ahead + (OPTICAL_CYCLE / 2 if side < 0 else timedelta(0))
        for time in _times(first, start, end, revisit_days):
            halves = round((time - OPTICAL_ANCHOR - ahead) / (OPTICAL_CYCLE / 2))
            platform, delay = ("B", timedelta(0)) if halves % 2 == 0 else ("A", OPTICAL_CYCLE / 2)
            since = (time - OPTICAL_ANCHOR - delay) / OPTICAL_CYCLE
            absolute = OPTICAL_ANCHOR_ABSOLUTE[platform] + round(since * OPTICAL_ORBITS)
            passes.append(OpticalPass(time, platform, orbit, absolute, side))
    return sorted(passes, key=lambda one: one.time)


def radar_passes(start: date, end: date, revisit_days: int) -> list[RadarPass]:
    """Passes of Sentinel-1A, one ascending and one descending orbit, in order of time."""
    passes = []
    for orbit, state, incidence in ((117, "ascending", 36.5), (168, "descending", 41.8)):
        ahead = (orbit - RADAR_ANCHOR_ORBIT) * RADAR_CYCLE / RADAR_ORBITS
        for time in _times(RADAR_ANCHOR + ahead, start, end, revisit_days):
            since = (time - RADAR_ANCHOR) / RADAR_CYCLE
            absolute = RADAR_ANCHOR_ABSOLUTE + round(since * RADAR_ORBITS)
            passes.append(RadarPass(time, orbit, absolute, state, incidence))
    return sorted(passes, key=lambda one: one.time)


def landsat_passes(lon: float, lat: float, start: date, end: date) -> list[LandsatPass]:
    """Passes of Landsat 8 over a place, both days included, in order of time.

    A place lies between two neighbouring tracks, each followed every 16 days, seven and nine days
    apart; one beyond the end of the swath is taken as seen from its end. A scene lies in the UTM
    zone of its centre, which may not be that of the place.

    The track of a circular orbit over the turning Earth, on its way south, crosses a latitude
    ``atan(cos(180 - i) tan u)`` and the turn of the Earth east of its crossing of the equator, with
    the inclination ``i`` and the angle ``u`` to the equator along the orbit, ``sin(latitude) =
    sin(i) sin(u)``, of the geocentric latitude.
    """
    flattened = math.atan(0.993306 * math.tan(math.radians(lat)))
    tilt = math.radians(180 - LANDSAT_INCLINATION)
    ahead = math.asin(math.sin(flattened) / math.sin(tilt))
    turn = LANDSAT_PATH_STEP / LANDSAT_PATHS * math.degrees(ahead)
    east = math.degrees(math.atan(math.cos(tilt) * math.tan(ahead))) + turn
    row = round(60 - LANDSAT_ROWS * ahead / (2 * math.pi))
    spacing = 360 / LANDSAT_PATHS
    place = (LANDSAT_FIRST_NODE + east - lon) / spacing
    passes = []
    for track in (math.floor(place), math.floor(place) + 1):
        path = track % LANDSAT_PATHS + 1
        centre = LANDSAT_FIRST_NODE + east - track * spacing
        km = 111.3 * math.cos(math.radians(lat)) * (centre - lon)
        across = math.degrees(math.atan(km / LANDSAT_HEIGHT_KM))
        orbits = (path - LANDSAT_ANCHOR_PATH) * pow(LANDSAT_PATH_STEP, -1, LANDSAT_PATHS)
        rows = (row - LANDSAT_ANCHOR_ROW) / LANDSAT_ROWS
        first = LANDSAT_ANCHOR + LANDSAT_CYCLE * (orbits % LANDSAT_PATHS + rows) / LANDSAT_PATHS
        epsg = utm_epsg((centre + 180) % 360 - 180, lat)
        across = min(max(across, -LANDSAT_REACH), LANDSAT_REACH)
        for time in _times(first, start, end, LANDSAT_CYCLE.days):
            passes.append(LandsatPass(time, path, row, epsg, across))
    return sorted(passes, key=lambda one: one.time)


def _times(first: datetime, start: date, end: date, revisit_days: int) -> Iterator[datetime]:
    step = timedelta(days=revisit_days)
    time = first.replace(microsecond=24000)
    time += step * -((time.date() - start) // step)
    while time.date() <= end:
        yield time
        time += step


def processings(rng: np.random.Generator, one: OpticalPass) -> list[Processing]:
    """Versions of an acquisition in the archive: mostly one; of some old ones a newer as well.

    Of the scenes before 2022 a tenth exist as reprocessed alone, and a tenth twice.
    """
    day = one.time.date()
    baseline = [name for since, name in BASELINES if since <= day][-1]
    archived = one.time + timedelta(hours=float(rng.uniform(6, 30)))
    loaded = datetime(2020, 10, 1, tzinfo=UTC) + timedelta(days=float(rng.uniform(0, 120)))
    versions = [Processing(baseline, max(archived, loaded).replace(microsecond=0))]
    lot = rng.random()
    again = datetime(2023, 3, 1, tzinfo=UTC) + timedelta(days=float(rng.uniform(0, 200)))
    if day < REPROCESSED_BEFORE and lot < 0.2:
        newer = Processing(REPROCESSED, again.replace(microsecond=0))
        return [newer] if lot < 0.1 else [*versions, newer]
    return versions
