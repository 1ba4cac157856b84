"""Real runs of Snakemake that are meant to fail."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

ROOT = Path(__file__).parents[2]
BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]


@dataclass(frozen=True)
class Run:
    """How a run ended, and what it printed."""

    status: int
    text: str

    @property
    def traceback(self) -> bool:
        """Whether the terminal shows a traceback."""
        return "Traceback (most recent call last)" in self.text


def run(folder: Path, *arguments: str) -> Run:
    """Run the real workflow on one core, in a folder of its own."""
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
    return Run(ended.returncode, ended.stdout)


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
