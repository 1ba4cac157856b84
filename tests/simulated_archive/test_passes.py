from datetime import date

import numpy as np
import pytest

from simulated_archive.passes import (
    across_angle,
    optical_orbits,
    optical_passes,
    processings,
    radar_passes,
)

YEAR = date(2019, 1, 1), date(2019, 12, 31)


def test_neighbouring_tracks_see_a_place_from_both_sides():
    assert optical_orbits(11.2) == (65, 22)
    assert optical_orbits(13.0) == (22, 122)
    for lon in np.linspace(-9, 30, 40):
        west, east = across_angle(lon, -1), across_angle(lon, 1)
        assert -10.8 <= west <= 0 <= east <= 10.8
        assert east - west == pytest.approx(13.6, abs=2.9)


def test_orbit_numbers_agree_with_each_other():
    for one in optical_passes(13.0, *YEAR, 5):
        ahead = 2 if one.platform == "A" else -27
        assert (one.absolute_orbit + ahead) % 143 + 1 == one.relative_orbit
    for other in radar_passes(*YEAR, 12):
        assert (other.absolute_orbit - 73) % 175 + 1 == other.relative_orbit


def test_baselines_and_their_offsets():
    def versions(year):
        passes = optical_passes(11.2, date(year, 1, 1), date(year, 12, 31), 5)
        return [processings(np.random.default_rng(k), one) for k, one in enumerate(passes)]

    old = versions(2018)
    found = {version.baseline for group in old for version in group}
    assert found == {"02.12", "05.00"}
    assert 0.03 < np.mean([len(group) == 2 for group in old]) < 0.2
    for group in old + versions(2023):
        for version in group:
            assert version.offset == (0 if version.baseline < "04.00" else 1000)
    assert {version.baseline for group in versions(2023) for version in group} == {
        "05.09",
        "05.10",
    }
