from datetime import date

import numpy as np
import pytest

from simulated_archive.weather import MEAN_CLOUDINESS, calendar, simulate_weather


@pytest.fixture(scope="module")
def weather():
    rng = np.random.default_rng(1)
    return simulate_weather(rng, first=date(1960, 1, 1), last=date(2019, 12, 31), lat=48.0)


def test_cloudiness_has_the_statistics_of_the_real_calendar(weather):
    months, _ = calendar(weather.first, len(weather))
    found = [weather.cloudiness[months == month].mean() for month in range(12)]
    np.testing.assert_allclose(found, MEAN_CLOUDINESS, atol=0.06)
    assert np.mean(weather.cloudiness < 0.1) == pytest.approx(0.20, abs=0.05)
    assert np.mean(weather.cloudiness > 0.9) == pytest.approx(0.60, abs=0.05)
    lagged = [np.corrcoef(weather.cloudiness[:-k], weather.cloudiness[k:])[0, 1] for k in (2, 3)]
    assert lagged[0] > 0.25 > lagged[1] - 0.05


def test_rain_wets_the_soil_and_drought_dries_it(weather):
    change = np.diff(weather.soil_moisture)
    assert np.corrcoef(change, weather.rain[1:])[0, 1] > 0.7
    assert np.all(change[weather.rain[1:] == 0] <= 0)
    assert 400 < weather.rain.sum() / 60 < 1200


def test_potential_radiation_of_the_equinox():
    weather = simulate_weather(
        np.random.default_rng(0), first=date(2019, 3, 20), last=date(2019, 3, 21), lat=0.0
    )
    # At the equator on the equinox the day's mean is the solar constant over pi.
    assert weather.potential[0] == pytest.approx(1361 / np.pi, rel=0.02)
