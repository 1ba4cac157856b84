"""Values that are no reflectance or backscatter are told apart from all that sensors measure."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline_lib.cubes.schema import clear_sample, doubtful, implausible

Values = NDArray[Any]
OPTICAL = ("B02", "B04", "B08", "B11", "B12")
RADAR = ("vv", "vh")
PIXELS = 4000


def around(means: tuple[float, ...], spread: float, seed: int = 3) -> Values:
    """Values of every band around a mean, ``(n, band)``."""
    rng = np.random.default_rng(seed)
    return rng.normal(means, spread, (PIXELS, len(means))).astype(np.float32)


LAND = around((0.05, 0.05, 0.35, 0.22, 0.12), 0.01)
DECIBELS = around((-11, -17), 2.5)
POWER: Values = 10 ** (DECIBELS / 10)


def part(values: Values, share: float, value: float, band: int | slice = slice(None)) -> Values:
    """The values with a share of the pixels overwritten, in one band or in all."""
    changed = values.copy()
    changed[: round(share * len(values)), band] = value
    return changed


def of_sensor(values: Values) -> tuple[tuple[str, ...], str]:
    """Bands and quantity of the sensor with as many bands."""
    return (RADAR, "backscatter") if values.shape[1] == len(RADAR) else (OPTICAL, "reflectance")


def band(values: Values, index: int, change: Callable[[Values], object]) -> Values:
    """The values with one band changed."""
    changed = values.copy()
    changed[:, index] = change(values[:, index])
    return changed


@pytest.mark.parametrize(
    "values",
    [
        LAND,
        around((0.03, 0.01, 0.004, 0.001, 0.0005), 0.003),  # water
        np.maximum(around((0.03, 0.01, 0.004, 0.001, 0.0), 0.003), 0),  # water, cut off at 0
        around((1.1, 1.05, 0.9, 0.05, 0.03), 0.2).clip(-0.04),  # snow
        around((0.95, 0.9, 0.9, 0.5, 0.4), 0.2).clip(-0.04),  # clouds
        around((0.15, 0.35, 0.45, 0.55, 0.5), 0.02),  # sand
        around((1.25, 1.13, 1.09, 1.2, 1.1), 0.015),  # a deck of clouds
        around((1.6, 1.4, 1.45, 0.9, 0.8), 0.13),  # and in low sun
        around((0.01, 0.0, 0.03, 0.0, -0.01), 0.01),  # shadow
        10 ** (around((2.4, -5), 2) / 10),  # a dense city, filtered
        part(LAND, 0.001, 0),
        LAND[:1],
        np.full((500, 5), 0.3, np.float32),
        np.full((500, 5), np.nan, np.float32),
        POWER,
        10 ** (around((-6.5, -11), 0.5) / 10),  # dense forest, averaged
        10 ** (around((1, -7), 6) / 10),  # city
        10 ** (around((-21, -31), 3) / 10),  # calm water
        part(10 ** (around((-21, -31), 3) / 10), 0.4, 0, band=1),  # and without its noise
        np.full((60, 2), 3, np.float32)[:0],
        np.array([[3, 0.6]] * 60, np.float32),  # one building
    ],
)
def test_what_sensors_measure_is_plausible(values: Values) -> None:
    assert implausible(values, *of_sensor(values)) is None


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (LAND * 10000, r"100 % of B02 are above 2 .*: digital numbers or percent"),
        (LAND * 10, "of B08 are above 2"),
        (LAND - 0.1, "of B02 are below -0.05 .*: a wrong offset"),
        (LAND * 1e-4, "B02 is below 0.0005, .* scaled twice"),
        (10 ** (LAND / 10), "nearly all values are just above 1,.* a wrong unit"),
        (band(LAND, 3, lambda v: v * 1e-4), "B11 is below 0.0005, .* scaled twice"),
        (band(LAND, 3, lambda v: 0), "100 % of B11 are 0"),
        (part(LAND, 0.6, 0, band=3), "60 % of B11 are 0: no data"),
        (part(LAND, 0.02, 0), "2 % of the pixels are 0 in every band, as where there is no data"),
        (part(LAND, 0.02, -0.9999, band=0), "2 % of B02 are exactly -0.9999, a no-data value"),
        (part(LAND, 0.01, 6.5535, band=4), "1 % of B12 are exactly 6.5535, a no-data value"),
        (part(LAND, 0.03, 1), "3 % of the pixels are 1 in every band, as where there is no data"),
        (LAND.clip(max=0.35), r"\d+(\.\d+)? % of B08 equal the largest value, 0.35: saturated"),
        (DECIBELS, "of vv are below 1e-05, .* linear power is needed: decibels"),
        (10 ** (DECIBELS * 10), "100 % of vv are below 1e-05, or -50 dB .*a wrong scale"),
        (10 ** (POWER / 10), "99 % of vv are above 0.5, .*: a wrong unit"),
        (band(POWER, 0, lambda v: 10 ** (v / 10)), "99 % of vv are above 0.9, .*: a wrong unit"),
        (10 ** ((DECIBELS + 83) / 20), "of vv are above 100 .*: digital numbers"),
        (POWER * 300, r"half of vv are above .* no backscatter \(0..1\)"),
        (band(POWER, 1, lambda v: 10 * np.log10(v)), "of vh are below 1e-05"),
        (part(POWER, 0.05, 1), "5 % of the pixels are 1 in every band, as where there is no data"),
        (part(POWER, 0.05, 0), "5 % of the pixels are 0 in every band, as where there is no data"),
    ],
)
def test_what_no_sensor_measures_is_named(values: Values, reason: str) -> None:
    text = implausible(values, *of_sensor(values))
    assert text is not None and "\n" not in text
    assert re.search(reason, text), text


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (part(LAND, 0.001, 0), "0.1 % of the pixels are 0 in every band"),
        (part(LAND, 0.0005, 2.3, band=0), r"0.05 % of B02 are above 2 \(median 0.05"),
        (LAND + 0.1, "whose offset of -1000 was not applied"),
        (LAND / 10, "hardly a value is above 0.06"),
        (LAND.clip(max=0.37), "of B08 equal the largest value, 0.37: saturated"),
    ],
)
def test_small_shares_are_noted(values: Values, note: str) -> None:
    assert implausible(values, OPTICAL, "reflectance") is None
    notes = doubtful(values, OPTICAL, "reflectance")
    assert any(re.search(note, text) for text in notes), notes


def test_land_is_nothing_to_note() -> None:
    assert doubtful(LAND, OPTICAL, "reflectance") == doubtful(POWER, RADAR, "backscatter") == []


def test_a_sample_is_of_clear_pixels_with_their_bands() -> None:
    values = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    clear = np.zeros((2, 4, 5), bool)
    clear[1, 2, 3] = clear[0, 0, 4] = True
    np.testing.assert_array_equal(
        clear_sample(values, clear), [values[0, :, 0, 4], values[1, :, 2, 3]]
    )
    many = np.broadcast_to(values[0, :, :1, :1], (2, 3, 400, 500))
    chosen = clear_sample(many, np.ones((2, 400, 500), bool))
    assert chosen.shape == (100_000, 3) and (chosen == values[0, :, 0, 0]).all()
