from __future__ import annotations

import itertools

import numpy as np
from pyproj import Geod

from pipeline_lib.config import Periods, Sites, Stratum
from pipeline_lib.sites import LandCoverMap, distribution, draw_sites

SITES = Sites(
    count=8,
    bounds=(5, 46, 15, 54),
    min_distance_km=50,
    strata=(
        Stratum(name="forest", codes=(70,), fraction=0.3),
        Stratum(name="others", codes=(), fraction=0.7),
    ),
    periods=Periods(count=2, first_year=2019, last_year=2021),
)


def drawn() -> list[dict[str, object]]:
    codes = np.random.default_rng(0).choice(np.array([70, 130], np.uint8), size=(80, 100))
    lon, lat = 5 + (np.arange(100) + 0.5) / 10, 54 - (np.arange(80) + 0.5) / 10
    return draw_sites(LandCoverMap(codes, lon, lat), SITES, 1)


def test_planned_and_drawn_sites_are_compared() -> None:
    title, head, forest, others, everything, years = distribution(drawn(), SITES).splitlines()
    assert "Table I" in title and head.split()[0] == "stratum"
    assert forest.split()[:5] == ["forest", "30.0%", "2", "2", "25.0%"]
    assert others.split()[:5] == ["others", "70.0%", "6", "6", "75.0%"]
    assert everything.split()[:5] == ["all", "100.0%", "8", "8", "100.0%"]
    # A gap of one year leaves only 2019 and 2021.
    assert years == "Periods per year: 2019: 8, 2021: 8"


def test_the_least_distance_of_a_stratum_counts_sites_of_every_stratum() -> None:
    rows = drawn()
    places = {row["site"]: row for row in rows}.values()
    geod = Geod(ellps="WGS84")

    def least(names: set[str]) -> float:
        return min(
            geod.inv(one["lon"], one["lat"], other["lon"], other["lat"])[2] / 1000
            for one, other in itertools.permutations(places, 2)
            if one["land_cover"] in names
        )

    lines = distribution(rows, SITES).splitlines()
    for line, names in zip(lines[2:5], ({"forest"}, {"others"}, {"forest", "others"}), strict=True):
        assert line.endswith(f"{least(names):.1f} km")


def test_a_stratum_without_sites_and_a_lonely_site_are_shown() -> None:
    lines = distribution(drawn()[:1], SITES).splitlines()
    assert [line.split()[-1] for line in lines[2:5]] == ["-", "-", "-"]
