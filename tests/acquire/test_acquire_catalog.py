from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.acquire import pin_items, search
from pipeline_lib.acquire.catalog import license_of, newest_versions
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


def test_a_catalog_that_does_not_answer_fails_soon() -> None:
    dead = Catalog(source="http://127.0.0.1:9/stac", timeout_s=1, retries=0)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/stac"):
        search(dead, "sentinel-2-l2a", BOX, *YEAR)


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
