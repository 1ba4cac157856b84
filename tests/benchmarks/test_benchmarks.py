"""Every benchmark runs small, and tells what it promises to tell."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


def check_nbar(result: dict[str, Any]) -> None:
    # Only single precision tells the results apart, once the nodes lie in the same places.
    assert result["largest_difference_same_nodes"] < 1e-6


def check_sites(result: dict[str, Any]) -> None:
    assert result["smallest_distance_km"] >= result["least_distance_wanted_km"]
    assert all(row["sites_drawn"] == row["sites_wanted"] for row in result["strata"])
    assert sum(result["periods_per_year"].values()) == 2 * result["sites"]


def check_training(result: dict[str, Any]) -> None:
    assert result["samples_per_peak_gflop"] == pytest.approx(
        result["samples_per_s"] / result["peak_gflops"]
    )
    assert 0 < result["loader_share"] < 1


def check_exactness(result: dict[str, Any]) -> None:
    assert result["largest_invariant"] <= result["limit"] == 1e-5
    assert result["smallest_contrast"] > 1e-4
    found = {(row["encoder"], row["numbers"], row["change"]): row for row in result["changes"]}
    kinds = {(encoder, numbers) for encoder, numbers, _ in found}
    numbers = ("sentinel-1", "sentinel-2", "fused")
    assert kinds == {(encoder, name) for encoder in ("dense", "patch") for name in numbers}
    for kind in kinds:
        for change in ("patchwise", "mates", "tiles", "offset", "batch"):
            assert found[*kind, change]["largest"] <= 1e-5
        for change in ("masked 1000", "masked nan"):
            assert found[*kind, change]["largest"] == 0
        for change in ("order", "dates", "bands"):
            assert found[*kind, change]["largest"] > 1e-4


def check_cube(result: dict[str, Any]) -> None:
    assert [(row["sensor"], row["size_px"]) for row in result["cubes"]] == [
        ("sentinel-2", 24),
        ("sentinel-1", 24),
    ]
    for row in result["cubes"]:
        spent = sum(seconds for name, seconds in row.items() if name.endswith(", s"))
        assert spent == pytest.approx(row["seconds"], abs=0.5)
        assert row["read_over_needed"] > 1 and row["peak_gb"] > 0


def check_dense_export(result: dict[str, Any]) -> None:
    assert result["embeddings"] == 24 * 24 * 6
    assert result["ratio"] == pytest.approx(
        result["fused_embeddings_per_s"] / result["patchwise_per_s"]
    )
    assert result["pixel_year_ms"] == pytest.approx(60e3 / result["fused_embeddings_per_s"])
    assert sum(result["shares"].values()) == pytest.approx(1)
    assert all(share > 0 for share in result["shares"].values())


def check_seams(result: dict[str, Any]) -> None:
    assert max(result["largest"].values()) <= result["limit"] == 1e-5
    assert result["spread_of_embeddings"] > 0.1


@dataclass(frozen=True)
class Case:
    """A benchmark, its arguments for a small run, numbers it must tell, and what must hold."""

    name: str
    small: tuple[str, ...]
    numbers: tuple[str, ...]
    check: Callable[[dict[str, Any]], None] = lambda result: None


CASES = (
    Case(
        "nbar",
        ("--dates", "3", "--size", "50", "--at-once", "2"),
        ("seconds", "sen2nbar_seconds", "ratio", "peak_gb", "threads"),
        check_nbar,
    ),
    Case(
        "sites",
        ("--cells-per-degree", "12", "--sites", "20"),
        ("seconds", "peak_gb", "smallest_distance_km"),
        check_sites,
    ),
    Case(
        "cube",
        ("--sizes", "24", "--scene", "78", "--repeat", "2", "--end", "2021-01-20"),
        ("threads",),
        check_cube,
    ),
    Case(
        "training",
        ("--batch", "4", "--repeats", "1"),
        ("samples_per_s", "peak_gflops", "patch_samples_per_s", "loader_share", "threads"),
        check_training,
    ),
    Case(
        "exactness",
        ("--seeds", "1", "--windows", "4", "--dense-px", "12", "--patch-px", "6"),
        ("seconds", "peak_gb", "threads", "limit", "largest_invariant", "smallest_contrast"),
        check_exactness,
    ),
    Case(
        "dense_export",
        ("--size", "24", "--dates", "6"),
        (
            "s2_embeddings_per_s",
            "fused_embeddings_per_s",
            "peak_gflops",
            "fused_embeddings_per_peak_gflop",
            "patchwise_per_s",
            "peak_gb",
        ),
        check_dense_export,
    ),
    Case("seams", ("--size", "70", "--dates", "3"), ("embeddings",), check_seams),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_benchmark_prints_one_json_object_and_nothing_else(
    case: Case, project_root: Path
) -> None:
    script = project_root / "benchmarks" / f"{case.name}.py"
    command = [sys.executable, str(script), *case.small, "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert shown.returncode == 0, shown.stderr
    result = json.loads(shown.stdout)
    for key in case.numbers:
        assert result[key] > 0
    case.check(result)
