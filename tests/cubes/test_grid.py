"""Cubes lie on the pixel grid of Sentinel-2."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from pipeline_lib.config import CubeGrid
from pipeline_lib.cubes import CubeRequest, grid_at, utm_epsg


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


def test_padding_keeps_the_pixels_where_they_are() -> None:
    grid = grid_at(11, 48, CubeGrid(size_px=10))
    padded = grid.padded(3)
    assert padded.shape == (16, 16)
    assert (padded.x[3:-3] == grid.x).all() and (padded.y[3:-3] == grid.y).all()


def test_a_request_survives_its_row() -> None:
    request = CubeRequest("c", "s", "urban", 1.5, 50.25, date(2020, 1, 1), date(2020, 12, 31))
    assert CubeRequest.from_row(request.to_row()) == request
