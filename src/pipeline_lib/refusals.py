"""What the operating system refuses, told in one line: what, where and what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline_lib.errors import UserError

LEAST_MB = 1
"""What a disk must have left when a run starts: room for Snakemake's own notes."""
LITTLE_MB = 100
"""What temporary files may need."""

FULL = "free space, then run again: what is finished is whole"
MEMORY = (
    "let fewer jobs run side by side (--cores, or --resources mem_mb=...), or use a machine with "
    "more memory, then run again"
)
SHORT = -1
"""What libraries say of a write that was cut short, and nothing of why."""
CUT_SHORT = re.compile(
    r"\d+ requested and \d+ written"  # numpy
    r"|inline_container.*unexpected pos"  # torch
    r"|TIFF\w+:.*(IO|Write|Seek) error|Write failed"  # GDAL
)
TEXTS = {
    SHORT: f"{{disks}}: a file could not be written to its end, as on a full disk; {FULL}",
    errno.ENOSPC: f"no space left on the disk of {{disks}}; {FULL}",
    errno.EDQUOT: f"{{path}}: your quota of its disk is used up; {FULL}",
    errno.EROFS: "{path}: its file system is read-only; mount it for writing, then run again",
    errno.EACCES: "{path}: no permission to read or write it; change that, then run again",
    errno.EPERM: "{path}: no permission to read or write it; change that, then run again",
    errno.EIO: "{path}: its disk fails (input/output error); check the disk, then run again",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n 4096), then run again",
    errno.ENFILE: "too many open files on this machine; end other programs, then run again",
    errno.ENOMEM: f"not enough memory; {MEMORY}",
}
DIED = re.compile(r"\.(\w+)\.py' died with <Signals\.(\w+): \d+>")
"""What Snakemake tells of a script that could not end by itself: its name, and the signal."""
SIGNALS = {
    "SIGKILL": f"was killed ({{signal}}), as the system does for want of memory; {MEMORY}",
    "SIGINT": "was interrupted ({signal}); run again to go on",
    "SIGTERM": "was ended from outside ({signal}); run again to go on",
}
CRASH = "crashed ({signal}) in a library that it uses; run again, and report it if it comes back"
NEVER_THE_DATA = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""What says nothing about a file that is read, whatever was made of the refusal on its way."""


def refusal(error: BaseException, folder: Path) -> str | None:
    """What the operating system refused, if an error comes from that.

    Parameters
    ----------
    error
        With whatever it was raised from: libraries wrap the system's errors in their own, and
        some keep nothing of them but the text.
    folder
        What was written to, where the error does not tell.

    Returns
    -------
    str or None
        One line; None if something else failed.
    """
    for link in _chain(error):
        code = _code(link)
        if code is None or (isinstance(error, UserError) and code not in NEVER_THE_DATA):
            continue
        named = getattr(link, "filename", None)
        path = Path(os.fsdecode(named)) if isinstance(named, str | bytes) else folder
        return TEXTS[code].format(path=path, disks=_disks(path))
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _code(error: BaseException) -> int | None:
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno in TEXTS:
        return error.errno
    if isinstance(error, UserError):
        return None
    text = str(error)
    if CUT_SHORT.search(text):
        return SHORT
    told = (code for code in TEXTS if code != SHORT and os.strerror(code) in text)
    return next(told, None)


def _disks(path: Path) -> str:
    """The disk of a path, and that of temporary files if it has little room as well."""
    place, temporary = _existing(path), Path(tempfile.gettempdir())
    told = f"{path} ({_free_mb(place):.0f} MB free now)"
    if place.stat().st_dev != temporary.stat().st_dev and _free_mb(temporary) < LITTLE_MB:
        told += f", or of temporary files ({temporary}, {_free_mb(temporary):.0f} MB free now)"
    return told


def _free_mb(place: Path) -> float:
    return shutil.disk_usage(place).free / 1e6


def _existing(path: Path) -> Path:
    """The path itself, or the first of the folders around it that is there."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def check_writable(folder: Path) -> None:
    """Refuse a folder that nothing can be written to, before any job is started.

    Parameters
    ----------
    folder
        Need not be there.

    Raises
    ------
    UserError
        If it is read-only, leads nowhere, or its disk is full.
    """
    for place in (folder, *folder.parents):
        if place.is_symlink() and not place.exists():
            raise UserError(
                f"{place}: is a link to {place.readlink()}, which is not there; mount its disk or "
                "mend the link"
            )
    place = _existing(folder)
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(
            f"{place}: cannot be written; mount it for writing, change its permissions, or run in "
            "another folder"
        )
    if _free_mb(place) < LEAST_MB:
        raise UserError(TEXTS[errno.ENOSPC].format(disks=_disks(folder)))


def after_failure(logs: Iterable[Path], folders: Iterable[Path]) -> Iterator[str]:
    """What a failed run tells at its end: of jobs that could not say a word, and of its disks.

    Parameters
    ----------
    logs
        Snakemake's own logs of the run.
    folders
        Folders that it writes to.
    """
    text = "".join(path.read_text(errors="replace") for path in logs if path.exists())
    for (rule, signal), count in Counter(DIED.findall(text)).items():
        times = f" ({count} jobs)" if count > 1 else ""
        yield f"{rule}{times}: {SIGNALS.get(signal, CRASH).format(signal=signal)}"
    refused = set()
    for folder in folders:
        try:
            check_writable(folder)
        except UserError as error:
            refused.add(str(error))
    yield from sorted(refused)
