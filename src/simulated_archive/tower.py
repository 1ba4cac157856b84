"""A flux tower's daily file in the layout of FLUXNET2015 FULLSET."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Period, Tower
from pipeline_lib.files import write_csv
from simulated_archive.arrays import Float64
from simulated_archive.weather import Weather

MISSING = -9999

EFFICIENCY = {"ENF": 2.4, "DBF": 2.9, "GRA": 2.7, "CRO": 3.1}
"""Light-use efficiency of unstressed vegetation in weak light, g C per MJ of absorbed light."""
OTHER_EFFICIENCY = 2.6
SATURATION = 0.13
"""Loss of efficiency in strong light, m2 d MJ-1. On a dull day light is diffuse and reaches more
leaves, so that GPP varies less from day to day than radiation does: at nine real towers of
FLUXNET2015 a running mean of 15 days explains 77 to 92 % of the variance of daily GPP."""
OPTIMUM = {"ENF": 16.0, "DBF": 20.0, "GRA": 18.0}
OTHER_OPTIMUM = 20.0
"""Temperature at which photosynthesis is fastest, degrees C."""


def carbon_fluxes(
    *, vegetation: str, leaf_area: Float64, chlorophyll: Float64, weather: Weather
) -> tuple[Float64, Float64]:
    """Daily GPP and respiration of a canopy, g C m-2 d-1, from a light-use-efficiency model.

    GPP = efficiency * fAPAR * PAR * f(light) * f(temperature) * f(vapour deficit) * f(soil
    moisture) (Monteith 1972; the ramps of MOD17, Running et al. 2004; the saturation 1 / (1 + gamma
    * absorbed light) of Makela et al. 2008, doi 10.1111/j.1365-2486.2007.01463.x). fAPAR = 1 -
    exp(-0.5 L), less where chlorophyll is low; PAR is 45 % of the radiation. Respiration is a Q10
    function of temperature that partly follows photosynthesis. ``leaf_area`` (m2/m2) and
    ``chlorophyll`` (micrograms/cm2) are means of the footprint on the days of the weather.
    """
    absorbed = 1 - np.exp(-0.5 * leaf_area)
    light = 0.45 * weather.radiation * 86400 / 1e6
    optimum = OPTIMUM.get(vegetation, OTHER_OPTIMUM)
    warmth = np.exp(-(((weather.temperature - optimum) / 12.5) ** 2))
    warmth *= np.clip((weather.temperature + 4) / 7, 0, 1)
    dry_air = np.clip(1 - (weather.vapour_deficit - 9) / 32, 0.25, 1)
    dry_soil = np.clip((weather.soil_moisture - 0.05) / 0.10, 0.3, 1)
    pigment = 1 - np.exp(-chlorophyll / 16)
    efficiency = EFFICIENCY.get(vegetation, OTHER_EFFICIENCY)
    harvested = absorbed * pigment * light
    harvested /= 1 + SATURATION * absorbed * light
    gross = efficiency * harvested * warmth * dry_air * dry_soil
    gross = np.maximum(gross, 0)
    respiration = (0.9 + 0.28 * gross) * 1.7 ** ((weather.temperature - 10) / 10) + 0.15 * gross
    return gross, respiration


def write_tower_file(
    *,
    tower: Tower,
    period: Period,
    fluxes: tuple[Float64, Float64],
    weather: Weather,
    rng: np.random.Generator,
    folder: Path,
) -> Path:
    """Write ``FLX_<tower>_FLUXNET2015_FULLSET_DD_<first year>-<last year>_1-4.csv``; its path.

    ``fluxes`` are those of :func:`carbon_fluxes`, without the noise of measurement.
    The quality of a day is its share of measured half-hours (calm nights and broken instruments
    have none); gap-filled ones are noisier and closer to the mean of their neighbours; on some days
    all fluxes are missing.
    """
    days = (period.end - period.start).days + 1
    first = weather.day(period.start)
    span = slice(first, first + days)
    gross, respiration = (series[span] for series in fluxes)
    quality = np.clip(rng.beta(7, 1.1, days), 0, 1)
    broken = _spells(rng, days, per_year=5, mean_length=6)
    quality[broken] = rng.uniform(0, 0.35, broken.sum())
    absent = _spells(rng, days, per_year=1, mean_length=3)
    smooth = np.convolve(np.pad(gross, 3, mode="edge"), np.full(7, 1 / 7), mode="valid")
    partitioned = quality * gross + (1 - quality) * smooth
    noise = rng.normal(0, 1, (4, days))
    night = partitioned + (0.25 + 0.09 * partitioned) * noise[0]
    light = np.maximum(partitioned + (0.15 + 0.07 * partitioned) * noise[1], 0)
    breath = np.maximum(respiration * (1 + 0.10 * noise[2]), 0.05)
    exchange = breath - night
    columns: dict[str, Float64] = {
        "TA_F": weather.temperature[span],
        "TA_F_QC": np.ones(days),
        "SW_IN_POT": weather.potential[span],
        "SW_IN_F": weather.radiation[span],
        "SW_IN_F_QC": np.ones(days),
        "VPD_F": weather.vapour_deficit[span],
        "VPD_F_QC": np.ones(days),
        "P_F": weather.rain[span],
        "P_F_QC": np.ones(days),
        "SWC_F_MDS_1": 100 * weather.soil_moisture[span],
        "SWC_F_MDS_1_QC": np.ones(days),
        "PPFD_IN": 0.45 * 4.57 * weather.radiation[span],
        "NEE_VUT_REF": exchange,
        "NEE_VUT_REF_QC": quality,
        "NEE_VUT_REF_RANDUNC": 0.15 + 0.06 * np.abs(exchange),
        "RECO_NT_VUT_REF": breath,
        "GPP_NT_VUT_REF": night,
        "RECO_DT_VUT_REF": np.maximum(breath * (1 + 0.05 * noise[3]), 0.05),
        "GPP_DT_VUT_REF": light,
    }
    measured = [name for name in columns if name[:3] in ("NEE", "REC", "GPP")]
    rows = []
    for day in range(days):
        when = period.start + timedelta(days=day)
        row: dict[str, object] = {"TIMESTAMP": f"{when:%Y%m%d}"}
        for name, series in columns.items():
            gone = absent[day] and name in measured
            row[name] = MISSING if gone else round(float(series[day]), 5)
        rows.append(row)
    years = f"{period.start.year}-{period.end.year}"
    path = folder / f"FLX_{tower.name}_FLUXNET2015_FULLSET_DD_{years}_1-4.csv"
    write_csv(path, rows)
    return path


def _spells(
    rng: np.random.Generator, days: int, *, per_year: float, mean_length: float
) -> NDArray[np.bool_]:
    spells = np.zeros(days, dtype=bool)
    for _ in range(rng.poisson(per_year * days / 365)):
        start = int(rng.integers(days))
        spells[start : start + 1 + rng.geometric(1 / mean_length)] = True
    return spells
