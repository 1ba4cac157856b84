"""A run is alive as long as its process holds the lock, and no longer."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_lib import run_lock
from pipeline_lib.errors import UserError

RUN = "results/mine"
HOLD = f"""
from pipeline_lib.run_lock import hold, start
file = start("{RUN}", hold("{RUN}"))
print("held", flush=True)
input()
"""


@pytest.fixture(autouse=True)
def stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Snakemake's lock of a run, in a folder of its own, beside that of another run."""
    monkeypatch.chdir(tmp_path)
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text(f"mine.nc\n{RUN}/items/a.json\n")
    (locks / "0.output.lock").write_text(f"{RUN}/cubes/a.zarr.zip\n")
    (locks / "1.output.lock").write_text(f"{RUN}-2/cubes/a.zarr.zip\nother/{RUN}/a\n")
    return locks


@pytest.fixture
def alive() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_live_run_keeps_its_locks_and_a_killed_one_loses_its_own(
    stale: Path, alive: subprocess.Popen[str]
) -> None:
    assert run_lock.hold(RUN) is None and run_lock.hold("results/other") is not None
    with pytest.raises(UserError, match="results/mine: another run of it is alive"):
        run_lock.start(RUN, None)
    assert len(list(stale.glob("*"))) == 3
    alive.kill()
    alive.wait()
    held = run_lock.hold(RUN)
    assert held is not None and [file.name for file in stale.glob("*")] == ["1.output.lock"]


@pytest.mark.parametrize("started_here", [False, True])
def test_locks_of_a_run_that_started_elsewhere_are_left_alone(
    started_here: bool, stale: Path
) -> None:
    """A file system may keep its locks within a machine: the other run may be alive."""
    (stale.parent / "alive-mine").write_text("another-machine\n")
    for _ in range(2 if started_here else 1):
        held = run_lock.hold(RUN)
        assert held is not None
        held.close()
    assert len(list(stale.glob("*"))) == 3
    run_lock.start(RUN, None).close()
    assert (stale.parent / "alive-mine").read_text() == f"{platform.node()}\n"


def test_without_locks_of_the_file_system_nothing_is_removed(
    stale: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(file: object, operation: int) -> None:
        raise OSError("Function not implemented")

    monkeypatch.setattr(run_lock.fcntl, "flock", unsupported)  # type: ignore[attr-defined]
    for _ in range(3):
        run_lock.start(RUN, run_lock.hold(RUN))
    assert len(list(stale.glob("*"))) == 3
