from __future__ import annotations

import itertools
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from pipeline_lib.config import LandCover, Periods, Sites, Stratum
from pipeline_lib.errors import UserError
from pipeline_lib.sites import LandCoverMap, counts_of, distribution, draw_periods, draw_sites

FOREST, GRASS, URBAN, WATER, CROP = 70, 130, 190, 210, 10


def land_cover(seed: int = 0, per_degree: int = 30) -> LandCoverMap:
    generator = np.random.default_rng(seed)
    rows, cols = 8 * per_degree, 10 * per_degree
    codes = generator.choice(
        np.array([FOREST, GRASS, URBAN, WATER, CROP, 0], np.uint8),
        size=(rows, cols),
        p=[0.25, 0.25, 0.02, 0.2, 0.26, 0.02],
    )
    lon = 5 + (np.arange(cols) + 0.5) / per_degree
    lat = 54 - (np.arange(rows) + 0.5) / per_degree
    return LandCoverMap(codes, lon, lat)


def block(count: int = 20, distance: float = 50, **more: object) -> Sites:
    return Sites(
        count=count,
        bounds=(5, 46, 15, 54),
        min_distance_km=distance,
        strata=(
            Stratum(name="forest", codes=(FOREST,), fraction=0.4),
            Stratum(name="urban", codes=(URBAN,), fraction=0.1),
            Stratum(name="others", codes=(), fraction=0.5),
        ),
        periods=Periods(count=2, first_year=2017, last_year=2024, gap_years=1),
        **more,
    )


def places(rows: list[dict]) -> np.ndarray:
    return np.array([(row["lon"], row["lat"]) for row in rows if row["cube"].endswith("-a")])


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 40),
    distance=st.sampled_from([0.0, 5.0, 50.0]),
)
def test_distances_codes_and_counts_are_kept(seed: int, count: int, distance: float) -> None:
    area = land_cover()
    excluded = LandCover(excluded=(0, WATER, CROP))
    rows = draw_sites(area, block(count, distance, land_cover=excluded), seed)
    assert len(rows) == 2 * count
    found = places(rows)
    pairs = np.array(list(itertools.combinations(range(count), 2))).reshape(-1, 2)
    if len(pairs):
        first, second = found[pairs[:, 0]], found[pairs[:, 1]]
        metres = Geod(ellps="WGS84").inv(*first.T, *second.T)[2]
        assert np.min(metres) >= distance * 1000
        assert np.min(metres) > 0
    wanted = dict(zip(["forest", "urban", "others"], counts_of(block().strata, count), strict=True))
    for row in rows:
        column = np.abs(area.lon - row["lon"]).argmin()
        line = np.abs(area.lat - row["lat"]).argmin()
        assert area.codes[line, column] == row["lcc_code"] not in (0, WATER, CROP)
        if row["land_cover"] != "others":
            assert row["lcc_code"] == {"forest": FOREST, "urban": URBAN}[row["land_cover"]]
    for name, number in wanted.items():
        assert sum(row["land_cover"] == name for row in rows) == 2 * number


def test_the_same_seed_gives_the_same_table_and_another_seed_another() -> None:
    assert draw_sites(land_cover(), block(), 7) == draw_sites(land_cover(), block(), 7)
    assert draw_sites(land_cover(), block(), 7) != draw_sites(land_cover(), block(), 8)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), tilt=st.floats(0.1, 0.9))
def test_each_stratum_is_drawn_fairly_by_area_wherever_its_cells_lie(
    seed: int, tilt: float
) -> None:
    rows, cols, count = 70, 30, 800
    lat, lon = 70 - (np.arange(rows) + 0.5), np.arange(cols) + 0.5
    towards_north = np.linspace(tilt, 1 - tilt, rows)[:, None]
    grass = np.random.default_rng(seed).random((rows, cols)) < towards_north
    area = LandCoverMap(np.where(grass, GRASS, FOREST).astype(np.uint8), lon, lat)
    sites = Sites(
        count=2 * count,
        min_distance_km=0,
        strata=(
            Stratum(name="grass", codes=(GRASS,), fraction=0.5),
            Stratum(name="forest", codes=(FOREST,), fraction=0.5),
        ),
        periods=Periods(count=1),
    )
    drawn = draw_sites(area, sites, seed)
    for name, member in (("grass", grass), ("forest", ~grass)):
        weight = member.sum(axis=1) * np.cos(np.radians(lat))
        expected = weight[lat > 30].sum() / weight.sum()
        found = np.mean([row["lat"] > 30 for row in drawn if row["land_cover"] == name])
        # Five standard deviations of a fraction of so many draws.
        assert abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / count)


def test_a_stratum_that_cannot_be_filled_is_named_and_counted() -> None:
    area = land_cover()
    crowded = block(60, 200)
    with pytest.raises(UserError, match=r"'others': \d+ of 30 sites missing; none"):
        draw_sites(area, crowded, 1)
    codes = np.where(area.codes == URBAN, GRASS, area.codes)
    with pytest.raises(UserError, match="'urban': 2 of 2 sites missing; the map has no such cell"):
        draw_sites(LandCoverMap(codes, area.lon, area.lat), block(), 1)


@pytest.mark.parametrize("code", [17, 255, 256, -1])
def test_codes_that_the_legend_has_not_are_errors(code: int) -> None:
    with pytest.raises(ValueError, match=f"{code} is not an LCCS code"):
        Stratum(name="forest", codes=(FOREST, code), fraction=1)
    with pytest.raises(ValueError, match=f"{code} is not an LCCS code"):
        LandCover(excluded=(0, code))


def test_distance_is_kept_across_the_antimeridian() -> None:
    lon = np.concatenate([np.arange(-180, -178, 0.1), np.arange(178, 180, 0.1)])
    area = LandCoverMap(np.full((20, 40), GRASS, np.uint8), lon, 10 - np.arange(20) * 0.1)
    sites = Sites(
        count=6,
        bounds=(-180, 8, 180, 11),
        min_distance_km=80,
        strata=(Stratum(name="grass", codes=(GRASS,), fraction=1.0),),
    )
    found = places(draw_sites(area, sites, 2))
    for (lon1, lat1), (lon2, lat2) in itertools.combinations(found, 2):
        assert Geod(ellps="WGS84").inv(lon1, lat1, lon2, lat2)[2] >= 80_000


@given(shares=st.lists(st.integers(1, 100), min_size=1, max_size=6), total=st.integers(1, 500))
def test_counts_are_whole_quotas_or_one_more(shares: list[int], total: int) -> None:
    strata = [
        Stratum(name=f"s{i}", codes=(), fraction=share / sum(shares))
        for i, share in enumerate(shares)
    ]
    counts = counts_of(strata, total)
    assert sum(counts) == total
    for stratum, count in zip(strata, counts, strict=True):
        assert -1e-6 <= count - np.floor(stratum.fraction * total) <= 1 + 1e-6


@given(count=st.integers(1, 3), gap=st.integers(0, 2), seed=st.integers(0, 1000))
def test_periods_are_whole_years_with_their_gap(count: int, gap: int, seed: int) -> None:
    block = Periods(count=count, first_year=2017, last_year=2024, gap_years=gap)
    drawn = draw_periods(block, np.random.default_rng(seed))
    years = [start.year for start, _ in drawn]
    assert all(
        (start, end) == (date(y, 1, 1), date(y, 12, 31))
        for y, (start, end) in zip(years, drawn, strict=True)
    )
    assert all(second - first - 1 >= gap for first, second in itertools.pairwise(years))
    assert min(years) >= 2017
    assert max(years) <= 2024


def test_every_admissible_pair_of_years_occurs() -> None:
    block = Periods(count=2, first_year=2017, last_year=2020, gap_years=1)
    seen = {
        tuple(start.year for start, _ in draw_periods(block, np.random.default_rng(seed)))
        for seed in range(60)
    }
    assert seen == {(2017, 2019), (2017, 2020), (2018, 2020)}


def test_planned_and_drawn_sites_are_compared() -> None:
    periods = Periods(count=2, first_year=2019, last_year=2021)
    sites = block(10).model_copy(update={"periods": periods})
    rows = draw_sites(land_cover(), sites, 1)
    title, head, *strata, years = distribution(rows, sites).splitlines()
    assert "Table I" in title and head.split()[0] == "stratum"
    assert [line.split()[:5] for line in strata] == [
        ["forest", "40.0%", "4", "4", "40.0%"],
        ["urban", "10.0%", "1", "1", "10.0%"],
        ["others", "50.0%", "5", "5", "50.0%"],
        ["all", "100.0%", "10", "10", "100.0%"],
    ]
    # A gap of one year leaves only 2019 and 2021.
    assert years == "Periods per year: 2019: 10, 2021: 10"
    # The least distance of a stratum is that to a site of any stratum.
    drawn = {row["site"]: row for row in rows}.values()
    for line in strata:
        least = min(
            Geod(ellps="WGS84").inv(one["lon"], one["lat"], other["lon"], other["lat"])[2] / 1000
            for one, other in itertools.permutations(drawn, 2)
            if line.split()[0] in (one["land_cover"], "all")
        )
        assert line.endswith(f"{least:.1f} km")
    # A stratum without sites and a lonely site have none.
    alone = distribution(rows[:1], sites).splitlines()[2:-1]
    assert [line.split()[-1] for line in alone] == ["-"] * 4
