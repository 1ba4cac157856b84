"""What one user-supplied file says of itself is read; contradictions are named in one line."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from pyproj import CRS

from pipeline_lib.config import OwnCubeFile
from pipeline_lib.cubes.own_file import OwnFrames, grid_of_file, read_own_file
from pipeline_lib.cubes.own_values import reading
from pipeline_lib.errors import UserError

LEFT, TOP, SIDE = 500000.0, 5600040.0, 4
DAYS = ["2023-03-01", "2023-03-09"]
SHAPE = (2, SIDE, SIDE)


def frames(
    values: Any = 0.25, *, attrs: Any = None, encoding: Any = None, **coords: Any
) -> xr.Dataset:
    """A file's content: red and green, two dates, pixel centres, EPSG:32631 as an attribute."""
    where = {
        "time": np.array(DAYS, "M8[ns]"),
        "y": TOP - 10 * (np.arange(SIDE) + 0.5),
        "x": LEFT + 10 * (np.arange(SIDE) + 0.5),
    }
    band = (("time", "y", "x"), np.broadcast_to(values, SHAPE), attrs or {})
    content = xr.Dataset({"red": band, "green": band}, where | coords, {"crs": "EPSG:32631"})
    for band in ("red", "green"):
        content[band].encoding = {"_FillValue": None} | (encoding or {})
        if "_FillValue" in content[band].attrs:
            del content[band].encoding["_FillValue"]
    return content


def read(content: xr.Dataset | Path, tmp_path: Path, **block: Any) -> OwnFrames:
    path = content if isinstance(content, Path) else tmp_path / "own.nc"
    if isinstance(content, xr.Dataset):
        content.to_netcdf(path, engine="h5netcdf")
    if not {"bands", "variable"} & {*block}:
        block["bands"] = {"red": "red", "green": "green"}
    frames = read_own_file(OwnCubeFile.model_validate({"file": path, **block}), ["red", "green"])
    assert frames.grid == grid_of_file(OwnCubeFile.model_validate({"file": path, **block}))
    return frames


def line(content: xr.Dataset | Path, tmp_path: Path, **block: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(content, tmp_path, **block)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(tmp_path), "")


def halves(seen: Any, hidden: Any, dtype: str) -> np.ndarray:
    """A band whose two left columns hold one number, and the others another."""
    values = np.full(SHAPE, seen, dtype)
    values[:, :, :2] = np.array(hidden).astype(dtype)
    return values


# ---- numbers


@pytest.mark.parametrize(
    ("seen", "hidden", "dtype", "attrs", "value"),
    [
        (1500, -9999, "i2", {"scale_factor": 2e-4, "add_offset": -0.1, "_FillValue": "i2"}, 0.2),
        (3, -9999, "i4", {"scale_factor": 10, "_FillValue": "i4"}, 30),
        (2000, 0, "u2", {"scale_factor": 1e-4, "nodata": 0}, 0.2),
        (0.2, -999.99, "f4", {"missing_value": -999.99}, 0.2),
        (0.2, 1e20, "f4", {"missing_value": 1e20}, 0.2),
        (0.2, -9999, "f4", {"missing_value": "-9999"}, 0.2),
        (0.2, 9.969209968386869e36, "f4", {}, 0.2),
        (20, -32767, "i2", {"units": "%"}, 0.2),
        (2000, 7, "i2", {"valid_min": np.int16(8), "scale_factor": 1e-4}, 0.2),
        (2000, 12000, "i2", {"valid_range": np.array([0, 10000], "i2"), "scale_factor": 1e-4}, 0.2),
        (2000, 12000, "i2", {"valid_max": 1.0, "scale_factor": 1e-4}, 0.2),
        (200, -1, "i1", {"_Unsigned": "true", "_FillValue": "i1", "scale_factor": 1e-3}, 0.2),
        (60, 3, "f4", {"scale_factor": 1.0, "add_offset": 0.0, "valid_min": 4.0}, 60),
    ],
)
def test_a_file_says_what_its_numbers_are(
    tmp_path: Path, seen: float, hidden: float, dtype: str, attrs: dict[str, Any], value: float
) -> None:
    values = halves(seen, hidden, "u1" if dtype == "i1" else dtype)
    if dtype == "i1":
        values = halves(seen, 255, "u1").view("i1")
    if "_FillValue" in attrs:
        attrs = attrs | {"_FillValue": np.dtype(attrs["_FillValue"]).type(hidden)}
    red = read(frames(values, attrs=attrs), tmp_path).values["red"]
    np.testing.assert_allclose(red[:, :, 2:], value, rtol=1e-6)
    assert np.isnan(red[:, :, :2]).all()


@pytest.mark.parametrize(
    ("stored", "told", "dtype"),
    [
        (-3.4028234663852886e38, -3.4e38, "f4"),
        (9.969209968386869e36, 9.96921e36, "f8"),
        (np.float32(-999.99), -999.99, "f8"),
        (2147483647, 2147483647, "f4"),
        (2147483647, 2147483647, "i4"),
        (65535, 65535, "u2"),
    ],
)
def test_no_data_of_the_config_are_compared_as_stored(
    tmp_path: Path, stored: float, told: float, dtype: str
) -> None:
    content = frames(halves(1, stored, dtype), encoding={"dtype": dtype})
    assert np.isfinite(read(content, tmp_path, no_data=[told]).values["red"]).mean() == 0.5


@pytest.mark.parametrize("told", [-1, 65535])
def test_unsigned_numbers_have_their_no_data_in_either_form(tmp_path: Path, told: int) -> None:
    values = halves(40000, 65535, "u2").view("i2")
    red = read(frames(values, attrs={"_Unsigned": "true"}), tmp_path, no_data=[told]).values["red"]
    assert (red[:, :, 2:] == 40000).all() and np.isnan(red[:, :, :2]).all()


PACKED = {"scale_factor": 1e-4, "add_offset": -0.1}


@pytest.mark.parametrize(
    ("attrs", "config"),
    [
        (PACKED, {}),
        (PACKED, {"scale": 1e-4}),
        (PACKED, {"scale": 1e-4, "offset": -0.1}),
        ({"scale_factor": 1e-4}, {"offset": -0.1}),
        ({"scale_factor": 1.0, "add_offset": 0.0}, {"scale": 1e-4, "offset": -0.1}),
        ({"scale_factor": 1e-2, "add_offset": -10.0, "units": "percent"}, {}),
        ({"scale_factor": 1e-2, "add_offset": -10.0, "units": "%"}, {"scale": 1e-4}),
    ],
)
def test_what_file_and_config_both_state_is_applied_once(
    tmp_path: Path, attrs: dict[str, Any], config: dict[str, Any]
) -> None:
    content = frames(np.full(SHAPE, 3000, "i2"), attrs=attrs)
    np.testing.assert_allclose(read(content, tmp_path, **config).values["red"], 0.2, rtol=1e-6)


@pytest.mark.parametrize(
    ("attrs", "config", "reason"),
    [
        (PACKED, {"scale": 1e-3}, "scale_factor 0.0001, .* config has scale 0.001"),
        (PACKED, {"offset": 0.0}, "add_offset -0.1 .* config has offset 0;"),
        ({"add_offset": -1000.0}, {"scale": 1e-4}, "add_offset -1000 .* config has scale 0.0001"),
        ({"units": "%"}, {"scale": 1e-4}, "units '%', and the config has scale 0.0001"),
        ({"scale_factor": "many"}, {}, "scale_factor 'many', not one number"),
        ({}, {"no_data": [-99999]}, r"no_data \[-99999.0\] cannot occur in 'red', .* int16"),
    ],
)
def test_a_contradiction_names_the_attribute_and_both_values(
    tmp_path: Path, attrs: dict[str, Any], config: dict[str, Any], reason: str
) -> None:
    content = frames(np.full(SHAPE, 3000, "i2"), attrs=attrs)
    assert re.search(reason, line(content, tmp_path, **config))


@pytest.mark.parametrize(
    ("value", "units", "config"),
    [
        (-10, "dB", {}),
        (-10, "1", {"conversion": "decibel"}),
        (0.1, "dB", {"conversion": "linear"}),
        (0.1, "1", {}),
    ],
)
def test_units_of_decibels(tmp_path: Path, value: float, units: str, config: Any) -> None:
    content = frames(np.full(SHAPE, value, "f4"), attrs={"units": units})
    np.testing.assert_allclose(read(content, tmp_path, **config).values["red"], 0.1)


def test_amplitudes_are_unpacked_before_their_logarithm(tmp_path: Path) -> None:
    content = frames(np.full(SHAPE, 1000, "i2"), attrs={"scale_factor": 10.0})
    block = {"logarithm_first": True, "scale": 20, "offset": -83, "conversion": "decibel"}
    np.testing.assert_allclose(read(content, tmp_path, **block).values["red"], 10**-0.3, rtol=1e-6)


# ---- bands, masks, dimensions


def stack(labels: Any, **more: Any) -> xr.Dataset:
    """One variable with a band dimension: its entries are 0.1, 0.2, ..."""
    count = len(labels)
    values = np.broadcast_to(0.1 * np.arange(1, count + 1)[:, None, None], (2, count, SIDE, SIDE))
    content = frames().drop_vars(["red", "green"]).assign(more)
    content["stack"] = (("time", "band", "y", "x"), values.astype("f4"))
    return content.assign_coords(band=labels)


@pytest.mark.parametrize(
    ("labels", "bands"),
    [
        (["green", "red"], None),
        (["GREEN", "Red"], None),
        (["B03", "B04"], {"green": "B03", "red": "B04"}),
        (np.array([560, 665]), {"green": 560, "red": "665"}),
        (np.array([560.0, 664.6], "f4"), {"green": "560", "red": 664.6}),
        (np.array([b"green", b"red"], "S5"), None),
    ],
)
def test_labels_of_every_type(tmp_path: Path, labels: Any, bands: Any) -> None:
    block = {"variable": "stack"} | ({"bands": bands} if bands else {})
    contents = [stack(labels)]
    if np.array(labels).dtype.kind in "US":  # texts may stand beside a numbered dimension
        contents.append(stack([1, 2], names=("band", np.array(labels))))
    for content in contents:
        values = read(content, tmp_path, **block).values
        assert [values[band].mean() for band in ("green", "red")] == pytest.approx([0.1, 0.2])


def test_characters_of_netcdf_3(tmp_path: Path) -> None:
    content = stack(np.array([b"green", b"red"]))
    content["stack"] = (100000 * content["stack"]).astype("i4").assign_attrs(scale_factor=1e-5)
    content.to_netcdf(tmp_path / "three.nc", engine="scipy")
    found = read(tmp_path / "three.nc", tmp_path, variable="stack")
    np.testing.assert_allclose(found.values["red"], 0.2, rtol=1e-4)
    assert found.days.astype(str).tolist() == DAYS


@pytest.mark.parametrize(
    ("labels", "block", "reason"),
    [
        (["red", "red"], {}, "2 entries of 'band' have the label 'red'"),
        (["red"], {"band_dim": "wavelength"}, "'y', 'x'), not 'wavelength'; set band_dim"),
    ],
)
def test_labels_that_are_not_there(
    tmp_path: Path, labels: list[str], block: dict[str, Any], reason: str
) -> None:
    assert reason in line(stack(labels), tmp_path, variable="stack", **block)


def test_a_file_may_hold_some_of_the_bands_or_only_the_mask(tmp_path: Path) -> None:
    assert {*read(stack(["red", "blue"]), tmp_path, variable="stack").values} == {"red"}
    scene = frames().drop_vars(["red", "green"])
    block = {"mask": "SCL", "mask_clear": [4, 5], "bands": {}}
    found = read(scene.assign(SCL=(("time", "y", "x"), halves(4, 9, "u1"))), tmp_path, **block)
    assert found.values == {} and found.clear is not None and found.clear.mean() == 0.5


def write(content: xr.Dataset, tmp_path: Path) -> Path:
    path = tmp_path / "own.nc"
    content.to_netcdf(path, engine="h5netcdf")
    return path


@pytest.mark.parametrize(("scale", "factor"), [(1, 1), (1e-4, 1), (np.float32(1e-4), 10000)])
def test_a_mask_may_be_a_label_of_the_band_dimension(
    tmp_path: Path, scale: float, factor: int
) -> None:
    stored = np.stack([np.full(SHAPE, 2000), factor * halves(4, 9, "i4")], axis=1)
    content = stack(["red", "SCL"])
    content["stack"] = (("time", "band", "y", "x"), stored, {"scale_factor": scale})
    found = read(content, tmp_path, variable="stack", mask="SCL", mask_clear=[4])
    assert found.clear is not None and found.clear[:, :, 2:].all() and found.clear.mean() == 0.5


def test_no_data_of_a_mask_is_not_clear(tmp_path: Path) -> None:
    content = frames()
    content["clouds"] = (("time", "y", "x"), halves(0, 255, "u1"), {"_FillValue": np.uint8(255)})
    found = read(content, tmp_path, mask="clouds", mask_clear=[0])
    assert found.clear is not None and found.clear.mean() == 0.5
    content["clouds"].attrs["_FillValue"] = np.uint8(0)
    assert "_FillValue" in line(content, tmp_path, mask="clouds", mask_clear=[0])


def test_a_dimension_of_one_is_dropped_and_a_longer_one_named(tmp_path: Path) -> None:
    content = frames()
    content["red"] = content["red"].expand_dims(band=[1]).transpose("time", "band", "y", "x")
    assert read(content, tmp_path).values["red"].shape == SHAPE
    content["red"] = frames()["red"].expand_dims(platform=["A", "B"])
    assert "{'platform': 2, " in line(content, tmp_path)


def test_one_date_may_be_a_scalar(tmp_path: Path) -> None:
    found = read(frames().isel(time=1), tmp_path)
    assert found.values["red"].shape == (1, SIDE, SIDE) and str(found.days[0]) == DAYS[1]


# ---- dates

SINCE = {"units": "days since 2023-03-01"}


@pytest.mark.parametrize(
    ("times", "attrs"),
    [
        ([0, 8], SINCE),
        ([0.5, 7.9999999999], SINCE),
        ([0, 8], {"units": "Days Since 2023-03-01", "calendar": "Gregorian"}),
        ([0, 192], {"units": "hours since 2023-03-01T00:00:00Z"}),
        ([0, 8], SINCE | {"calendar": "365_day"}),
        ([0, 4], SINCE | {"scale_factor": 2.0}),
        (["2023-03-01", "2023-03-09T23:59:59.999Z"], {}),
        (["20230301", "20230309T101010"], {}),
        (["2023-02-28T23:30:00-02:00", "2023-03-09T10:00:00+02:00"], {}),
        ([20230301, 20230309], {}),
    ],
)
def test_days_that_are_certain(tmp_path: Path, times: list[Any], attrs: dict[str, Any]) -> None:
    values: Any = np.array(times, object) if isinstance(times[0], str) else np.array(times)
    found = read(frames(time=("time", values, attrs)), tmp_path)
    assert found.days.astype(str).tolist() == DAYS


@pytest.mark.parametrize(
    ("times", "attrs", "reason"),
    [
        (["01/03/2023", "09/03/2023"], {}, "texts like '01/03/2023'"),
        (["2023-03", "2023-04"], {}, "texts like '2023-03'"),
        ([0, 8], {}, "integers without units, such as 0"),
        ([2023060, 2023068], {}, "integers without units, such as 2023060"),
        (np.array([20230301, 20230309], "f4"), {}, "numbers without units"),
        ([0.0, 8.0], {"units": "days"}, "numbers with units 'days'"),
        ([0, 1], {"units": "months since 2023-01-31"}, "units 'months since 2023-01-31'"),
        ([0, 8], SINCE | {"calendar": "julian"}, "calendar 'julian'"),
        ([0, 359], {"units": "days since 2023-02-30", "calendar": "360_day"}, "calendar '360_day'"),
        ([0.0, np.nan], SINCE, "1 of 2 dates are missing"),
    ],
)
def test_days_that_are_not(
    tmp_path: Path, times: list[Any], attrs: dict[str, Any], reason: str
) -> None:
    values: Any = np.array(times, object) if isinstance(times[0], str) else np.array(times)
    said = line(frames(time=("time", values, attrs)), tmp_path)
    assert reason in said
    assert "decode" not in said and "cftime" not in said and "set time" not in said


# ---- grid


def placed(shift: float = 0.5, rows: slice = slice(None), **attrs: Any) -> xr.Dataset:
    """Frames with coordinates at a place within the pixels, and attributes of their bands."""
    steps = 10 * (np.arange(SIDE) + shift)
    return frames(x=LEFT + steps, y=TOP - steps, attrs=attrs).isel(y=rows)


GDAL = f"{LEFT} 10 0 {TOP} 0 -10 "
AFFINE = [10.0, 0.0, LEFT, 0.0, -10.0, TOP]
PRINTED = f"| 10.00, 0.00, {LEFT}|\n| 0.00,-10.00, {TOP}|\n| 0.00, 0.00, 1.00|"


@pytest.mark.parametrize(
    ("content", "top"),
    [
        (placed(), TOP),
        (placed(0.5, GeoTransform=GDAL), TOP),
        (placed(0.0, GeoTransform=GDAL), TOP),
        (placed(0.0, transform=AFFINE), TOP),
        (placed(0.0, transform=PRINTED), TOP),
        (placed(0.0, transform=str(tuple(AFFINE))), TOP),
        (placed(0.5, slice(1, None), GeoTransform=GDAL), TOP - 10),
        (placed(0.0, slice(2, None), transform=AFFINE), TOP - 20),
        (placed(0.5, GeoTransform=f"{LEFT} 5 0 {TOP} 0 -5"), TOP),
        (placed(0.5, GeoTransform="0 1 0 0 0 1"), TOP),
    ],
)
def test_edges_of_the_grid(tmp_path: Path, content: xr.Dataset, top: float) -> None:
    grid = read(content, tmp_path).grid
    assert (grid.epsg, grid.left, grid.top, grid.resolution) == (32631, LEFT, top, 10)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (placed(0.25, GeoTransform=GDAL), "GeoTransform"),
        (placed(0.0, slice(1, None), transform=AFFINE), "by transform"),
        (placed(1.0, transform=AFFINE), "by transform"),
        (placed(0.0, transform=AFFINE, GeoTransform=f"{LEFT - 5} 10 0 {TOP + 5} 0 -10"), "trans"),
        (placed().drop_vars(["x", "y"]), "the dimension 'x' has no coordinate; add one"),
        (frames(x=("x", 3 + 1e-4 * np.arange(SIDE), {"units": "degrees_east"})), "degrees_east"),
    ],
)
def test_edges_that_are_not_certain(tmp_path: Path, content: xr.Dataset, reason: str) -> None:
    assert reason in line(content, tmp_path)


def test_rows_from_south_to_north_are_turned(tmp_path: Path) -> None:
    values = np.broadcast_to(np.arange(SIDE, dtype="f4")[:, None], SHAPE)
    for content in (
        frames(values),
        placed(0.0, transform=AFFINE).assign(red=frames(values)["red"].variable),
    ):
        expected = read(content, tmp_path)
        turned = read(content.isel(y=slice(None, None, -1)), tmp_path)
        assert turned.grid == expected.grid and turned.grid.top == TOP
        assert (turned.values["red"] == expected.values["red"]).all()


def test_coordinates_may_be_packed_and_in_kilometres(tmp_path: Path) -> None:
    steps = np.arange(SIDE).astype("i4")
    content = frames(
        x=("x", steps, {"scale_factor": 0.01, "add_offset": 500.005, "units": "km"}),
        y=("y", -steps, {"scale_factor": 10.0, "add_offset": TOP - 5, "units": "m"}),
    )
    grid = read(content, tmp_path).grid
    assert grid.left == pytest.approx(LEFT, abs=1e-3) and grid.top == pytest.approx(TOP)


def mapped(name: str | None, attrs: Any = None, **variables: dict[str, Any]) -> xr.Dataset:
    content = frames(attrs={} if name is None else {"grid_mapping": name})
    content.attrs = attrs or {}
    return content.assign({n: ((), np.int32(0), a) for n, a in variables.items()})


def cf(epsg: int, *without: str) -> dict[str, Any]:
    return {k: v for k, v in CRS.from_epsg(epsg).to_cf().items() if k not in without}


BARE = (
    *("crs_wkt", "projected_crs_name", "geographic_crs_name", "horizontal_datum_name"),
    *("reference_ellipsoid_name", "prime_meridian_name", "longitude_of_prime_meridian"),
)


@pytest.mark.parametrize(
    "content",
    [
        mapped("place", place=cf(32631), spatial_ref=cf(32632), crs=cf(4326)),
        mapped("place", place=cf(32631, "crs_wkt")),
        mapped("place", place=cf(32631, *BARE)),
        mapped("place: x y", place=cf(32631)),
        mapped(None, UTM_31=cf(32631)),
        mapped("crs", crs={"wkt": CRS.from_epsg(32631).to_wkt("WKT1_ESRI")}),
        mapped(None, spatial_ref=cf(32631), crs=cf(32631)),
        mapped(None, {"crs": "+init=epsg:32631"}),
        mapped(None, {"proj:epsg": 32631}),
        mapped(None).assign_coords(epsg=32631),
        mapped(None).assign(epsg=32631),
    ],
)
def test_where_a_file_states_its_reference_system(tmp_path: Path, content: xr.Dataset) -> None:
    assert read(content, tmp_path).grid.epsg == 32631
    assert read(content, tmp_path, crs="EPSG:32631").grid.epsg == 32631
    said = line(content, tmp_path, crs="EPSG:32632")
    assert "EPSG:32631" in said and "crs of the config is EPSG:32632" in said


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (mapped(None, spatial_ref=cf(32631), crs=cf(32632)), "'crs' is EPSG:32632, and 'spatial_r"),
        (mapped("a", a=cf(32631) | {"longitude_of_central_meridian": 9.0}), "central_meridian 9"),
        (mapped("a", a=cf(32631) | {"spatial_ref": CRS(32632).to_wkt()}), "EPSG:32632"),
        (mapped("a", a={"grid_mapping_name": "my_own"}), "'a' describes no certain coordinate"),
        (mapped("gone", crs=cf(32632)), "has no coordinate reference system; set crs"),
    ],
)
def test_reference_systems_that_are_not_certain(
    tmp_path: Path, content: xr.Dataset, reason: str
) -> None:
    assert reason in line(content, tmp_path)


@pytest.mark.parametrize("epsg", [32601, 32756, 3035, 2056])
def test_parameters_of_cf_alone(tmp_path: Path, epsg: int) -> None:
    content = mapped("a", a=cf(epsg, *BARE) if epsg > 32600 else cf(epsg, "crs_wkt"))
    if epsg == 2056:  # CF has no word for its skew
        assert read(content, tmp_path, crs="EPSG:2056").grid.epsg == epsg
        assert "no EPSG code" in line(content, tmp_path)
    else:
        assert read(content, tmp_path).grid.epsg == epsg


@pytest.mark.parametrize("odd", [np.inf, "of my own"])
@pytest.mark.parametrize("key", ["crs_wkt", "false_easting"])
def test_odd_attributes_of_a_grid_mapping(tmp_path: Path, key: str, odd: Any) -> None:
    content = mapped("a", a=cf(32631) | {key: odd})
    assert "'a' describes no certain coordinate reference system" in line(content, tmp_path)


def test_the_config_may_name_what_a_file_cannot(tmp_path: Path) -> None:
    unknown = mapped("a", a={"grid_mapping_name": "my_own"})
    for content in (mapped(None), unknown, mapped("gone", crs=cf(32632))):
        assert read(content, tmp_path, crs="EPSG:32631").grid.epsg == 32631


# ---- files that are sound, and not to be read


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (b"II*\0", "is a TIFF image (GeoTIFF); write it as NetCDF or Zarr"),
        (b"\x0e\x03\x13\x01", "is an HDF4 file"),
        (b"time,x,y,B04", "is neither NetCDF nor Zarr"),
        (b"PK\x03\x04", "is a zip archive; unpack it"),
        (gzip.compress(b"CDF\x01", mtime=0), "is compressed with gzip; unpack it"),
        (b"CDF\x05", "CDF-5 (64-bit data); write it as NetCDF-4"),
        (b"\n<!DOCTYPE html>", "is a web page, such as that of a login"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, first: bytes, reason: str) -> None:
    (tmp_path / "a.nc").write_bytes(first + bytes(600))
    said = line(tmp_path / "a.nc", tmp_path)
    assert reason in said


def test_a_damaged_file_is_called_so(tmp_path: Path) -> None:
    whole = write(frames(), tmp_path).read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"CDF\x01" + bytes(9)):
        (tmp_path / "a.nc").write_bytes(content)
        assert "get it" in line(tmp_path / "a.nc", tmp_path)


def test_a_missing_filter_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_filter(32013, h5py.h5z.FLAG_OPTIONAL, (3,))
        space = h5py.h5s.create_simple((4,))
        made = h5py.h5d.create(file.id, b"red", h5py.h5t.NATIVE_FLOAT, space, plist)
        h5py.Dataset(made).id.write_direct_chunk((0,), b"packed", 0)
    with (
        pytest.raises(UserError, match="its filter is not available here"),
        reading(tmp_path / "a.nc"),
        h5py.File(tmp_path / "a.nc") as file,
    ):
        file["red"][:]


@pytest.mark.parametrize("version", [2, 3])
def test_a_missing_codec_is_named(tmp_path: Path, version: int) -> None:
    path = tmp_path / "a.zarr"
    frames().to_zarr(path, zarr_format=version, consolidated=False)
    about = path / "red" / (".zarray" if version == 2 else "zarr.json")
    content = json.loads(about.read_text())
    if version == 2:
        content["compressor"] = {"id": "jetraw"}
    else:
        content["codecs"][-1] = {"name": "jetraw", "configuration": {}}
    about.write_text(json.dumps(content))
    said = line(path, tmp_path)
    assert "jetraw" in said and "write it again with gzip or zstd" in said


def test_variables_in_groups_and_folders_without_zarr(tmp_path: Path) -> None:
    path = tmp_path / "groups.nc"
    frames().to_netcdf(path, group="measurements/r10m", engine="h5netcdf")
    assert "in groups (measurements)" in line(path, tmp_path)
    frames().to_zarr(tmp_path / "g.zarr", group="inner", consolidated=False)
    assert "in groups (inner)" in line(tmp_path / "g.zarr", tmp_path)
    assert "folder without Zarr metadata" in line(tmp_path, tmp_path)


def test_blocks_that_say_too_little() -> None:
    for block in ({}, {"bands": {"red": "r"}, "mask": "SCL"}, {"variable": "v", "mask_clear": [4]}):
        with pytest.raises(ValueError, match=r"name `bands`|go together"):
            OwnCubeFile.model_validate({"file": "a.nc", **block})
