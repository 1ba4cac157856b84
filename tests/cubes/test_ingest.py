"""A user's own files become cubes: real files against known facts, laws of the arithmetic."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline_lib.config import SENTINEL_1, SENTINEL_2, OwnCube
from pipeline_lib.cubes import CLEAR, NO_DATA, ingest_cube, merge_days, read_cube, rolling_mean
from pipeline_lib.errors import UserError

TERVUREN = {
    "file": "s1s2/tervuren_BE_2022_dekads_S1S2_10m.nc",
    "bands": {"vv": "S1-SIGMA0-VV", "vh": "S1-SIGMA0-VH"},
    "time": "t",
    "no_data": [-1, 0],
    "logarithm_first": True,
    "scale": 20,
    "offset": -83,
    "conversion": "decibel",
}


def ingest(
    tmp_path: Path, file: object, sensor: str, bands: tuple[str, ...] = (), **own: object
) -> xr.Dataset:
    files = {"files": {sensor: file}} | own
    block = OwnCube.model_validate({"site": "a", **files})
    source = {"sentinel-1": SENTINEL_1, "sentinel-2": SENTINEL_2}[sensor].source()
    source = source.model_copy(update={"bands": bands} if bands else {})
    ingest_cube(
        name="a",
        sensor_name=sensor,
        sensor=source,
        own=block,
        resolution_m=10.0,
        config_digest="",
        output=tmp_path / "a.zarr.zip",
    )
    return read_cube(tmp_path / "a.zarr.zip")


def test_tervuren_radar_is_linear_power(tmp_path: Path, shared_data: Path) -> None:
    cube = ingest(tmp_path, TERVUREN | {"file": shared_data / TERVUREN["file"]}, "sentinel-1")
    raw = xr.open_dataset(shared_data / str(TERVUREN["file"]), mask_and_scale=False)
    digital = raw["S1-SIGMA0-VV"].values[4, 10, 20]
    expected = 10 ** ((20 * np.log10(digital) - 83) / 10)
    assert cube["backscatter_unfiltered"].values[4, 0, 10, 20] == pytest.approx(expected, rel=1e-5)
    assert cube.sizes == {"time": 36, "band": 2, "y": 58, "x": 63}
    around = cube["backscatter_unfiltered"].values[3:6, 0, 10, 20]
    assert cube["backscatter"].values[4, 0, 10, 20] == pytest.approx(around.mean(), rel=1e-5)


def test_tervuren_optical_facts(tmp_path: Path, shared_data: Path) -> None:
    file = {
        "file": shared_data / str(TERVUREN["file"]),
        "bands": {band: f"S2-L2A-{band}" for band in SENTINEL_2.bands},
        "time": "t",
        "no_data": [-1],
        "scale": 1e-4,
    }
    cube = ingest(tmp_path, file, "sentinel-2")
    assert cube.rio.crs.to_epsg() == 32631
    share = (cube["mask"] == CLEAR).mean(("y", "x"))
    assert (share >= SENTINEL_2.min_clear).all() and cube.sizes["time"] == 30
    assert "6 dates" in cube.attrs["missing"]
    assert float(cube["reflectance"].max()) < 1


def test_swiss_fields_keep_gaps_apart_from_dark(tmp_path: Path, shared_data: Path) -> None:
    file = {
        "file": shared_data / "s2" / "agrisatpy_T31TGM_win0_96px.nc",
        "variable": "reflectance",
        "no_data": [0],
        "scale": 1e-4,
        "mask": "SCL",
        "mask_clear": [4, 5, 6, 7],
    }
    cube = ingest(tmp_path, file, "sentinel-2")
    assert float((cube["mask"] == NO_DATA).mean()) > 0.75
    assert np.isnan(cube["reflectance"].values[:, 0][cube["mask"].values == NO_DATA]).all()


PARTS = ("B04", "B08", "B11")


def write_part(
    path: Path,
    bands: tuple[str, ...],
    step: float,
    size: int,
    left: float,
    top: float,
    **more: Any,
) -> dict[str, object]:
    """A file of some bands, with pixels of a size from an upper left corner on, and its block."""
    rng = np.random.default_rng(len(bands))
    days = more.get("days", ["2020-01-01", "2020-01-11", "2020-01-21"])
    shape = (len(np.atleast_1d(days)), size, size)
    content = xr.Dataset(
        {band: (("time", "y", "x"), rng.uniform(0.02, 0.4, shape)) for band in bands},
        coords={
            "time": np.array(days, "M8[ns]"),
            "y": more.get("y", top - step * (np.arange(size) + 0.5)),
            "x": left + step * (np.arange(size) + 0.5),
        },
        attrs={"crs": more.get("crs", "EPSG:32632")},
    )
    content["SCL"] = content[bands[0]].dims, rng.integers(4, 10, shape)
    content.to_netcdf(path)
    return {"file": path, "bands": {band: band for band in bands}}


def write_small(path: Path, **more: Any) -> dict[str, object]:
    """A file of radar, two of whose dates are the same, and its block."""
    days = ["2020-01-03", "2020-01-01", "2020-01-03", "2020-01-07"]
    return write_part(path, ("vv", "vh"), 10, 6, 4e5, 5e6, days=days, **more)


def test_days_are_sorted_and_merged_and_a_window_is_the_same_pixels(tmp_path: Path) -> None:
    file = write_small(tmp_path / "small.nc")
    whole = ingest(tmp_path, file, "sentinel-1")
    days = whole["time"].values.astype("datetime64[D]").astype(str).tolist()
    assert days == ["2020-01-01", "2020-01-03", "2020-01-07"]
    assert "1 frames merged" in whole.attrs["missing"]
    part = ingest(tmp_path, file, "sentinel-1", window=(1, 4, 2, 5))
    inner = whole["backscatter"].isel(y=slice(1, 4), x=slice(2, 5))
    xr.testing.assert_equal(inner, part["backscatter"])


MASK = {"mask": "SCL", "mask_clear": [4, 5, 6, 7]}


def test_files_of_a_sensor_lie_on_the_pixels_of_the_finest(tmp_path: Path) -> None:
    fine = write_part(tmp_path / "fine.nc", ("B04", "B08"), 10, 12, 400000, 5000100)
    coarse = write_part(tmp_path / "coarse.nc", ("B11",), 20, 6, 400020, 5000120) | MASK
    radar = write_part(tmp_path / "radar.nc", ("vv", "vh"), 20, 9, 399960, 5000120)
    files = {"sentinel-2": [coarse, fine], "sentinel-1": radar}
    cube = ingest(tmp_path, None, "sentinel-2", PARTS, files=files)
    other = ingest(tmp_path, None, "sentinel-1", files=files)
    # Columns from 400020 to 400120, rows from 5000100 down to 5000000.
    assert cube["x"].values.tolist() == [400025 + 10 * column for column in range(10)]
    assert cube["y"].values.tolist() == [5000095 - 10 * row for row in range(10)]
    for side in ("x", "y", "spatial_ref"):
        xr.testing.assert_identical(cube[side], other[side])

    raw = {path.stem: xr.open_dataset(path) for path in tmp_path.glob("*.nc")}
    place = {"x": cube["x"].values, "y": cube["y"].values}
    found = cube["reflectance"]
    np.testing.assert_allclose(found.sel(band="B08"), raw["fine"]["B08"].sel(place), atol=6e-5)
    expected = raw["coarse"]["B11"].interp(place)  # NaN beyond the outer centres
    inside = np.isfinite(expected)
    assert inside.mean() > 0.8
    np.testing.assert_allclose(found.sel(band="B11").where(inside), expected, atol=6e-5)
    power = raw["radar"]["vv"].interp(place)
    np.testing.assert_allclose(other["backscatter_unfiltered"].sel(band="vv"), power, rtol=1e-5)
    shown = raw["coarse"]["SCL"].sel(place, method="nearest")
    np.testing.assert_array_equal(cube["mask"] == CLEAR, shown.isin([4, 5, 6, 7]))
    assert cube.attrs["source"] == "coarse.nc fine.nc"


def test_files_are_joined_by_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    days = ["2020-01-21", "2020-01-01T10:00", "2020-01-01T10:09", "2020-01-05", "2020-01-31"]
    fine = write_part(tmp_path / "fine.nc", ("B04", "B08"), 10, 4, 0, 5e6, days=days)
    days = ["2020-01-01T10:00", "2020-01-01T10:09", "2020-01-11", "2020-01-21", "2020-01-31"]
    coarse = write_part(tmp_path / "coarse.nc", ("B11",), 20, 2, 0, 5e6, days=[*days, days[-1]])
    cube = ingest(tmp_path, [fine, coarse], "sentinel-2", PARTS)
    found = cube["time"].values.astype("M8[D]").astype(str).tolist()
    assert found == ["2020-01-01", "2020-01-21"]
    raw = xr.open_dataset(tmp_path / "fine.nc")["B04"].values
    values = cube["reflectance"].sel(band="B04")
    np.testing.assert_allclose(values, [raw[1:3].mean(axis=0), raw[0]], atol=6e-5)
    missing = json.loads(cube.attrs["missing"])
    assert missing[0] == "3 days that not all files have alike" and "1 frames merged" in missing[1]
    for day in ("2020-01-05", "2020-01-11", "2020-01-31"):
        assert f"{day}: dropped, since not all files have it alike" in caplog.text
    assert "2020-01-21: 100.0 % clear" in caplog.text
    assert "B04: 0.0" in caplog.text and ", median 0.2" in caplog.text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"left": 5000}, "fine.nc and .*other.nc: do not overlap"),
        ({"left": 5}, "other.nc: its pixels of 20 m do not consist of those of .*fine.nc of 10 m"),
        ({"step": 15}, "other.nc: its pixels of 15 m do not consist of"),
        ({"crs": "EPSG:32633"}, "other.nc: is in EPSG:32633, and .*fine.nc in EPSG:32632; warp"),
        ({"bands": ("B11", "B08")}, "fine.nc and .*other.nc: both have B08; name the `bands` of"),
        ({"bands": ("B12",)}, r"bands B11 are not among .*B04.*B08.*B12"),
        ({"days": ["2021-01-01"]}, "fine.nc and .*other.nc: have no day in common; give files of"),
        ({"step": 5}, r"other.nc: has pixels of 5 m, not 10 m; resample it, or set resolution_m"),
    ],
)
def test_files_that_do_not_fit_each_other_are_errors(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    fine = write_part(tmp_path / "fine.nc", ("B04", "B08"), 10, 12, 0, 5e6)
    given = {"bands": ("B11",), "step": 20, "size": 6, "left": 0, "top": 5e6} | change
    other = write_part(tmp_path / "other.nc", **given)
    with pytest.raises(UserError, match=reason) as caught:
        ingest(tmp_path, [fine, other], "sentinel-2", PARTS)
    assert "\n" not in str(caught.value) and not (tmp_path / "a.zarr.zip").exists()


@pytest.mark.parametrize("format", ["NETCDF3_64BIT", "NETCDF4", "zarr 2", "zarr 3"])
def test_every_format_gives_the_same_cube(tmp_path: Path, format: str) -> None:
    file = write_small(tmp_path / "small.nc")
    expected = ingest(tmp_path, file, "sentinel-1")
    path = tmp_path / "other"
    with xr.open_dataset(tmp_path / "small.nc", engine="h5netcdf") as content:
        if format.startswith("zarr"):
            content.to_zarr(path, zarr_format=int(format[-1]), consolidated=False)
        else:
            content.to_netcdf(path, format=format, engine="netcdf4")
    cube = ingest(tmp_path, file | {"file": path}, "sentinel-1")
    xr.testing.assert_equal(cube.drop_vars("item"), expected.drop_vars("item"))


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_zarr_codec_that_may_run_code_is_an_error(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    # Newer versions of numcodecs unpickle only where a variable allows it.
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    file = write_small(tmp_path / "small.nc") | {"file": tmp_path / "small.zarr"}
    with xr.open_dataset(tmp_path / "small.nc", engine="h5netcdf") as content:
        content.to_zarr(tmp_path / "small.zarr", zarr_format=2, consolidated=False)
    array = tmp_path / "small.zarr" / "vv"
    codec = {"id": "pickle"}
    about = json.loads((array / ".zarray").read_text()) | {"filters": None, "compressor": None}
    about |= {place: [codec] if place == "filters" else codec}
    (array / ".zarray").write_text(json.dumps(about))
    for chunk in array.glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match="pickle"):
        ingest(tmp_path, file, "sentinel-1")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bands": {"vv": "VV", "vh": "vh"}}, "no variable 'VV'; name one of vv, vh"),
        ({"time": "t"}, "set time, x and y"),
        ({"crs": "EPSG:99999"}, "crs of the config describes no certain coordinate"),
        (
            {"no_data": (), "scale": float("1e39"), "conversion": "decibel"},
            "no date has enough valid",
        ),
        ({"scale": 1e4}, r"of vv are above 100 \(median .*\), which is no backscatter \(0..1"),
        ({"offset": -20}, "100 % of vv are below .*, and linear power is needed: .*; set scale"),
        ({"file": "EPSG:4326.nc"}, "in units of degree; warp it to a system in metres"),
        ({"file": "EPSG:2263.nc"}, "in units of US survey foot; warp"),
        ({"resolution_m": 30}, "has pixels of 10 m, not 30 m; resample it"),
        ({"file": "unequal.nc"}, "y must fall in equal steps"),
        ({"file": "cut.nc"}, "not a readable NetCDF or Zarr file .*; get it anew"),
    ],
)
def test_what_does_not_fit_is_an_error_of_one_line(
    tmp_path: Path, change: dict[str, object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_small(tmp_path / "unequal.nc", y=5e6 - 10.0 * np.arange(6) ** 2)
    for crs in ("EPSG:4326", "EPSG:2263"):
        write_small(tmp_path / f"{crs}.nc", crs=crs)
    file = write_small(tmp_path / "small.nc") | change
    content = (tmp_path / "small.nc").read_bytes()
    (tmp_path / "cut.nc").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=reason) as caught:
        ingest(tmp_path, file, "sentinel-1")
    assert "\n" not in str(caught.value) and not (tmp_path / "a.zarr.zip").exists()


SERIES = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 3)),
    elements=st.floats(0.0009765625, 1, width=32) | st.just(np.float32("nan")),
)


@given(SERIES, st.sampled_from([1, 3, 5]))
def test_rolling_mean_against_a_plain_loop(values: np.ndarray, frames: int) -> None:
    smoothed = rolling_mean(values, frames)
    for frame in range(len(values)):
        window = values[max(0, frame - frames // 2) : frame + frames // 2 + 1]
        for column in range(values.shape[1]):
            there = window[:, column][np.isfinite(window[:, column])]
            expected = there.mean() if np.isfinite(values[frame, column]) else np.nan
            np.testing.assert_allclose(smoothed[frame, column], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("frames", "clear", "merged", "seen"),
    [
        ([0.9, 0.1], [False, True], 0.1, True),
        ([np.nan, 0.6, 0.8], [False, False, False], 0.7, False),
    ],
)
def test_merging_prefers_clear_values(
    frames: list[float], clear: list[bool], merged: float, seen: bool
) -> None:
    days = np.full(len(frames), "2020-01-01", "M8[D]")
    values = np.array(frames, np.float32).reshape(-1, 1, 1, 1)
    _, value, shown, count = merge_days(days, values, np.array(clear).reshape(-1, 1, 1))
    assert (value.item(), shown.item()) == (pytest.approx(merged), seen)
    assert count == len(frames) - 1


def test_odd_values_are_remarked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    block = write_part(tmp_path / "odd.nc", PARTS, 10, 40, 0, 5e6) | {"offset": 0.1}
    cube = ingest(tmp_path, block, "sentinel-2", PARTS)
    (remark,) = json.loads(cube.attrs["remarks"])
    assert "hardly a value is below 0.1" in remark and remark in caplog.text
    plain = write_part(tmp_path / "plain.nc", PARTS, 10, 40, 0, 5e6)
    assert "remarks" not in ingest(tmp_path, plain, "sentinel-2", PARTS).attrs


def test_a_date_of_other_units_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    days = np.datetime64("2020-01-01") + 10 * np.arange(20)
    block = write_part(tmp_path / "odd.nc", PARTS, 10, 12, 0, 5e6, days=days)
    with xr.open_dataset(tmp_path / "odd.nc") as source:
        content = source.load()
    for band in PARTS:
        content[band][3] *= 10000
    content.to_netcdf(tmp_path / "odd.nc")
    cube = ingest(tmp_path, block, "sentinel-2", PARTS)
    assert cube.sizes["time"] == 19 and float(cube["reflectance"].max()) < 1
    assert "1 dates with implausible values" in cube.attrs["missing"]
    assert "2020-01-31: dropped, 100 % of B04 are above 2" in caplog.text
    assert "remarks" not in cube.attrs
