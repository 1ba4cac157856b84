"""A lock of the operating system that a live run holds, and that ends with its process."""

from __future__ import annotations

import fcntl
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import IO

from pipeline_lib.errors import UserError

FOLDER = Path(".snakemake")


def hold(run: str) -> IO[str] | None:
    """The lock file of a run, locked until this process ends; None if another process holds it.

    Snakemake's own locks are files that outlive a killed run. Whoever gets this lock knows that
    the run is not alive, and removes those that name products of it. But some network file systems
    keep locks within a machine, and some have none: then nothing is removed. The file therefore
    lists the machines that have started the run since it was last seen to be the only one. ``run``
    is the folder of the products.
    """
    FOLDER.mkdir(exist_ok=True)
    file = (FOLDER / f"alive-{Path(run).name}").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:
        return file
    file.seek(0)
    machines = set(file.read().splitlines())
    if machines == {platform.node()}:
        for lock in (FOLDER / "locks").glob("*.lock"):
            with suppress(FileNotFoundError):  # A run of another config has just ended.
                if f"\n{run}/" in "\n" + lock.read_text():
                    lock.unlink()
    elif platform.node() not in machines:
        _sign(file)
    return file


def start(run: str, held: IO[str] | None) -> IO[str]:
    """The lock file of a run that Snakemake starts, which has got Snakemake's own lock.

    ``held`` is what `hold` returned. Raises UserError if another process holds it.
    """
    file = held or hold(run)
    if file is None:
        raise UserError(f"{run}: another run of it is alive in this folder; wait until it ends")
    file.truncate(0)
    _sign(file)
    return file


def _sign(file: IO[str]) -> None:
    with suppress(OSError):  # A full disk; the run will say so.
        os.write(file.fileno(), f"{platform.node()}\n".encode())
