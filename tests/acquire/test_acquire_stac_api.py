"""The whole acquisition through a real STAC API, beside the same from a folder."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from file_server import FileServer
from stac_api import StacApi, make_database, postgresql, reason_to_skip, stac_api

from pipeline_lib.acquire import build_cube, catalog, draw_site_table, pin_items, search
from pipeline_lib.acquire.baseline import baseline_of
from pipeline_lib.acquire.catalog import Item, license_of, start_of
from pipeline_lib.acquire.mosaic import solar_day
from pipeline_lib.acquire.placement import epsg_of
from pipeline_lib.acquire.signing import BLOB
from pipeline_lib.config import (
    SENTINEL_1,
    SENTINEL_2,
    Catalog,
    CubeGrid,
    Demo,
    LandCover,
    Periods,
    Sites,
)
from pipeline_lib.cubes import CubeRequest, read_cube
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json, write_json
from simulated_archive import simulate_site, write_land_cover

REASON = reason_to_skip()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("stac-api"),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

SENSORS = {"sentinel-1": SENTINEL_1, "sentinel-2": SENTINEL_2}
COLLECTIONS = ("esa-cci-lc", "sentinel-1-rtc", "sentinel-2-l2a")
SEED = 3
DEMO = Demo(tile_px=60, radar_tile_px=36, optical_revisit_days=30, land_cover_cells_per_degree=60)
CUBE = CubeGrid(size_px=24, cloud_context_px=12)
SITES = Sites(
    count=12,
    bounds=(10.5, 47.0, 13.5, 49.5),
    min_distance_km=40,
    periods=Periods(count=1, first_year=2021, last_year=2021),
)
ZONE_BORDER = 12.0

MIDNIGHT = ("1987-12-31T23:59:59.024000Z", "1988-01-01T00:00:00.000000Z")
"""Two more listings of a scene: the last moment of a day, and the first of the next."""

WORLD = (-180.0, -90.0, 180.0, 90.0)
ALWAYS = date(1980, 1, 1), date(2030, 12, 31)


@dataclass(frozen=True)
class Acquisition:
    """One content, held by a folder and by a STAC API whose assets a file server serves."""

    folder: Catalog
    api: Catalog
    request: CubeRequest
    server: StacApi
    files: FileServer


def catalog_at(source: str | Path) -> Catalog:
    return Catalog(source=str(source), signing="none", timeout_s=20, retries=1, requests=2)


def request_of(table: Path) -> CubeRequest:
    """The cube nearest to the border of two UTM zones: it has scenes of both."""
    with table.open() as handle:
        requests = [CubeRequest.from_row(row) for row in csv.DictReader(handle)]
    return min(requests, key=lambda request: abs(request.lon - ZONE_BORDER))


def moved(item: Item, time: str) -> Item:
    """The same scene, listed at another time."""
    name = f"{item['id']}_{re.sub(r'[^0-9]', '', time)}"
    return item | {"id": name, "properties": item["properties"] | {"datetime": time}}


def real_metadata(folder: Path) -> tuple[list[Item], list[Item]]:
    """Collections and items of Planetary Computer; of two with one name, the later file's."""
    found: dict[tuple[str, str], Item] = {}
    for file in sorted((folder / "metadata" / "planetary_computer").glob("*.json")):
        content = read_json(file)
        for entry in content if isinstance(content, list) else [content]:
            found[entry["type"], entry["id"]] = entry
    collections = [entry for (kind, _), entry in found.items() if kind == "Collection"]
    return collections, [entry for (kind, _), entry in found.items() if kind == "Feature"]


def items_below(folder: Path) -> list[Item]:
    return [
        item for file in (folder / "items").glob("*.json") for item in read_json(file)["features"]
    ]


def served(item: Item, url: str) -> Item:
    """The item with absolute addresses."""
    assets = {
        key: asset | {"href": f"{url}/{asset['href']}"}
        for key, asset in item["assets"].items()
        if not catalog.is_url(asset["href"])
    }
    return item | {"assets": item["assets"] | assets}


def comparable(item: Item, place: str) -> Item:
    """What an item says in either catalog; ``place`` is where its assets lie.

    An API writes its own links and leaves out what is None.
    """
    assets = {
        key: asset | {"href": asset["href"].removeprefix(f"{place}/")}
        for key, asset in item["assets"].items()
    }
    properties = {key: value for key, value in item["properties"].items() if value is not None}
    return item | {"links": [], "assets": assets, "properties": properties}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, canopy_table: Path) -> Path:
    """A simulated archive of one site for a year."""
    folder = tmp_path_factory.mktemp("archive")
    write_land_cover(sites=SITES, demo=DEMO, seed=SEED, folder=folder)
    table = folder / "sites.csv"
    draw_site_table(sites=SITES, catalog=catalog_at(folder), seed=SEED, output=table)
    request = request_of(table)
    simulate_site(
        requests=[request],
        cube=CUBE,
        demo=DEMO,
        seed=SEED,
        canopy_table=canopy_table,
        folder=folder,
        truth=folder / "truth",
    )
    optical = next(i for i in items_below(folder) if i["collection"] == "sentinel-2-l2a")
    listed = [moved(optical, time) for time in MIDNIGHT]
    write_json(folder / "items" / "midnight.json", {"features": listed})
    return folder


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with postgresql() as number:
        yield number


@pytest.fixture(scope="module")
def acquisition(
    archive: Path, port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Acquisition]:
    collections = [read_json(file) for file in sorted((archive / "collections").glob("*.json"))]
    with FileServer(archive) as files:
        items = [served(item, files.url) for item in items_below(archive)]
        make_database(port, "archive", collections, items)
        with stac_api(port, "archive", tmp_path_factory.mktemp("api")) as server:
            yield Acquisition(
                folder=catalog_at(archive),
                api=catalog_at(server.url),
                request=request_of(archive / "sites.csv"),
                server=server,
                files=files,
            )


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_items_of_the_api_equal_those_of_the_folder(
    acquisition: Acquisition, collection: str
) -> None:
    mine = search(acquisition.api, collection, WORLD, *ALWAYS)
    theirs = search(acquisition.folder, collection, WORLD, *ALWAYS)
    assert [comparable(item, acquisition.files.url) for item in mine] == [
        comparable(item, acquisition.folder.source) for item in theirs
    ]
    assert mine


def test_sites_drawn_through_the_api_are_those_of_the_folder(
    acquisition: Acquisition, archive: Path, tmp_path: Path
) -> None:
    table = tmp_path / "sites.csv"
    draw_site_table(sites=SITES, catalog=acquisition.api, seed=SEED, output=table)
    assert table.read_bytes() == (archive / "sites.csv").read_bytes()
    assert any("lccs_class.tif" in request for request in acquisition.files.requests)


def pin(source: Catalog, request: CubeRequest, sensor: str, output: Path) -> Any:
    pin_items(request=request, sensor=SENSORS[sensor], cube=CUBE, catalog=source, output=output)
    return read_json(output)


@pytest.mark.parametrize("sensor", SENSORS)
def test_pins_and_cubes_through_the_api_equal_those_of_the_folder(
    acquisition: Acquisition, tmp_path: Path, sensor: str
) -> None:
    pins, cubes = {}, {}
    for name, source in (("api", acquisition.api), ("folder", acquisition.folder)):
        pinned, output = tmp_path / f"{name}.json", tmp_path / f"{name}.zarr.zip"
        pins[name] = pin(source, acquisition.request, sensor, pinned)
        build_cube(
            sensor_name=sensor,
            sensor=SENSORS[sensor].source(),
            catalog=source,
            cube=CUBE,
            items=pinned,
            config_digest="the same",
            output=output,
        )
        cubes[name] = read_cube(output)
        assert cubes[name].attrs.pop("source").endswith(f" of {source.source}")
    mine, theirs = pins["api"], pins["folder"]
    assert [item["id"] for item in mine["items"]] == [item["id"] for item in theirs["items"]]
    hrefs = [asset["href"] for item in mine["items"] for asset in item["assets"].values()]
    assert all(re.fullmatch(rf"{acquisition.files.url}/assets/[^?]+", href) for href in hrefs)
    assert mine["query"] == theirs["query"] | {"source": acquisition.api.source}
    age = datetime.now(UTC) - datetime.fromisoformat(mine["queried_at"])
    assert -1 < age.total_seconds() < 300
    for key in ("request", "grid", "license"):
        assert mine[key] == theirs[key]
    assert " https://" in mine["license"]
    if sensor == "sentinel-2":
        assert {epsg_of(item) for item in mine["items"]} == {32632, 32633}
    assert cubes["api"].attrs["missing"] == "[]"
    assert cubes["api"].sizes["time"] > 3
    xr.testing.assert_identical(cubes["api"], cubes["folder"])


def test_a_search_of_many_pages_finds_the_same_items(
    acquisition: Acquisition, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, collection = acquisition.request, "sentinel-1-rtc"
    box = (request.lon - 0.1, request.lat - 0.1, request.lon + 0.1, request.lat + 0.1)
    whole = search(acquisition.api, collection, box, request.start, request.end)
    monkeypatch.setattr(catalog, "PAGE", 7)
    before = acquisition.server.searches()
    paged = search(acquisition.api, collection, box, request.start, request.end)
    assert paged == whole
    assert len(whole) > 3 * 7
    # What lies between two pages, and after the last one, is asked for as well.
    assert acquisition.server.searches() - before == 2 * math.ceil(len(whole) / 7)


@pytest.mark.parametrize("source", ["api", "folder"])
def test_the_last_moment_of_the_last_day_belongs_to_a_period(
    acquisition: Acquisition, source: str
) -> None:
    chosen: Catalog = getattr(acquisition, source)
    for time in MIDNIGHT:
        day = date.fromisoformat(time[:10])
        times = [
            item["properties"]["datetime"]
            for item in search(chosen, "sentinel-2-l2a", WORLD, day, day)
        ]
        assert times == [time]


def test_an_unknown_collection_is_an_error_of_one_line(
    acquisition: Acquisition, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        pin_items(
            request=acquisition.request,
            sensor=SENTINEL_2.model_copy(update={"collection": "sentinel-2-l9z"}),
            cube=CUBE,
            catalog=acquisition.api,
            output=tmp_path / "pins.json",
        )
    assert str(caught.value) == (
        f"{acquisition.api.source}: no collection sentinel-2-l9z; check the sensor's collection"
    )
    no_map = SITES.model_copy(update={"land_cover": LandCover(collection="no-map")})
    with pytest.raises(UserError, match=r"^\S+.* no land-cover map .*; check sites\.land_cover.*$"):
        draw_site_table(
            sites=no_map, catalog=acquisition.api, seed=SEED, output=tmp_path / "sites.csv"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_real_collections_are_served_understood_and_pinned_unsigned(
    shared_data: Path, port: int, tmp_path: Path
) -> None:
    collections, items = real_metadata(shared_data)
    make_database(port, "planetary_computer", collections, items)
    day = date(2019, 6, 29)
    request = CubeRequest("alaska-a", "alaska", "others", -147.8, 60.8, day, day)
    with stac_api(port, "planetary_computer", tmp_path) as server:
        source = catalog_at(server.url)
        for collection in collections:
            terms = [link["href"] for link in collection["links"] if link["rel"] == "license"]
            assert license_of(source, collection["id"]) == f"{collection['license']} {terms[0]}"
        found = {i["id"]: i for name in COLLECTIONS for i in search(source, name, WORLD, *ALWAYS)}
        signing = source.model_copy(update={"signing": "planetary-computer"})
        (pinned,) = pin(signing, request, "sentinel-2", tmp_path / "pins.json")["items"]
    real = {item["id"]: item for item in items}
    assert {n: comparable(i, "") for n, i in found.items()} == {
        n: comparable(i, "") for n, i in real.items()
    }
    assert pinned["assets"] == real[pinned["id"]]["assets"]
    for item in found.values():
        if item["collection"] == "sentinel-2-l2a":
            # The product's name tells the same as the properties that are read.
            href = item["assets"]["granule-metadata"]["href"]
            name = re.search(r"_MSIL2A_(\d{8})T\d{6}_N(\d\d)(\d\d)_R\d{3}_T(\d\d)", href)
            assert name is not None and BLOB.fullmatch(href)
            assert baseline_of(item) == (int(name[2]), int(name[3]))
            assert epsg_of(item) == 32600 + int(name[4])
            assert f"{solar_day(start_of(item), item['bbox'][0]):%Y%m%d}" == name[1]
