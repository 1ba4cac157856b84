"""Benchmarks and studies run small and print what they promise."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


def fill(size: int) -> float:
    return float(np.ones(size).sum())


@pytest.fixture(scope="module")
def measure(project_root: Path) -> ModuleType:
    # Processes that it starts import it by name, and know the same folders as this one.
    sys.path.append(str(project_root / "benchmarks"))
    return importlib.import_module("measure")


def test_a_measured_call_has_its_own_memory_and_raises_its_errors(measure: ModuleType) -> None:
    ballast = np.ones(6 * 10**7)
    small, large = measure.measured(fill, 10), measure.measured(fill, 5 * 10**7)
    assert (small.result, large.result) == (10.0, 5e7)
    assert 0 < small.seconds < large.seconds
    # The ballast of this process is not counted.
    assert 0.01 < small.peak_gb < ballast.nbytes / 1e9
    assert 0.35 < large.peak_gb - small.peak_gb < 0.45
    with pytest.raises(TypeError):
        measure.measured(fill, "many")


def check_nbar(result: dict[str, Any]) -> None:
    # Nodes in the same places leave differences of single precision only.
    assert result["largest_difference_same_nodes"] < 1e-6 and result["ratio"] > 0


def check_sites(result: dict[str, Any]) -> None:
    assert result["smallest_distance_km"] >= result["least_distance_wanted_km"]
    assert all(row["sites_drawn"] == row["sites_wanted"] for row in result["strata"])


def check_cube(result: dict[str, Any]) -> None:
    assert {row["sensor"] for row in result["cubes"]} == {"sentinel-1", "sentinel-2", "landsat"}
    for row in result["cubes"]:
        spent = sum(seconds for name, seconds in row.items() if name.endswith(", s"))
        assert spent == pytest.approx(row["seconds"], abs=0.5) and row["read_over_needed"] > 1


def check_training(result: dict[str, Any]) -> None:
    assert result["samples_per_s"] > 0
    assert 0 < result["loader_share"] < 1


def check_exactness(result: dict[str, Any]) -> None:
    assert result["largest_invariant"] <= result["limit"] == 1e-5
    assert result["smallest_contrast"] > 1e-4
    assert {row["encoder"] for row in result["changes"]} == {"dense", "patch"}
    for row in result["changes"]:
        if row["change"].startswith("masked"):
            assert row["largest"] == 0


def check_dense_export(result: dict[str, Any]) -> None:
    assert result["embeddings"] == 24 * 24 * 6 and result["ratio"] > 0
    assert sum(result["shares"].values()) == pytest.approx(1)


def check_seams(result: dict[str, Any]) -> None:
    assert max(result["largest"].values()) <= result["limit"] == 1e-5
    assert result["spread_of_embeddings"] > 0.1


CASES: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "studies/nbar": ("--dates 3 --size 50 --at-once 2", check_nbar),
    "studies/sites": ("--cells-per-degree 12 --sites 20", check_sites),
    "studies/seams": ("--size 70 --dates 3", check_seams),
    "benchmarks/cube": ("--sizes 24 --scene 78 --repeat 2 --end 2021-01-20", check_cube),
    "benchmarks/training": ("--batch 4 --repeats 1", check_training),
    "benchmarks/exactness": ("--seeds 1 --windows 4 --dense-px 12 --patch-px 6", check_exactness),
    "benchmarks/dense_export": ("--size 24 --dates 6", check_dense_export),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", CASES)
def test_a_script_prints_one_json_object(script: str, project_root: Path) -> None:
    arguments, check = CASES[script]
    command = [sys.executable, str(project_root / f"{script}.py"), *arguments.split(), "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert shown.returncode == 0, shown.stderr
    check(json.loads(shown.stdout))
