"""A disk that fills up during a run: one line, nothing damaged, and a plain rerun continues."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_runs import half_written, noise, own_cubes, run

from pipeline_lib.files import digest_file

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

CUBE_BYTES = 800_000
"""Size of a cube; while it is packed it takes twice as much."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk in memory, where one can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    size = 11 * CUBE_BYTES // 4
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here: that takes root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def cubes(folder: Path) -> dict[str, str]:
    return {path.name: digest_file(path) for path in folder.rglob("*.zarr.zip")}


def test_a_full_disk_ends_a_run_in_one_line_and_a_plain_rerun_continues(
    disk: Path, tmp_path: Path
) -> None:
    config = own_cubes(tmp_path, "first", "second")
    for name in ("first", "second"):
        noise().to_netcdf(tmp_path / f"{name}.nc", engine="netcdf4")
    assert run(tmp_path / "undisturbed", "cubes", "--configfile", str(config)).status == 0
    undisturbed = cubes(tmp_path / "undisturbed")
    assert len(undisturbed) == 2

    ended = run(disk, "cubes", "--configfile", str(config))
    assert ended.status == 1 and not ended.traceback, ended.text
    lines = re.findall(r"^ingest_cube: .*No space left on device.*$", ended.text, re.MULTILINE)
    assert len(lines) == 1 and "run again" in lines[0], ended.text
    # The cube that had room is whole, and of the other there is nothing.
    assert len(cubes(disk)) == 1 and cubes(disk).items() <= undisturbed.items()
    assert not half_written(disk)

    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    again = run(disk, "cubes", "--configfile", str(config))
    assert again.status == 0, again.text[-4000:]
    assert cubes(disk) == undisturbed
