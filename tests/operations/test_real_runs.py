"""Real runs that meet a broken input or a full disk: one line, nothing damaged."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from running import half_written, products, snakemake

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]


def run(folder: Path, config: dict[str, Any], *, succeeds: bool) -> str:
    """Output of a run that makes cubes on one core."""
    shown = snakemake(folder, "cubes", "--cores", "1", configs=[config], succeeds=succeeds)
    text = shown.stdout + shown.stderr
    assert "Traceback (most recent call last)" not in text
    return text


def own_cubes(folder: Path, *names: str) -> dict[str, Any]:
    """A config of user-supplied cubes ``<folder>/<name>.nc``, which need not exist yet."""
    cubes: dict[str, Any] = {}
    for name in names:
        file = {"file": str(folder / f"{name}.nc"), "variable": "reflectance", "crs": "EPSG:32632"}
        cubes[name] = {"site": name, "files": {"sentinel-2": file}}
    sensors = {"sentinel-1": None}
    return {"run": "own", "sites": None, "gpp": None, "sensors": sensors, "own_cubes": cubes}


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


def test_a_broken_input_ends_in_one_line(tmp_path: Path) -> None:
    config = own_cubes(tmp_path, "mine", "others")
    for name in ("mine", "others"):
        (tmp_path / f"{name}.nc").write_text("date;B02;B03\n2020-01-01;0.1;0.2\n")
    text = run(tmp_path, config, succeeds=False)
    (line,) = re.findall(r"^ingest_cube: .*mine\.nc.*$", text, re.MULTILINE)
    log = line.rpartition("(traceback: ")[2].removesuffix(")")
    assert "Traceback" in (tmp_path / log).read_text()
    assert not half_written(tmp_path) and not list(tmp_path.rglob("*.zarr.zip"))


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
    found = products(folder).items()
    return {Path(name).name: digest for name, digest in found if name.endswith(".zarr.zip")}


def test_a_full_disk_ends_a_run_in_one_line_and_a_plain_rerun_continues(
    disk: Path, tmp_path: Path
) -> None:
    config = own_cubes(tmp_path, "first", "second")
    for name in ("first", "second"):
        noise().to_netcdf(tmp_path / f"{name}.nc", engine="netcdf4")
    run(tmp_path, config, succeeds=True)
    undisturbed = cubes(tmp_path / "results")
    assert len(undisturbed) == 2

    text = run(disk, config, succeeds=False)
    lines = re.findall(r"^ingest_cube: .*No space left on device.*$", text, re.MULTILINE)
    assert len(lines) == 1 and "run again" in lines[0], text
    # The cube that had room is whole, and of the other there is nothing.
    assert len(cubes(disk)) == 1 and cubes(disk).items() <= undisturbed.items()
    assert not half_written(disk)

    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    run(disk, config, succeeds=True)
    assert cubes(disk) == undisturbed
