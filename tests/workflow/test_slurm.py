"""The cluster profile, by a real Slurm on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from one_node_slurm import ACCOUNT, absent, run_under_slurm
from running import TINY, differences, products

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

SOME = [
    "results/tiny/sites.csv",
    "results/tiny/cubes/sentinel-1/site-000-a.zarr.zip",
    "results/tiny/cubes/sentinel-1/site-001-a.zarr.zip",
    "results/tiny/cubes/sentinel-1/site-002-a.zarr.zip",
    "results/tiny/dataset/sentinel-1/normalisation.json",
    "results/tiny/models/sentinel-1/model.safetensors",
]


@pytest.mark.skipif(absent() is not None, reason=f"no Slurm: {absent()}")
@pytest.mark.parametrize("targets", [SOME, []], ids=["six targets", "whole run"])
def test_a_run_under_slurm_equals_a_local_one(
    finished: Path, tmp_path: Path, targets: list[str]
) -> None:
    run_under_slurm(TINY, tmp_path, *targets)
    if targets:
        made = products(tmp_path / "results" / "tiny")
        assert {target.removeprefix("results/tiny/") for target in targets} <= made.keys()
        assert made.items() <= products(finished / "results" / "tiny").items()
    else:
        assert not differences(tmp_path / "results" / "tiny", finished / "results" / "tiny")
    shown = (tmp_path / "run.log").read_text()
    assert "Auto-selected partition 'gpu' for job train_encoder" in shown
    assert "Auto-selected partition 'cpu' for job build_cube" in shown


@pytest.mark.skipif(absent(accounting=True) is not None, reason=f"no Slurm: {absent(True)}")
def test_accounting_knows_the_jobs_that_slurm_forgets(finished: Path, tmp_path: Path) -> None:
    pinned = "results/tiny/items/sentinel-2/site-000-a.json"
    run_under_slurm(TINY, tmp_path, pinned, accounting=True)
    made = products(tmp_path / "results" / "tiny")
    assert pinned.removeprefix("results/tiny/") in made
    assert made.items() <= products(finished / "results" / "tiny").items()
    states = (tmp_path / "accounting.txt").read_text().splitlines()
    assert states and set(states) == {f"{ACCOUNT}|COMPLETED"}
