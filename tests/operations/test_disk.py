"""Disks that are full or read-only: one line, nothing damaged, and a plain rerun goes on."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from real_runs import products, run

pytestmark = pytest.mark.workflow

CUBES = ("first", "second")
CUBE_BYTES = 800_000
"""Size of a cube; while it is packed it takes the double."""
READ_BYTES = 12 * 10 * 64 * 64 * 4
"""Beside it lie, while a file is brought into the contract, its values in single precision."""
LINE = re.compile(r"^ingest_cube: no space left on the disk of results/own/cubes/", re.MULTILINE)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config with cubes of noise, which takes its room whatever compresses it."""
    folder = tmp_path_factory.mktemp("own")
    draw, side, times = np.random.default_rng(0), 64, 12
    own = {}
    for name in CUBES:
        values = draw.uniform(0, 0.5, (times, 10, side, side)).astype(np.float32)
        days = np.datetime64("2020-01-01") + 10 * np.arange(times) * np.timedelta64(1, "D")
        x, y = 600_005 + 10.0 * np.arange(side), 5_300_000 - 10.0 * np.arange(side)
        bands = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
        coordinates = {"time": days, "band": bands, "y": y, "x": x}
        cube = xr.Dataset({"reflectance": (("time", "band", "y", "x"), values)}, coordinates)
        cube.to_netcdf(folder / f"{name}.nc", engine="netcdf4")
        file = {"file": str(folder / f"{name}.nc"), "variable": "reflectance"}
        own[name] = {"site": name, "files": {"sentinel-2": file | {"crs": "EPSG:32632"}}}
    path = folder / "own.yaml"
    alone = {"sentinel-1": None}
    content = {"run": "own", "sites": None, "gpp": None, "sensors": alone, "own_cubes": own}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def undisturbed(config: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run leaves that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = run(folder, "cubes", "--configfile", str(config))
    assert ended.status == 0, ended.text[-4000:]
    made = products(folder / "results" / "own")
    assert len(made) == len(CUBES)
    return made


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own in memory, where one can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here: that takes root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def half_written(folder: Path) -> list[Path]:
    return [p for p in folder.rglob(".*") if p.name.startswith((".partial-", ".scratch-"))]


def test_a_disk_that_fills_up_is_told_and_a_plain_rerun_goes_on(
    config: Path, undisturbed: dict[str, str], disk: Path
) -> None:
    remount(disk, f"size={READ_BYTES + 11 * CUBE_BYTES // 4}")
    ended = run(disk, "cubes", "--configfile", str(config))
    assert ended.status == 1 and not ended.traceback, ended.text
    assert len(LINE.findall(ended.text)) == 1 and "run again" in ended.text
    assert ended.text.count("Error in rule") == 1
    # The cube that had room is whole, and of the other there is nothing.
    made = products(disk / "results" / "own")
    assert len(made) == 1 and made.items() <= undisturbed.items()
    assert not half_written(disk)

    remount(disk, "size=20m")
    again = run(disk, "cubes", "--configfile", str(config))
    assert again.status == 0, again.text[-4000:]
    assert products(disk / "results" / "own") == undisturbed


def test_a_disk_too_small_to_read_a_file_is_not_blamed_on_the_file(
    config: Path, disk: Path
) -> None:
    remount(disk, f"size={READ_BYTES * 4 // 5}")
    ended = run(disk, "cubes", "--configfile", str(config))
    assert ended.status == 1 and not ended.traceback, ended.text
    assert ended.text.count("as on a full disk; free space, then run again") == len(CUBES)
    assert "get it again" not in ended.text
    assert not products(disk / "results" / "own") and not half_written(disk)


def test_a_disk_without_any_room_is_told_before_the_first_job(config: Path, disk: Path) -> None:
    remount(disk, "size=1m")
    with (disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError):
        while ballast.write(bytes(4096)):
            pass
    ended = run(disk, "cubes", "--configfile", str(config))
    assert ended.status == 1 and not ended.traceback, ended.text
    assert ended.text.count("no space left on the disk of .snakemake (0 MB free now)") == 1
    assert not (disk / "results").exists()


@pytest.mark.parametrize("part", [".", "results"])
def test_a_disk_that_is_read_only_is_told_before_the_first_job(
    part: str, config: Path, undisturbed: dict[str, str], disk: Path, tmp_path: Path
) -> None:
    folder = disk
    if part == "results":
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / part).symlink_to(disk)
    remount(disk, "ro")
    ended = run(folder, "cubes", "--configfile", str(config))
    assert ended.status == 1 and not ended.traceback, ended.text
    assert ended.text.count(f"\n{folder / part}: cannot be written; mount it for writing") == 1
    # Snakemake itself needs its folder; a plan does not need the results'.
    planned = run(folder, "cubes", "--configfile", str(config), "--dry-run")
    assert planned.status == (part == ".") and not planned.traceback, planned.text

    if part == "results":
        return
    remount(disk, "rw")
    again = run(folder, "cubes", "--configfile", str(config))
    assert again.status == 0, again.text[-4000:]
    assert products(folder / "results" / "own") == undisturbed
