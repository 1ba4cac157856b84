import datetime
from functools import partial

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS

import pipeline_lib.embed
from pipeline_lib.config import (
    SENTINEL_2,
    Context,
    CubeGrid,
    DailySeries,
    Period,
    Smoothing,
    Tower,
)
from pipeline_lib.cubes import grid_at, make_cube, write_cube
from pipeline_lib.errors import UserError
from pipeline_lib.gpp.footprint import footprint_weights
from pipeline_lib.gpp.observed import (
    image_range,
    observed_bands,
    observed_embeddings,
    vegetation_indices,
    weighted_pixels,
    write_bands,
    write_series,
)
from pipeline_lib.gpp.series import (
    SOURCES,
    daily_series,
    day_numbers,
    features_of,
    observed_table,
    read_series,
    smooth_daily,
)

TOWER = Tower(name="XX-Abc", lon=8.4104, lat=47.2102, vegetation="GRA")
GRID = grid_at(TOWER.lon, TOWER.lat, CubeGrid(size_px=24))
PERIOD = Period(start=datetime.date(2020, 1, 1), end=datetime.date(2020, 12, 31))
SERIES = DailySeries(max_gap_days=30)
BLOCKS = {"period": PERIOD, "series": SERIES}
NAMES = [f"e{i}" for i in range(7)]
EVEN = np.full((24, 24), 1 / 576)
DAYS_OF_2020 = st.sets(st.integers(18262, 18627), min_size=1, max_size=40).map(
    lambda days: np.array(sorted(days))
)


def dataset(dates, values, share=1.0, apart=None):
    shape = (len(dates), 24, 24)
    layers = {
        "embedding": (("time", "feature", "y", "x"), values.astype(np.float32)),
        "context_share": (("time", "y", "x"), np.broadcast_to(share, shape).astype(np.float32)),
    }
    if apart is not None:
        layers["days_to_sentinel_1"] = (("time", "y", "x"), np.broadcast_to(apart, shape))
    crs = ((), 0, CRS.from_epsg(GRID.epsg).to_cf())
    axes = {"time": pd.DatetimeIndex(dates), "y": GRID.y, "x": GRID.x, "spatial_ref": crs}
    return xr.Dataset(layers, coords=axes)


def cube_of(dates, bands, values, mask=0):
    return make_cube(
        values=values.astype(np.float32),
        mask=np.broadcast_to(mask, (len(dates), 24, 24)).astype(np.uint8),
        times=pd.DatetimeIndex(dates).to_numpy("datetime64[ns]"),
        bands=bands,
        grid=GRID,
        quantity="reflectance",
        frames={},
        attributes={"sensor": "sentinel-2", "cube": "XX-Abc", "missing": []},
    )


def observed(days, values, names="ab"):
    names = names[: values.shape[1]]
    weight = np.ones(len(days))
    return observed_table(days, names, values, np.zeros_like(values), weight, days, days)


@settings(deadline=None, max_examples=40)
@given(DAYS_OF_2020, st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_days_are_interpolated_between_observations_that_are_close(days, gap, seed):
    values = np.random.default_rng(seed).normal(size=(len(days), 2))
    series = SERIES.model_copy(update={"max_gap_days": gap})
    table = daily_series(observed(days, values), period=PERIOD, series=series)
    for day, row in zip(day_numbers(table.index), table[["a", "b"]].to_numpy(), strict=True):
        before, after = days[days <= day], days[days >= day]
        if len(before) and len(after) and after[0] - before[-1] <= gap:
            expected = [np.interp(day, days, value) for value in values.T]
            np.testing.assert_allclose(row, expected, atol=1e-9)
        else:
            assert np.isnan(row).all()


@given(st.integers(0, 2**32 - 1))
def test_pixels_weigh_as_numpy_weighs_them(seed):
    rng = np.random.default_rng(seed)
    values, weights = rng.normal(size=(2, 3, 6)), rng.random((2, 6))
    values[0, 1, 2] = np.nan
    weights[0, 4] = np.nan
    mean, spread, total = weighted_pixels(values, weights)
    for date, counted in enumerate(([0, 1, 3, 5], [0, 1, 2, 3, 4, 5])):
        known, w = values[date][:, counted], weights[date][counted]
        expected = np.average(known, axis=1, weights=w)
        np.testing.assert_allclose(mean[date], expected)
        variance = np.average((known - expected[:, None]) ** 2, axis=1, weights=w)
        np.testing.assert_allclose(spread[date], np.sqrt(variance))
        assert total[date] == pytest.approx(w.sum())
    mean, spread, total = weighted_pixels(values, np.zeros((2, 6)))
    assert np.isnan(mean).all() and np.isnan(spread).all() and (total == 0).all()


def test_smoothing_keeps_polynomials_and_leaves_gaps_and_short_runs():
    days = np.arange(60.0)
    line = np.stack([3 + days - 0.1 * days**2, -days], axis=1)
    line[30] = np.nan
    line[55:57] = np.nan
    wild = line.copy()
    wild[57:] += 9
    smooth = smooth_daily(wild, Smoothing(window_days=21, order=2))
    np.testing.assert_allclose(smooth[:55], line[:55], atol=1e-9)
    np.testing.assert_array_equal(smooth[57:], wild[57:])
    noise = np.random.default_rng(0).normal(size=(200, 1))
    assert smooth_daily(noise, Smoothing(window_days=21, order=2)).std() < 0.5 * noise.std()


@settings(deadline=None, max_examples=40)
@given(
    DAYS_OF_2020,
    st.integers(0, 399),
    st.sampled_from([None, Smoothing(window_days=9, order=2)]),
)
def test_a_day_depends_on_nothing_beyond_what_it_names(days, changed, smoothing):
    """A change of one observation changes no day whose sources exclude it."""
    blocks = {"period": PERIOD, "series": SERIES.model_copy(update={"smoothing": smoothing})}
    values = np.random.default_rng(1).normal(size=(len(days), 1))
    before = daily_series(observed(days, values), **blocks)
    which = changed % len(days)
    other = values.copy()
    other[which] += 5
    after = daily_series(observed(days, other), **blocks)
    moved = ~np.isclose(before["a"], after["a"], equal_nan=True, atol=1e-7)
    named = (before["from_day"] <= days[which]) & (days[which] <= before["to_day"])
    assert not (moved & ~named).any()
    pd.testing.assert_frame_equal(before[list(SOURCES)], after[list(SOURCES)])


def test_series_of_a_cube(tmp_path, monkeypatch):
    dates = pd.to_datetime(
        ["2019-12-30", "2020-01-05", "2020-01-15", "2020-01-20", "2020-03-20", "2021-01-02"]
    )
    values = np.ones((6, 7, 24, 24)) * np.arange(6)[:, None, None, None]
    values[:, :, :3] = 99
    values[3] = np.nan
    data = dataset(dates + pd.Timedelta(hours=10), values)
    monkeypatch.setattr(pipeline_lib.embed, "read_embedding", lambda folder: data)
    folder = tmp_path / "s"
    arguments = {
        **BLOCKS,
        "embeddings": {"XX-Abc": tmp_path},
        "reference": "sentinel-2",
        "cubes": {},
        "sensors": {"sentinel-2": SENTINEL_2},
        "context": Context(frames=3),
    }
    write_series(towers=[TOWER], folder=folder, **arguments)
    table = read_series(folder / "XX-Abc.csv")
    assert features_of(table) == NAMES
    assert len(table) == 366
    assert table.index[table["observed"]].strftime("%m-%d").tolist() == ["01-05", "01-15", "03-20"]
    assert table["e0"].first_valid_index() == pd.Timestamp("2020-01-05")
    assert table.loc["2020-01-10", "e3"] == pytest.approx(1.5)
    assert table.loc["2020-01-10", "e3_spread"] == 0
    assert table.loc["2020-01-16":"2020-03-19", "e0"].isna().all()
    assert table.loc["2020-03-20", "e6"] == 4
    assert table.loc["2020-03-21":, "e0"].isna().all()
    # Between 5 and 15 January; their windows reach to the last frame within half of 195 days.
    row = table.loc["2020-01-10", list(SOURCES)].astype(int)
    assert row.tolist() == [*day_numbers(dates[[1, 2]]), *day_numbers(dates[[0, 4]])]
    far = TOWER.model_copy(update={"lat": 50.0})
    with pytest.raises(UserError, match=r"XX-Abc: the tower at .* outside its cube"):
        write_series(towers=[far], folder=tmp_path / "far", **arguments)
    assert not (tmp_path / "far").exists()


def test_pixels_are_weighted_by_their_available_context():
    values = np.zeros((1, 1, 24, 24))
    values[..., 12:] = 1
    share = np.where(np.arange(24) < 12, 0.2, 0.8)
    data = dataset(["2020-05-01"], values, share)
    seen = observed_embeddings(data, EVEN, reach=image_range, others={})
    assert seen.loc[:, "e0":"weight"].values == pytest.approx(np.array([[0.8, 0.4, 0.5]]))


def test_images_of_other_sensors_are_named_as_far_as_their_context_reaches():
    dates = pd.date_range("2020-05-01", periods=3, freq="20D")
    radar = day_numbers(pd.date_range("2020-04-01", periods=30, freq="6D"))
    apart = (radar[15] - day_numbers(dates)[1]) * np.ones((3, 1, 1))
    apart[0] = np.nan
    data = dataset(dates, np.zeros((3, 1, 24, 24)), apart=apart)
    weights = np.zeros((24, 24))
    weights[3, 4] = 1
    reach = partial(image_range, frames=3, span_days=50)
    others = {"sentinel-1": (radar, partial(image_range, frames=5, span_days=24))}
    seen = observed_embeddings(data, weights, reach=reach, others=others)
    first, last = reach(day_numbers(dates))
    assert seen["from_image"].tolist()[:2] == [first[0], min(first[1], radar[13])]
    assert seen["to_image"].tolist()[:2] == [last[0], max(last[1], radar[17])]


def test_of_several_frames_of_a_day_any_may_have_been_paired():
    frames = np.array([0, 10, 10, 10, 20, 30]) + 18383
    dates = pd.to_datetime([18393], unit="D")
    data = dataset(dates, np.zeros((1, 1, 24, 24)), apart=np.zeros((1, 1, 1)))
    others = {"sentinel-1": (frames, partial(image_range, frames=3, span_days=20))}
    seen = observed_embeddings(data, EVEN, reach=image_range, others=others)
    assert seen[["from_image", "to_image"]].values.tolist() == [[18383, 18403]]


@pytest.mark.parametrize("smoothing", [None, Smoothing(window_days=5, order=1)])
def test_a_day_between_two_observations_knows_the_images_of_both(smoothing):
    """The earlier one may know later images: it was paired with other frames."""
    days = np.array([18262, 18282, 18302])
    seen = observed(days, np.ones((3, 1)))
    seen["from_image"] -= [0, 0, 50]
    seen["to_image"] += [90, 0, 0]
    series = SERIES.model_copy(update={"smoothing": smoothing})
    table = daily_series(seen, period=PERIOD, series=series)
    between = table.loc["2020-01-10"]
    assert between["to_image"] == 18262 + 90
    assert table.loc["2020-01-30", "from_image"] == 18302 - 50


def test_a_black_pixel_has_bands_and_no_index():
    values = np.full((1, 2, 24, 24), 0.2)
    values[:, :, 12] = 0
    cube = cube_of(["2020-05-01"], ["B04", "B08"], values)
    seen = observed_bands(cube, EVEN, rolling_mean=1)
    found = seen[["B04", "B08", "NIRv", "kNDVI", "weight"]].values
    expected = 0.2 * 23 / 24
    assert found == pytest.approx(np.array([[expected, expected, 0, 0, 1]]))


def test_a_cube_without_any_valid_date_gives_an_empty_series():
    data = dataset(["2020-05-01"], np.full((1, 7, 24, 24), np.nan))
    seen = observed_embeddings(data, EVEN, reach=image_range, others={})
    table = daily_series(seen, **BLOCKS)
    assert not table["observed"].any()
    assert table["e0"].isna().all()


def test_series_of_bands(tmp_path):
    dates = pd.to_datetime(["2020-05-01", "2020-05-07", "2020-05-13", "2020-05-19"])
    rng = np.random.default_rng(0)
    bands = ["B04", "B08", "B11"]
    values = rng.uniform(0.05, 0.5, (4, 3, 24, 24))
    cube = cube_of(dates, bands, values, mask=np.array([0, 1, 0, 0])[:, None, None])
    write_cube(cube, tmp_path / "cube.zarr.zip")
    stored = cube["reflectance"].values
    cubes = {"XX-Abc": tmp_path / "cube.zarr.zip"}
    write_bands(towers=[TOWER], **BLOCKS, cubes=cubes, rolling_mean=3, folder=tmp_path)
    table = read_series(tmp_path / "XX-Abc.csv")
    assert features_of(table) == [*bands, "NIRv", "kNDVI"]
    inside = footprint_weights(GRID, tower=TOWER, radius=50) > 0
    near = stored[0][:, inside].astype(float)
    assert table.loc["2020-05-01", "B11"] == pytest.approx(near[2].mean(), rel=1e-4)
    ndvi = (near[1] - near[0]) / (near[1] + near[0])
    assert table.loc["2020-05-01", "NIRv"] == pytest.approx((ndvi * near[1]).mean(), rel=1e-3)
    assert not table.loc["2020-05-07", "observed"]
    # Joined across the masked date, and made by a rolling mean over three frames.
    row = table.loc["2020-05-05", list(SOURCES)].astype(int)
    assert row.tolist() == day_numbers(dates[[0, 2, 0, 3]]).tolist()
    far = TOWER.model_copy(update={"lat": 50.0})
    with pytest.raises(UserError, match="XX-Abc: the tower"):
        write_bands(towers=[far], **BLOCKS, cubes=cubes, rolling_mean=3, folder=tmp_path)


REFLECTANCE = st.floats(0.01, 0.9)


@given(REFLECTANCE, REFLECTANCE)
def test_indices_equal_their_formulas_and_are_missing_where_reflectance_is(red, near):
    indices = vegetation_indices(
        red=np.array([red, np.nan, 0.0]), near_infrared=np.array([near, 0.3, 0.0])
    )
    ndvi = (near - red) / (near + red)
    np.testing.assert_allclose(indices["NIRv"], [ndvi * near, np.nan, np.nan], atol=1e-12)
    np.testing.assert_allclose(indices["kNDVI"], [np.tanh(ndvi**2), np.nan, np.nan], atol=1e-12)
