"""Files and folders that appear whole or not at all, and digests of them."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline_lib.errors import UserError, in_a_line


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """A new path beside ``target`` for a file or folder, renamed to it if the block succeeds.

    Leftovers of a killed run are removed first. After an exception ``target`` is as it was.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".partial-{target.name}")
    remove(partial)
    try:
        yield partial
        if partial.is_dir() and target.exists():
            remove_folder(target)
        partial.replace(target)
    finally:
        remove(partial)


@contextmanager
def scratch_folder(target: str | Path) -> Iterator[Path]:
    """An empty folder beside ``target``, removed at the end."""
    target = Path(target)
    folder = target.with_name(f".scratch-{target.name}")
    remove(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder; killed meanwhile, it is whole or gone: a part of it might pass for all."""
    removed = folder.with_name(f".removed-{folder.name}")
    remove(removed)
    folder.replace(removed)
    remove(removed)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write indented JSON, atomically. Raises ValueError for NaN, which JSON does not have."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def check_arrived(path: Path, advice: str) -> None:
    """Raise UserError if a file of others is absent, or another one stands in its place."""
    if not path.is_file():
        raise UserError(f"file not found: {path}; {advice}")
    with path.open("rb") as handle:
        head = handle.read(64).lstrip()
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: a Git LFS pointer, not the file; run `git lfs pull` in its clone")
    if head.startswith(b"<"):
        raise UserError(f"{path}: a web page, not the file; download the file itself")


def read_json(path: str | Path, advice: str = "delete it and run again") -> Any:
    """Content of a JSON file. Raises UserError, with advice, if it is absent or not JSON."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"file not found: {path}") from None
    except (ValueError, RecursionError) as error:
        # Besides wrong syntax: bytes that are not text, endless numbers and nesting.
        raise UserError(f"{path}: not valid JSON ({in_a_line(error)}); {advice}") from error


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the columns of the first one, atomically."""
    with atomic_path(path) as partial, partial.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def pack(folder: str | Path, target: str | Path) -> None:
    """Pack ``folder`` into an uncompressed zip whose bytes depend on the content alone.

    Entries are sorted and carry no time of day, so that equal stores have equal digests.
    """
    folder = Path(folder)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                archive.writestr(name, path.read_bytes())


def digest_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_of(content: Any) -> str:
    """SHA-256 of a JSON-serialisable value, independent of the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
