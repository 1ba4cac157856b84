"""How many cubes a config makes, how large they are, and how often satellites see them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from pipeline_lib.config import Area, Config, Context, Sensor
from pipeline_lib.plan.rates import Rates

LARGE_KM = 10
"""Side from which a date that shows nothing of a cube is rare."""
TRACKS_OF_DEMO = 2
LANDSAT_REVISIT_OF_DEMO = 16


@dataclass(frozen=True)
class Cubes:
    """Cubes of one sensor that are alike.

    Attributes
    ----------
    sensor
        Name.
    count
        How many.
    megapixels, read_megapixels
        Millions of pixels of one, without and with what is read around it for the cloud model.
    passes
        Passes that touch it.
    seen
        Those that one of its pixels is in the swath of.
    kept
        Share of the passes that are kept.
    looks
        How often one of its pixels is seen clear.
    learned
        Whether models are trained or tested on it.
    """

    sensor: str
    count: int
    megapixels: float
    read_megapixels: float
    passes: float
    seen: float
    kept: float
    looks: float
    learned: bool

    @property
    def frames(self) -> float:
        """Dates of one."""
        return self.kept * self.passes

    @property
    def pixel_frames(self) -> float:
        """Millions of pixels in the swaths of kept dates, of all these cubes."""
        return self.count * self.megapixels * self.kept * self.seen


@dataclass(frozen=True)
class _Kind:
    """Cubes that are alike whatever the sensor; ``years`` of one, seen between two days."""

    count: int
    width_km: float
    height_km: float
    latitude: float
    first: date
    last: date
    years: float
    learned: bool = False


def cubes_of(config: Config, areas: Mapping[str, Area], rates: Rates) -> list[Cubes]:
    """The cubes that are read from the catalog, sensor by sensor.

    Parameters
    ----------
    config
        The whole config.
    areas
        Its areas, those that are too large in parts.
    rates
        Passes and clouds.
    """
    return [
        _cubes(config, name, sensor, kind, rates)
        for name, sensor in config.sensors.items()
        for kind in _kinds(config, areas)
    ]


def has_towers(config: Config) -> bool:
    """Whether GPP is compared at towers: where their files are known."""
    return bool(config.gpp and config.gpp.towers and (config.demo or config.gpp.fluxnet))


def sequences(cubes: Cubes, sensor: Sensor, context: Context) -> float:
    """Training samples that one epoch draws from one of these cubes, clouds left aside."""
    length = min(sensor.sequence.frames, cubes.frames)
    side = 1e3 * math.sqrt(cubes.megapixels)
    if length < context.frames or side < context.patch_px:
        return 0.0
    starts = (cubes.frames - length) // sensor.sequence.stride_time + 1
    places = (side - context.patch_px + 1e-6) // sensor.sequence.stride_space + 1
    return float(starts * places**2)


def _kinds(config: Config, areas: Mapping[str, Area]) -> Iterator[_Kind]:
    side = config.cube.size_px * config.cube.resolution_m / 1e3
    if config.sites:
        periods, (_, south, _, north) = config.sites.periods, config.sites.bounds
        yield _Kind(
            count=config.sites.count * periods.count,
            width_km=side,
            height_km=side,
            latitude=(south + north) / 2,
            first=date(periods.first_year, 1, 1),
            last=date(periods.last_year, 12, 31),
            years=1.0,
            learned=True,
        )
    if config.gpp and has_towers(config):
        period = config.gpp.period
        for tower in config.gpp.towers:
            years = _years(period.start, period.end)
            yield _Kind(1, side, side, tower.lat, period.start, period.end, years)
    for area in areas.values():
        _, south, _, north = area.bounds
        place = (*area.sides_km, (south + north) / 2)
        yield _Kind(1, *place, area.start, area.end, _years(area.start, area.end))


def _years(first: date, last: date) -> float:
    return ((last - first).days + 1) / 365.25


def _cubes(config: Config, name: str, sensor: Sensor, kind: _Kind, rates: Rates) -> Cubes:
    share = kind.years / _years(kind.first, kind.last)
    if config.demo:
        touching = seen = share * _passes_of_demo(config, sensor.loader, kind)
    else:
        cycles = share * rates.cycles(sensor.loader, kind.first, kind.last)
        swath = rates(f"passes.{sensor.loader}.swath")
        spacing = rates(f"passes.{sensor.loader}.spacing") * math.cos(math.radians(kind.latitude))
        cycles *= rates(f"passes.{sensor.loader}.directions")
        seen, touching = cycles * swath / spacing, cycles * (swath + kind.width_km) / spacing
    kept = clear = 1.0
    if sensor.clouds != "none":
        clear = rates("clear.pixels")
        large = max(kind.width_km, kind.height_km) > LARGE_KM
        if sensor.min_clear > 0:
            kept = rates("clear.dates_of_areas" if large else "clear.dates")
    metre_px = 1e3 / config.cube.resolution_m
    width, height = kind.width_km * metre_px, kind.height_km * metre_px
    around = 2 * config.cube.cloud_context_px if sensor.clouds == "cloudsen12" else 0
    return Cubes(
        sensor=name,
        count=kind.count,
        megapixels=width * height / 1e6,
        read_megapixels=(width + around) * (height + around) / 1e6,
        passes=touching,
        seen=seen,
        kept=kept,
        looks=clear * seen,
        learned=kind.learned,
    )


def _passes_of_demo(config: Config, loader: str, kind: _Kind) -> float:
    """Passes of the simulated archive between two days."""
    assert config.demo is not None
    days = (kind.last - kind.first).days + 1
    if loader == "landsat-c2-l2":
        return days / LANDSAT_REVISIT_OF_DEMO
    radar = loader == "sentinel-1-rtc"
    revisit = config.demo.radar_revisit_days if radar else config.demo.optical_revisit_days
    return TRACKS_OF_DEMO * days / revisit
