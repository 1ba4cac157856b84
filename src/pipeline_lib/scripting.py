"""What every script of the workflow does around its one call into the library."""

from __future__ import annotations

import errno
import fcntl
import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NoReturn

from pipeline_lib.config import Devices
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.machine import take_gpus
from pipeline_lib.signatures import without_signatures

SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""System errors, which are reported whatever a library makes of them."""


def paths_of(named: Mapping[Any, Any]) -> dict[Any, Any]:
    """The values of a nested mapping as paths."""
    return {
        key: paths_of(value) if isinstance(value, Mapping) else Path(value)
        for key, value in named.items()
    }


class _Log(io.TextIOWrapper):
    """A log file without signatures: GDAL's messages and tracebacks contain whole URLs.

    Lines that do not fit on a full disk are lost; the job goes on.
    """

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(without_signatures(text))
        return len(text)


@contextmanager
def _logging(stream: _Log) -> Iterator[None]:
    """Log messages of INFO and above to a stream, until it is closed."""
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
def job(snakemake: Any, stage: str | None = None) -> Iterator[None]:
    """Redirect the output of a job to its log, and end a failed job with one line and status 1.

    ``snakemake`` is the object that Snakemake gives to a script. The log holds the traceback. A
    file beside it is locked: a job may outlive its run, and two of the same would write the same
    files.
    A job of a ``stage`` of the config's block ``devices`` sees as many GPUs as its rule asks for,
    which no other job sees, unless the config says ``cpu``; any other job sees none.
    """
    path = Path(str(snakemake.log[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = None
    try:
        # Not the log, which Snakemake removes before a job.
        lock = path.with_name(f".{path.name}.lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _fail(f"{snakemake.rule}: the same job of an earlier run is alive ({path}); end it or wait")
    except OSError:
        pass  # A full disk, or a file system without locks.
    # Unbuffered, so that nothing has to be written when the file is closed.
    log = _Log(path.open("wb", buffering=0), encoding="utf-8", write_through=True)
    with ExitStack() as keep, log, redirect_stdout(log), redirect_stderr(log), _logging(log):
        try:
            _show_gpus(snakemake, stage, keep)
            yield
        except KeyboardInterrupt:
            _fail(f"{snakemake.rule}: interrupted; run again to continue")
        except Exception as error:
            traceback.print_exc()
            _fail(f"{snakemake.rule}: {_reason(error)} (traceback: {path})")


def _show_gpus(snakemake: Any, stage: str | None, keep: ExitStack) -> None:
    count = 0
    if stage and getattr(Devices.model_validate(snakemake.config["devices"]), stage) == "gpu":
        count = snakemake.resources.get("gpu", 0)
    gpus = take_gpus(count, keep)
    # A GPU that cannot be listed, since nvidia-smi is missing, stays visible to a job that has one.
    if gpus or not count:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    if gpus:
        print("GPUs:", *gpus)


def _reason(error: BaseException) -> str:
    """The message of an error, or of the system error that caused it."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, MemoryError):
            return "out of memory; use fewer --cores or --resources mem_mb=..., then run again"
        if any(os.strerror(code) in str(link) for code in SYSTEM):
            return f"{in_a_line(link)}; fix that, then run again"
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    if isinstance(error, UserError | OSError):
        return str(error)
    return f"unexpected {type(error).__name__}: {in_a_line(error)}; report it with the log"


def _fail(message: str) -> NoReturn:
    print(" ".join(without_signatures(message).split()), file=sys.__stderr__)
    sys.exit(1)
