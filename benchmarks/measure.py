"""Time and peak memory of one call, in a process of its own; and how results are shown."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Measured(Generic[Result]):
    """What a call gave and what it cost.

    Attributes
    ----------
    result
        What the function returned.
    seconds
        Wall time of the call, without the start of its process.
    peak_gb
        Most memory that its process ever held, interpreter and libraries included, in 1e9 bytes.
    """

    result: Result
    seconds: float
    peak_gb: float


def one_thread() -> None:
    """Let the numerical libraries of processes started from now on use one thread each."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))


def measured(function: Callable[..., Result], *arguments: Any) -> Measured[Result]:
    """Call a function in a fresh process.

    Parameters
    ----------
    function
        Defined at the top of a module, so that the process can find it.
    arguments
        What it is called with; these and the result are pickled.

    Returns
    -------
    Measured
        An exception of the function is raised here.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure, function, arguments).result()


def _measure(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Measured[Result]:
    start = time.perf_counter()
    result = function(*arguments)
    return Measured(result, time.perf_counter() - start, peak_gb())


def peak_gb() -> float:
    """Most memory that this process has held so far, in 1e9 bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            # ru_maxrss would do, but on Linux it starts at what the parent held.
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def show(result: dict[str, Any], as_json: bool) -> None:
    """Print a result: as one JSON object, or as aligned lines.

    Parameters
    ----------
    result
        Plain values; a dict is shown under its key, a list of dicts as a table.
    as_json
        Whether a program will read it.
    """
    if as_json:
        print(json.dumps(result))
        return
    plain = dict(_plain(result))
    width = max(map(len, plain), default=0)
    for name, value in plain.items():
        print(f"{name:<{width}}  {_text(value)}")
    for name, rows in result.items():
        if _is_table(rows):
            print(f"\n{name}")
            _show_table(rows)


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _plain(result: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in result.items():
        if isinstance(value, dict):
            pairs += _plain(value, f"{above}{name}.")
        elif above or not _is_table(value):
            pairs.append((above + name, value))
    return pairs


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value)


def _show_table(rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_text(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    for line in cells:
        print(
            "  ".join(f"{cell:<{size}}" for cell, size in zip(line, widths, strict=True)).rstrip()
        )
