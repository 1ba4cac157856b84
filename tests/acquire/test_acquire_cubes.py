"""From files of scenes to the file of a cube."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from pyproj import CRS
from scenes import Archive, granule_metadata, granule_xml, textured

from pipeline_lib.acquire.angles import BANDS as ALL_BANDS
from pipeline_lib.acquire.baseline import baseline_of, offset_of
from pipeline_lib.acquire.clouds import CloudModel, mask_of_scene_classes
from pipeline_lib.acquire.retries import Missing
from pipeline_lib.config import SENTINEL_1, SENTINEL_2
from pipeline_lib.cubes import CLEAR, NO_DATA, THICK_CLOUD
from pipeline_lib.errors import UserError

PLAIN = SENTINEL_2.model_copy(update={"brdf": False, "clouds": "none"})
SCL = SENTINEL_2.model_copy(update={"brdf": False, "clouds": "scl"})
CORRECTED = PLAIN.model_copy(update={"brdf": True})
NADIR = SCL.model_copy(update={"brdf": True})
DAY = "2021-06-01T10:10:00Z"


CubeOf = Callable[..., xr.Dataset]


@pytest.fixture
def cube_of(archive: Archive, tmp_path: Path) -> CubeOf:
    return partial(archive.build, folder=tmp_path)


def test_numbers_become_reflectance_pixel_by_pixel(archive: Archive, cube_of: CubeOf) -> None:
    archive.optical(DAY, {"B02": textured, "B11": textured}, margin_px=6)
    cube = cube_of(PLAIN)
    numbers = textured(36, 10)[6:-6, 6:-6].astype(float)
    found = cube["reflectance"].sel(band="B02").values[0]
    np.testing.assert_allclose(found, (numbers - 1000) / 1e4, atol=6e-5)
    coarse = (textured(18, 20)[3:-3, 3:-3].astype(float) - 1000) / 1e4
    fine = cube["reflectance"].sel(band="B11").values[0]
    # 20 m pixels are interpolated: each fine pixel is a 9:3:3:1 mean of the four nearest.
    expected = (9 * coarse[1, 1] + 3 * coarse[0, 1] + 3 * coarse[1, 0] + coarse[0, 0]) / 16
    assert fine[2, 2] == pytest.approx(expected, abs=1e-4)
    assert (cube["mask"].values == CLEAR).all()
    assert cube.attrs["sensor"] == "some-sensor"
    assert json.loads(cube.attrs["missing"]) == []
    assert str(cube["processing_baseline"].values[0]) == "05.09"


@pytest.mark.parametrize("nodata", [0, None])
def test_no_data_stays_missing_with_and_without_a_tag(
    archive: Archive, cube_of: CubeOf, nodata: int | None
) -> None:
    def west_missing(count: int, step: int) -> np.ndarray:
        numbers = np.full((count, count), 3000, np.uint16)
        numbers[:, : (36 + 12) * 10 // step] = 0
        return numbers

    everywhere = dict.fromkeys(PLAIN.bands, west_missing)
    archive.optical(DAY, everywhere, nodata=nodata)
    cube = cube_of(PLAIN)
    mask = cube["mask"].values[0]
    assert (mask[:, :12] == NO_DATA).all()
    assert (mask[:, 12:] == CLEAR).all()
    values = cube["reflectance"].values[0]
    assert np.isnan(values[:, :, :12]).all()
    np.testing.assert_allclose(values[:, :, 12:], 0.2, atol=1e-4)
    assert float(cube["clear_share"][0]) == 0.5


def test_offsets_follow_each_items_baseline(archive: Archive, cube_of: CubeOf) -> None:
    archive.optical("2021-06-01T10:10:00Z", 2000, baseline="03.01")
    archive.optical("2021-06-06T10:10:00Z", 3000, baseline="04.00")
    values = cube_of(PLAIN)["reflectance"].values
    np.testing.assert_allclose(values, 0.2, atol=1e-6)


SAFE = "S2B_MSIL2A_20190629T212529_N{}_R043_T06VVN_20200930T110241.SAFE"
STATED = "s2:processing_baseline"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({STATED: "02.14"}, (2, 14)),
        ({STATED: "0301"}, (3, 1)),
        ({STATED: "N0400"}, (4, 0)),
        ({STATED: 4}, (4, 0)),
        ({STATED: 5.1}, (5, 10)),
        ({STATED: None, "s2:product_uri": SAFE.format("0212")}, (2, 12)),
        ({"s2:granule_id": "S2A_OPER_MSI_L2A_TL_ESRI_20201007T160858_T06VVN_N02.12"}, (2, 12)),
        ({STATED: "v5", "s2:product_uri": SAFE.format("0509")}, (5, 9)),
        ({"s2:product_uri": SAFE.format("0511"), "processing:version": "2.11"}, (5, 11)),
        ({"processing:version": "05.11"}, (5, 11)),
        ({STATED: "99.99"}, None),
        ({STATED: "v5"}, None),
        ({STATED: "40"}, None),
        ({"processing:version": "2.11.0"}, None),
        ({}, None),
    ],
)
def test_baselines_are_read_however_they_are_written(
    stated: dict[str, Any], expected: tuple[int, int] | None
) -> None:
    item = {"id": "some-item", "properties": stated, "assets": {}}
    assert baseline_of(item) == expected
    if expected is None:
        with pytest.raises(Missing, match="baseline"):
            offset_of(item, ["B02"])
    else:
        assert offset_of(item, ["B02"]) == (0 if expected < (4, 0) else -1000)


@pytest.mark.parametrize(
    ("properties", "asset", "expected"),
    [
        ({STATED: "05.09"}, {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}, -1000),
        ({STATED: "05.09"}, {"raster:scale": 0.0001, "raster:offset": -0.1}, -1000),
        ({STATED: "02.14"}, {"raster:bands": [{"scale": 0.0001, "offset": 0}]}, 0),
        (
            {STATED: "05.09", "earthsearch:boa_offset_applied": True},
            {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]},
            0,
        ),
        ({STATED: "05.09"}, {"raster:bands": [{"offset": 0}]}, "B02: .* offset 0, .* means -0.1"),
        ({STATED: "02.14"}, {"bands": [{"raster:offset": -0.1}]}, "B02: .* 02.14 means 0$"),
        ({STATED: "02.14"}, {"raster:bands": [{"scale": 1}]}, "B02: .* scale 1"),
        ({STATED: "05.00", "s2:product_uri": SAFE.format("0301")}, {}, "05.00 and 0301"),
    ],
)
def test_what_an_item_states_of_its_offset_agrees_or_is_rejected(
    properties: dict[str, Any], asset: dict[str, Any], expected: int | str
) -> None:
    item = {"id": "some-item", "properties": properties, "assets": {"B02": asset}}
    if isinstance(expected, int):
        assert offset_of(item, ["B02"]) == expected
    else:
        with pytest.raises(Missing, match=expected):
            offset_of(item, ["B02"])


def test_of_two_versions_the_one_that_can_be_judged_is_kept(
    archive: Archive, cube_of: CubeOf
) -> None:
    archive.optical("2021-06-11T10:10:00Z", 2000, baseline="N0214")
    archive.optical("2021-06-11T10:10:00Z", 2000, baseline="unknown")
    cube = cube_of(PLAIN)
    np.testing.assert_allclose(cube["reflectance"].values, 0.2, atol=1e-6)
    assert cube["processing_baseline"].values.tolist() == ["02.14"]


def test_correction_multiplies_by_the_c_factor_and_is_kept(
    archive: Archive, cube_of: CubeOf
) -> None:
    archive.optical(DAY, 3000)
    corrected = cube_of(CORRECTED)
    plain = cube_of(PLAIN)
    ratio = corrected["reflectance"].values / plain["reflectance"].values
    factor = corrected["c_factor"].values[0]
    assert corrected["c_factor"].dims == ("time", "band")
    np.testing.assert_allclose(ratio.mean(axis=(0, 2, 3)), factor, rtol=1e-3)
    assert (np.abs(factor - 1) > 0.01).all()
    assert float(corrected["view_zenith"][0]) == pytest.approx(8, abs=0.2)
    assert float(corrected["sun_azimuth"][0]) == pytest.approx(150)
    assert "c_factor" not in plain


def test_tiles_of_one_day_are_merged_and_days_are_not(archive: Archive, cube_of: CubeOf) -> None:
    half = {
        band: lambda count, step: np.where(
            np.arange(count) * step < (36 + 12) * 10, np.uint16(2000), np.uint16(0)
        )
        for band in PLAIN.bands
    }
    archive.optical("2021-06-01T10:10:00Z", half, tile="32TPS", baseline="05.10")
    archive.optical("2021-06-01T10:10:14Z", 4000, tile="32TPT", baseline="05.09")
    archive.optical("2021-06-02T10:00:00Z", 3000)
    cube = cube_of(PLAIN)
    assert cube.sizes["time"] == 2
    first = cube["reflectance"].values[0]
    np.testing.assert_allclose(first[:, :, :12], 0.1, atol=1e-4)
    np.testing.assert_allclose(first[:, :, 12:], 0.3, atol=1e-4)
    assert len(str(cube["item"].values[0]).split()) == 2
    assert str(cube["processing_baseline"].values[0]) == "05.10 05.09"


def test_dates_without_clear_sight_are_dropped(
    archive: Archive, cube_of: CubeOf, tmp_path: Path
) -> None:
    archive.optical("2021-06-01T10:10:00Z", scl=9)
    with pytest.raises(UserError, match="site-000-a, some-sensor: none of its 1 items"):
        cube_of(SCL)
    assert not (tmp_path / "cube.zarr.zip").exists()
    archive.optical("2021-06-06T10:10:00Z", scl=4)
    cube = cube_of(SCL)
    assert cube["time"].dt.day.values.tolist() == [6]
    everything = cube_of(SCL.model_copy(update={"min_clear": 0.0}))
    assert (everything["mask"].values[0] == THICK_CLOUD).all()


def test_a_scene_missing_after_the_last_frame_of_a_full_part_is_named(
    archive: Archive, cube_of: CubeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline_lib.acquire.build.frames_per_part", lambda grid: 1)
    monkeypatch.setattr("pipeline_lib.acquire.sentinel2.STEP_PX", 1)
    archive.optical("2021-06-01T10:10:00Z")
    broken = archive.optical("2021-06-06T10:10:00Z")
    (archive.folder / broken["assets"]["B05"]["href"]).unlink()
    cube = cube_of(PLAIN, requests=1)
    assert cube.sizes["time"] == 1
    assert broken["id"] in cube.attrs["missing"]


def test_the_result_depends_neither_on_order_nor_on_threads(
    archive: Archive, cube_of: CubeOf, tmp_path: Path
) -> None:
    for day in range(1, 6):
        archive.optical(f"2021-06-0{day}T10:10:00Z", {"B03": textured})
    cube_of(NADIR, requests=1)
    first = (tmp_path / "cube.zarr.zip").read_bytes()
    items = archive.folder / "items" / "all.json"
    content = json.loads(items.read_text())
    content["features"].reverse()
    items.write_text(json.dumps(content))
    cube_of(NADIR, requests=5)
    assert (tmp_path / "cube.zarr.zip").read_bytes() == first


def test_radar_frames(archive: Archive, cube_of: CubeOf) -> None:
    grid = archive.grid
    north = np.arange(grid.height)[:, None] < 10
    upper = np.broadcast_to(np.where(north, 0.2, -32768), grid.shape)
    lower = np.broadcast_to(np.where(north, 0, 0.4), grid.shape)
    archive.radar("2021-06-01T17:00:00Z", upper, upper, orbit=1, name="a")
    archive.radar("2021-06-01T17:00:25Z", lower, lower, orbit=1, name="b")
    archive.radar("2021-06-07T05:00:00Z", 0.3, 0.15, orbit=2, name="c")
    archive.radar("2021-06-13T17:00:00Z", -32768, -32768, orbit=3, name="d")
    archive.radar("2021-06-19T17:00:00Z", 0.45, 0.15, orbit=4, name="e")
    cube = cube_of(SENTINEL_1)
    assert cube["item"].values.tolist() == ["a b", "c", "e"]
    assert cube["relative_orbit"].values.tolist() == [1, 2, 4]
    raw = cube["backscatter_unfiltered"].sel(band="vv").values
    np.testing.assert_allclose(raw[0, :10], 0.2)
    np.testing.assert_allclose(raw[0, 10:], 0.4)
    smooth = cube["backscatter"].sel(band="vv").values
    np.testing.assert_allclose(smooth[1, :10], (0.2 + 0.3 + 0.45) / 3, rtol=1e-6)
    np.testing.assert_allclose(smooth[2], (0.3 + 0.45) / 2, rtol=1e-6)
    assert (cube["mask"].values == CLEAR).all()


def test_scene_classes() -> None:
    found = mask_of_scene_classes(np.arange(12))
    assert found.tolist() == [4, 4, 0, 3, 0, 0, 0, 0, 1, 1, 2, 0]


VEGETATION = np.float32([0.02, 0.03, 0.05, 0.03, 0.08, 0.2, 0.28, 0.3, 0.32, 0.33, 0.18, 0.09])
CLOUD = np.float32([*[0.4] * 9, 0.3, 0.25, 0.2])
"""Spectra in the order of CLOUD_BANDS."""


def test_the_cloud_model_finds_a_cloud_over_a_meadow() -> None:
    generator = np.random.default_rng(1)
    row, column = np.mgrid[:150, :145]
    distance = np.hypot(row - 60, column - 80)
    cover = np.clip((50 - distance) / 30, 0, 1).astype(np.float32)
    scene = VEGETATION[:, None, None] * (1 - cover) + CLOUD[:, None, None] * cover
    scene = scene * (1 + 0.03 * generator.standard_normal(scene.shape).astype(np.float32))
    classes = CloudModel().classify(scene[None])[0]
    assert classes.shape == (150, 145)
    assert (classes[distance < 35] == THICK_CLOUD).mean() > 0.8
    assert (classes[distance > 65] == CLEAR).mean() > 0.9


def test_context_beyond_the_scene_is_not_shown_to_the_model() -> None:
    generator = np.random.default_rng(1)
    scene = VEGETATION[None, :, None, None] * np.ones((1, 1, 40, 40), np.float32)
    scene *= 1 + 0.05 * generator.standard_normal(scene.shape).astype(np.float32)
    padded = np.pad(scene, ((0, 0), (0, 0), (17, 9), (5, 30)), constant_values=np.nan)
    model = CloudModel()
    np.testing.assert_array_equal(model.classify(padded)[:, 17:57, 5:45], model.classify(scene))
    assert (model.classify(np.full((1, 12, 20, 20), np.nan, np.float32)) == CLEAR).all()


UTM = CRS.from_epsg(32632)
BARE = {"crs": None}
NOWHERE = {"crs": None, "transform": None}
PLACE = [10.0, 0.0, 655920.0, 0.0, -10.0, 5097600.0]
SHIFTED, COARSE = [10, 0, 656000, 0, -10, 5097600], [60, 0, 656000, 0, -60, 5097600]


@pytest.mark.parametrize(
    ("profile", "stated", "told"),
    [
        (BARE, {"proj:code": "EPSG:32632"}, "no reference system in its file, EPSG:32632"),
        (BARE, {"proj:epsg": 32632}, "no reference system in its file, EPSG:32632"),
        (BARE, {"proj:wkt2": UTM.to_wkt()}, "no reference system in its file, EPSG:32632"),
        (BARE, {"proj:projjson": UTM.to_json_dict()}, "no reference system in its file"),
        (NOWHERE, {"proj:code": "EPSG:32632", "proj:transform": PLACE}, "no reference system in"),
        ({}, {"proj:code": "EPSG:32633"}, "its file is EPSG:32632, that of its item EPSG:32633"),
        ({}, {"proj:transform": SHIFTED}, "its file starts at 655920, 5097600, its item at 656"),
        ({}, {"proj:transform": COARSE}, ""),
        ({}, {"proj:code": "EPSG:32632", "proj:transform": PLACE}, ""),
    ],
)
def test_an_image_lies_where_its_file_or_else_its_item_says(
    archive: Archive,
    cube_of: CubeOf,
    profile: dict[str, Any],
    stated: dict[str, Any],
    told: str,
) -> None:
    item = archive.optical(DAY, {"B02": textured})
    expected = cube_of(PLAIN)["reflectance"].values
    rewrite(archive, item, "B02", **profile)
    item["properties"]["proj:code"] = None
    # What an asset states goes before what its item does.
    item["assets"]["B02"] |= stated
    archive.save()
    cube = cube_of(PLAIN)
    np.testing.assert_array_equal(cube["reflectance"].values, expected)
    assert json.loads(cube.attrs["missing"]) == []
    remarks = [r for r in json.loads(cube.attrs["remarks"]) if "one value only" not in r]
    assert len(remarks) == bool(told) and all(": B02: " in r and told in r for r in remarks)


@pytest.mark.parametrize("sun", [60.0, 75.0, 77.0, 85.4, 91.0])
@pytest.mark.parametrize("azimuth", [20.0, 200.0])
def test_the_correction_ends_where_its_model_does(
    archive: Archive, cube_of: CubeOf, sun: float, azimuth: float
) -> None:
    place = {"epsg": archive.grid.epsg, "left": archive.grid.left, "top": archive.grid.top}
    xml = granule_metadata(sun=(sun, 180.0), view=(10.5, azimuth), slope=0, **place)
    archive.optical(DAY, 3000, xml=xml)
    cube = cube_of(CORRECTED)
    factor = cube["c_factor"].values
    if sun > 76:
        assert (factor == 1).all()
        np.testing.assert_allclose(cube["reflectance"].values, 0.2, atol=1e-6)
        remark, _ = json.loads(cube.attrs["remarks"])
        assert f"100 % not corrected to nadir view: sun zenith {sun:.1f}" in remark
    else:
        assert (np.abs(factor - 1) > 0.02).all() and (np.abs(factor - 1) < 0.12).all()
        assert "not corrected" not in cube.attrs["remarks"]


def test_a_scene_is_corrected_as_far_as_the_model_holds(archive: Archive, cube_of: CubeOf) -> None:
    """The sun stands at 75 degrees on the first column of nodes, at 77 on the others."""
    grid, ones = archive.grid.padded(36), np.ones((4, 4))
    sun = np.where(np.arange(4) == 0, 75.0, 77.0) * ones
    views = {(n, 7): (10.5 * ones, 20 * ones) for n, band in enumerate(ALL_BANDS) if band != "B10"}
    place = {"epsg": grid.epsg, "left": grid.left, "top": grid.top}
    archive.optical(DAY, 3000, xml=granule_xml((sun, 180 * ones), views, **place))
    cube = cube_of(CORRECTED)
    # The cube lies 360 to 600 m east of the first column.
    remark, _ = json.loads(cube.attrs["remarks"])
    assert "9.6 % not corrected to nadir view: sun zenith 75.2, view zenith 10.5" in remark
    row = cube["reflectance"].sel(band="B04").values[0, 0]
    assert (np.diff(row) <= 0).all() and 0.21 < row[-1] < row[0] < 0.22


def varied(low: float, high: float) -> Callable[[int, int], np.ndarray]:
    """Digital numbers between two, different from pixel to pixel."""
    return lambda count, step: np.random.default_rng(count).integers(low, high, (count, count))


def half_filled(value: int) -> Callable[[int, int], np.ndarray]:
    def numbers(count: int, step: int) -> np.ndarray:
        west = np.arange(count) < count // 2
        return np.where(west, value, textured(count, step))

    return numbers


def rewrite(archive: Archive, item: dict[str, Any], band: str, **profile: Any) -> None:
    """Write a band's image again with other metadata; None leaves them out."""
    import rasterio

    path = archive.folder / item["assets"][band]["href"]
    with rasterio.open(path) as file:
        values, whole = file.read(), file.profile | profile
    with rasterio.open(path, "w", **{k: v for k, v in whole.items() if v is not None}) as file:
        file.write(values)


Spoil = Callable[[Archive], object]


def optical(**how: Any) -> Spoil:
    return lambda archive: archive.optical(DAY, **how)


def every_band(numbers: Any, **how: Any) -> Spoil:
    return optical(numbers=dict.fromkeys(PLAIN.bands, numbers), **how)


def image(code: str | None = "EPSG:32632", **profile: Any) -> Spoil:
    """Another B02, in an item of this reference system."""

    def spoil(archive: Archive) -> None:
        item = archive.optical(DAY)
        rewrite(archive, item, "B02", **profile)
        item["properties"]["proj:code"] = code
        archive.save()

    return spoil


def stated(key: str, **entries: Any) -> Spoil:
    """Other entries in the properties or assets of the item."""

    def spoil(archive: Archive) -> None:
        archive.optical(DAY)[key].update({k.replace("__", ":"): v for k, v in entries.items()})
        archive.save()

    return spoil


def damaged(key: str, share: float) -> Spoil:
    """An asset of which only a share is left, or nothing."""

    def spoil(archive: Archive) -> None:
        file = archive.folder / archive.optical(DAY)["assets"][key]["href"]
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
        if not share:
            file.unlink()

    return spoil


SCENES_THAT_CANNOT_BE_USED = [
    (damaged("B05", 0), PLAIN, "B05: no such file"),
    (damaged("B05", 0.5), PLAIN, "unreadable: B05: not a readable raster"),
    (damaged("granule-metadata", 0.5), CORRECTED, "granule-metadata: not complete XML"),
    (optical(baseline="99.99"), PLAIN, "processing baseline is 99.99"),
    (every_band(0), PLAIN, "no data here in B02, B03"),
    (optical(numbers={"B05": 0}), PLAIN, "no data here in B05, which its footprint covers"),
    (optical(numbers=65535), PLAIN, "100 % of B02 are above"),
    (every_band(varied(20000, 40000)), PLAIN, "digital numbers"),
    (every_band(varied(100, 600)), PLAIN, "a wrong offset"),
    (every_band(varied(1, 5), baseline="02.14"), PLAIN, "scaled twice"),
    (every_band(half_filled(65535)), PLAIN, "as where there is no data"),
    (optical(scl=0), SCL, "SCL: 0 is its largest class here"),
    (optical(scl=12), SCL, "SCL: 12 is its largest class here"),
    (optical(xml=granule_metadata(sun=(-40.0, 180.0))), CORRECTED, "a zenith of -40 degrees"),
    (image(dtype="float32"), PLAIN, "B02: its numbers are float32, not integers"),
    (image(None, crs=None), PLAIN, "B02: no coordinate reference system in the file, nor in"),
    (image(**NOWHERE), PLAIN, "B02: no transform in the file, nor in its item"),
    (image("IAU_2015:30100", crs=None), PLAIN, "B02: Cannot find coordinate operations"),
    (image("EPSG:32633", crs=None), PLAIN, "EPSG:32633 in its item, and nothing of it lies here"),
    (image(crs="EPSG:32633"), PLAIN, "B02: the projection of its file is EPSG:32633, that"),
    (stated("properties", s2__mean_solar_zenith=float("nan")), PLAIN, "s2:mean_solar_zenith: "),
    (stated("properties", sat__relative_orbit="n/a"), PLAIN, "sat:relative_orbit: "),
    (stated("assets", B02={}), PLAIN, "assets.B02.href: "),
]


@pytest.mark.parametrize(("spoil", "sensor", "reason"), SCENES_THAT_CANNOT_BE_USED)
def test_a_scene_that_cannot_be_used_is_the_only_one_lost(
    archive: Archive, cube_of: CubeOf, spoil: Spoil, sensor: Any, reason: str
) -> None:
    archive.optical("2021-06-06T10:10:00Z", dict.fromkeys(PLAIN.bands, textured))
    spoil(archive)
    cube = cube_of(sensor)
    (missing,) = json.loads(cube.attrs["missing"])
    assert missing.startswith("item 2A_2021-06-01") and reason in missing
    assert cube.sizes["time"] == 1 and "\n" not in missing
    with pytest.raises(UserError, match="missing_asset"):
        cube_of(sensor, missing_asset="fail")


def speckle(mean: float, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(3).gamma(4, mean / 4, shape)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda power: 10 * np.log10(power), "decibels"),
        (lambda power: np.round(1000 * np.log10(power)), "decibels"),
        (lambda power: np.round(1000 * np.sqrt(power)), "digital numbers"),
        (np.zeros_like, "no data here in vv, vh"),
    ],
)
def test_a_radar_scene_of_other_units_is_lost(
    archive: Archive, cube_of: CubeOf, change: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    vv, vh = speckle(0.1, archive.grid.shape), speckle(0.02, archive.grid.shape)
    archive.radar("2021-06-01T17:00:00Z", vv, vh)
    archive.radar("2021-06-13T17:00:00Z", change(vv), change(vh))
    cube = cube_of(SENTINEL_1)
    (missing,) = json.loads(cube.attrs["missing"])
    assert reason in missing and cube.sizes["time"] == 1


@pytest.mark.parametrize(("reach", "lost"), [(0.004, 0), (0.02, 1)])
def test_a_scene_that_ends_here_by_its_pixels_is_not_lost(
    archive: Archive, cube_of: CubeOf, reach: float, lost: int
) -> None:
    """Its footprint, which is rough, reaches a little further than they do."""
    archive.optical("2021-06-06T10:10:00Z")
    item = archive.optical(DAY, dict.fromkeys(PLAIN.bands, 0))
    west, south, east, north = archive.grid.lonlat_bounds()
    ring = [[west - 1, south - 1], [east + reach, south - 1], [east + reach, north + 1]]
    item["geometry"] = {"type": "Polygon", "coordinates": [[*ring, [west - 1, north + 1], ring[0]]]}
    archive.save()
    assert len(json.loads(cube_of(PLAIN).attrs["missing"])) == lost


def test_a_lost_scene_does_not_hide_another_of_its_day(archive: Archive, cube_of: CubeOf) -> None:
    archive.optical("2021-06-01T10:10:00Z", 65535, tile="32TPS", baseline="05.10")
    archive.optical("2021-06-01T10:10:14Z", dict.fromkeys(PLAIN.bands, textured), tile="32TPT")
    cube = cube_of(PLAIN)
    assert "_32TPT_" in str(cube["item"].values[0])
    assert (cube["mask"].values == CLEAR).all()
    assert json.loads(cube.attrs["missing"]) and "remarks" not in cube.attrs


def test_scenes_of_one_value_and_scenes_of_a_part_are_kept(
    archive: Archive, cube_of: CubeOf
) -> None:
    archive.optical("2021-06-01T10:10:00Z", 3000)
    archive.optical("2021-06-06T10:10:00Z", dict.fromkeys(PLAIN.bands, half_filled(0)))
    cube = cube_of(PLAIN)
    assert cube.sizes["time"] == 2 and json.loads(cube.attrs["missing"]) == []
    (remark,) = json.loads(cube.attrs["remarks"])
    assert remark.startswith("item 2A_2021-06-01") and remark.endswith("one value only")


def test_bands_that_sentinel_2_does_not_have_are_named(archive: Archive, cube_of: CubeOf) -> None:
    archive.optical(DAY)
    with pytest.raises(UserError, match="bands SCL, blue: Sentinel-2 has no such reflectance"):
        cube_of(PLAIN.model_copy(update={"bands": ("B02", "blue", "SCL")}))


@pytest.mark.parametrize(("share", "kept"), [(0.05, True), (1.0, False)])
def test_the_deepest_shade_is_plausible(
    archive: Archive, cube_of: CubeOf, share: float, kept: bool
) -> None:
    def shaded(count: int, step: int) -> np.ndarray:
        shade = np.random.default_rng(count).random((count, count)) < share
        return np.where(shade, 1, textured(count, step))

    archive.optical(DAY, dict.fromkeys(PLAIN.bands, textured))
    bands = dict.fromkeys(PLAIN.bands, textured)
    archive.optical("2021-06-06T10:10:00Z", bands | {"B02": shaded})
    assert cube_of(PLAIN).sizes["time"] == 1 + kept


def test_a_band_with_gaps_is_remarked(archive: Archive, cube_of: CubeOf) -> None:
    bands = dict.fromkeys(PLAIN.bands, textured)
    archive.optical(DAY, bands | {"B04": half_filled(0), "B11": half_filled(0)})
    cube = cube_of(PLAIN)
    assert (cube["mask"].values == NO_DATA).mean() == 0.5
    (remark,) = json.loads(cube.attrs["remarks"])
    assert remark.endswith(": B04, B11: no data in many pixels that other bands show")


@pytest.mark.parametrize("border", [0, -9999, -32768, float("nan")])
def test_the_border_of_a_radar_scene_is_no_data(
    archive: Archive, cube_of: CubeOf, border: float
) -> None:
    vv = speckle(0.1, archive.grid.shape)
    vv[:, :9] = border
    archive.radar("2021-06-01T17:00:00Z", vv, vv)
    cube = cube_of(SENTINEL_1)
    assert json.loads(cube.attrs["missing"]) == []
    assert (cube["mask"].values[0] == np.where(np.arange(24) < 9, NO_DATA, CLEAR)).all()


@pytest.mark.parametrize(
    "second",
    [
        {},
        {"sat:absolute_orbit": None},
        {"sat:absolute_orbit": 1001},
        {"platform": None, "sat:orbit_state": None, "sat:relative_orbit": "125.0"},
    ],
)
@pytest.mark.parametrize("gap", ["23:59:35", "00:00:00", "00:00:25"])
def test_slices_of_a_pass_are_one_frame(
    archive: Archive, cube_of: CubeOf, second: dict[str, Any], gap: str
) -> None:
    """Whatever their properties, and also where midnight comes between them."""
    north = np.arange(24)[:, None] < 10
    day = "2021-06-01" if gap.startswith("23") else "2021-06-02"
    archive.radar(f"{day}T{gap}Z", np.where(north, 0.2, 0), np.where(north, 0.1, 0), name="a")
    item = archive.radar("2021-06-02T00:00:00Z", np.where(north, 0, 0.3), 0.1, name="b")
    item["properties"] |= second
    archive.radar("2021-06-02T12:40:00Z", 0.3, 0.1, name="c")
    archive.save()
    cube = cube_of(SENTINEL_1)
    assert [set(text.split()) for text in cube["item"].values] == [{"a", "b"}, {"c"}]
    assert (cube["mask"].values == CLEAR).all()
