import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from pipeline_lib.config import CubeGrid, Gpp, Tower
from pipeline_lib.cubes import grid_at
from pipeline_lib.errors import UserError
from pipeline_lib.gpp.series import (
    daily_series,
    footprint,
    interpolate_daily,
    mean_embedding,
    read_series,
    write_series,
)

TOWER = Tower(name="XX-Abc", lon=8.4104, lat=47.2102, vegetation="GRA")
GRID = grid_at(TOWER.lon, TOWER.lat, CubeGrid(size_px=24))
GPP = Gpp.model_validate(
    {
        "period": {"start": "2020-01-01", "end": "2020-12-31"},
        "footprint_m": 50,
        "max_gap_days": 30,
    }
)


def dataset(dates, values):
    crs = CRS.from_epsg(GRID.epsg).to_cf()
    return xr.Dataset(
        {"embedding": (("time", "feature", "y", "x"), values.astype(np.float32))},
        coords={
            "time": pd.DatetimeIndex(dates),
            "y": GRID.y,
            "x": GRID.x,
            "spatial_ref": ((), 0, crs),
        },
    )


@st.composite
def observations(draw):
    days = draw(st.lists(st.integers(0, 300), min_size=1, max_size=20, unique=True))
    return np.array(sorted(days))


@given(observations(), st.integers(1, 300))
def test_interpolation_is_exact_on_a_line_and_empty_where_nothing_is_known(observed, gap):
    slope = np.array([2.0, -0.5])
    days = np.arange(-10, 320)
    daily = interpolate_daily(
        observed_days=observed, values=observed[:, None] * slope, days=days, max_gap=gap
    )
    known = np.isfinite(daily).all(axis=1)
    np.testing.assert_allclose(daily[known], days[known, None] * slope, atol=1e-9)
    for day, is_known in zip(days, known, strict=True):
        before, after = observed[observed <= day], observed[observed >= day]
        expected = len(before) and len(after) and after[0] - before[-1] <= gap
        assert is_known == bool(expected)


@given(observations(), st.integers(0, 2**32 - 1))
def test_interpolation_keeps_observations_and_stays_between_them(observed, seed):
    values = np.random.default_rng(seed).normal(size=(len(observed), 3))
    days = np.arange(observed[0], observed[-1] + 1)
    daily = interpolate_daily(observed_days=observed, values=values, days=days, max_gap=400)
    np.testing.assert_allclose(daily[observed - observed[0]], values, atol=1e-12)
    reference = np.stack([np.interp(days, observed, v) for v in values.T], axis=1)
    np.testing.assert_allclose(daily, reference, atol=1e-9)


def test_interpolation_of_nothing_is_empty():
    daily = interpolate_daily(
        observed_days=np.zeros(0, int), values=np.zeros((0, 3)), days=np.arange(5), max_gap=9
    )
    assert daily.shape == (5, 3) and np.isnan(daily).all()


def test_footprint_is_a_disc_around_the_tower():
    inside = footprint(GRID, lon=TOWER.lon, lat=TOWER.lat, radius=50)
    assert inside.sum() * 100 == pytest.approx(np.pi * 50**2, rel=0.08)
    east, north = Transformer.from_crs(4326, GRID.epsg, always_xy=True).transform(
        TOWER.lon, TOWER.lat
    )
    rows, columns = np.nonzero(inside)
    assert abs(GRID.x[columns].mean() - east) < 5
    assert abs(GRID.y[rows].mean() - north) < 5
    assert footprint(GRID, lon=TOWER.lon, lat=TOWER.lat, radius=0.01).sum() == 1


def test_a_tower_outside_its_cube_is_an_error():
    with pytest.raises(UserError, match="outside its cube"):
        footprint(GRID, lon=TOWER.lon + 0.1, lat=TOWER.lat, radius=50)


def test_mean_takes_valid_pixels_alone():
    values = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    values[0, 1, 0, 0] = np.nan
    values[1] = np.nan
    inside = np.array([[True, True], [True, False]])
    means = mean_embedding(values, inside)
    np.testing.assert_allclose(means[0], values[0][:, [0, 1], [1, 0]].mean(axis=1))
    assert np.isnan(means[1]).all()


def test_series_of_a_cube(tmp_path, monkeypatch):
    dates = pd.to_datetime(
        ["2019-12-30", "2020-01-05", "2020-01-15", "2020-01-20", "2020-03-20", "2021-01-02"]
    )
    values = np.ones((6, 7, 24, 24)) * np.arange(6)[:, None, None, None]
    values[:, :, :3] = 99
    values[3] = np.nan
    data = dataset(dates + pd.Timedelta(hours=10), values)
    table = daily_series(data, tower=TOWER, gpp=GPP)
    assert list(table.columns) == [*(f"e{i}" for i in range(7)), "observed"]
    assert len(table) == 366
    assert table.index[table["observed"]].strftime("%m-%d").tolist() == ["01-05", "01-15", "03-20"]
    assert table["e0"].first_valid_index() == pd.Timestamp("2020-01-05")
    assert table.loc["2020-01-10", "e3"] == pytest.approx(1.5)
    assert table.loc["2020-01-16":"2020-03-19", "e0"].isna().all()
    assert table.loc["2020-03-20", "e6"] == 4
    assert table.loc["2020-03-21":, "e0"].isna().all()

    import pipeline_lib.embed

    monkeypatch.setattr(pipeline_lib.embed, "read_embedding", lambda folder: data, raising=False)
    write_series(tower=TOWER, gpp=GPP, embedding=tmp_path, output=tmp_path / "s" / "XX-Abc.csv")
    pd.testing.assert_frame_equal(
        read_series(tmp_path / "s" / "XX-Abc.csv"), table, check_freq=False, atol=1e-5
    )
    far = TOWER.model_copy(update={"lat": 50.0})
    with pytest.raises(UserError, match=r"XX-Abc: the tower at .* outside its cube"):
        write_series(tower=far, gpp=GPP, embedding=tmp_path, output=tmp_path / "far.csv")
    assert not (tmp_path / "far.csv").exists()


def test_a_cube_without_any_valid_date_gives_an_empty_series():
    data = dataset(["2020-05-01"], np.full((1, 7, 24, 24), np.nan))
    table = daily_series(data, tower=TOWER, gpp=GPP)
    assert not table["observed"].any()
    assert table["e0"].isna().all()
