"""The cluster profile, by a real Slurm on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from one_node_slurm import ACCOUNT, absent
from products import differences, products
from running import TINY
from slurm_run import run_under_slurm

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("workflow")]


@pytest.mark.skipif(absent() is not None, reason=f"no Slurm: {absent()}")
def test_what_slurm_makes_equals_what_a_local_run_makes(finished: Path, tmp_path: Path) -> None:
    run_under_slurm(TINY, tmp_path)
    assert not differences(tmp_path / "results" / "tiny", finished / "results" / "tiny")
    shown = (tmp_path / "run.log").read_text()
    assert "Auto-selected partition 'gpu' for job train_encoder" in shown
    assert "Auto-selected partition 'cpu' for job build_cube" in shown


@pytest.mark.skipif(absent(accounting=True) is not None, reason=f"no Slurm: {absent(True)}")
def test_accounting_tells_of_jobs_that_slurm_forgets(finished: Path, tmp_path: Path) -> None:
    pinned = "results/tiny/items/sentinel-2/site-000-a.json"
    run_under_slurm(TINY, tmp_path, pinned, accounting=True)
    made = products(tmp_path / "results" / "tiny")
    assert pinned.removeprefix("results/tiny/") in made
    assert made.items() <= products(finished / "results" / "tiny").items()
    told = (tmp_path / "accounting.txt").read_text().splitlines()
    assert told and set(told) == {f"{ACCOUNT}|COMPLETED"}
