"""How many cubes a config makes, how large they are, and how many dates they have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from pipeline_lib.config import Area, Config, Context, Sensor
from pipeline_lib.config.acquisition import Demo
from pipeline_lib.config.sites import read_site_table
from pipeline_lib.plan.rates import Rates

LARGE_KM = 10
"""Side from which a date on which nothing of a cube is clear is rare."""
DAYS = 365.25
LANDSAT_REVISIT = 16


@dataclass(frozen=True)
class Cubes:
    """Cubes of one sensor that are alike.

    ``megapixels`` and ``read_megapixels`` are those of one cube, without and with the margin of
    the cloud model; ``passes`` of the satellite over it, ``frames`` that it keeps, and ``looks``:
    clear dates of one of its pixels. Models are trained or tested on ``learned`` cubes.
    """

    sensor: str
    count: int
    megapixels: float
    read_megapixels: float
    passes: float
    frames: float
    looks: float
    learned: bool

    @property
    def pixel_frames(self) -> float:
        """Millions of pixels and dates of all these cubes."""
        return self.count * self.megapixels * self.frames


@dataclass(frozen=True)
class _Kind:
    """Cubes that are alike whatever the sensor."""

    count: int
    width_km: float
    height_km: float
    latitude: float
    years: float
    learned: bool = False


def cubes_of(config: Config, areas: Mapping[str, Area], rates: Rates) -> list[Cubes]:
    """The cubes that are read from the catalog; ``areas`` are those of the config in parts."""
    return [
        _cubes(config, name, sensor, kind, rates)
        for name, sensor in config.sensors.items()
        for kind in _kinds(config, areas)
    ]


def has_towers(config: Config) -> bool:
    """Whether GPP is compared at towers: where their files are known."""
    gpp = config.gpp
    known = gpp and gpp.towers and (config.demo or gpp.measured)
    return bool(known) and not config.tables_alone


def samples_of(cubes: Cubes, sensor: Sensor, context: Context) -> float:
    """Training samples that one epoch draws from these cubes, if nothing is cloudy."""
    length = min(sensor.sequence.frames, cubes.frames)
    side = 1e3 * math.sqrt(cubes.megapixels)
    if side < context.patch_px:
        return 0.0
    starts = (cubes.frames - length) // sensor.sequence.stride_time + 1
    places = (side - context.patch_px + 1e-6) // sensor.sequence.stride_space + 1
    return float(cubes.count * starts * places**2)


def _kinds(config: Config, areas: Mapping[str, Area]) -> Iterator[_Kind]:
    side = config.cube.size_px * config.cube.resolution_m / 1e3
    if config.sites and config.sites.file:
        for row in read_site_table(config.sites.file):
            years = years_between(*(date.fromisoformat(row[day]) for day in ("start", "end")))
            yield _Kind(1, side, side, float(row["lat"]), years, learned=True)
    elif config.sites:
        count, (_, south, _, north) = config.sites.count, config.sites.bounds
        count *= config.sites.periods.count
        yield _Kind(count, side, side, (south + north) / 2, years=1.0, learned=True)
    if config.gpp and has_towers(config):
        years = years_between(config.gpp.period.start, config.gpp.period.end)
        for tower in config.gpp.towers:
            assert tower.lat is not None
            yield _Kind(1, side, side, tower.lat, years)
    for area in areas.values():
        _, south, _, north = area.bounds
        years = years_between(area.start, area.end)
        yield _Kind(1, *area.sides_km, (south + north) / 2, years)


def years_between(first: date, last: date) -> float:
    """Years from one day to another, both included."""
    return ((last - first).days + 1) / DAYS


def _cubes(config: Config, name: str, sensor: Sensor, kind: _Kind, rates: Rates) -> Cubes:
    if config.demo:
        yearly = _yearly_passes(config.demo, sensor.loader)
    else:
        # Tracks meet towards the poles.
        yearly = rates(f"passes.{sensor.loader}") / math.cos(math.radians(kind.latitude))
    passes = kind.years * yearly
    clear = kept = 1.0
    if sensor.clouds != "none":
        clear = rates("clear.pixels")
        if sensor.min_clear > 0:
            large = max(kind.width_km, kind.height_km) > LARGE_KM
            kept = rates("clear.dates_of_areas" if large else "clear.dates")
    width, height = (1e3 * km / config.cube.resolution_m for km in (kind.width_km, kind.height_km))
    margin = 2 * config.cube.cloud_context_px if sensor.clouds == "cloudsen12" else 0
    return Cubes(
        sensor=name,
        count=kind.count,
        megapixels=width * height / 1e6,
        read_megapixels=(width + margin) * (height + margin) / 1e6,
        passes=passes,
        frames=kept * passes,
        looks=clear * passes,
        learned=kind.learned,
    )


def _yearly_passes(demo: Demo, loader: str) -> float:
    """Passes of the satellites that the demo simulates: on one track, or on two."""
    revisits = {
        "landsat-c2-l2": LANDSAT_REVISIT,
        "sentinel-1-rtc": demo.radar_revisit_days / 2,
        "sentinel-2-l2a": demo.optical_revisit_days / 2,
    }
    return DAYS / revisits[loader]
