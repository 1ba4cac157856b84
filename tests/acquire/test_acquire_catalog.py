from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from file_server import Fault, FileServer, write_api
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.acquire import pin_items, search
from pipeline_lib.acquire.catalog import license_of, newest_versions
from pipeline_lib.acquire.reading import address_of
from pipeline_lib.config import SENTINEL_1, SENTINEL_2, Catalog
from pipeline_lib.errors import UserError

BOX = (11.0, 46.0, 11.1, 46.1)
YEAR = date(2021, 1, 1), date(2021, 12, 31)


def test_search_filters_by_collection_place_and_time(archive: Any) -> None:
    inside = archive.optical("2021-01-01T00:00:01Z")
    last = archive.optical("2021-12-31T23:59:59Z")
    archive.optical("2022-01-01T00:00:00Z")
    archive.radar("2021-06-01T17:00:00Z", 0.1, 0.02)
    found = search(archive.catalog, "sentinel-2-l2a", BOX, *YEAR)
    assert [item["id"] for item in found] == [inside["id"], last["id"]]
    assert Path(found[0]["assets"]["B02"]["href"]).exists()
    assert search(archive.catalog, "sentinel-2-l2a", (12, 46, 13, 47), *YEAR) == []


def test_periods_of_items_count_where_they_have_no_single_time(archive: Any) -> None:
    item = archive.radar("2021-06-01T17:00:00Z", 0.1, 0.02)
    item["properties"] |= {
        "datetime": None,
        "start_datetime": "2020-01-01T00:00:00Z",
        "end_datetime": "2020-12-31T23:59:59Z",
    }
    archive.optical("2021-06-01T10:00:00Z")
    found = search(archive.catalog, "sentinel-1-rtc", BOX, date(2020, 12, 31), date(2021, 1, 1))
    assert [entry["id"] for entry in found] == [item["id"]]
    assert search(archive.catalog, "sentinel-1-rtc", BOX, *YEAR) == []


def test_a_folder_without_items_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no items"):
        search(Catalog(source=str(tmp_path)), "sentinel-2-l2a", BOX, *YEAR)


def test_pinned_items_are_sorted_unsigned_and_repeatable(archive: Any, tmp_path: Path) -> None:
    archive.optical("2021-05-03T10:00:00Z")
    archive.optical("2021-03-01T10:00:00Z", baseline="03.00")
    newer = archive.optical("2021-03-01T10:00:00Z", baseline="05.00")
    one, two = (archive.pin(SENTINEL_2, tmp_path / name).read_text() for name in ("one", "two"))
    assert one == two
    pinned = json.loads(one)
    times = [item["properties"]["datetime"] for item in pinned["items"]]
    assert times == ["2021-03-01T10:00:00Z", "2021-05-03T10:00:00Z"]
    assert pinned["items"][0]["id"] == newer["id"]
    assert pinned["queried_at"] is None
    assert pinned["request"] == archive.request().to_row()
    assert pinned["grid"]["epsg"] == 32632
    assert pinned["query"]["collection"] == "sentinel-2-l2a"


def test_a_cube_without_items_is_an_error(archive: Any, tmp_path: Path) -> None:
    archive.optical("2021-05-03T10:00:00Z")
    with pytest.raises(UserError, match=r"site-000-a.*no sentinel-1-rtc item"):
        pin_items(
            request=archive.request(),
            sensor=SENTINEL_1,
            cube=archive.cube,
            catalog=archive.catalog,
            output=tmp_path / "pins.json",
        )
    assert not (tmp_path / "pins.json").exists()


def version(baseline: str, generated: str, **more: Any) -> dict[str, Any]:
    properties = {
        "datetime": "2021-03-01T10:00:00.024Z",
        "platform": "Sentinel-2A",
        "s2:mgrs_tile": "32TPS",
        "s2:processing_baseline": baseline,
        "s2:generation_time": generated,
        **more,
    }
    name = "-".join([baseline, generated, *map(str, more.values())])
    return {"id": name, "properties": properties}


@given(
    order=st.permutations(
        [("02.14", "2021"), ("05.10", "2023"), ("05.10", "2024"), ("10.00", "2020")]
    )
)
def test_the_newest_version_wins_in_any_order(order: list[tuple[str, str]]) -> None:
    (kept,) = newest_versions([version(*entry) for entry in order])
    assert kept["properties"]["s2:processing_baseline"] == "10.00"


def test_other_tiles_strips_and_platforms_are_no_versions() -> None:
    strip = "S2A_OPER_MSI_L2A_DS_ESRI_20210412T023148_S{}_N02.12"
    items = [
        version("05.00", "1"),
        version("05.00", "2", **{"s2:mgrs_tile": "33TUM"}),
        version("05.00", "3", platform="Sentinel-2B"),
        version("05.00", "4", **{"s2:datastrip_id": strip.format("20210301T100001")}),
        version("05.00", "5", **{"s2:datastrip_id": strip.format("20210301T100130")}),
    ]
    assert len(newest_versions(items)) == 5


def test_the_licence_of_a_collection_is_kept(archive: Any) -> None:
    assert license_of(archive.catalog, "sentinel-2-l2a") == "not stated"
    folder = archive.folder / "collections"
    folder.mkdir()
    terms = [{"rel": "license", "href": "https://terms"}]
    for links in (7, None, [7], [{"rel": "license"}], terms):
        content = {"license": "proprietary", "links": links}
        (folder / "sentinel-2-l2a.json").write_text(json.dumps(content))
        stated = "proprietary https://terms" if links is terms else "proprietary"
        assert license_of(archive.catalog, "sentinel-2-l2a") == stated


def test_pinning_imports_no_heavy_package() -> None:
    heavy = ["stackstac", "dask", "torch", "rasterio", "sen2nbar", "scipy"]
    code = f"import sys, pipeline_lib.acquire; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


OWN = {"rel": "self", "href": "{api}/files/a.json"}
FIJI = (179.9, -16.85, 179.95, -16.8)
CHUKOTKA = (-179.95, -16.85, -179.9, -16.8)
ACROSS = (179.99, -16.85, -179.99, -16.8)


def whole(item: dict[str, Any]) -> dict[str, Any]:
    """An item with all that STAC asks for."""
    return {
        "type": "Feature",
        "id": "a",
        "collection": "sentinel-2-l2a",
        "bbox": [11.0, 46.0, 11.1, 46.1],
        "properties": {"datetime": "2021-06-01T22:30:00Z"},
        "assets": {},
    } | item


def listed(folder: Path, *items: dict[str, Any]) -> Catalog:
    (folder / "items").mkdir(parents=True)
    content = {"features": [whole(item) for item in items]}
    (folder / "items" / "all.json").write_text(json.dumps(content))
    return Catalog(source=str(folder), signing="none")


def served(server: FileServer, *items: dict[str, Any]) -> Catalog:
    """An API with these items."""
    write_api(server.folder, server.url, "sentinel-2-l2a", [whole(item) for item in items])
    server.faults = [Fault("api/search", lambda it: it.search())]
    return Catalog(source=f"{server.url}/api", signing="none", retries=0, timeout_s=5)


@pytest.mark.parametrize(
    "box",
    [
        [179.5, -17.3, -179.5, -16.3],
        [-180.0, -17.3, 180.0, -16.3],
        [-181.4, -17.3, -178.6, -16.3],
        [178.6, -17.3, 181.4, -16.3],
        [179.5, -17.3, 0.0, -179.5, -16.3, 900.0],
    ],
)
@pytest.mark.parametrize("bounds", [FIJI, CHUKOTKA, ACROSS])
def test_footprints_across_180_degrees_are_found_however_they_are_written(
    tmp_path: Path, box: list[float], bounds: Any
) -> None:
    far = {"id": "far", "bbox": [20.0, -17.3, 21.0, -16.3]}
    catalog = listed(tmp_path / "catalog", {"bbox": box}, far)
    assert [item["id"] for item in search(catalog, "sentinel-2-l2a", bounds, *YEAR)] == ["a"]


def test_footprints_beside_180_degrees_are_those_of_their_side(tmp_path: Path) -> None:
    west, east = [178.9, -17.3, 180.0, -16.3], [-180.0, -17.3, -178.9, -16.3]
    catalog = listed(tmp_path / "a", {"id": "west", "bbox": west}, {"id": "east", "bbox": east})
    for bounds, expected in ((FIJI, "west"), (CHUKOTKA, "east"), (ACROSS, "east west")):
        found = search(catalog, "sentinel-2-l2a", bounds, *YEAR)  # type: ignore[arg-type]
        assert " ".join(item["id"] for item in found) == expected


@pytest.mark.parametrize("source", ["{folder}", "file://{folder}"])
@pytest.mark.parametrize(
    ("href", "read"),
    [
        ("images/a b.tif", "{folder}/images/a b.tif"),
        ("images/a%20b.tif", "{folder}/images/a b.tif"),
        ("./beside.tif", "{folder}/items/beside.tif"),
        ("../images/a b.tif", "{folder}/items/../images/a b.tif"),
        ("{folder}/images/a b.tif", "{folder}/images/a b.tif"),
        ("file://{folder}/images/a%20b.tif", "{folder}/images/a b.tif"),
        ("file://{folder}/images/a b.tif", "{folder}/images/a b.tif"),
        ("file://localhost{folder}/images/a%20b.tif", "{folder}/images/a b.tif"),
        ("file:{folder}/images/a%20b.tif", "{folder}/images/a b.tif"),
        ("HTTPS://example.org/a.tif", "https://example.org/a.tif"),
        ("/vsicurl/https://example.org/a.tif", "https://example.org/a.tif"),
        ("gone.tif", "{folder}/gone.tif"),
    ],
)
def test_addresses_of_a_folder(tmp_path: Path, source: str, href: str, read: str) -> None:
    folder = tmp_path / "catalog"
    listed(folder, {"assets": {"B02": {"href": href.format(folder=folder)}}})
    (folder / "images").mkdir()
    (folder / "images" / "a b.tif").touch()
    (folder / "items" / "beside.tif").touch()
    catalog = Catalog(source=source.format(folder=folder), signing="none")
    (item,) = search(catalog, "sentinel-2-l2a", BOX, *YEAR)
    assert address_of(item, "B02", catalog) == read.format(folder=folder)


@pytest.mark.parametrize(
    ("href", "named"),
    [
        ("s3://bucket/a.tif", "s3://"),
        ("/vsis3/bucket/a.tif", "s3://"),
        ("gs://bucket/a.tif", "gs://"),
        ("ftp://host/a.tif", "ftp://"),
        ("/vsizip/a.zip/a.tif", "/vsizip/"),
    ],
)
def test_addresses_that_are_not_read_are_named(href: str, named: str) -> None:
    item = {"id": "a", "assets": {"B02": {"href": href}}}
    for source in ("/some/folder", *(["https://stac.example.org"] if "://" in named else ())):
        with pytest.raises(UserError, match=f"item a: B02: {named} is not supported, only http"):
            address_of(item, "B02", Catalog(source=source, signing="none"))


@pytest.mark.parametrize(
    ("href", "links", "expected"),
    [
        ("assets/a.tif", [OWN], "{api}/files/assets/a.tif"),
        ("/assets/a.tif", [OWN], "{host}/assets/a.tif"),
        ("a.tif", [], "{api}/collections/sentinel-2-l2a/items/a.tif"),
        ("https://example.org/a.tif", [], "https://example.org/a.tif"),
    ],
)
def test_addresses_of_an_api_are_relative_to_the_item(
    tmp_path: Path, href: str, links: Any, expected: str
) -> None:
    with FileServer(tmp_path) as server:
        names = {"host": server.url, "api": f"{server.url}/api"}
        links = [link | {"href": link["href"].format(**names)} for link in links]
        catalog = served(server, {"assets": {"B02": {"href": href}}, "links": links})
        server.faults = []
        (found,) = search(catalog, "sentinel-2-l2a", BOX, *YEAR)
        assert address_of(found, "B02", catalog) == expected.format(**names)


def test_an_api_is_asked_on_each_side_of_180_degrees(tmp_path: Path) -> None:
    """A box across 180 degrees is read as the rest of the Earth by some catalogs."""
    sides = {"west": [178.9, -17.3, 180.0, -16.3], "east": [-180.0, -17.3, -178.9, -16.3]}
    items = [{"id": name, "bbox": box} for name, box in sides.items()]
    items += [{"id": str(x), "bbox": [x, -17.3, x + 1, -16.3]} for x in range(-170, 170, 5)]
    with FileServer(tmp_path) as server:
        found = search(served(server, *items), "sentinel-2-l2a", ACROSS, *YEAR)
    assert [item["id"] for item in found] == ["east", "west"]


def test_a_whole_answer_costs_one_more_search(archive: Any, tmp_path: Path) -> None:
    for day in ("2021-05-01", "2021-05-11", "2021-05-21"):
        archive.optical(f"{day}T10:20:31Z")
    with FileServer(archive.folder) as server:
        write_api(archive.folder, server.url, "sentinel-2-l2a", archive.items)
        for counted, searches in ((0, 1), (None, 2)):
            how = {"counted": counted}
            server.requests.clear()
            server.faults = [Fault("api/search", lambda it, how=how: it.search(**how))]
            more = {"source": f"{server.url}/api", "retries": 0, "timeout_s": 5}
            archive.pin(SENTINEL_2, tmp_path / "pins.json", **more)
            paths = [request.split("/api")[1] for request in server.requests]
            assert paths == ["", "/collections/sentinel-2-l2a", *["/search"] * searches]


def test_an_item_that_is_not_stac_may_be_alone_in_a_page(tmp_path: Path) -> None:
    """The last item is asked for again, without the others."""
    wrong = {"id": "b", "assets": {"B02": {}}, "properties": {"datetime": "2021-01-01T00:00:00Z"}}
    with FileServer(tmp_path) as server:
        found = search(served(server, {}, wrong), "sentinel-2-l2a", BOX, *YEAR)
        assert [item["id"] for item in found] == ["b", "a"]
        with pytest.raises(UserError, match=r"/api: item b: assets\.B02\.href: "):
            search(served(server, wrong), "sentinel-2-l2a", BOX, *YEAR)


def test_items_of_one_name_and_different_times_are_an_error(tmp_path: Path) -> None:
    later = {"properties": {"datetime": "2021-07-01T22:30:00Z"}}
    catalog = listed(tmp_path / "a", {}, {})
    assert len(search(catalog, "sentinel-2-l2a", BOX, *YEAR)) == 1
    with pytest.raises(UserError, match="two items named a of different times"):
        search(listed(tmp_path / "b", {}, later), "sentinel-2-l2a", BOX, *YEAR)
