"""Runs that are killed at any moment, and what the next run makes of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from running import TINY, command, snakemake

from pipeline_lib.files import digest_file

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

CUBES = ["cubes", "--configfile", str(TINY)]
KILLS = 3
AFTER_S = (5.0, 20.0)
"""Each run is killed after this long: past the start of Snakemake, before its jobs are done."""


def run_and_kill(run: list[str], after_s: float, log: Path) -> int | None:
    """Start a run; kill it and all its jobs after a while. Its status; None if it was killed."""
    with log.open("w") as output:
        process = subprocess.Popen(
            run, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def test_cubes_of_a_killed_run_equal_those_of_an_undisturbed_one(
    project_root: Path, finished: Path, tmp_path: Path
) -> None:
    moments = random.Random(1)
    run = command(project_root, tmp_path, *CUBES)
    killed = 0
    for _ in range(KILLS):
        log = tmp_path / "run.log"
        status = run_and_kill(run, moments.uniform(*AFTER_S), log)
        assert not status, log.read_text()[-4000:]
        killed += status is None
        # Snakemake leaves its lock behind and says so.
        snakemake(project_root, tmp_path, *CUBES, "--unlock")
    shown = snakemake(project_root, tmp_path, *CUBES)
    assert shown.returncode == 0, shown.stderr[-4000:]
    assert killed, "the runs ended before they could be killed"
    cubes = sorted((finished / "results" / "tiny" / "cubes").rglob("*.zarr.zip"))
    assert len(cubes) == 10
    for cube in cubes:
        assert digest_file(tmp_path / cube.relative_to(finished)) == digest_file(cube), cube.name
    left = [p for p in (tmp_path / "results").rglob(".*") if p.name[:8] in (".partial", ".scratch")]
    assert not left


def test_a_second_run_in_the_same_folder_is_locked_out(project_root: Path, tmp_path: Path) -> None:
    first = subprocess.Popen(
        command(project_root, tmp_path, *CUBES),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        locks = tmp_path / ".snakemake" / "locks"
        for _ in range(300):
            if locks.is_dir() and any(locks.iterdir()):
                break
            time.sleep(0.1)
        # A dry run in between leaves the lock alone.
        assert snakemake(project_root, tmp_path, *CUBES, "--dry-run").returncode == 0
        second = snakemake(project_root, tmp_path, *CUBES)
        assert second.returncode != 0 and "lock" in (second.stdout + second.stderr).lower()
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
