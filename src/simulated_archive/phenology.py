"""How parcels grow: leaf area, chlorophyll and leaf water, day by day and year by year."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from simulated_archive.arrays import Float32, Float64
from simulated_archive.landscape import Cover
from simulated_archive.weather import Weather


@dataclass(frozen=True)
class Growth:
    """State of each parcel on each day, ``(parcel, day)``.

    Leaf area index in m2/m2 (of green and brown leaves), chlorophyll in micrograms/cm2,
    leaf water in cm.
    """

    leaf_area: Float32
    chlorophyll: Float32
    leaf_water: Float32


@dataclass(frozen=True)
class Season:
    """What all parcels of a site share in one year."""

    shift_days: float
    vigour: float


Curve = tuple[Float64, Float64, Float64]


def grow(
    rng: np.random.Generator, *, cover: NDArray[np.int8], weather: Weather, years: range
) -> Growth:
    """State of parcels with covers ``(parcel,)`` on all days of the weather, which spans ``years``.

    Each year has an early or late spring and a good or poor season that the whole site shares; each
    parcel has its own dates, crops rotate, and dry soils thin the leaves.
    """
    days = len(weather)
    shape = (len(cover), days)
    fields = [np.zeros(shape, dtype=np.float32) for _ in range(3)]
    seasons = [Season(rng.normal(0, 7), rng.normal(1.0, 0.08)) for _ in years]
    spread = rng.normal(0, 1, (len(cover), 4))
    for year, season in zip(years, seasons, strict=True):
        start = weather.day(date(year, 1, 1))
        length = (date(year + 1, 1, 1) - date(year, 1, 1)).days
        day = np.arange(1, length + 1, dtype=np.float64)
        crops = rng.choice(len(CROPS), size=len(cover), p=CROP_SHARES)
        noise = rng.normal(0, 1, (len(cover), 3))
        for parcel, kind in enumerate(cover):
            curve = PERENNIALS.get(Cover(kind), CROPS[crops[parcel]])
            values = curve(day, season, spread[parcel], noise[parcel])
            for field, series in zip(fields, values, strict=True):
                field[parcel, start : start + length] = series
    leaf_area, chlorophyll, leaf_water = fields
    shallow = np.isin(cover, [Cover.GRASSLAND, Cover.CROPLAND, Cover.SHRUB, Cover.BUILT])
    dryness = np.clip((0.17 - _slow(weather.soil_moisture, 15)) / 0.11, 0, 1).astype(np.float32)
    loss = np.where(shallow, 0.45, 0.10).astype(np.float32)[:, None] * dryness
    return Growth(
        leaf_area=leaf_area * (1 - loss),
        chlorophyll=chlorophyll * (1 - 0.6 * loss),
        leaf_water=leaf_water * (1 - 0.8 * loss),
    )


def _slow(values: Float64, days: int) -> Float64:
    """Mean of the last ``days`` days."""
    total = np.cumsum(np.concatenate([np.full(days, values[0]), values]))
    return (total[days:] - total[:-days]) / days


def _rise(day: Float64, middle: float, pace: float) -> Float64:
    """Logistic rise from 0 to 1, half way at ``middle``; ``pace`` in days."""
    return 1 / (1 + np.exp(-(day - middle) / pace))


def _hump(day: Float64, up: float, down: float, pace_up: float, pace_down: float) -> Float64:
    return _rise(day, up, pace_up) * (1 - _rise(day, down, pace_down))


def _needle_leaved(day: Float64, season: Season, spread: Float64, noise: Float64) -> Curve:
    flush = _hump(day, 150 + season.shift_days, 285, 14, 22)
    area = (3.7 + 0.7 * spread[0]) * (0.86 + 0.22 * season.vigour * flush)
    return np.maximum(area, 1.2), 40 + 3 * spread[1] + 8 * flush, 0.020 + 0.003 * flush


def _broad_leaved(day: Float64, season: Season, spread: Float64, noise: Float64) -> Curve:
    up = 117 + season.shift_days + 4 * spread[0]
    down = 297 + 0.4 * season.shift_days + 5 * spread[1]
    leaves = _hump(day, up, down, 6, 7)
    area = 0.55 + (4.6 + 0.6 * spread[2]) * season.vigour * leaves
    mature = _hump(day, up + 18, down - 22, 10, 9)
    return area, 13 + (33 + 3 * spread[3]) * mature, 0.007 + 0.008 * leaves


def _grassland(day: Float64, season: Season, spread: Float64, noise: Float64) -> Curve:
    up = 92 + season.shift_days + 4 * spread[0]
    level = 0.85 + (3.1 + 0.5 * spread[1]) * season.vigour * _hump(day, up, 295, 13, 20)
    cuts = [146 + season.shift_days + 5 * noise[0], 192 + 7 * noise[1], 241 + 8 * noise[2]]
    if spread[2] > 0.5:
        cuts = cuts[:1]
    for cut in cuts:
        since = day - cut
        level = np.where(since >= 0, np.minimum(level, 0.55 + 3.4 * _rise(since, 27, 7)), level)
    green = 24 + 19 * _hump(day, up - 12, 300, 13, 18)
    for cut in cuts:
        since = day - cut
        green = np.where(since >= 0, np.minimum(green, 19 + 26 * _rise(since, 12, 5)), green)
    return level, green, 0.008 + 0.007 * _hump(day, up, 300, 15, 15)


def _shrub(day: Float64, season: Season, spread: Float64, noise: Float64) -> Curve:
    leaves = _hump(day, 122 + season.shift_days, 288, 11, 14)
    area = 0.7 + (1.7 + 0.35 * spread[0]) * season.vigour * leaves
    return area, 20 + (16 + 3 * spread[1]) * leaves, 0.008 + 0.005 * leaves


def _garden(day: Float64, season: Season, spread: Float64, noise: Float64) -> Curve:
    leaves = _hump(day, 108 + season.shift_days, 298, 12, 13)
    area = 0.8 + (2.0 + 0.4 * spread[0]) * leaves
    return area, 26 + 12 * leaves, 0.010 + 0.004 * leaves


def _bare(day: Float64, season: Season, spread: Float64, noise: Float64) -> Curve:
    leaves = _hump(day, 115 + season.shift_days, 285, 14, 14)
    return 0.06 + 0.15 * leaves, 18 + 10 * leaves, np.full_like(day, 0.008)


def _cereal(day: Float64, season: Season, spread: Float64, noise: Float64) -> Curve:
    ripe = 183 + 0.7 * season.shift_days + 3 * noise[0]
    harvest = ripe + 19 + 4 * noise[1]
    up = 106 + season.shift_days + 3 * noise[0]
    standing = 0.6 + (4.5 + 0.5 * spread[0]) * season.vigour * _rise(day, up, 10)
    standing *= 1 - 0.35 * _rise(day, ripe, 7)
    sown = 288 + 5 * noise[2]
    after = 0.08 + 0.55 * _rise(day, sown + 25, 8)
    area = np.where(day < harvest, standing, after)
    green = np.where(day < harvest, 46 - 42 * _rise(day, ripe, 5), 32.0)
    water = np.where(day < harvest, 0.015 - 0.0115 * _rise(day, ripe, 5), 0.012)
    return area, green, water


def _rapeseed(day: Float64, season: Season, spread: Float64, noise: Float64) -> Curve:
    ripe = 172 + 0.7 * season.shift_days + 3 * noise[0]
    harvest = ripe + 24 + 4 * noise[1]
    standing = 1.3 + (3.5 + 0.4 * spread[0]) * season.vigour * _rise(day, 93 + season.shift_days, 8)
    standing *= 1 - 0.45 * _rise(day, ripe, 8)
    after = 0.08 + 0.6 * _rise(day, 292 + 5 * noise[2], 8)
    bloom = _hump(day, 116 + season.shift_days, 138 + season.shift_days, 4, 5)
    area = np.where(day < harvest, standing, after)
    green = np.where(day < harvest, 44 - 14 * bloom - 39 * _rise(day, ripe, 6), 32.0)
    water = np.where(day < harvest, 0.017 - 0.013 * _rise(day, ripe, 6), 0.012)
    return area, green, water


def _maize(day: Float64, season: Season, spread: Float64, noise: Float64) -> Curve:
    up = 175 + 0.6 * season.shift_days + 4 * noise[0]
    ripe = 252 + 5 * noise[1]
    harvest = ripe + 20 + 4 * noise[2]
    standing = 0.05 + (4.3 + 0.5 * spread[0]) * season.vigour * _rise(day, up, 8)
    area = np.where(day < harvest, standing * (1 - 0.3 * _rise(day, ripe, 7)), 0.06)
    green = np.where(day < harvest, 48 - 34 * _rise(day, ripe, 6), 20.0)
    return area, green, 0.017 - 0.009 * _rise(day, ripe, 7)


Growing = Callable[[Float64, Season, Float64, Float64], Curve]

PERENNIALS: dict[Cover, Growing] = {
    Cover.NEEDLE_LEAVED: _needle_leaved,
    Cover.BROAD_LEAVED: _broad_leaved,
    Cover.GRASSLAND: _grassland,
    Cover.SHRUB: _shrub,
    Cover.BUILT: _garden,
    Cover.WATER: _bare,
    Cover.BARE: _bare,
}
CROPS: tuple[Growing, ...] = (_cereal, _maize, _rapeseed)
CROP_SHARES = (0.5, 0.32, 0.18)
