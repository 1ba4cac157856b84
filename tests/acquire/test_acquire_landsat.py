"""Landsat scenes, written by the tests and by the simulated archive, on the grid of a cube."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from pyproj import Transformer
from scenes import Archive

from pipeline_lib.acquire import pin_items
from pipeline_lib.acquire.clouds import mask_of_quality
from pipeline_lib.config import CubeGrid, Demo, Sensor
from pipeline_lib.cubes import (
    CLEAR,
    CLOUD_SHADOW,
    NO_DATA,
    THICK_CLOUD,
    THIN_CLOUD,
    CubeRequest,
    Grid,
)
from pipeline_lib.cubes.resampling import coarse_grid, nearest, refine
from pipeline_lib.errors import UserError
from pipeline_lib.files import write_json
from simulated_archive.archive import write_landsat
from simulated_archive.canopy import CanopyTable
from simulated_archive.geometry import scene_angles
from simulated_archive.landsat import landsat_tile
from simulated_archive.optical import surface_reflectance
from simulated_archive.passes import landsat_passes
from simulated_archive.site import make_site

DAY = "2021-06-01T10:05:00Z"
ROOT = Path(__file__).parents[2]
LANDSAT = Sensor.model_validate(
    yaml.safe_load((ROOT / "config" / "landsat.yaml").read_text())["sensors"]["landsat"]
)
CLOUD, RIM, CIRRUS, SHADOW = 22280, 21762, 54596, 23888
CubeOf = Callable[..., xr.Dataset]


@pytest.fixture
def cube_of(archive: Archive, tmp_path: Path) -> CubeOf:
    return partial(archive.build, LANDSAT, tmp_path)


def plane(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Digital numbers that rise by 8 per pixel to the east and by 5 to the north."""
    return 14000 + (x - 690015) * 8 / 30 + (y - 5097015) * 5 / 30


@pytest.mark.parametrize("epsg", [32632, 32633], ids=["own zone", "other zone"])
def test_a_plane_is_reproduced_although_the_pixels_lie_half_a_pixel_off(
    archive: Archive, cube_of: CubeOf, epsg: int
) -> None:
    grid = archive.grid
    change = Transformer.from_crs(grid.epsg, epsg, always_xy=True)
    x, y = change.transform(*np.meshgrid(grid.x, grid.y))

    def flat(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return plane(x - middle[0] + 690015, y - middle[1] + 5097015)

    middle = np.floor(x.mean() / 30) * 30, np.floor(y.mean() / 30) * 30
    item = archive.landsat(DAY, {"red": flat}, epsg=epsg)
    assert [edge % 30 for edge in item["properties"]["proj:transform"][2::3]] == [15, 15]
    found = cube_of()["reflectance"].sel(band="red").values[0]
    # A cube holds steps of 1e-4.
    np.testing.assert_allclose(found, flat(x, y) * 2.75e-5 - 0.2, atol=5.1e-5)


@pytest.mark.parametrize(
    ("epsg", "corner"),
    [(32633, (199995.0, 5100015.0)), (32732, (690015.0, 15097005.0))],
    ids=["other zone", "south"],
)
def test_any_reference_system_is_interpolated_alike(epsg: int, corner: tuple[float, float]) -> None:
    # No centre of a pixel lies on an edge, where rounding decides.
    target = Grid(32632, 690003.0, 5097004.0, 10.0, 24, 30)
    source = coarse_grid(target, 30.0, origin=corner, epsg=epsg)
    assert (source.left - corner[0]) % 30 == (source.top - corner[1]) % 30 == 0
    x, y = np.meshgrid(source.x, source.y)
    tilted = ((x - source.left) * 0.3 - (y - source.top) * 0.7).astype(np.float32)
    change = Transformer.from_crs(32632, epsg, always_xy=True)
    east, north = change.transform(*np.meshgrid(target.x, target.y))
    expected = (east - source.left) * 0.3 - (north - source.top) * 0.7
    np.testing.assert_allclose(refine(tilted, source, target), expected, atol=0.02)
    names = np.arange(x.size).reshape(x.shape)
    row, column = (source.top - north) // 30, (east - source.left) // 30
    expected = (row * source.width + column).astype(int)
    np.testing.assert_array_equal(nearest(names, source, target), expected)
    # Where one pixel is missing, what lies in it is missing, and its neighbours are kept.
    hole = np.where(names == names[4, 5], np.float32(np.nan), np.float32(0.5))
    found = refine(hole, source, target)
    np.testing.assert_array_equal(np.isnan(found), expected == names[4, 5])
    np.testing.assert_allclose(found[expected != names[4, 5]], 0.5, atol=1e-6)


def test_numbers_become_reflectance(archive: Archive, cube_of: CubeOf) -> None:
    edge = archive.grid.left + 105

    def half(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(x < edge, 0, 20000)

    archive.landsat(DAY, {"blue": 7637, "red": 43636, "nir08": 6000, "swir16": half})
    cube = cube_of()
    seen = cube["mask"].values[0] == CLEAR
    # A pixel is whole or not there at all.
    np.testing.assert_array_equal(seen, np.tile(cube["x"].values >= edge, (24, 1)))
    assert (cube["mask"].values[0][~seen] == NO_DATA).all()
    values = cube["reflectance"].values[0]
    assert np.isnan(values[:, ~seen]).all()
    expected = {"blue": 0.01, "green": 0.185, "red": 1.0, "nir08": -0.035, "swir16": 0.35}
    for band, value in expected.items():
        np.testing.assert_allclose(values[list(LANDSAT.bands).index(band)][seen], value, atol=6e-5)
    assert float(cube["clear_share"][0]) == pytest.approx(14 / 24)
    assert float(cube["sun_zenith"][0]) == 40 and float(cube["sun_azimuth"][0]) == 330
    assert int(cube["wrs_path"][0]) == 193 and str(cube["platform"].values[0]) == "landsat-8"


def test_quality_values_of_the_product_guide() -> None:
    guide = {
        NO_DATA: [0, 1],
        CLEAR: [21824, 21952, 22080, 30048],
        THIN_CLOUD: [21762, 21826, 21890, 54596, 54852],
        THICK_CLOUD: [22280, 24088, 24344, 55052],
        CLOUD_SHADOW: [23888, 23952],
    }
    for kind, values in guide.items():
        assert set(mask_of_quality(np.array(values, np.uint16)).tolist()) == {kind}


def test_the_mask_is_that_of_the_pixel_each_pixel_lies_in(
    archive: Archive, cube_of: CubeOf, tmp_path: Path
) -> None:
    middle = archive.grid.left + 120

    def quality(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        kinds = np.array([21824, CLOUD, RIM, CIRRUS, SHADOW, 1])
        return kinds[np.clip((x - middle) // 30 + 3, 0, 5).astype(int)]

    archive.landsat(DAY, quality=quality)
    cube = cube_of()
    kinds = np.array([CLEAR, THICK_CLOUD, THIN_CLOUD, THIN_CLOUD, CLOUD_SHADOW, NO_DATA])
    # Edges of the pixels lie at 15 m from the middle.
    expected = kinds[np.clip((cube["x"].values - middle + 15) // 30 + 3, 0, 5).astype(int)]
    np.testing.assert_array_equal(cube["mask"].values[0], np.tile(expected, (24, 1)))
    assert np.isnan(cube["reflectance"].values[0][:, :, expected == NO_DATA]).all()
    plain = archive.build(LANDSAT.model_copy(update={"clouds": "none"}), tmp_path)
    assert (plain["mask"].values == CLEAR).all()


def test_scenes_of_a_path_and_day_are_merged(archive: Archive, cube_of: CubeOf) -> None:
    edge = archive.grid.top - 105

    def upper(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(y > edge, 20000, 0)

    archive.landsat("2021-06-01T10:05:00Z", upper, row="025")
    archive.landsat("2021-06-01T10:05:24Z", 30000, row="026", quality=CLOUD)
    archive.landsat("2021-06-01T10:06:00Z", 30000, path="192", epsg=32633)
    archive.landsat("2021-06-09T10:05:00Z", 25000, platform="landsat-9")
    cube = cube_of()
    assert cube["wrs_path"].values.tolist() == [193, 192, 193]
    assert cube["platform"].values.tolist() == ["landsat-8", "landsat-8", "landsat-9"]
    assert [len(names.split()) for names in cube["item"].values] == [2, 1, 1]
    first = cube.isel(time=0)
    here = first["y"].values > edge
    red = first["reflectance"].sel(band="red").values
    np.testing.assert_allclose(red[here], 0.35, atol=1e-4)
    np.testing.assert_allclose(red[~here], 0.625, atol=1e-4)
    assert (first["mask"].values[here] == CLEAR).all()
    assert (first["mask"].values[~here] == THICK_CLOUD).all()


def test_missing_scenes_are_named(archive: Archive, cube_of: CubeOf) -> None:
    whole = archive.landsat("2021-06-01T10:05:00Z")
    # Its images state where they lie, and not the item.
    for key in ("proj:epsg", "proj:transform"):
        value = whole["properties"].pop(key)
        for asset in whole["assets"].values():
            asset[key] = value
    lost = archive.landsat("2021-06-09T10:05:00Z", without="swir16")
    for day, transform in (("17", None), ("18", []), ("19", [30, 0, 1e300, 0, -30, float("1e9")])):
        vague = archive.landsat(f"2021-06-{day}T10:05:00Z")
        vague["properties"]["proj:transform"] = transform
    archive.landsat("2021-06-25T10:05:00Z", 0)
    cube = cube_of()
    assert cube["item"].values.tolist() == [whole["id"]]
    first, *vague_ones, empty = json.loads(cube.attrs["missing"])
    assert "20210625" in empty and "no data here in blue, green, red" in empty
    assert lost["id"] in first and "swir16: the item has no such asset" in first
    assert len(vague_ones) == 3 and all("no proj:transform" in line for line in vague_ones)
    with pytest.raises(UserError, match=f"{lost['id']}.*swir16.*missing_asset"):
        cube_of(missing_asset="fail")


def test_the_cube_lies_on_the_simulated_ground(canopy_table: Path, tmp_path: Path) -> None:
    days = date(2020, 6, 1), date(2020, 6, 30)
    request = CubeRequest("site-003-a", "site-003", "urban", 11.9, 48.3, *days)
    grid, demo = CubeGrid(size_px=48, cloud_context_px=6), Demo(tile_px=60)
    site = make_site([request], cube=grid, demo=demo, seed=42)
    site = replace(site, weather=replace(site.weather, cloudiness=0 * site.weather.cloudiness))
    table = CanopyTable.read(canopy_table)
    passes = landsat_passes(site.lon, site.lat, *days)[:2]
    items = [
        write_landsat(site, one, landsat_tile(site.window, one.epsg), table, tmp_path)
        for one in passes
    ]
    write_json(tmp_path / "items" / "all.json", {"features": items})
    assert {one.epsg for one in passes} == {32632, 32633}
    pins = tmp_path / "pins.json"
    archive = Archive(tmp_path, cube=grid)
    common = {"sensor": LANDSAT, "cube": grid, "catalog": archive.catalog}
    pin_items(request=request, output=pins, **common)
    cube = archive.build(LANDSAT, tmp_path, items=pins)
    inner = np.s_[3:-3, 3:-3]
    for one, frame in zip(passes, cube["time"].values, strict=True):
        place = {"lon": site.lon, "lat": site.lat, "window": site.window}
        angles = scene_angles(time=one.time, across=0.0, **place)
        state = site.ground(one.time.date())
        _, nadir = surface_reflectance(state, site.landscape, table, angles)
        for band, like in (("red", 3), ("nir08", 8), ("swir16", 10)):
            shown = cube.sel(time=frame, band=band)
            clear, seen = shown["mask"].values[inner] == CLEAR, shown["reflectance"].values[inner]
            rows, columns = site.within(site.cube)
            apart = {}
            for down, right in product((-1, 0, 1), (-1, 0, 1)):
                moved = np.roll(nadir[like], (-down, -right), (0, 1))[rows, columns][inner]
                apart[down, right] = np.abs(seen - moved)[clear].mean()
            # A shift by a pixel of 10 m in any direction fits worse.
            assert min(apart, key=lambda shift: apart[shift]) == (0, 0), (one, band, apart)
            truth = nadir[like][rows, columns][inner]
            assert np.median(seen) == pytest.approx(np.median(truth), rel=0.1, abs=0.005)
            assert clear.mean() > 0.9
