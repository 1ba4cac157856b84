from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline_lib.acquire import draw_site_table, read_land_cover
from pipeline_lib.config import Catalog, LandCover, Periods, Sites, Stratum
from pipeline_lib.errors import UserError

STEP = 1 / 20
FOLDER = Catalog(source="unused", signing="none")


def codes() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.choice(np.array([70, 130, 210], np.uint8), size=(80, 100))


def sites(**land_cover: Any) -> Sites:
    return Sites(
        count=8,
        bounds=(6, 46, 9, 49),
        min_distance_km=20,
        strata=(
            Stratum(name="forest", codes=(70,), share=0.5),
            Stratum(name="others", codes=(), share=0.5),
        ),
        land_cover=LandCover(**land_cover),
        periods=Periods(count=2, first_year=2019, last_year=2021),
    )


def write_tif(path: Path, values: np.ndarray, west: float, north: float) -> None:
    import rasterio
    from rasterio.transform import from_origin

    height, width = values.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=1,
        dtype=values.dtype,
        crs="EPSG:4326",
        transform=from_origin(west, north, STEP, STEP),
    ) as file:
        file.write(values, 1)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "lc.tif"
    write_tif(path, codes(), 5, 50)
    return path


def test_only_cells_within_the_bounds_are_read(whole: Path) -> None:
    area = read_land_cover(sites(file=whole), FOLDER)
    assert area.codes.shape == (60, 60)
    np.testing.assert_array_equal(area.codes, codes()[20:80, 20:80])
    assert area.lon[0] == pytest.approx(6 + STEP / 2)
    assert area.lat[0] == pytest.approx(49 - STEP / 2)


def test_netcdf_equals_geotiff(whole: Path, tmp_path: Path) -> None:
    import xarray as xr

    lon, lat = 5 + (np.arange(100) + 0.5) * STEP, 50 - (np.arange(80) + 0.5) * STEP
    # As the old files of the map have it: signed bytes, with a time axis.
    values = codes().view(np.int8)[None]
    content = xr.Dataset(
        {"lccs_class": (("time", "lat", "lon"), values)}, coords={"lat": lat, "lon": lon}
    )
    content.to_netcdf(tmp_path / "lc.nc")
    theirs = read_land_cover(sites(file=tmp_path / "lc.nc"), FOLDER)
    mine = read_land_cover(sites(file=whole), FOLDER)
    np.testing.assert_array_equal(theirs.codes, mine.codes)
    np.testing.assert_allclose(theirs.lon, mine.lon)
    np.testing.assert_allclose(theirs.lat, mine.lat)


def test_tiles_of_the_collection_are_joined(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    (folder / "items").mkdir(parents=True)
    features = []
    for name, left in (("west", 0), ("east", 50)):
        write_tif(folder / f"{name}.tif", codes()[:, left : left + 50], 5 + left * STEP, 50)
        box = [5 + left * STEP, 46, 5 + (left + 50) * STEP, 50]
        features.append(
            {
                "id": name,
                "collection": "esa-cci-lc",
                "bbox": box,
                "properties": {
                    "datetime": None,
                    "start_datetime": "2020-01-01T00:00:00Z",
                    "end_datetime": "2020-12-31T23:59:59Z",
                },
                "assets": {"lccs_class": {"href": f"{name}.tif"}},
            }
        )
    content = {"type": "FeatureCollection", "features": features}
    (folder / "items" / "lc.json").write_text(json.dumps(content))
    catalog = Catalog(source=str(folder), signing="none")
    joined = read_land_cover(sites(), catalog)
    np.testing.assert_array_equal(joined.codes, read_land_cover(sites(file=whole), FOLDER).codes)
    with pytest.raises(UserError, match="no land-cover map of 2019"):
        read_land_cover(sites(year=2019), catalog)
    with pytest.raises(UserError, match=r"no asset 'quality'.*lccs_class"):
        read_land_cover(sites(asset="quality"), catalog)


def test_the_table_has_one_row_per_cube_and_is_repeatable(whole: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        draw_site_table(sites=sites(file=whole), catalog=FOLDER, seed=1, output=tmp_path / name)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    with (tmp_path / "a.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["cube", "site", "land_cover", "lcc_code", "lon", "lat", "start", "end"]
    assert [row["cube"] for row in rows[:3]] == ["site-000-a", "site-000-b", "site-001-a"]
    assert len(rows) == 16


def test_an_unreadable_map_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.tif").write_bytes(b"no map")
    with pytest.raises(UserError, match=r"bad\.tif"):
        read_land_cover(sites(file=tmp_path / "bad.tif"), FOLDER)
    (tmp_path / "bad.nc").write_bytes(b"no map")
    with pytest.raises(UserError, match=r"bad\.nc"):
        read_land_cover(sites(file=tmp_path / "bad.nc"), FOLDER)
    write_tif(tmp_path / "float.tif", codes().astype(np.float32), 5, 50)
    with pytest.raises(UserError, match="not LCCS codes"):
        read_land_cover(sites(file=tmp_path / "float.tif"), FOLDER)
