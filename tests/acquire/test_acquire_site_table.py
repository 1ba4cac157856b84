from __future__ import annotations

import csv
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from file_server import BLOB_HOST, Answer, Fault, FileServer
from scenes import write_raster

from pipeline_lib.acquire import draw_site_table, read_land_cover
from pipeline_lib.config import Catalog, LandCover, Periods, Sites, Stratum
from pipeline_lib.config.sites import LCCS_CODES
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
            Stratum(name="forest", codes=(70,), fraction=0.5),
            Stratum(name="others", codes=(), fraction=0.5),
        ),
        land_cover=LandCover(**land_cover),
        periods=Periods(count=2, first_year=2019, last_year=2021),
    )


def write_tif(path: Path, values: np.ndarray, west: float, north: float) -> None:
    write_raster(path, values, 4326, west, north, STEP, None)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "lc.tif"
    write_tif(path, codes(), 5, 50)
    return path


def assert_equal(area: Any, whole: Path) -> None:
    """An area is what is read of the whole map."""
    expected = read_land_cover(sites(file=whole), FOLDER)
    np.testing.assert_array_equal(area.codes, expected.codes)
    np.testing.assert_allclose(area.lon, expected.lon)
    np.testing.assert_allclose(area.lat, expected.lat)


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
    assert_equal(read_land_cover(sites(file=tmp_path / "lc.nc"), FOLDER), whole)


def write_tiles(folder: Path, address: str = "", tiles: str = "NSE") -> Catalog:
    """Four tiles around 7.5 E, 48 N, as the collection has them: cut, placed and named so."""
    (folder / "items").mkdir(parents=True)
    features = []
    for name, top, left in (("NE", 0, 50), ("NW", 0, 0), ("SE", 40, 50), ("SW", 40, 0)):
        if not set(name) & set(tiles):
            continue
        part = codes()[top : top + 40, left : left + 50]
        west, north = 5 + left * STEP, 50 - top * STEP
        # Corners of the real tiles carry rounding errors.
        write_tif(folder / f"{name}.tif", part, west, north + 1e-14)
        features.append(
            {
                "type": "Feature",
                "stac_version": "1.0.0",
                "id": f"C3S-LC-L4-LCCS-Map-300m-P1Y-2020-v2.1.1-{name}",
                "collection": "esa-cci-lc",
                "bbox": [west, north - 40 * STEP, west + 50 * STEP, north],
                "geometry": None,
                "links": [],
                "properties": {
                    "datetime": None,
                    "start_datetime": "2020-01-01T00:00:00Z",
                    "end_datetime": "2020-12-31T23:59:59Z",
                    "esa_cci_lc:tile": name,
                    "proj:epsg": 4326,
                },
                "assets": {
                    "change_count": {"href": f"{address}absent.tif", "roles": ["quality"]},
                    "lccs_class": {"href": f"{address}{name}.tif", "roles": ["data"]},
                },
            }
        )
    content = {"type": "FeatureCollection", "features": features}
    (folder / "items" / "lc.json").write_text(json.dumps(content))
    return Catalog(source=str(folder), signing="none", timeout_s=1, retries=1)


def test_tiles_of_the_collection_are_joined(whole: Path, tmp_path: Path) -> None:
    catalog = write_tiles(tmp_path / "catalog", tiles="NS")
    assert_equal(read_land_cover(sites(), catalog), whole)
    with pytest.raises(UserError, match="esa-cci-lc of 2019: no land-cover map"):
        read_land_cover(sites(year=2019), catalog)
    with pytest.raises(UserError, match="quality: the item has no such asset; check"):
        read_land_cover(sites(asset="quality"), catalog)


def test_a_map_that_leaves_part_of_the_bounds_out_is_refused(whole: Path, tmp_path: Path) -> None:
    beyond = Sites(**sites(file=whole).model_dump() | {"bounds": (6, 46, 12, 49)})
    with pytest.raises(UserError, match=r"lc\.tif: the land-cover map ends within .* to 10\.00 E"):
        read_land_cover(beyond, FOLDER)
    # The tile in the north-west is missing, and so a corner of the bounds.
    with pytest.raises(UserError, match=r"tiles of the land-cover map leave 17% of .* uncovered"):
        read_land_cover(sites(), write_tiles(tmp_path / "three", tiles="SE"))
    with pytest.raises(UserError, match="the land-cover map ends within"):
        read_land_cover(sites(), write_tiles(tmp_path / "two", tiles="S"))


@pytest.mark.parametrize(("left", "west", "east"), [(0, -5, 5), (-180, 175, 180), (0, 175, 180)])
def test_maps_from_0_to_360_degrees_or_up_to_180_are_read(
    tmp_path: Path, left: int, west: int, east: int
) -> None:
    def classes(lon: np.ndarray) -> np.ndarray:
        found = np.random.default_rng(1).choice(np.array([70, 130, 210], np.uint8), 360)
        return np.tile(found[lon.astype(int) % 360], (10, 1))

    path = tmp_path / "earth.tif"
    write_raster(path, classes(left + np.arange(360)), 4326, left, 50, 1, None)
    block = Sites(**sites(file=path).model_dump() | {"bounds": (west, 42, east, 48)})
    area = read_land_cover(block, FOLDER)
    np.testing.assert_allclose(area.lon, np.arange(west, east) + 0.5)
    np.testing.assert_array_equal(area.codes, classes(area.lon - 0.5)[:6])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda answer: answer.status(403), r"rejected: .*NE\.tif: HTTP 403; check catalog\.sign"),
        (lambda answer: answer.status(404), r"NE\.tif: gone \(HTTP 404\)"),
        (lambda answer: answer.status(503), r"no proper answer after 2 tries .*NE\.tif: HTTP 503"),
        (lambda answer: answer.file(cut=0.5), r"unreadable: .*NE\.tif: not a readable raster"),
    ],
)
def test_a_remote_tile_that_cannot_be_read_is_an_error(
    answer: Callable[[Answer], None], message: str, tmp_path: Path
) -> None:
    with FileServer(tmp_path) as server:
        catalog = write_tiles(tmp_path / "catalog", f"{server.url}/catalog/", "NS")
        read_land_cover(sites(), catalog)
        server.faults = [Fault("NE.tif", answer)]
        with pytest.raises(UserError, match=message):
            read_land_cover(sites(), catalog)


def test_a_tile_is_signed_again_when_its_token_has_expired(
    tmp_path: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    token_endpoint: Callable[[str], None],
) -> None:
    with FileServer(tmp_path) as server:
        token_endpoint(server.sas_url)
        monkeypatch.setenv("http_proxy", server.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        catalog = write_tiles(tmp_path / "catalog", f"http://{BLOB_HOST}/catalog/", "NS")
        signing = catalog.model_copy(update={"signing": "planetary-computer"})
        server.needs_token = True
        server.faults = [Fault("SE.tif", Answer.expire, times=1)]
        assert_equal(read_land_cover(sites(), signing), whole)


@pytest.mark.real
def test_the_real_collection_has_the_asset_that_is_read(shared_data: Path) -> None:
    folder = shared_data / "metadata" / "planetary_computer"
    file = folder / "collection_template_esa-cci-lc_collection_esa-cci-lc.json"
    collection = json.loads(file.read_text())
    block = Sites().land_cover
    asset = collection["item_assets"][block.asset]
    assert collection["id"] == block.collection
    (band,) = asset["raster:bands"]
    assert (band["data_type"], band["nodata"]) == ("uint8", 0)
    first, last = collection["extent"]["temporal"]["interval"][0]
    assert int(first[:4]) <= block.year <= int(last[:4])
    values = {entry["value"] for entry in asset["classification:classes"]}
    assert {code for stratum in Sites().strata for code in stratum.codes} <= values
    assert set(block.excluded) <= values == set(LCCS_CODES)


def test_the_job_writes_one_row_per_cube_and_logs_the_distribution(
    whole: Path, tmp_path: Path, project_root: Path
) -> None:
    block = sites(file=whole).model_dump(mode="json")
    snakemake = SimpleNamespace(
        log=[str(tmp_path / "sample_sites.log")],
        rule="sample_sites",
        config={"catalog": FOLDER.model_dump(mode="json")},
        params=SimpleNamespace(sites=block, catalog={}, seed=1),
        output=[str(tmp_path / "sites.csv")],
    )
    script = project_root / "workflow" / "scripts" / "sample_sites.py"
    runpy.run_path(str(script), init_globals={"snakemake": snakemake})
    log = (tmp_path / "sample_sites.log").read_text()
    assert "compared with Table I" in log and "Periods per year: 2019: 8, 2021: 8" in log
    with (tmp_path / "sites.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["cube", "site", "land_cover", "lcc_code", "lon", "lat", "start", "end"]
    assert [row["cube"] for row in rows[:3]] == ["site-000-a", "site-000-b", "site-001-a"]
    assert len(rows) == 16
    draw_site_table(sites=sites(file=whole), catalog=FOLDER, seed=1, output=tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "sites.csv").read_bytes()


def test_no_data_of_the_file_is_not_drawn(whole: Path, tmp_path: Path) -> None:
    values = codes().astype(np.int16)
    values[:40, :50] = -9999
    write_raster(tmp_path / "lc.tif", values, 4326, 5, 50, STEP, -9999)
    area = read_land_cover(sites(file=tmp_path / "lc.tif"), FOLDER)
    assert not area.codes[:20, :30].any()
    np.testing.assert_array_equal(area.codes[20:], codes()[40:80, 20:80])


def test_a_domain_that_ends_at_180_degrees_is_drawn_from(tmp_path: Path) -> None:
    """On both sides; a domain across is an error that says so."""
    write_raster(tmp_path / "lc.tif", np.full((80, 7200), 70, np.uint8), 4326, -180, 50, STEP, 0)
    block = sites(file=tmp_path / "lc.tif").model_dump() | {"count": 6, "min_distance_km": 80}
    block["strata"] = [{"name": "forest", "codes": [70], "fraction": 1}]
    for west, east in ((177, 180), (-180, -177)):
        chosen = Sites.model_validate(block | {"bounds": (west, 46, east, 49)})
        area = read_land_cover(chosen, FOLDER)
        assert area.codes.shape == (60, 60)
        edges = area.lon[0] - STEP / 2, area.lon[-1] + STEP / 2
        np.testing.assert_allclose(edges, (west, east))
        draw_site_table(sites=chosen, catalog=FOLDER, seed=1, output=tmp_path / "sites.csv")
    with pytest.raises(ValueError, match="on one side of 180 degrees"):
        Sites(bounds=(178, 46, -178, 49))


@pytest.mark.real
def test_sites_of_the_real_map_have_its_classes_shares_and_distances(
    shared_data: Path, tmp_path: Path
) -> None:
    import rasterio
    from pyproj import Geod

    path = shared_data / "landcover" / "ESA_CCI_2018_300m_Aachen-Eifel.tif"
    block = Sites(
        count=40, bounds=(5.5, 50, 7, 51.5), min_distance_km=10, land_cover=LandCover(file=path)
    )
    draw_site_table(sites=block, catalog=FOLDER, seed=42, output=tmp_path / "sites.csv")
    table = pd.read_csv(tmp_path / "sites.csv").drop_duplicates("site")
    counts = table["land_cover"].value_counts().to_dict()
    assert counts == {
        "others": 14,
        "needle-leaved": 8,
        "broad-leaved": 8,
        "grassland": 8,
        "urban": 2,
    }
    places = table[["lon", "lat"]].to_numpy()
    with rasterio.open(path) as file:
        found = [int(value[0]) for value in file.sample(places)]
    assert found == table["lcc_code"].tolist()
    codes_of = {stratum.name: stratum.codes or found for stratum in block.strata}
    assert all(row.lcc_code in codes_of[row.land_cover] for row in table.itertuples())
    one, other = np.triu_indices(len(table), k=1)
    assert Geod(ellps="WGS84").inv(*places[one].T, *places[other].T)[2].min() >= 10_000


@pytest.mark.real
def test_the_real_corine_map_is_not_taken_for_lccs_codes(shared_data: Path) -> None:
    block = sites(file=shared_data / "landcover" / "clc-aachen_clipped.tif")
    with pytest.raises(UserError, match="in degrees and have the LCCS codes of ESA CCI"):
        read_land_cover(block, FOLDER)


def write_odd_maps(folder: Path) -> None:
    """Maps that cannot be used: no map, no codes, not on square degrees."""
    import rasterio
    from rasterio.transform import from_origin

    for name in ("bad.tif", "bad.nc"):
        (folder / name).write_bytes(b"no map")
    write_tif(folder / "float.tif", codes().astype(np.float32), 5, 50)
    write_tif(folder / "signed.tif", codes().astype(np.int16) - 100, 5, 50)
    rng = np.random.default_rng(0)
    write_tif(folder / "corine.tif", rng.integers(1, 45, (80, 100), np.uint8), 5, 50)
    cover = rng.choice(np.arange(10, 101, 10).astype(np.uint8), (1600, 2000))
    write_raster(folder / "worldcover.tif", cover, 4326, 5, 50, 1 / 400.5, None)
    years = {"driver": "GTiff", "count": 2, "dtype": "uint8", "width": 100, "height": 80}
    place = {"crs": "EPSG:4326", "transform": from_origin(5, 50, STEP, STEP)}
    with rasterio.open(folder / "years.tif", "w", **years, **place) as file:
        file.write(np.stack([codes(), codes()]))
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "width": 100, "height": 80}
    for name, crs, transform in (
        ("metres.tif", "EPSG:3035", from_origin(4e6, 3e6, 300, 300)),
        ("oblong.tif", "EPSG:4326", from_origin(5, 50, STEP, STEP / 2)),
    ):
        with rasterio.open(folder / name, "w", crs=crs, transform=transform, **profile) as file:
            file.write(codes(), 1)


def test_a_map_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    write_odd_maps(tmp_path)
    for name, message in (
        ("bad.tif", ""),
        ("bad.nc", ""),
        ("float.tif", "not LCCS codes"),
        ("signed.tif", "contains int16, not LCCS codes"),
        ("metres.tif", "LCCS codes of ESA CCI; if it has them, warp it to EPSG:4326"),
        ("oblong.tif", "warp it to EPSG:4326"),
        ("corine.tif", r"contains uint8, not LCCS codes of ESA CCI as integers \(1, 2, 3, 4\)"),
        ("worldcover.tif", "no code above 100, .* is it ESA WorldCover"),
        ("years.tif", "has 2 bands, perhaps of as many years; give a file of the one year"),
    ):
        with pytest.raises(UserError, match=rf"{name}.*{message}"):
            read_land_cover(sites(file=tmp_path / name), FOLDER)
