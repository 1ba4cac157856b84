"""Cubes lie on the pixel grid of Sentinel-2."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyproj import Transformer

from pipeline_lib.config import CubeGrid
from pipeline_lib.cubes import CubeRequest, grid_at, grid_over, utm_epsg


@given(st.floats(0, 30), st.floats(42, 62), st.sampled_from([48, 90, 91]))
def test_origins_are_multiples_of_60_m_and_the_centre_is_near(
    lon: float, lat: float, size: int
) -> None:
    grid = grid_at(lon, lat, CubeGrid(size_px=size))
    assert grid.left % 60 == 0 and grid.top % 60 == 0
    east, north = Transformer.from_crs(4326, grid.epsg, always_xy=True).transform(lon, lat)
    west, south, right, top = grid.bounds
    assert abs((west + right) / 2 - east) <= 30 + 1e-6
    assert abs((south + top) / 2 - north) <= 30 + 1e-6


@pytest.mark.parametrize(
    ("lon", "lat", "epsg"), [(11.99, 48, 32632), (12.01, 48, 32633), (18.4, -33.9, 32734)]
)
def test_zones(lon: float, lat: float, epsg: int) -> None:
    assert utm_epsg(lon, lat) == epsg


@pytest.mark.parametrize(
    ("bounds", "epsg"),
    [
        ((179.98, -17, 180.001, -16.98), 32760),
        ((-180.001, -17, -179.98, -16.98), 32701),
        ((179.98, -17, -179.999, -16.98), 32760),
        ((179.999, 65, -179.98, 65.01), 32601),
    ],
)
def test_areas_at_180_degrees_have_their_own_size_and_zone(
    bounds: tuple[float, float, float, float], epsg: int
) -> None:
    grid = grid_over(bounds, CubeGrid())
    assert grid.epsg == epsg and max(grid.shape) < 300
    west, _, east, _ = grid.lonlat_bounds()
    # West is beyond east, as in GeoJSON.
    assert 179.9 < west < 180 and -180 < east < -179.9


def test_padding_keeps_the_pixels_where_they_are() -> None:
    grid = grid_at(11, 48, CubeGrid(size_px=10))
    padded = grid.padded(3)
    assert padded.shape == (16, 16) and padded.cut(3, 3, 10, 10) == grid
    assert (padded.x[3:-3] == grid.x).all() and (padded.y[3:-3] == grid.y).all()


@given(
    st.floats(-179, 178),
    st.floats(-75, 80),
    st.floats(0.001, 0.6),
    st.floats(0.001, 0.4),
    st.sampled_from([10.0, 30.0]),
)
@example(8.7, 50.0, 0.6, 0.1, 10.0)
@example(8.7, -50.0, 0.6, 0.1, 10.0)
def test_the_grid_of_an_area_is_the_smallest_that_holds_it(
    west: float, south: float, width: float, height: float, resolution: float
) -> None:
    bounds = (west, south, west + width, south + height)
    grid = grid_over(bounds, CubeGrid(resolution_m=resolution))
    assert grid.epsg == utm_epsg(west + width / 2, south + height / 2)
    assert grid.left % 60 == 0 and grid.top % 60 == 0
    lon, lat = np.meshgrid(np.linspace(west, bounds[2], 97), np.linspace(south, bounds[3], 97))
    east, north = Transformer.from_crs(4326, grid.epsg, always_xy=True).transform(lon, lat)
    left, bottom, right, top = grid.bounds
    inner = (east.min() - left, north.min() - bottom, right - east.max(), top - north.max())
    # A centimetre for what lies between the points that the edges are followed by.
    assert min(inner) > -0.01
    assert inner[0] < 60 and inner[3] < 60
    # Seen from 97 points an arc of the edge may look up to this much lower than it is.
    sagitta = 2
    assert inner[1] < resolution + sagitta and inner[2] < resolution + sagitta


def test_an_area_across_two_zones_lies_in_the_zone_of_its_centre() -> None:
    bounds = (11.9, 48.0, 12.05, 48.1)
    grid = grid_over(bounds, CubeGrid())
    assert grid.epsg == 32632
    west, south, east, north = grid.lonlat_bounds()
    assert west <= bounds[0] and south <= bounds[1] and east >= bounds[2] and north >= bounds[3]


def test_a_request_survives_its_row_and_keeps_its_grid() -> None:
    cube, bounds = CubeGrid(size_px=48), (11.0, 48.0, 11.008, 48.004)
    place = CubeRequest("c", "s", "others", 11.004, 48.002, date(2020, 1, 1), date(2020, 12, 31))
    area = replace(place, bounds=bounds)
    for request in (place, area):
        assert CubeRequest.from_row(json.loads(json.dumps(request.to_row()))) == request
    texts = {key: str(value) for key, value in place.to_row().items()}
    assert CubeRequest.from_row(texts | {"lcc_code": "10"}) == place
    assert area.grid(cube) == grid_over(bounds, cube)
    assert place.grid(cube) == grid_at(11.004, 48.002, cube)
