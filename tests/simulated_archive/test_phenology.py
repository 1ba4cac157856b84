from datetime import date

import numpy as np
import pytest

from simulated_archive.landscape import Cover
from simulated_archive.phenology import grow
from simulated_archive.weather import simulate_weather

KINDS = [Cover.NEEDLE_LEAVED, Cover.BROAD_LEAVED, Cover.GRASSLAND, Cover.CROPLAND]


@pytest.fixture(scope="module")
def growth():
    weather = simulate_weather(
        np.random.default_rng(0), first=date(2018, 1, 1), last=date(2020, 12, 31), lat=48.0
    )
    cover = np.repeat(np.array(KINDS, dtype=np.int8), 12)
    return (
        cover,
        weather,
        grow(np.random.default_rng(0), cover=cover, weather=weather, years=range(2018, 2021)),
    )


def season(growth, kind):
    cover, weather, grown = growth
    area = grown.leaf_area[cover == kind]
    winter, summer = weather.day(date(2019, 1, 20)), weather.day(date(2019, 6, 10))
    return area[:, winter], area[:, summer]


def test_forests_and_meadows_through_the_year(growth):
    winter, summer = season(growth, Cover.BROAD_LEAVED)
    assert np.all(summer > 4 * winter)
    winter, summer = season(growth, Cover.NEEDLE_LEAVED)
    assert np.all(winter > 0.6 * summer)
    winter, summer = season(growth, Cover.GRASSLAND)
    assert summer.mean() > winter.mean()


def test_fields_are_harvested_on_their_own_days(growth):
    cover, weather, grown = growth
    area = grown.leaf_area[cover == Cover.CROPLAND]
    falls = np.diff(area, axis=1)
    year = slice(weather.day(date(2019, 5, 1)), weather.day(date(2019, 12, 1)))
    days = falls[:, year].argmin(axis=1)
    assert np.all(falls[:, year].min(axis=1) < -1)
    assert len(set(days.tolist())) > 6
