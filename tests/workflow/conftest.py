"""One finished run for all tests of the workflow."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest
from running import snakemake


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run that all processes of the tests share; none changes it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, failure = base / "finished", base / "finished.log"
    with (base / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not failure.exists():
            folder.mkdir()
            failure.write_text("the run of the fixture failed")
            snakemake(folder)
            failure.write_text("")
    assert not failure.read_text(), failure.read_text()
    return folder


@pytest.fixture(scope="module")
def finished(shared_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run for the tests of one file."""
    return Path(shutil.copytree(shared_run, tmp_path_factory.mktemp("run") / "copy"))
