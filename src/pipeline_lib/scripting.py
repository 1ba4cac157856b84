"""What every script of the workflow does around its one call into the library."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.refusals import refusal
from pipeline_lib.signatures import without_signatures


def paths_of(named: Mapping[Any, Any]) -> dict[Any, Any]:
    """Texts of a mapping, however deep, as paths."""
    return {
        key: paths_of(value) if isinstance(value, Mapping) else Path(value)
        for key, value in named.items()
    }


class _Log(io.TextIOWrapper):
    """A log file without signatures: GDAL's messages and tracebacks hold whole addresses.

    What a full disk does not take is lost; the job goes on, and ends by what it makes. ``whole``
    tells whether everything was taken.
    """

    whole = True

    def write(self, text: str) -> int:
        try:
            super().write(without_signatures(text))
        except OSError:
            self.whole = False
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
        The object that Snakemake hands to a script; its ``log``, ``output`` and ``rule`` are used.

    Raises
    ------
    SystemExit
        With status 1 after any exception, the traceback of which is in the log, or if there can be
        no log.
    """
    path, product = Path(str(snakemake.log[0])), Path(str(snakemake.output[0]))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a buffer there is nothing that would have to be written later, at the closing.
        log = _Log(path.open("wb", buffering=0), encoding="utf-8", write_through=True)
    except OSError as error:
        other = f"{path}: cannot be written ({in_a_line(error)}); move what is in its way"
        _fail(f"{snakemake.rule}: {refusal(error, path) or other}")
    with log, redirect_stdout(log), redirect_stderr(log), _logging(log):
        try:
            yield
        except KeyboardInterrupt:
            _fail(f"{snakemake.rule}: interrupted; run again to go on")
        except Exception as error:
            traceback.print_exc()
            known = str(error) if isinstance(error, UserError) else _unexpected(error)
            where = f"traceback: {path}" if log.whole else f"{path} could not be written"
            _fail(f"{snakemake.rule}: {refusal(error, product.parent) or known} ({where})")


def _unexpected(error: Exception) -> str:
    return f"unexpected {type(error).__name__}: {in_a_line(error)}; report it with the log"


def _fail(told: str) -> NoReturn:
    """End the process with one line."""
    print(" ".join(without_signatures(told).split()), file=sys.__stderr__)
    sys.exit(1)
