import json

import numpy as np
import pytest
import rasterio

from pipeline_lib.config import Demo, Sites
from simulated_archive.land_cover import draw_land_cover, write_land_cover
from simulated_archive.stac import LAND_COVER


def test_every_class_has_its_share():
    codes = draw_land_cover(np.random.default_rng(0), (900, 1080))
    total = sum(share for _, _, share, _ in LAND_COVER.values())
    for code, (_, _, share, _) in LAND_COVER.items():
        assert np.mean(codes == code) == pytest.approx(share / total, abs=0.012 + 0.15 * share)
        assert np.any(codes == code)
    assert np.mean(codes[:, 1:] == codes[:, :-1]) > 0.75


def test_the_map_lies_where_the_sites_are_drawn(tmp_path):
    sites = Sites(bounds=(11.5, 47.5, 12.5, 48.0))
    write_land_cover(sites=sites, demo=Demo(), seed=3, folder=tmp_path)
    (item,) = json.loads((tmp_path / "items/esa-cci-lc.json").read_text())["features"]
    assert item["properties"]["start_datetime"].startswith("2020")
    assert item["properties"]["esa_cci_lc:version"] == "v2.1.1"
    with rasterio.open(tmp_path / item["assets"]["lccs_class"]["href"]) as file:
        assert file.crs.to_epsg() == 4326
        assert file.bounds == pytest.approx((11.5, 47.5, 12.5, 48.0))
        assert file.res == pytest.approx((1 / 360, 1 / 360))
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        codes = file.read(1)
    assert codes.shape == (180, 360)
    assert set(np.unique(codes)) <= set(LAND_COVER)
    for name in ("sentinel-2-l2a", "sentinel-1-rtc", "esa-cci-lc"):
        collection = json.loads((tmp_path / f"collections/{name}.json").read_text())
        assert collection["id"] == name
