"""A job that is killed cannot say so; the run says it for the job."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from broken_inputs import text_as_netcdf
from real_runs import run

pytestmark = pytest.mark.workflow


def kill_first_job(folder: Path, stop: threading.Event) -> None:
    """Kill the first process that runs a script of the run in this folder."""
    scripts = f"{folder}/.snakemake/scripts/"
    while not stop.is_set():
        for process in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (process / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if arguments[0] == sys.executable and scripts in arguments[1]:
                os.kill(int(process.name), signal.SIGKILL)
                return
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds the job by /proc")
def test_a_killed_job_is_told_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    config = folder / "my.yaml"
    config.write_text(yaml.safe_dump(text_as_netcdf(folder)))
    stop = threading.Event()
    killer = threading.Thread(target=kill_first_job, args=(folder, stop))
    killer.start()
    try:
        ended = run(folder, "cubes", "--configfile", str(config))
    finally:
        stop.set()
        killer.join()
    assert ended.status == 1 and not ended.traceback, ended.text
    told = [line for line in ended.text.splitlines() if line.startswith("ingest_cube: ")]
    assert len(told) == 1, ended.text
    assert "was killed (SIGKILL)" in told[0] and "mem_mb" in told[0] and "run again" in told[0]
