"""Runs that are killed at any moment, and what the next run makes of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running import TINY, command, half_written, products, snakemake

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

KILLS = 3
AFTER_S = (5.0, 20.0)
"""Each run is killed after this long: past the start of Snakemake, before its jobs are done."""


@contextmanager
def killed_at_the_end(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run that makes cubes, killed with all its jobs when the block ends."""
    with (folder / "run.log").open("w") as log:
        run = subprocess.Popen(
            command(folder, "cubes"), stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield run
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()


def test_cubes_of_a_killed_run_equal_those_of_an_undisturbed_one(
    finished: Path, tmp_path: Path
) -> None:
    moments = random.Random(1)
    killed = 0
    for _ in range(KILLS):
        with killed_at_the_end(tmp_path) as run:
            time.sleep(moments.uniform(*AFTER_S))
            status = run.poll()
        assert not status, (tmp_path / "run.log").read_text()[-4000:]
        killed += status is None
    snakemake(tmp_path, "cubes")
    assert killed, "the runs ended before they could be killed"
    cubes = products(finished / "results" / "tiny" / "cubes")
    assert len([name for name in cubes if name.endswith(".zarr.zip")]) == 10
    assert products(tmp_path / "results" / "tiny" / "cubes") == cubes
    assert not half_written(tmp_path / "results")


def test_a_second_run_in_the_same_folder_is_locked_out(tmp_path: Path) -> None:
    with killed_at_the_end(tmp_path) as run:
        for _ in range(600):
            if list((tmp_path / "results" / "tiny" / "logs").rglob("*.log")):
                break
            time.sleep(0.1)
        os.kill(run.pid, signal.SIGSTOP)
        # A dry run in between leaves the lock alone.
        snakemake(tmp_path, "cubes", "--dry-run")
        second = snakemake(tmp_path, "cubes", succeeds=False)
        assert "cannot be locked" in second.stdout + second.stderr
        # Snakemake removes the locks of all runs at the end of any.
        snakemake(tmp_path, "results/other/sites.csv", configs=(TINY, {"run": "other"}))
        assert not (tmp_path / ".snakemake" / "locks").exists()
        third = snakemake(tmp_path, "cubes", succeeds=False)
        assert "results/tiny: another run of it is alive" in third.stdout + third.stderr
