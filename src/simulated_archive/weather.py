"""Daily weather of a site: clouds, rain, temperature, radiation, soil moisture."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from simulated_archive.arrays import Float64

MEAN_CLOUDINESS = (0.87, 0.79, 0.80, 0.67, 0.60, 0.67, 0.60, 0.59, 0.64, 0.70, 0.81, 0.84)
"""Mean cloudiness by month of Sentinel-2's acquisitions over European flux towers."""
MIDDLE_SHARE = 0.2
"""Share of acquisitions that are neither nearly clear (under 0.1) nor overcast (over 0.9)."""
PERSISTENCE = 0.6
"""Correlation of the cloud index from day to day: 0.25 between acquisitions."""

SATURATION = 0.42
WILTING = 0.06


@dataclass(frozen=True)
class Weather:
    """Daily series, each ``(day,)``.

    ``cloudiness`` 0..1, ``rain`` mm, ``temperature`` degrees C, ``radiation`` W/m2 (mean of
    24 h), ``potential`` W/m2 at the top of the atmosphere, ``vapour_deficit`` hPa,
    ``soil_moisture`` m3/m3.
    """

    first: date
    cloudiness: Float64
    rain: Float64
    temperature: Float64
    radiation: Float64
    potential: Float64
    vapour_deficit: Float64
    soil_moisture: Float64

    def day(self, when: date) -> int:
        """Index of a date."""
        return (when - self.first).days

    def __len__(self) -> int:
        return len(self.rain)


def calendar(first: date, days: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Month (0..11) and day of the year (1..366) of consecutive days."""
    stamps = np.datetime64(first) + np.arange(days)
    months = stamps.astype("datetime64[M]").astype(int) % 12
    year = (stamps - stamps.astype("datetime64[Y]").astype("datetime64[D]")).astype(int) + 1
    return months, year


def simulate_weather(rng: np.random.Generator, *, first: date, last: date, lat: float) -> Weather:
    """Daily weather from ``first`` to ``last``.

    Cloudiness follows a slow index through the distribution of its month; rain falls under thick
    cloud; radiation is what the clouds transmit (Kasten and Czeplak 1980); soil moisture is a
    bucket of the top 20 cm, filled by rain and emptied by evaporation.
    """
    from scipy.special import ndtr

    days = (last - first).days + 1
    months, day_of_year = calendar(first, days)
    index = _autoregressive(rng, days, PERSISTENCE)
    mean = np.array(MEAN_CLOUDINESS)[months]
    overcast = np.clip((mean - 0.5 * MIDDLE_SHARE - 0.05 * (1 - MIDDLE_SHARE)) / 0.9, 0.02, 0.78)
    cloudiness = _quantile(ndtr(index), 1 - MIDDLE_SHARE - overcast, overcast)
    season = np.sin(2 * np.pi * (day_of_year - 105) / 365.25)
    anomaly = 3.2 * _autoregressive(rng, days, 0.8)
    temperature = 9.8 + 9.6 * season + anomaly - 2.0 * season * (cloudiness - 0.5)
    raining = (cloudiness > 0.75) & (rng.random(days) < 0.52)
    rain = np.where(raining, rng.gamma(0.75, 6.5 + 2.5 * season), 0.0)
    potential = _extraterrestrial(day_of_year, lat)
    radiation = potential * 0.74 * (1 - 0.75 * cloudiness**3.4)
    saturated = 6.11 * np.exp(17.27 * temperature / (temperature + 237.3))
    dryness = 0.42 - 0.30 * cloudiness + 0.03 * rng.standard_normal(days)
    deficit = saturated * np.clip(dryness, 0.03, 1)
    evaporation = np.clip(0.0105 * radiation * np.clip(temperature + 6, 0.5, None) / 30, 0.1, None)
    return Weather(
        first=first,
        cloudiness=cloudiness,
        rain=rain,
        temperature=temperature,
        radiation=radiation,
        potential=potential,
        vapour_deficit=deficit,
        soil_moisture=_bucket(rain, evaporation),
    )


def _autoregressive(rng: np.random.Generator, days: int, persistence: float) -> Float64:
    from scipy.signal import lfilter

    noise = rng.standard_normal(days) * np.sqrt(1 - persistence**2)
    noise[0] = rng.standard_normal()
    return np.asarray(lfilter([1.0], [1.0, -persistence], noise))


def _quantile(share: Float64, clear: Float64, overcast: Float64) -> Float64:
    """Cloudiness at a share of its distribution: clear and overcast ends, few days between."""
    clear = np.maximum(clear, 0.02)
    middle = 1 - clear - overcast
    low = 0.1 * share / clear
    between = 0.1 + 0.8 * (share - clear) / middle
    high = 0.9 + 0.1 * (share - (1 - overcast)) / overcast
    values = np.where(share < clear, low, np.where(share > 1 - overcast, high, between))
    return np.clip(values, 0, 1)


def _extraterrestrial(day_of_year: NDArray[np.int64], lat: float) -> Float64:
    """Daily mean radiation on a horizontal plane above the atmosphere, W/m2 (FAO-56, eq. 21)."""
    angle = 2 * np.pi * day_of_year / 365.25
    declination = 0.409 * np.sin(angle - 1.39)
    phi = np.radians(lat)
    sunset = np.arccos(np.clip(-np.tan(phi) * np.tan(declination), -1, 1))
    height = sunset * np.sin(phi) * np.sin(declination)
    height += np.cos(phi) * np.cos(declination) * np.sin(sunset)
    return 1361.0 / np.pi * (1 + 0.033 * np.cos(angle)) * height


def _bucket(rain: Float64, evaporation: Float64) -> Float64:
    depth_mm = 200.0
    moisture = np.empty_like(rain)
    state = 0.28
    for day, (water, demand) in enumerate(zip(rain.tolist(), evaporation.tolist(), strict=True)):
        dryness = min(1.0, max(0.0, (state - WILTING) / 0.22))
        drained = 0.06 * max(0.0, state - 0.30)
        state += (0.9 * water - demand * dryness) / depth_mm - drained
        state = min(SATURATION, max(WILTING, state))
        moisture[day] = state
    return moisture
