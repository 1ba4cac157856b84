import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.cubes import Grid
from simulated_archive.bands import BANDS
from simulated_archive.geometry import scene_angles, sun_position

WINDOW = Grid(32632, 660000.0, 5350020.0, 10.0, 96, 96)


@given(st.floats(-60, 60), st.integers(0, 364))
def test_the_sun_culminates_in_the_meridian(lat, day):
    start = datetime(2020, 1, 1, 11, tzinfo=UTC) + timedelta(days=day)
    zeniths = [sun_position(start + timedelta(minutes=k), 0.0, lat)[0] for k in range(0, 121, 2)]
    declination = -23.44 * np.cos(2 * np.pi * (day + 10) / 365.25)
    assert min(zeniths) == pytest.approx(abs(lat - declination), abs=1.6)


@pytest.mark.real
def test_the_sun_of_real_items(shared_data: Path):
    items = json.loads(
        (shared_data / "metadata/planetary_computer/sentinel-2-l2a-pc.json").read_text()
    )
    for item in items:
        west, south, east, north = item["bbox"]
        properties = item["properties"]
        time = datetime.fromisoformat(properties["datetime"])
        zenith, azimuth = sun_position(time, (west + east) / 2, (south + north) / 2)
        assert zenith == pytest.approx(properties["s2:mean_solar_zenith"], abs=0.3)
        assert azimuth == pytest.approx(properties["s2:mean_solar_azimuth"], abs=4)


@pytest.mark.parametrize(("across", "side"), [(-9.0, 285), (8.0, 105)])
def test_view_angles_of_a_scene(across, side):
    angles = scene_angles(
        time=datetime(2020, 6, 1, 10, 10, tzinfo=UTC), lon=11.2, lat=48.3, window=WINDOW,
        across=across,
    )  # fmt: skip
    assert np.all(np.abs(angles.view_zenith - abs(across)) < 0.3)
    assert np.all(np.abs(angles.view_azimuth - side) < 15)
    assert len(set(angles.view_zenith.round(4))) == len(BANDS)
    merged = angles.view_zenith_grid[:, 0]
    assert np.isnan(angles.view_zenith_grid).any(axis=(2, 3)).all()
    # The nodes around the window are seen, and give the window's angle.
    around = merged[:, :2, :2].mean(axis=(1, 2))
    np.testing.assert_allclose(around, angles.view_zenith, atol=0.15)
    assert np.all(np.diff(angles.sun_zenith_grid, axis=0) < 0)
