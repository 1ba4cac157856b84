"""Archives of towers are read in memory, up to a limit, and never unpacked."""

import bz2
import gzip
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline_lib.config import Fluxes
from pipeline_lib.errors import UserError
from pipeline_lib.gpp import fluxnet
from pipeline_lib.gpp.fluxnet import find_daily, read_daily

NAME = "XX-Abc_DD.csv"
TEXT = "TIMESTAMP,GPP_NT_VUT_REF,NEE_VUT_REF_QC\n20170101,1.5,0.9\n"
BOMB = TEXT.encode() + b"0" * 5_000_000


def zipped(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(NAME, content)
    return path


def read(folder: Path) -> object:
    return [read_daily(source, Fluxes()) for source in find_daily(folder, "XX-Abc")]


def lying(path: Path) -> None:
    """The sizes that a zip declares, of its member and in its table, say 100 bytes."""
    zipped(path, BOMB)
    content = path.read_bytes()
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(mark) + offset
        content = content[:at] + struct.pack("<I", 100) + content[at + 4 :]
    path.write_bytes(content)


BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "zip that declares it": (lambda p: zipped(p / "XX-Abc.zip", BOMB), "more than 1 MB"),
    "zip that lies about it": (lambda p: lying(p / "XX-Abc.zip"), "damaged or cut short"),
    "gzip": (lambda p: (p / f"{NAME}.gz").write_bytes(gzip.compress(BOMB)), "more than 1 MB"),
    "gzip in pieces": (
        lambda p: (p / f"{NAME}.gz").write_bytes(gzip.compress(TEXT.encode() * 100) * 9999),
        "more than 1 MB",
    ),
    "plain": (lambda p: (p / NAME).write_bytes(BOMB), "more than 1 MB"),
    "no gzip": (lambda p: (p / f"{NAME}.gz").write_bytes(bz2.compress(BOMB)), "download it again"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_too_much_is_rejected_without_unpacking_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, expected = BOMBS[name]
    make(tmp_path)
    monkeypatch.setattr(fluxnet, "LARGEST_BYTES", 2**20)
    tracemalloc.start()
    with pytest.raises(UserError, match=expected) as caught:
        read(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20
    assert "\n" not in str(caught.value)
