"""Files that others wrote are data: what would run, lead elsewhere or never end is refused."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.errors import UserError, in_a_line

CODECS = {
    *("bytes", "transpose", "sharding_indexed", "vlen-utf8", "vlen-bytes"),
    *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"),
    *("astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle"),
    *("adler32", "crc32", "crc32c", "fletcher32"),
}
"""Ways of packing a Zarr array that only compute. ``pickle`` is not among them: it runs code."""

PLAUSIBLE_BYTES = 2**30
"""What a file may declare however small it is."""
PLAUSIBLE_RATIO = 1000
"""Beyond that, how many times its size: deflate packs up to 1030 times, real cubes up to 22."""

CLASSIC = b"CDF"
"""What NetCDF files begin with that are no HDF5."""

APART = multiprocessing.get_context("fork")
"""How the process is made that reads: the program that calls is not run again in it."""
LONGEST_S = 60
SLOWEST_BYTES_PER_S = 10**7
"""How long it may compute: so many seconds, and its bytes at this speed."""
SPARE_BYTES = 2**31
"""What it may take of memory: this, and what the file may declare."""


@contextmanager
def readable(path: str | Path, what: str, advice: str) -> Iterator[None]:
    """Tell in one line that a file is damaged or foreign, whatever a library makes of it.

    Parameters
    ----------
    path, what
        The file, and what it should be.
    advice
        What to do about it.

    Raises
    ------
    UserError
        In place of any other exception.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {in_a_line(error)}"
        raise UserError(f"{path}: not a readable {what} ({told}); {advice}") from error


def check_size(declared: int, stored: int, path: Path) -> None:
    """Refuse a file that declares far more than it can hold, in bytes.

    Raises
    ------
    UserError
        Before memory is taken for it.
    """
    if declared > max(PLAUSIBLE_BYTES, PLAUSIBLE_RATIO * stored):
        raise UserError(
            f"{path}: declares {declared / 2**30:.3g} GB in a file of {stored / 2**20:.3g} MB; "
            "it is damaged, or mostly empty: then cut it"
        )


def check_zarr(group: Any, names: Iterable[str], stored: int, path: Path) -> None:
    """Refuse a Zarr store that would run code, or declares far more than it can hold.

    Parameters
    ----------
    group
        The store, opened without consolidated metadata: xarray must read the same.
    names
        Whatever lies in it: folders of its arrays, and others.
    stored
        Bytes on the disk.
    path
        For messages.

    Raises
    ------
    UserError
        Before any of its values is read.
    """
    declared = 0
    for name in sorted(set(names)):
        array = group.get(name)
        if not hasattr(array, "shape"):
            continue
        odd = sorted(set(_codecs(array.metadata)) - CODECS)
        if odd:
            told = f"{in_a_line(name)} is packed by {in_a_line(odd[0])!r}"
            raise UserError(f"{path}: {told}, which is not trusted; write it anew with zstd")
        values = max(math.prod(array.shape), math.prod(array.chunks))
        declared += values * array.dtype.itemsize
    check_size(declared, stored, path)


def _codecs(metadata: Any) -> Iterator[str]:
    """Names of the codecs of an array of Zarr v2 or v3."""
    for codec in (*(getattr(metadata, "filters", None) or ()), getattr(metadata, "compressor", 0)):
        if codec:
            yield codec.codec_id
    told = [codec.to_dict() for codec in getattr(metadata, "codecs", ())]
    while told:
        codec = told.pop()
        yield str(codec["name"]).removeprefix("numcodecs.")
        inner = codec.get("configuration", {})
        told += [*inner.get("codecs", ()), *inner.get("index_codecs", ())]


def size_of_folder(folder: Path) -> int:
    """Bytes of all files of a folder.

    Raises
    ------
    UserError
        If a link in it leads out of it: any file of this machine would be read as pixels.
    """
    size = 0
    inside = folder.resolve()
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise UserError(f"{path}: leads out of {folder}; put a copy there")
        size += sum(Path(place, name).stat().st_size for name in names)
    return size


def folders_of_zip(path: Path) -> set[str]:
    """The folders at the top of a zip.

    Raises
    ------
    UserError
        If a member is compressed: a few bytes of it could unpack to any size.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise UserError(
            f"{path}: its members are compressed, those of a cube are only stored (zip -0)"
        )
    return {name for member in members if (name := member.filename.partition("/")[0])}


def open_netcdf(path: Path) -> xr.Dataset:
    """Open a NetCDF or HDF5 file whose values all lie in it, neither scaled nor masked.

    External links, virtual datasets and external storage make HDF5 read any file of this machine.
    NetCDF's own library is not used: files that are damaged or made for it end the process.

    Raises
    ------
    UserError
        If values lie in other files, or the file declares far more than it can hold; before any
        of them is read.
    """
    import h5py

    if path.suffix == ".gz":
        raise UserError(f"{path}: is packed; unpack it with gunzip")
    if not h5py.is_hdf5(path):
        with path.open("rb") as content:
            if content.read(len(CLASSIC)) != CLASSIC:
                raise UserError(f"{path}: neither a NetCDF nor an HDF5 file; name one that is")
        return xr.open_dataset(path, engine="scipy", mask_and_scale=False)
    with h5py.File(path, "r", locking=False) as file:
        sizes: list[int] = []
        # An exception does not pass through HDF5: the first name that is found ends the visit.
        name = file.visititems_links(
            lambda name, link: name if _lies_elsewhere(file, name, link, sizes) else None
        )
    if name is not None:
        raise UserError(
            f"{path}: {in_a_line(name)} lies in another file; write everything into one, with "
            "nccopy or h5repack"
        )
    check_size(sum(sizes), path.stat().st_size, path)
    return xr.open_dataset(path, engine="h5netcdf", phony_dims="sort", mask_and_scale=False)


def read_apart(path: Path, select: Callable[[xr.Dataset], xr.Dataset], folder: Path) -> xr.Dataset:
    """Read a part of a NetCDF or HDF5 file in a process of its own.

    HDF5 ends its process at some files that are damaged, and at others it never ends. So another
    process reads, within limits, and leaves plain arrays behind.

    Parameters
    ----------
    path
        The file.
    select
        Takes from the opened file what is needed; may raise `UserError`.
    folder
        Empty; the arrays lie there as long as they are used.

    Returns
    -------
    Dataset
        What was selected, neither scaled nor masked. Attributes are texts.

    Raises
    ------
    UserError
        If the file cannot be read.
    OSError
        If the folder takes no more.
    """
    reading = partial(readable, path, "NetCDF or HDF5 file", "check it, or get it again")
    ours, theirs = APART.Pipe(duplex=False)
    process = APART.Process(target=_translate, args=(path, select, folder, theirs, reading))
    process.start()
    theirs.close()
    told: dict[str, Any]
    try:
        told = json.loads(ours.recv_bytes())
    except EOFError:
        process.join()
        raise UserError(
            f"{path}: damaged, reading it ended in signal {-(process.exitcode or 0)}; get it again"
        ) from None
    process.join()
    if "refused" in told:
        raise UserError(told["refused"])
    if "unwritten" in told:
        raise OSError(*told["unwritten"])
    with reading():
        parts = {
            name: (dims, _array(folder / f"{number}.npy"), attributes)
            for number, (name, dims, attributes) in enumerate(told["variables"])
        }
        return xr.Dataset(parts, attrs=told["attributes"]).set_coords(told["coordinates"])


def _translate(
    path: Path,
    select: Callable[[xr.Dataset], xr.Dataset],
    folder: Path,
    pipe: Connection,
    reading: Callable[[], AbstractContextManager[None]],
) -> None:
    # A library in C tells its last words to the terminal itself.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    told: dict[str, Any]
    try:
        _limit(path.stat().st_size)
        with reading():
            part = select(open_netcdf(path))
            told = {
                "variables": [(n, v.dims, _texts(v.attrs)) for n, v in part.variables.items()],
                "attributes": _texts(part.attrs),
                "coordinates": list(part.coords),
            }
        for number, variable in enumerate(part.variables.values()):
            with reading():
                values = variable.values
                plain = values.astype("U") if values.dtype.kind == "O" else values
                if plain.dtype.hasobject:
                    raise TypeError(f"holds {plain.dtype}")
            # A folder that takes no more is no fault of the file.
            with (folder / f"{number}.npy").open("wb") as file:
                np.save(file, plain, allow_pickle=False)
    except UserError as error:
        told = {"refused": str(error)}
    except OSError as error:
        told = {"unwritten": error.args}
    pipe.send_bytes(json.dumps(told).encode())


def _limit(stored: int) -> None:
    """Limit the time and memory of this process by the size of the file that it reads, bytes."""
    import resource

    seconds = LONGEST_S + stored // SLOWEST_BYTES_PER_S
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    told = Path("/proc/self/statm")
    if told.exists():
        used = int(told.read_text().split()[0]) * resource.getpagesize()
        most = used + SPARE_BYTES + PLAUSIBLE_RATIO * stored
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _texts(attributes: Mapping[Any, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in attributes.items()}


def _array(path: Path) -> NDArray[Any]:
    values: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return values


def _lies_elsewhere(file: Any, name: str, link: Any, sizes: list[int]) -> bool:
    """Whether a link leads out of an HDF5 file; the bytes of a dataset are added to ``sizes``."""
    import h5py

    if not isinstance(link, h5py.HardLink):
        return isinstance(link, h5py.ExternalLink)
    node = file[name]
    if not isinstance(node, h5py.Dataset):
        return False
    chunk = math.prod(node.chunks or ()) * node.dtype.itemsize
    sizes.append(max(int(node.size or 0) * node.dtype.itemsize, chunk))
    return bool(node.is_virtual or node.external)
