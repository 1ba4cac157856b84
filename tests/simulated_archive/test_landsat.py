from datetime import date

import numpy as np
import pytest
import rasterio
from pyproj import Transformer

from pipeline_lib.cubes import Grid
from simulated_archive.clouds import draw_clouds
from simulated_archive.landsat import (
    LANDSAT_BANDS,
    landsat_tile,
    pixel_quality,
)
from simulated_archive.passes import landsat_passes

WINDOW = Grid(32632, 699600.0, 5353680.0, 10.0, 96, 96)


@pytest.mark.parametrize(
    ("lon", "lat", "path", "row", "time"),
    [
        # Scenes of the real archive, with their centres.
        (-123.39, 47.44, 47, 27, "2020-12-04T19:02:11"),
        (149.84, -34.57, 90, 84, "2016-01-21T23:50:23"),
    ],
)
def test_passes_meet_those_of_the_satellite(lon, lat, path, row, time):
    day = date.fromisoformat(time[:10])
    (found,) = landsat_passes(lon, lat, day, day)
    assert (found.path, found.row) == (path, row)
    apart = np.datetime64(found.time.replace(tzinfo=None)) - np.datetime64(time)
    assert abs(apart) < np.timedelta64(30, "s")
    assert abs(found.across) < 1.5


def test_a_place_is_seen_from_two_tracks_in_their_own_zones():
    passes = landsat_passes(11.58, 48.14, date(2020, 1, 1), date(2020, 12, 31))
    assert len(passes) == 46
    assert {(one.path, one.epsg) for one in passes} == {(192, 32633), (193, 32632)}
    assert {one.row for one in passes} <= {26, 27}
    days = [one.time.toordinal() for one in passes]
    assert set(np.diff(days)) == {7, 9}
    assert all((one.across > 0) == (one.path == 192) for one in passes)
    assert all(abs(one.across) <= 7.5 for one in passes)


def test_items_have_the_layout_of_the_collection(archive, items):
    found = items["landsat-c2-l2"]
    assert {item["properties"]["landsat:wrs_path"] for item in found} == {"192", "193"}
    for item in found:
        properties = item["properties"]
        day = date.fromisoformat(properties["datetime"][:10])
        number = properties["landsat:wrs_path"] + properties["landsat:wrs_row"]
        assert number in ("192026", "193026")
        assert item["id"] == f"LC08_L2SP_{number}_{day:%Y%m%d}_02_T1"
        assert properties["landsat:scene_id"] == f"LC8{number}{day:%Y%j}LGN00"
        assert properties["platform"] == "landsat-8"
        assert properties["landsat:collection_category"] == "T1"
        assert 0 <= properties["eo:cloud_cover"] <= 100
        assert 20 < properties["view:sun_elevation"] < 70
        assert set(item["assets"]) == {*LANDSAT_BANDS, "qa_pixel", "qa_radsat"}
        step, _, left, _, down, top = properties["proj:transform"]
        assert (step, down, left % 30, top % 30) == (30, -30, 15, 15)
        for name, asset in item["assets"].items():
            with rasterio.open(archive / asset["href"]) as file:
                assert file.crs.to_epsg() == properties["proj:epsg"]
                assert list(file.transform[:6]) == properties["proj:transform"]
                assert list(file.shape) == properties["proj:shape"]
                assert file.dtypes == ("uint16",)
                assert file.nodata == (1 if name == "qa_pixel" else 0)
        assert item["assets"]["red"]["raster:bands"][0]["scale"] == 2.75e-5


@pytest.mark.parametrize("epsg", [32632, 32633])
def test_pixels_are_means_over_their_area(epsg):
    tile = landsat_tile(WINDOW, epsg)
    x, y = np.meshgrid(WINDOW.x, WINDOW.y)
    place = np.stack([x - WINDOW.left, WINDOW.top - y]).astype(np.float32)
    east, south = tile.mean(place)
    change = Transformer.from_crs(epsg, WINDOW.epsg, always_xy=True)
    wanted_x, wanted_y = change.transform(*np.meshgrid(tile.grid.x, tile.grid.y))
    wanted = np.stack([wanted_x - WINDOW.left, WINDOW.top - wanted_y])
    inside = ((wanted > 25) & (wanted < 935)).all(axis=0)
    assert inside.sum() > 800
    # A plane's mean is its value at the centre; tilted pixels are put together from squares.
    atol = 1e-3 if epsg == WINDOW.epsg else 1.5
    np.testing.assert_allclose(east[inside], wanted[0][inside], atol=atol)
    np.testing.assert_allclose(south[inside], wanted[1][inside], atol=atol)
    beyond = ((wanted < -25) | (wanted > 985)).any(axis=0)
    assert np.isnan(east[beyond]).all()
    if epsg == WINDOW.epsg:
        assert not np.isnan(east).any() and tile.grid.shape == (33, 33)


def test_pixel_quality_flags_most_clouds_and_widens_them():
    tile = landsat_tile(WINDOW, 32633)
    right, missed, invented = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        clouds = draw_clouds(rng, 96, cloudiness=0.4, sun_zenith=40.0, sun_azimuth=160.0)
        beyond = np.isnan(tile.mean(clouds.shade))
        numbers = np.full((len(LANDSAT_BANDS), *tile.grid.shape), 9000, np.uint16)
        numbers[:, beyond] = 0
        quality = pixel_quality(rng, tile, clouds, numbers)
        assert (quality[numbers[0] == 0] == 1).all()
        seen = quality[numbers[0] > 0]
        clear, cloud, rim = (seen >> bit & 1 == 1 for bit in (6, 3, 1))
        np.testing.assert_array_equal(clear, ~(cloud | rim))
        assert rim.any() and not (rim & cloud).any()
        np.testing.assert_array_equal(seen >> 8 & 3, np.where(cloud, 3, 1))
        assert (seen >> 12 & 3 == 1).all()
        thick = tile.mean((clouds.thickness > 3).astype(np.float32))[numbers[0] > 0]
        missed.append((~cloud & (thick > 0.9)).mean())
        invented.append((cloud & (thick < 0.1)).mean())
        right.append((cloud == (thick > 0.5)).mean())
    assert np.mean(right) > 0.9
    assert 0 < np.mean(missed) < 0.05 and 0 < np.mean(invented) < 0.05
