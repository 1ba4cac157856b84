"""The user's own table of sites: any format, and all its mistakes at once."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely

from pipeline_lib.config import parse
from pipeline_lib.config.sites import read_site_table
from pipeline_lib.errors import UserError
from pipeline_lib.sites import write_site_table

ROWS: list[dict[str, Any]] = [
    {"cube": "oak-1", "site": "oak", "land_cover": "forest", "lon": 11.5, "lat": 48.25},
    {"cube": "oak-2", "site": "oak", "land_cover": "forest", "lon": 11.5, "lat": 48.25},
    {"cube": "hay-1", "site": "hay", "land_cover": "grassland", "lon": -3.125, "lat": 51.5},
]
for number, row in enumerate(ROWS):
    row |= {"start": f"202{number}-01-01", "end": f"202{number}-12-31"}
TEXT = [{key: str(value) for key, value in row.items()} for row in ROWS]


def write(path: Path, rows: list[dict[str, Any]], crs: int | None = 4326) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return path
    points = geopandas.points_from_xy([r["lon"] for r in rows], [r["lat"] for r in rows])
    columns = [{k: v for k, v in row.items() if k not in ("lon", "lat")} for row in rows]
    layer = geopandas.GeoDataFrame(columns, geometry=points, crs=4326)
    layer = layer.to_crs(crs) if crs else layer.set_crs(None, allow_override=True)
    write_layer: Callable[[Path], None] = (
        layer.to_parquet if path.suffix == ".parquet" else layer.to_file
    )
    write_layer(path)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.gpkg", "a.geojson", "a.parquet"])
def test_every_format_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    file = write(tmp_path / name, [row | {"comment": "mine"} for row in ROWS])
    assert read_site_table(file) == TEXT


def test_points_may_be_projected_and_multipoints(tmp_path: Path) -> None:
    rows = read_site_table(write(tmp_path / "a.gpkg", ROWS, crs=3035))
    for axis in ("lon", "lat"):
        assert [float(row[axis]) for row in rows] == pytest.approx([row[axis] for row in ROWS])
    layer = geopandas.read_file(write(tmp_path / "b.gpkg", ROWS))
    multi = [shapely.MultiPoint([point]) for point in layer.geometry]
    layer.set_geometry(multi, crs=4326).to_file(tmp_path / "c.gpkg")
    assert read_site_table(tmp_path / "c.gpkg") == TEXT


def test_what_is_written_for_a_gis_can_be_read_back(tmp_path: Path) -> None:
    digests = set()
    for folder in ("a", "b"):
        write_site_table(ROWS, tmp_path / folder / "sites.csv")
        digests.add((tmp_path / folder / "sites.gpkg").read_bytes())
    assert read_site_table(tmp_path / "a" / "sites.gpkg") == TEXT
    assert len(digests) == 1


def test_the_config_takes_number_strata_and_extent_from_the_table(tmp_path: Path) -> None:
    write(tmp_path / "mine.csv", ROWS)
    sites = parse({"sites": {"file": "mine.csv"}}, tmp_path).sites
    assert sites is not None and sites.count == 2
    assert [(s.name, s.fraction) for s in sites.strata] == [("forest", 0.5), ("grassland", 0.5)]
    assert sites.bounds == pytest.approx((-3.225, 48.15, 11.6, 51.6))


def test_towers_may_be_points_of_a_file(tmp_path: Path) -> None:
    towers = [
        {"name": "DE-Hai", "lon": 10.45, "lat": 51.08, "vegetation": "DBF", "footprint": None},
        {"name": "FR-Hes", "lon": 7.06, "lat": 48.67, "vegetation": "DBF", "footprint": "mine.tif"},
    ]
    (tmp_path / "mine.tif").touch()
    for name in ("towers.csv", "towers.gpkg"):
        write(tmp_path / name, towers)
        gpp = parse({"gpp": {"towers": name}}, tmp_path).gpp
        assert gpp == parse({"gpp": {"towers": towers}}, tmp_path).gpp
    write(tmp_path / "wrong.csv", [towers[0] | {"lat": 95}])
    with pytest.raises(UserError, match=r"gpp.towers.0.lat: "):
        parse({"gpp": {"towers": "wrong.csv"}}, tmp_path)


def test_all_mistakes_of_a_table_are_reported_at_once(tmp_path: Path) -> None:
    wrong = ROWS[1] | {"lat": 95, "start": "2021-13-01"}
    rows = [ROWS[0], ROWS[0], wrong, ROWS[2] | {"end": "2019-01-01", "cube": "a/b"}]
    write(tmp_path / "mine.csv", rows)
    with pytest.raises(UserError, match="the config has 4 mistake") as raised:
        parse({"sites": {"file": "mine.csv"}}, tmp_path)
    for part in ("row 3: lat: ", "row 3: start: ", "row 4: cube: ", "duplicate cube oak-1"):
        assert f"sites: {tmp_path / 'mine.csv'}" in str(raised.value)
        assert part in str(raised.value)


def test_own_cubes_may_not_have_the_name_of_a_site(tmp_path: Path) -> None:
    write(tmp_path / "mine.csv", ROWS)
    own = {"site": "x", "files": {"sentinel-2": {"file": ".", "variable": "v"}}}
    with pytest.raises(UserError, match="sites: oak-1 is also the name of a cube of own_cubes"):
        parse({"sites": {"file": "mine.csv"}, "own_cubes": {"oak-1": own}}, tmp_path)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gpkg"
    broken.write_bytes(b"no table")
    lines = {
        broken: "not a readable vector file",
        write(tmp_path / "a.gpkg", ROWS, crs=None): "has no coordinate reference system",
        write(tmp_path / "a.csv", [{"cube": "a", "lon": 1}]): "missing columns",
    }
    for path, line in lines.items():
        with pytest.raises(UserError, match=f"sites: .*{path.name}: {line}"):
            parse({"sites": {"file": path.name}}, tmp_path)
