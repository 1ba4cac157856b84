"""Where trained models lie: in a folder, in the package, or at an address of known digest."""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.files import atomic_path
from pipeline_lib.signatures import without_signatures

STARTER = "starter"
"""Name of the weights in the package."""
PACKAGED = Path(__file__).parents[1] / "models" / STARTER
SUMS = "SHA256SUMS"
"""File that lists the digest and the path of every other file, as ``sha256sum`` writes it."""
LARGEST_BYTES = 2**28
"""No file of an address, nor all files of a zip, are larger."""
TIMEOUT_S = 60
ADDRESS = re.compile(r"(https?://[^#\s]+?)/?#sha256=([0-9a-f]{64})")


def is_folder(where: str | Path) -> bool:
    """Whether models are named by a path, and neither by name nor by address."""
    return str(where) != STARTER and "://" not in str(where)


def models_folder(where: str | Path) -> Path:
    """The folder of models at ``where``.

    ``where`` is the path of a folder, ``starter`` for the weights in the package, or an address
    with the SHA-256 of what it leads to: ``https://.../models.zip#sha256=...``, or the root of a
    file tree, ``https://.../resolve/main#sha256=...``, with the digest of its file ``SHA256SUMS``.
    Addresses are read once and kept in the user's cache.

    Raises UserError if there are no starter weights, the address has no digest or cannot be read,
    or its content has another digest.
    """
    if is_folder(where):
        return Path(where)
    if where == STARTER:
        if not PACKAGED.is_dir():
            raise UserError(
                f"{STARTER}: this installation contains no starter weights; name the folder "
                "`models` of a finished run, or ./starter for a folder of that name"
            )
        return PACKAGED
    given = ADDRESS.fullmatch(str(where))
    if given is None:
        raise UserError(
            f"{without_signatures(str(where))}: an address of models ends with #sha256= and the "
            "64 hexadecimal digits of its digest; add them"
        )
    address, digest = given.groups()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "pipeline_lib" / "models" / digest
    if not folder.is_dir():
        with atomic_path(folder) as partial:
            partial.mkdir()
            if address.endswith(".zip"):
                _unpack(_checked(address, digest), address, partial)
            else:
                _copy_tree(address, digest, partial)
    # A zip may hold the folder of the models, or its content.
    return next((path.parent for path in sorted(folder.glob("*/fusion"))), folder)


def _unpack(content: bytes, address: str, folder: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST_BYTES:
                raise UserError(f"{without_signatures(address)}: unpacks to more than 256 MB")
            for member in archive.infolist():
                if not member.is_dir():
                    _write(folder, member.filename, archive.read(member), address)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise UserError(f"{without_signatures(address)}: no zip ({in_a_line(error)})") from error


def _copy_tree(address: str, digest: str, folder: Path) -> None:
    sums = _checked(f"{address}/{SUMS}", digest).decode(errors="replace")
    for line in sums.splitlines():
        own, _, name = line.partition("  ")
        _write(folder, name, _checked(f"{address}/{name}", own), address)


def _write(folder: Path, name: str, content: bytes, address: str) -> None:
    """Write a file that the content of an address names, within the folder alone."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(
            f"{without_signatures(address)}: names {in_a_line(name)!r}, no file within it"
        )
    target = folder.joinpath(*path.parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _checked(address: str, digest: str) -> bytes:
    """Content of an address; raises UserError if it cannot be read or has another digest."""
    import requests

    shown, content = without_signatures(address), b""
    try:
        with requests.get(address, stream=True, timeout=TIMEOUT_S) as answer:
            answer.raise_for_status()
            for part in answer.iter_content(2**20):
                content += part
                if len(content) > LARGEST_BYTES:
                    raise UserError(f"{shown}: larger than 256 MB; no models of this library")
    except requests.RequestException as error:
        reason = without_signatures(in_a_line(error))
        raise UserError(f"{shown}: cannot be read ({reason}); check the address") from error
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise UserError(
            f"{shown}: has the SHA-256 {found[:12]}..., not {digest[:12]}...; the file was "
            "changed, or the digest is that of another one"
        )
    return content
