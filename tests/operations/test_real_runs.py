"""Real runs that meet a broken input, a broken config or a full disk: one line, nothing damaged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml

from pipeline_lib.files import digest_file

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and output of the real workflow on one core, in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    snakefile = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    ended = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *snakefile, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert "Traceback (most recent call last)" not in ended.stdout
    return ended.returncode, ended.stdout


def own_cubes(folder: Path, *names: str) -> Path:
    """A config of user-supplied cubes ``<folder>/<name>.nc``, which need not exist yet."""
    cubes: dict[str, Any] = {}
    for name in names:
        file = {"file": str(folder / f"{name}.nc"), "variable": "reflectance", "crs": "EPSG:32632"}
        cubes[name] = {"site": name, "files": {"sentinel-2": file}}
    sensors = {"sentinel-1": None}
    content = {"run": "own", "sites": None, "gpp": None, "sensors": sensors, "own_cubes": cubes}
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def noise(side: int = 64) -> xr.Dataset:
    """A cube of 12 dates that does not compress."""
    values = np.random.default_rng(0).uniform(0, 0.5, (12, len(BANDS), side, side))
    coordinates = {
        "time": np.datetime64("2020-01-01") + 10 * np.arange(12) * np.timedelta64(1, "D"),
        "band": BANDS,
        "y": 5_300_000 - 10.0 * np.arange(side),
        "x": 600_005 + 10.0 * np.arange(side),
    }
    dims = ("time", "band", "y", "x")
    return xr.Dataset({"reflectance": (dims, values.astype(np.float32))}, coordinates)


def half_written(folder: Path) -> list[Path]:
    """Files that a job should have removed."""
    return [p for p in folder.rglob(".*") if p.name.startswith((".partial-", ".scratch-"))]


def test_a_broken_input_ends_in_one_line(tmp_path: Path) -> None:
    config = own_cubes(tmp_path, "mine")
    (tmp_path / "mine.nc").write_text("date;B02;B03\n2020-01-01;0.1;0.2\n")
    status, text = run(tmp_path, "cubes", "--configfile", str(config))
    assert status == 1, text
    (line,) = re.findall(r"^ingest_cube: .*mine\.nc.*$", text, re.MULTILINE)
    log = line.rpartition("(traceback: ")[2].removesuffix(")")
    assert "Traceback" in (tmp_path / log).read_text()
    assert not half_written(tmp_path) and not list(tmp_path.rglob("*.zarr.zip"))


def test_a_broken_config_starts_no_job(tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.write_text(yaml.safe_dump({"seed": "many", "sites": {"bounsd": [1, 2, 3, 4]}}))
    status, text = run(tmp_path, "--configfile", str(config))
    assert status == 1, text
    assert "2 mistake(s)" in text and "did you mean `sites.bounds`?" in text
    assert not (tmp_path / "results").exists()


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
    assert run(tmp_path / "undisturbed", "cubes", "--configfile", str(config))[0] == 0
    undisturbed = cubes(tmp_path / "undisturbed")
    assert len(undisturbed) == 2

    status, text = run(disk, "cubes", "--configfile", str(config))
    assert status == 1, text
    lines = re.findall(r"^ingest_cube: .*No space left on device.*$", text, re.MULTILINE)
    assert len(lines) == 1 and "run again" in lines[0], text
    # The cube that had room is whole, and of the other there is nothing.
    assert len(cubes(disk)) == 1 and cubes(disk).items() <= undisturbed.items()
    assert not half_written(disk)

    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    status, text = run(disk, "cubes", "--configfile", str(config))
    assert status == 0, text[-4000:]
    assert cubes(disk) == undisturbed
