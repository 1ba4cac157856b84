"""A simulated archive of one site, and its items."""

import json
from collections import defaultdict
from datetime import date

import pytest

from pipeline_lib.config import CubeGrid, Demo
from pipeline_lib.cubes import CubeRequest
from simulated_archive import simulate_site


@pytest.fixture(scope="session")
def simulate(canopy_table):
    """Simulates a site for some periods, in a folder."""

    def run(root, site, *periods, lon=11.7, land_cover="others", tower=None, cube=None):
        days = [[date.fromisoformat(day) for day in period] for period in periods]
        simulate_site(
            requests=[CubeRequest(f"{site}-a", site, land_cover, lon, 48.3, *two) for two in days],
            cube=cube or CubeGrid(size_px=48, cloud_context_px=24),
            demo=Demo(optical_revisit_days=5, radar_revisit_days=6),
            seed=42,
            canopy_table=canopy_table,
            folder=root,
            truth=root / "truth",
            tower=tower,
        )

    return run


PERIODS = ("2019-05-01", "2019-05-30"), ("2022-07-01", "2022-07-30")


@pytest.fixture(scope="session")
def archive(tmp_path_factory, simulate):
    """Sixty days of a site near the border of two UTM zones, in two years."""
    root = tmp_path_factory.mktemp("archive")
    simulate(root, "site-000", *PERIODS)
    return root


@pytest.fixture(scope="session")
def items(archive):
    """Items of the archive by collection."""
    found = defaultdict(list)
    for item in json.loads((archive / "items/site-000.json").read_text())["features"]:
        found[item["collection"]].append(item)
    return found
