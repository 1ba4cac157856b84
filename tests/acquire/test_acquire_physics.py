"""Angles, BRDF, offsets, interpolation, mosaics: against formulas written out here."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from scenes import granule_metadata, granule_xml

from pipeline_lib.acquire.angles import BANDS as ALL_BANDS
from pipeline_lib.acquire.angles import parse_angles
from pipeline_lib.acquire.baseline import offset_of
from pipeline_lib.acquire.brdf import (
    c_factor_on_nodes,
    check_bands,
    fill_nearest,
    mean_angles,
    on_grid,
)
from pipeline_lib.acquire.mosaic import first_valid, solar_day, take
from pipeline_lib.acquire.retries import Damaged
from pipeline_lib.acquire.sentinel2 import mean_of_angles, reflectance_of
from pipeline_lib.config import SENTINEL_2
from pipeline_lib.cubes import Grid
from pipeline_lib.cubes.resampling import coarse_grid, refine
from pipeline_lib.errors import UserError

BANDS = list(SENTINEL_2.bands)

# Isotropic, volume, geometric: Roy et al. 2016, table 1, and 2017, table 5 (red edge).
COEFFICIENTS = {
    "B02": (0.0774, 0.0372, 0.0079),
    "B03": (0.1306, 0.0580, 0.0178),
    "B04": (0.1690, 0.0574, 0.0227),
    "B05": (0.2085, 0.0845, 0.0256),
    "B06": (0.2316, 0.1003, 0.0273),
    "B07": (0.2599, 0.1197, 0.0294),
    "B08": (0.3093, 0.1535, 0.0330),
    "B8A": (0.3093, 0.1535, 0.0330),
    "B11": (0.3430, 0.1154, 0.0453),
    "B12": (0.2658, 0.0639, 0.0387),
}


def ross_thick_li_sparse(band: str, sun: float, view: float, azimuth: float) -> float:
    """Reflectance of the kernel model, from the definitions of Lucht et al. 2000."""
    s, v, p = np.radians([sun, view, azimuth])
    phase = np.arccos(np.cos(s) * np.cos(v) + np.sin(s) * np.sin(v) * np.cos(p))
    ross = ((np.pi / 2 - phase) * np.cos(phase) + np.sin(phase)) / (np.cos(s) + np.cos(v))
    secants = 1 / np.cos(s) + 1 / np.cos(v)
    squared = np.tan(s) ** 2 + np.tan(v) ** 2 - 2 * np.tan(s) * np.tan(v) * np.cos(p)
    overlap_cosine = 2 * np.sqrt(squared + (np.tan(s) * np.tan(v) * np.sin(p)) ** 2) / secants
    t = np.arccos(np.clip(overlap_cosine, -1, 1))
    overlap = (t - np.sin(t) * np.cos(t)) * secants / np.pi
    li = overlap - secants + (1 + np.cos(phase)) / (2 * np.cos(s) * np.cos(v))
    isotropic, volume, geometric = COEFFICIENTS[band]
    return float(isotropic + volume * (ross - np.pi / 4) + geometric * li)


@pytest.mark.parametrize("sun", [(25.0, 150.0), (55.0, 10.0), (70.0, 355.0)])
@pytest.mark.parametrize("view", [(2.0, 105.0), (11.5, 285.0)])
def test_c_factor_equals_the_kernel_formula(
    sun: tuple[float, float], view: tuple[float, float]
) -> None:
    angles = parse_angles(granule_metadata(sun=sun, view=view, slope=0), BANDS)
    found = c_factor_on_nodes(angles)
    for index, band in enumerate(BANDS):
        nadir = ross_thick_li_sparse(band, sun[0], 0, sun[1] - view[1])
        seen = ross_thick_li_sparse(band, sun[0], view[0], sun[1] - view[1])
        np.testing.assert_allclose(found[index], nadir / seen, rtol=1e-12)


def test_bands_without_coefficients_are_rejected() -> None:
    check_bands(BANDS)
    with pytest.raises(UserError, match="B01, B09"):
        check_bands(["B01", "B02", "B09"])


def one_row(
    *looks: tuple[list[float], list[float]],
    sun: tuple[list[float], list[float]] | None = None,
) -> bytes:
    """Granule metadata with one row of nodes: zeniths and azimuths of each detector of B02."""
    nodes = len(looks[0][0])
    zenith, azimuth = sun or ([30.0] * nodes, [150.0] * nodes)
    views = {(1, n): ([zeniths], [azimuths]) for n, (zeniths, azimuths) in enumerate(looks)}
    return granule_xml(([zenith], [azimuth]), views)


def test_detectors_are_merged_and_azimuths_wrap() -> None:
    nan = float("nan")
    first = ([5.0, 5.0, nan, 3.0, 3.0], [359.0, 350.0, nan, 90.0, 0.0])
    second = ([5.0, nan, nan, 3.0, 3.0], [3.0, nan, nan, 270.0, 90.0])
    angles = parse_angles(one_row(first, second), ["B02"])
    # The fourth node is seen from two opposite sides: together they look straight down.
    np.testing.assert_allclose(angles.view_zenith[0, 0, :4], [4.997, 5, nan, 0], atol=1e-3)
    np.testing.assert_allclose(angles.view_azimuth[0, 0, :3], [1, 350, nan], atol=1e-9)
    assert angles.view_zenith[0, 0, 4] == pytest.approx(3 / np.sqrt(2), abs=2e-3)
    assert angles.view_azimuth[0, 0, 4] == pytest.approx(45)
    np.testing.assert_allclose(angles.x, 600000 + 5000 * np.arange(5))
    np.testing.assert_allclose(angles.y, [5100000])
    # Zenith without azimuth is no direction.
    half = parse_angles(one_row(([4.0, 4.0], [nan, 10.0])), ["B02"])
    assert np.isnan(half.view_zenith[0, 0]).tolist() == [True, False]


looks = st.lists(st.tuples(st.floats(0.5, 12), st.floats(0, 359.99)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(seen=looks, turn=st.floats(0, 360))
def test_merged_detectors_look_along_the_mean_line_of_sight(
    seen: list[tuple[float, float]], turn: float
) -> None:
    def merged(directions: list[tuple[float, float]]) -> np.ndarray:
        grids = [([zenith], [azimuth]) for zenith, azimuth in directions]
        found = parse_angles(one_row(*grids), ["B02"])
        return line_of_sight(found.view_zenith[0, 0, 0], found.view_azimuth[0, 0, 0])

    def line_of_sight(zenith: float, azimuth: float) -> np.ndarray:
        z, a = np.radians([zenith, azimuth])
        return np.array([np.sin(z) * np.sin(a), np.sin(z) * np.cos(a), np.cos(z)])

    mean = np.mean([line_of_sight(*one) for one in seen], axis=0)
    np.testing.assert_allclose(merged(seen), mean / np.linalg.norm(mean), atol=1e-9)
    np.testing.assert_allclose(merged(seen[::-1]), merged(seen), atol=1e-9)
    # Where north lies is a convention: turning all turns the result, also across 360 degrees.
    turned = merged([(zenith, (azimuth + turn) % 360) for zenith, azimuth in seen])
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    east, north, up = merged(seen)
    np.testing.assert_allclose(turned, [c * east + s * north, c * north - s * east, up], atol=1e-9)


ONE_NODE = one_row(([4.0], [10.0]))
DAMAGED = {
    "sun without values": one_row(([4.0], [10.0]), sun=([], [])),
    "sun of two shapes": one_row(([4.0], [10.0]), sun=([30.0], [150.0, 151.0])),
    "sun and view of two shapes": one_row(([4.0, 5.0], [10.0, 11.0]), sun=([30.0], [1.0])),
    "a band that does not exist": ONE_NODE.replace(b'bandId="1"', b'bandId="13"'),
    "a grid without a band": ONE_NODE.replace(b' bandId="1"', b""),
    "another band": ONE_NODE.replace(b'bandId="1"', b'bandId="7"'),
    "no number": ONE_NODE.replace(b"<VALUES>4<", b"<VALUES>four<"),
    "truncated": ONE_NODE[: len(ONE_NODE) // 2],
    "a web page": b"<html>busy</html>",
    "nothing": b"",
    "an unknown encoding": b'<?xml version="1.0" encoding="no-such-encoding"?><a/>',
}


@pytest.mark.parametrize("name", DAMAGED)
def test_metadata_that_no_granule_has_are_damaged(name: str) -> None:
    parse_angles(ONE_NODE, ["B02"])
    with pytest.raises(Damaged):
        parse_angles(DAMAGED[name], ["B02"])


def test_mean_angles_take_the_direction_of_azimuths() -> None:
    entry = dict.fromkeys(["sun_zenith", "view_zenith", "view_azimuth"], 10.0)
    result = mean_of_angles(
        [entry | {"sun_azimuth": 350.0}, entry | {"sun_azimuth": 20.0}], np.array([1, 1])
    )
    assert result["sun_azimuth"] == pytest.approx(5)
    assert result["sun_zenith"] == 10


def test_mean_angles_of_a_cube() -> None:
    angles = parse_angles(granule_metadata(slope=1.0), BANDS)
    found = mean_angles(angles, Grid(32632, 6e5 + 5000, 5.1e6 - 5000, 10, 100, 100))
    assert found["sun_zenith"] == pytest.approx(40 + 5500 / 5000, abs=1e-4)
    assert found["sun_azimuth"] == pytest.approx(150, abs=1e-4)
    assert found["view_zenith"] == pytest.approx(8 + 5500 / 5000, abs=1e-4)


def test_missing_nodes_take_the_nearest_value() -> None:
    field = np.array([[[np.nan, np.nan, 3.0], [np.nan, 1.0, np.nan]]])
    filled = fill_nearest(field)
    assert filled[0, 1, 0] == 1
    assert np.isfinite(filled).all()
    assert np.isnan(field).sum() == 4
    with pytest.raises(Damaged):
        fill_nearest(np.full((1, 2, 2), np.nan))


def test_a_granule_of_another_zone_is_projected() -> None:
    angles = parse_angles(granule_metadata(epsg=32633, left=3e5, slope=1.0), BANDS)
    east, north = Transformer.from_crs(32633, 32632, always_xy=True).transform(307000, 5093000)
    grid = Grid(32632, round(east) - 900, round(north) + 900, 10, 180, 180)
    found = on_grid(angles.sun_zenith[None], angles, grid)[0]
    there = Transformer.from_crs(32632, 32633, always_xy=True)
    for row, column in [(0, 0), (90, 90), (179, 20)]:
        x, _ = there.transform(grid.x[column], grid.y[row])
        assert found[row, column] == pytest.approx(40 + (x - 3e5) / 5000, abs=1e-3)


def test_refining_neither_invents_nor_dims_and_keeps_a_plane() -> None:
    target = Grid(32632, 600000, 5100000, 10, 12, 12)
    source = coarse_grid(target, 20)
    values = np.full((1, *source.shape), 0.3, dtype=np.float32)
    values[0, :, :4] = np.nan
    fine = refine(values, source, target)[0]
    lost = np.isnan(fine)
    # The fourth coarse column ends 60 m east of the target's edge.
    assert lost[:, :6].all()
    assert not lost[:, 6:].any()
    np.testing.assert_allclose(fine[:, 6:], 0.3, rtol=1e-6)
    plane = (source.x[None, :] - 600000) * 1e-3 + (5100000 - source.y[:, None]) * 2e-3
    fine = refine(plane[None].astype(np.float32), source, target)[0]
    expected = (target.x[None, :] - 600000) * 1e-3 + (5100000 - target.y[:, None]) * 2e-3
    np.testing.assert_allclose(fine, expected, atol=1e-5)


def test_the_offset_is_added_and_dark_is_not_missing() -> None:
    numbers = np.array([0, 1, 1000, 3000], dtype=np.uint16)
    np.testing.assert_allclose(reflectance_of(numbers, 0), [np.nan, 0.0001, 0.1, 0.3])
    np.testing.assert_allclose(reflectance_of(numbers, -1000), [np.nan, -0.0999, 0, 0.2], atol=1e-7)


def test_solar_day_follows_the_sun() -> None:
    assert solar_day(datetime(2021, 5, 1, 23, 50, tzinfo=UTC), 179) == date(2021, 5, 2)
    assert solar_day(datetime(2021, 5, 1, 0, 10, tzinfo=UTC), -170) == date(2021, 4, 30)
    assert solar_day(datetime(2021, 5, 1, 10, 10, tzinfo=UTC), 11) == date(2021, 5, 1)


@given(seed=st.integers(0, 10_000), layers=st.integers(1, 5))
def test_a_pixel_comes_whole_from_the_first_valid_layer(seed: int, layers: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.random((layers, 3, 4, 5)).astype(np.float32)
    values[generator.random(values.shape) < 0.2] = np.nan
    valid = np.isfinite(values).all(axis=1)
    chosen = first_valid(valid)
    merged = take(values, chosen)
    for row, column in np.ndindex(4, 5):
        whole = [n for n in range(layers) if valid[n, row, column]]
        if whole:
            np.testing.assert_array_equal(merged[:, row, column], values[whole[0], :, row, column])
        else:
            assert np.isnan(merged[:, row, column]).all()
    # A layer that adds nothing changes nothing, wherever it stands.
    empty = np.full((1, *values.shape[1:]), np.nan, dtype=np.float32)
    more = np.concatenate([empty, values])
    np.testing.assert_array_equal(take(more, first_valid(np.isfinite(more).all(axis=1))), merged)


def granules(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "metadata" / "granules").glob("*/MTD_TL.xml"))


def detectors_per_node(path: Path, band: int) -> np.ndarray:
    root = fromstring(path.read_bytes())
    grids = [
        [row.text.split() for row in grid.iterfind("Zenith/Values_List/VALUES")]
        for grid in root.iter("Viewing_Incidence_Angles_Grids")
        if grid.get("bandId") == str(band)
    ]
    return np.isfinite(np.array(grids, dtype=float)).sum(axis=0)


@pytest.mark.real
def test_real_granules_give_the_factors_of_sen2nbar(shared_data: Path) -> None:
    from sen2nbar.c_factor import c_factor, c_factor_from_metadata
    from sen2nbar.metadata import angles_from_metadata

    unseen = []
    for path in granules(shared_data):
        angles = parse_angles(path.read_bytes(), BANDS)
        assert angles.view_zenith.shape == (10, 23, 23)
        unseen.append(np.isnan(angles.view_zenith[0]).sum())
        found = c_factor_on_nodes(angles)
        theirs = c_factor_from_metadata(str(path))
        # sen2nbar has no B8A: its angles with the coefficients of B08.
        read = angles_from_metadata(str(path)).drop_vars("angle")
        sun = read.sel(band="Sun", drop=True)
        view = read.sel(band=["B8A"]).assign_coords(band=["B08"])
        azimuth = sun.isel(angle=1) - view.isel(angle=1)
        lent = c_factor(sun.isel(angle=0), view.isel(angle=0), azimuth)
        for number, band in enumerate(BANDS):
            expected = lent.sel(band="B08") if band == "B8A" else theirs.sel(band=band)
            difference = np.abs(found[number] - expected.transpose("y", "x").values)
            single = detectors_per_node(path, ALL_BANDS.index(band)) == 1
            np.testing.assert_array_equal(np.isnan(found[number]), np.isnan(expected.values))
            assert np.nanmax(difference[single], initial=0) < 1e-12
            # Where detectors overlap, sen2nbar averages azimuths as plain numbers.
            assert np.nanmax(difference, initial=0) < 0.01
        assert np.isfinite(fill_nearest(found)).all()
    assert max(unseen) > 500


@pytest.mark.real
def test_real_overlaps_get_the_mean_of_the_factors_of_their_detectors(shared_data: Path) -> None:
    compared = 0
    for path in granules(shared_data):
        text = path.read_text()
        merged = c_factor_on_nodes(parse_angles(text.encode(), ["B02"]))[0]
        single = []
        for detector in re.findall(r'bandId="1" detectorId="(\d+)"', text):
            alone = re.sub(rf'bandId="1" detectorId="(?!{detector}")\d+"', 'bandId="0"', text)
            single.append(c_factor_on_nodes(parse_angles(alone.encode(), ["B02"]))[0])
        factors = np.stack(single)
        overlap = np.isfinite(factors).sum(axis=0) > 1
        compared += overlap.sum()
        mean = np.nanmean(factors[:, overlap], axis=0)
        np.testing.assert_allclose(merged[overlap], mean, atol=2e-4)
    assert compared > 30


@pytest.mark.real
def test_the_nodes_of_real_granules_start_at_the_corner(shared_data: Path) -> None:
    """Latitude, zenith and azimuth give the sun's declination, which does not vary in space."""
    for path in granules(shared_data):
        angles = parse_angles(path.read_bytes(), ["B02"])
        to_lonlat = Transformer.from_crs(angles.epsg, 4326, always_xy=True)
        lat = np.radians(to_lonlat.transform(*np.meshgrid(angles.x, angles.y))[1])
        zenith, azimuth = np.radians(angles.sun_zenith), np.radians(angles.sun_azimuth)
        sine = np.sin(lat) * np.cos(zenith) + np.cos(lat) * np.sin(zenith) * np.cos(azimuth)
        assert np.degrees(np.arcsin(sine)).std() < 1e-4


@pytest.mark.real
def test_real_products_have_the_offset_from_baseline_four_on(shared_data: Path) -> None:
    for path in (shared_data / "metadata" / "granules").glob("*/MTD_MSIL2A.xml"):
        text = path.read_text()
        baseline = re.search(r"<PROCESSING_BASELINE>(\d\d)\.(\d\d)<", text)
        assert baseline is not None
        offsets = {int(o) for o in re.findall(r"<BOA_ADD_OFFSET[^>]*>(-?\d+)<", text)}
        stated = {"s2:processing_baseline": f"{baseline[1]}.{baseline[2]}"}
        offset = offset_of({"id": "", "properties": stated, "assets": {}}, [])
        number = np.array([2000], dtype=np.uint16)
        expected = (2000 + (offsets.pop() if offsets else 0)) / 10000
        assert reflectance_of(number, offset)[0] == pytest.approx(expected)
