"""A few changed files per reader, always the same ones; ``fuzz.py`` feeds many more."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from fuzz import READERS, Reader, Seeds, attempt, simulate
from fuzz_changes import changed
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

CASES = {"granule": 25, "fluxnet": 60, "targets": 60, "catalog": 25, "pinned": 6, "api": 25}
CASES |= {"model": 12, "cube": 30, "netcdf": 20, "zarr": 12, "arrays": 12}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Seeds:
    archive = tmp_path_factory.mktemp("fuzz") / "archive"
    archive.mkdir()
    simulate(archive)
    return Seeds(archive, None)


@pytest.fixture(scope="module", params=READERS)
def reader(request: pytest.FixtureRequest, seeds: Seeds) -> tuple[str, Reader]:
    return request.param, READERS[request.param](seeds)


@pytest.mark.xdist_group("fuzz")
def test_seeds_are_read_and_changed_files_are_read_or_refused_in_one_line(
    reader: tuple[str, Reader], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name, fed = reader
    folder: Path = tmp_path_factory.mktemp(name) / "in"
    assert any(attempt(fed, files, folder) is None for files in fed.seeds)

    @settings(
        max_examples=CASES[name],
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32))
    def feed(seed: int) -> None:
        rng = Random(seed)
        files = fed.seal(rng, changed(rng, rng.choice(fed.seeds), fed.seeds))
        attempt(fed, files, folder)

    feed()
