"""A large area is split into parts that cover it; those outside an outline are skipped."""

import json
import math
import re
from datetime import date
from pathlib import Path

import geopandas
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline_lib.config import Area, parts_of
from pipeline_lib.config.areas import AREA_KM, DEGREE_KM
from pipeline_lib.errors import UserError

MARGIN_KM = 0.1
HALF_A_PATCH_KM = 0.07


def area(west: float, south: float, east: float, north: float, **more: object) -> Area:
    bounds = (west, south, east, north)
    return Area(start=date(2021, 1, 1), end=date(2021, 12, 31), bounds=bounds, **more)


GERMANY = area(5.86, 47.27, 15.05, 55.06)


@st.composite
def areas(draw: st.DrawFn) -> Area:
    west, south = draw(st.floats(-180, 179)), draw(st.floats(-80, 83))
    width, height = draw(st.floats(0.001, 15)), draw(st.floats(0.001, 6))
    return area(west, south, min(180, west + width), min(84, south + height))


@st.composite
def places(draw: st.DrawFn) -> tuple[Area, float, float]:
    """An area, and a longitude and a latitude in it."""
    found = draw(areas())
    west, south, east, north = found.bounds
    return found, draw(st.floats(west, east)), draw(st.floats(south, north))


@given(places())
def test_parts_cover_the_area_without_a_gap(place: tuple[Area, float, float]) -> None:
    """Whatever the place, one part holds it and all around it that is in the area."""
    whole, lon, lat = place
    west, south, east, north = whole.bounds
    high = HALF_A_PATCH_KM / DEGREE_KM
    wide = high / math.cos(math.radians(lat))
    around = (
        *(max(west, lon - wide), max(south, lat - high)),
        *(min(east, lon + wide), min(north, lat + high)),
    )
    parts = whole.parts("a").values()
    assert any(shapely.box(*part.bounds).covers(shapely.box(*around)) for part in parts)


@given(areas())
def test_parts_are_small_and_stay_in_their_zone(whole: Area) -> None:
    parts = whole.parts("a")
    if max(whole.sides_km) <= AREA_KM:
        assert parts == {"a": whole}
        return
    for name, part in parts.items():
        assert re.fullmatch(r"a-r\d\d-c\d\d+", name)
        west, south, east, north = part.bounds
        km = DEGREE_KM * math.cos(math.radians(max(abs(south), abs(north))))
        assert max(part.sides_km) <= AREA_KM + 3 * MARGIN_KM
        into = [min(border - west, east - border) for border in range(-174, 180, 6)]
        assert max(into) * km <= MARGIN_KM * 1.01
        assert (part.start, part.end) == (whole.start, whole.end)


def test_an_area_across_the_equator_is_as_wide_as_there() -> None:
    assert area(11, -60, 12, 60).sides_km[0] == pytest.approx(111.3)


def test_what_is_too_large_for_one_cube_is_cut() -> None:
    assert len(area(11, 48, 12, 48.1).parts("a")) == 2
    assert len(area(11, -1, 11.1, 1).parts("a")) == 5
    assert list(area(5.9, 48, 6.8, 48.1).parts("a")) == ["a-r00-c00", "a-r00-c01", "a-r00-c02"]


def test_an_area_across_180_degrees_is_cut_there() -> None:
    parts = area(179.95, -17, -179.9, -16.9).parts("fiji")
    west, east = (part.bounds for part in parts.values())
    assert west == pytest.approx((179.95, -17, 180, -16.9), abs=0.001)
    assert east == pytest.approx((-180, -17, -179.9, -16.9), abs=0.001)
    # Each reaches beyond, so that a pixel at the border has its whole context.
    assert west[2] > 180.0006 and east[0] < -180.0006


def test_a_large_area_across_180_degrees_has_its_width() -> None:
    chukotka = area(170, 64, -170, 70)
    assert chukotka.sides_km[0] == pytest.approx(20 * 111.3 * math.cos(math.radians(64)))
    parts = chukotka.parts("chukotka").values()
    assert all(max(part.sides_km) <= AREA_KM + 3 * MARGIN_KM for part in parts)
    assert all(-180.01 < part.bounds[0] < part.bounds[2] < 180.01 for part in parts)
    for lon in (170.1, 179.9999, -179.9999, -170.1):
        assert any(part.bounds[0] < lon < part.bounds[2] for part in parts)
    with pytest.raises(ValidationError, match="west is beyond east only where they cross 180"):
        area(15.05, 47.27, 5.86, 55.06)


def written(folder: Path, content: object) -> Path:
    path = folder / "outline.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def square(west: float, south: float, east: float, north: float) -> dict[str, object]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def several(*shapes: dict[str, object]) -> dict[str, object]:
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    return {"type": "FeatureCollection", "features": features}


@pytest.mark.parametrize(
    "content",
    [
        square(10, 50, 10.1, 50.1),
        {"type": "MultiPolygon", "coordinates": [square(10, 50, 10.1, 50.1)["coordinates"]]},
        {"type": "Feature", "geometry": square(10, 50, 10.1, 50.1)},
        several({"type": "Point", "coordinates": [7, 48]}, square(10, 50, 10.1, 50.1)),
    ],
)
def test_parts_beside_the_outline_are_left_out(tmp_path: Path, content: object) -> None:
    whole = GERMANY.model_copy(update={"outline": written(tmp_path, content)})
    parts = parts_of({"germany": whole})
    assert 1 <= len(parts) <= 4
    outline = shapely.box(10, 50, 10.1, 50.1)
    assert all(outline.intersects(shapely.box(*part.bounds)) for part in parts.values())


def test_a_small_area_stays_whole_within_its_outline(tmp_path: Path) -> None:
    small = area(10, 50, 10.1, 50.1, outline=written(tmp_path, square(9, 49, 11, 51)))
    assert parts_of({"small": small}) == {"small": small}


def test_an_outline_of_any_projection_gives_the_bounds(tmp_path: Path) -> None:
    layer = geopandas.GeoSeries([shapely.box(10, 50, 10.2, 50.1)], crs=4326).to_frame("geometry")
    layer = layer.to_crs(32632)
    layer.to_file(tmp_path / "outline.gpkg")
    period = {"start": "2021-01-01", "end": "2021-12-31"}
    content = {"outline": "outline.gpkg"} | period
    found = Area.model_validate(content, context={"folder": tmp_path})
    assert found.bounds == pytest.approx((10, 50, 10.2, 50.1), abs=1e-3)
    with pytest.raises(ValidationError, match="bounds"):
        Area.model_validate(period, context={"folder": tmp_path})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a readable vector file"),
        ({"type": "Point", "coordinates": [10, 50]}, "contains no polygons"),
        (square(500000, 5400000, 600000, 5500000), "coordinates from 500000, .* are not degrees"),
        (square(20, 50, 21, 51), r"does not touch the area within \(5.86, 47.27, 15.05, 55.06\)"),
    ],
)
def test_broken_outlines_are_refused(tmp_path: Path, content: object, message: str) -> None:
    whole = GERMANY.model_copy(update={"outline": written(tmp_path, content)})
    with pytest.raises(UserError, match=rf"outline.geojson: {message}") as raised:
        parts_of({"germany": whole})
    assert "\n" not in str(raised.value)


def test_the_examples_leave_out_the_sea(project_root: Path) -> None:
    path = project_root / "config" / "outlines" / "germany.geojson"
    parts = parts_of({"germany": GERMANY.model_copy(update={"outline": path})})
    assert 150 < len(parts) < len(GERMANY.parts("germany"))
    berlin, north_sea = (13.4, 52.5), (6.5, 54.8)
    for place, inside in ((berlin, True), (north_sea, False)):
        boxes = [shapely.box(*part.bounds) for part in parts.values()]
        assert any(box.contains(shapely.Point(place)) for box in boxes) == inside
