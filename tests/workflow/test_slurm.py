"""The cluster profile, by a real Slurm on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from one_node_slurm import ACCOUNT, absent, run_under_slurm
from running import products

# There is one place for Slurm's configuration: never two of these at once.
pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.xdist_group("slurm")]


@pytest.mark.skipif(absent() is not None, reason=f"no Slurm: {absent()}")
def test_a_run_under_slurm_equals_a_local_one(finished: Path, tmp_path: Path) -> None:
    log, _ = run_under_slurm(tmp_path, "embed", "results/tiny/gpp/metrics.json")
    made = products(tmp_path / "results" / "tiny")
    assert {"embeddings/DE-Gra/manifest.json", "gpp/metrics.json"} <= made.keys()
    assert made.items() <= products(finished / "results" / "tiny").items()
    assert "Auto-selected partition 'gpu' for job train_encoder" in log
    assert "Auto-selected partition 'cpu' for job build_cube" in log


@pytest.mark.skipif(absent(accounting=True) is not None, reason=f"no Slurm: {absent(True)}")
def test_accounting_knows_the_jobs_that_slurm_forgets(finished: Path, tmp_path: Path) -> None:
    pinned = "items/sentinel-2/site-000-a.json"
    _, states = run_under_slurm(tmp_path, f"results/tiny/{pinned}", accounting=True)
    made = products(tmp_path / "results" / "tiny")
    assert pinned in made and made.items() <= products(finished / "results" / "tiny").items()
    assert states and set(states) == {f"{ACCOUNT}|COMPLETED"}
