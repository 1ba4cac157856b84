"""What the benchmarks measure with."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


def fill(size: int) -> float:
    return float(np.ones(size).sum())


def fail() -> None:
    raise ValueError("no such thing")


@pytest.fixture(scope="module")
def measure(project_root: Path) -> ModuleType:
    # Processes that it starts import it by name, and know the same folders as this one.
    sys.path.append(str(project_root / "benchmarks"))
    return importlib.import_module("measure")


def test_a_measured_call_tells_result_time_and_its_own_memory(measure: ModuleType) -> None:
    ballast = np.ones(6 * 10**7)
    small, large = measure.measured(fill, 10), measure.measured(fill, 5 * 10**7)
    assert (small.result, large.result) == (10.0, 5e7)
    assert 0 < small.seconds < large.seconds
    # The ballast of this process is not counted.
    assert 0.01 < small.peak_gb < ballast.nbytes / 1e9
    assert 0.35 < large.peak_gb - small.peak_gb < 0.45


def test_what_a_measured_call_raises_is_raised_here(measure: ModuleType) -> None:
    with pytest.raises(ValueError, match="no such thing"):
        measure.measured(fail)


def test_results_are_shown_as_json_or_as_aligned_lines(
    measure: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {
        "seconds": 1.23456,
        "by": {"step": 2},
        "rows": [{"a": 1, "long name": "x"}, {"a": 22}],
    }
    measure.show(result, True)
    assert capsys.readouterr().out == (
        '{"seconds": 1.23456, "by": {"step": 2}, "rows": [{"a": 1, "long name": "x"}, {"a": 22}]}\n'
    )
    measure.show(result, False)
    assert capsys.readouterr().out == (
        "seconds  1.235\nby.step  2\n\nrows\na   long name\n1   x\n22\n"
    )
