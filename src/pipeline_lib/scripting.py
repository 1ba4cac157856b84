"""What every script of the workflow does around its one call into the library."""

from __future__ import annotations

import io
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from pipeline_lib.errors import UserError

QUERY = re.compile(r"(https?://[^\s'\"?]+)\?[^\s'\"]*")
"""A remote address with its query, which is where a signature stands."""


def without_signatures(text: str) -> str:
    """The text, with the queries of remote addresses left out."""
    return QUERY.sub(r"\1?...", text)


def paths_of(named: Mapping[Any, Any]) -> dict[Any, Any]:
    """Texts of a mapping, however deep, as paths."""
    return {
        key: paths_of(value) if isinstance(value, Mapping) else Path(value)
        for key, value in named.items()
    }


class _Log(io.TextIOWrapper):
    """A log file without signatures: GDAL's messages and tracebacks hold whole addresses."""

    def write(self, text: str) -> int:
        super().write(without_signatures(text))
        return len(text)


@contextmanager
def _logging(stream: _Log) -> Iterator[None]:
    """Messages of INFO and above to a stream, and to it no longer once it may be closed."""
    root = logging.getLogger()
    level = root.level
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


@contextmanager
def job(snakemake: Any) -> Iterator[None]:
    """Send what a job prints to its log, and end a failed job with one line.

    Parameters
    ----------
    snakemake
        The object that Snakemake hands to a script; its ``log`` and ``rule`` are used.

    Raises
    ------
    SystemExit
        With status 1 after any exception; the traceback is in the log.
    """
    path = Path(str(snakemake.log[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        _Log(path.open("wb"), encoding="utf-8", line_buffering=True) as log,
        redirect_stdout(log),
        redirect_stderr(log),
        _logging(log),
    ):
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            known = isinstance(error, UserError)
            what = str(error) if known else f"unexpected {type(error).__name__}: {error}"
            line = f"{snakemake.rule}: {what} (traceback: {path})"
            print(without_signatures(line), file=sys.__stderr__)
            sys.exit(1)
