import json
import re
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio

from pipeline_lib.acquire.angles import parse_angles
from pipeline_lib.config import CubeGrid, Tower
from pipeline_lib.cubes import grid_at
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_file
from simulated_archive.site import mgrs_square

CUBE = CubeGrid(size_px=48)
PERIODS = ("2019-05-01", "2019-05-30"), ("2022-07-01", "2022-07-30")


def read(root, item, asset):
    with rasterio.open(root / item["assets"][asset]["href"]) as file:
        return file.read(1), file.profile


def reflectance(root, item, band):
    numbers, _ = read(root, item, band)
    offset = 1000 if item["properties"]["s2:processing_baseline"] >= "04.00" else 0
    return np.where(numbers == 0, np.nan, (numbers.astype(float) - offset) / 10000)


def own_tiles(items, epsg=32632):
    chosen = [i for i in items["sentinel-2-l2a"] if i["properties"]["proj:epsg"] == epsg]
    return {item["properties"]["datetime"]: item for item in chosen}.values()


@pytest.mark.real
@pytest.mark.parametrize("name", ["sentinel-2-l2a", "sentinel-1-rtc"])
def test_items_have_the_structure_of_real_ones(items, shared_data: Path, name):
    path = shared_data / f"metadata/planetary_computer/{name}-pc.json"
    real = json.loads(path.read_text())[0]
    for item in items[name]:
        assert set(item) == set(real)
        assert set(item["properties"]) == set(real["properties"])
        assert item["stac_extensions"] == real["stac_extensions"]
        for key, asset in item["assets"].items():
            wanted = set(real["assets"][key]) - {"file:size", "file:checksum"}
            assert set(asset) == wanted, key
        for key, value in item["properties"].items():
            known = real["properties"][key]
            assert type(value) is type(known) or isinstance(known, int | float), key


def test_items_are_stac_with_identifiers_of_their_own(items):
    import pystac

    every = [item for collection in items.values() for item in collection]
    assert all(pystac.Item.from_dict(item).datetime is not None for item in every)
    assert len({item["id"] for item in every}) == len(every)


def test_assets_are_tiled_images_at_their_own_resolution(archive, items):
    grid = grid_at(11.7, 48.3, CUBE)
    for item in own_tiles(items):
        sizes = {"B04": 96, "B11": 48, "SCL": 48, "B01": 16}
        for band, size in sizes.items():
            values, profile = read(archive, item, band)
            assert values.shape == (size, size)
            assert values.dtype == ("uint8" if band == "SCL" else "uint16")
            assert profile["nodata"] == 0
            assert (profile["blockysize"], profile["blockxsize"]) == (size, size)
            assert profile["transform"].a == 960 / size
            assert profile["transform"].c % 60 == profile["transform"].f % 60 == 0
        left, bottom, right, top = item["assets"]["B04"]["proj:bbox"]
        west, south, east, north = grid.padded(24).bounds
        assert (left, bottom, right, top) == (west, south, east, north)


def test_both_baselines_give_the_same_ground(archive, items):
    medians = defaultdict(list)
    for item in own_tiles(items):
        if item["properties"]["eo:cloud_cover"] < 20:
            baseline = item["properties"]["s2:processing_baseline"]
            medians[baseline >= "04.00"].append(np.nanmedian(reflectance(archive, item, "B04")))
    assert all(0.01 < value < 0.2 for values in medians.values() for value in values)
    numbers = [read(archive, i, "B04")[0] for i in own_tiles(items)]
    assert min(values[values > 0].min() for values in numbers) >= 1
    late = [i for i in own_tiles(items) if i["properties"]["s2:processing_baseline"] >= "04.00"]
    assert late and all(read(archive, i, "B02")[0].min() > 900 for i in late)


def test_near_a_zone_border_a_day_has_tiles_of_both_zones(archive, items):
    days = defaultdict(set)
    for item in items["sentinel-2-l2a"]:
        properties = item["properties"]
        days[properties["datetime"]].add((properties["proj:epsg"], properties["s2:mgrs_tile"]))
        assert f"_T{properties['s2:mgrs_tile']}_" in item["id"]
    assert any(len({epsg for epsg, _ in tiles}) == 2 for tiles in days.values())
    other = next(i for i in items["sentinel-2-l2a"] if i["properties"]["proj:epsg"] == 32633)
    values, profile = read(archive, other, "B04")
    assert profile["crs"].to_epsg() == 32633
    assert 0.005 < np.mean(values == 0) < 0.6


def test_granule_metadata_are_read_with_the_place_and_sun_of_the_item(archive, items):
    for item in items["sentinel-2-l2a"][:4]:
        content = (archive / item["assets"]["granule-metadata"]["href"]).read_bytes()
        angles = parse_angles(content, ["B02", "B12"])
        assert b"NaN" in content and np.isfinite(angles.view_zenith[:, 0, 0]).all()
        assert angles.epsg == item["properties"]["proj:epsg"]
        left, _, _, top = item["assets"]["B04"]["proj:bbox"]
        assert angles.x[0] <= left <= angles.x[1] and angles.y[0] >= top >= angles.y[1]
        sun = item["properties"]["s2:mean_solar_zenith"]
        assert angles.sun_zenith.mean() == pytest.approx(sun, abs=0.1)


@pytest.mark.real
def test_granule_metadata_use_no_element_that_real_files_lack(archive, items, shared_data):
    names = set()
    for path in (shared_data / "metadata/granules").glob("*/MTD_TL.xml"):
        names |= {element.tag for element in ElementTree.parse(path).iter()}
    item = items["sentinel-2-l2a"][0]
    tree = ElementTree.parse(archive / item["assets"]["granule-metadata"]["href"])
    assert {element.tag for element in tree.iter()} <= names


def test_slices_of_a_pass_meet_without_a_gap(tmp_path, simulate):
    simulate(tmp_path, "site-009", ("2020-01-01", "2020-06-30"), lon=11.0)
    content = json.loads((tmp_path / "items/site-009.json").read_text())
    takes = defaultdict(list)
    for item in content["features"]:
        if item["collection"] == "sentinel-1-rtc":
            takes[item["properties"]["sat:absolute_orbit"]].append(item)
    split = [pair for pair in takes.values() if len(pair) == 2]
    assert split
    for pair in split:
        seen = np.zeros((60, 60), dtype=int)
        top = max(item["properties"]["proj:bbox"][3] for item in pair)
        for item in pair:
            values, profile = read(tmp_path, item, "vv")
            row = round((top - profile["transform"].f) / 10)
            seen[row : row + len(values)] += values != -32768
        assert np.all(seen == 1)


def test_the_truth_lies_under_what_is_seen(archive, items):
    with np.load(archive / "truth/site-000.npz") as truth:
        times = [text[:19] for text in truth["time"]]
        nadir = truth["nadir_reflectance"] / 10000
        classes = truth["cloud_class"]
        band = truth["bands"].tolist().index("B08")
        assert nadir.shape == (len(times), 12, 48, 48)
        assert truth["leaf_area"].shape == truth["soil_moisture"].shape == classes.shape
    compared = 0
    for item in own_tiles(items):
        stamp = item["properties"]["datetime"][:19]
        if stamp in times:
            k = times.index(stamp)
            seen = reflectance(archive, item, "B08")[24:72, 24:72]
            clear = classes[k] == 0
            if clear.mean() > 0.3:
                ratio = np.median(seen[clear] / nadir[k, band][clear])
                assert 0.85 < ratio < 1.15
                compared += 1
    assert compared


def test_the_same_seed_writes_the_same_bytes(archive, tmp_path, simulate):
    simulate(tmp_path, "site-000", *PERIODS)

    def digests(folder):
        return {
            path.relative_to(folder).as_posix(): digest_file(path)
            for path in folder.rglob("*")
            if path.is_file()
        }

    assert digests(tmp_path) == digests(archive)


def test_a_tower_site_has_its_file(tmp_path, simulate):
    tower = Tower(name="IT-Lav", lon=11.0, lat=48.3, vegetation="ENF")
    june = ("2018-06-01", "2018-06-20")
    simulate(tmp_path, "IT-Lav", june, lon=11.0, land_cover="ENF", tower=tower)
    assert (tmp_path / "fluxnet/FLX_IT-Lav_FLUXNET2015_FULLSET_DD_2018-2018_1-4.csv").exists()
    with np.load(tmp_path / "truth/IT-Lav.npz") as truth:
        assert len(truth["gpp"]) == len(truth["gpp_date"]) == 365


def test_scenes_too_small_for_the_cube_are_an_error(tmp_path, simulate):
    with pytest.raises(UserError, match=r"demo\.tile_px.*180 or more"):
        simulate(tmp_path, "site-000", *PERIODS, cube=CubeGrid(size_px=48))
    assert not (tmp_path / "items").exists()


def test_grid_squares_of_known_places():
    for lon, lat, square in ((11.575, 48.137, "32UPU"), (13.405, 52.52, "33UUU")):
        assert mgrs_square(grid_at(lon, lat, CUBE)) == square


def test_the_library_does_not_import_the_simulated_archive(project_root: Path):
    for path in (project_root / "src" / "pipeline_lib").rglob("*.py"):
        assert not re.search(r"(from|import) simulated_archive", path.read_text()), path
