"""Locks of runs that were killed."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path
from typing import IO

from pipeline_lib.refusals import check_writable


def hold_folder(folder: Path) -> IO[str] | None:
    """Hold Snakemake's folder for the life of this process, and clear it of stale locks.

    Snakemake's own locks are files that outlive a killed run, and would make the next one stop
    and ask for ``--unlock``. A lock of the operating system ends with its process, however
    that ends; so whoever gets it knows that no other run is alive here.

    Parameters
    ----------
    folder
        ``.snakemake`` of the working directory.

    Returns
    -------
    file
        To be kept for as long as the folder is held; None if another run holds it, whose
        locks are then left alone.

    Raises
    ------
    UserError
        If nothing can be written there, or its disk is full.
    """
    check_writable(folder)
    folder.mkdir(exist_ok=True)
    handle = (folder / "held-by-a-run").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    shutil.rmtree(folder / "locks", ignore_errors=True)
    (folder / "locks").mkdir(exist_ok=True)
    return handle
