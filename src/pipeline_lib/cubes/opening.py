"""Opening NetCDF files and Zarr stores, with errors of one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from pipeline_lib.errors import UserError, in_a_line

CODECS = {
    *("bytes", "transpose", "sharding_indexed", "vlen-utf8", "vlen-bytes"),
    *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"),
    *("astype", "bitround", "json2", "delta", "fixedscaleoffset", "packbits", "quantize"),
    *("shuffle", "adler32", "crc32", "crc32c", "fletcher32"),
}
"""Zarr codecs that only compute. ``pickle`` is not among them: decoding it runs code."""
OTHER_FORMATS = {
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "a TIFF image (GeoTIFF)"),
    b"\0\0\0\x0cjP": "a JPEG 2000 image",
    b"GRIB": "a GRIB file",
    b"\x0e\x03\x13\x01": "an HDF4 file",
    b"CDF\x05": "NetCDF of the kind CDF-5 (64-bit data); write it as NetCDF-4 (nccopy -k nc4)",
    b"PK\x03\x04": "a zip archive; unpack it, and name the NetCDF file or the Zarr folder in it",
    b"\x1f\x8b": "compressed with gzip; unpack it",
    b"version https://git-lfs": "a pointer of Git LFS; get the file itself with `git lfs pull`",
}
"""First bytes of files that are sound, but not read: what they are, and what to do."""
CONVERT = "write it as NetCDF or Zarr, with dimensions time, y and x"
DAMAGED = "get it anew if it is damaged, or write its bands, mask and dates as a file of their own"
UNPACKABLE = r"\bplugin\b|required filter|[Cc]odec"
"""What HDF5 and Zarr say where a filter or codec is not available."""


@contextmanager
def readable(path: str | Path, what: str, advice: str) -> Iterator[None]:
    """Turn any exception of a reading library into a UserError: file, what it should be, advice.

    A file that lacks nothing but a filter or a permission is not called damaged.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {in_a_line(error)}"
        if isinstance(error, PermissionError | BlockingIOError):
            advice = "allow reading it, or wait until no other program writes it"
        elif re.search(UNPACKABLE, reason):
            advice = "write it again with gzip or zstd, since its filter is not available here"
        raise UserError(f"{path}: not a readable {what} ({reason}); {advice}") from error


def open_file(path: Path, **options: Any) -> xr.Dataset:
    """A NetCDF file or a Zarr folder, opened by xarray; ``options`` are those of its opener.

    HDF5 goes through h5netcdf and classic NetCDF through scipy: NetCDF's own library ends the
    process at some damaged files.

    Raises UserError if the file is of another format, if its variables are all in groups, or if a
    Zarr array is packed by a codec that is not in :data:`CODECS`.
    """
    with readable(path, "NetCDF or Zarr file", DAMAGED):
        source = _open_zarr(path, options) if path.is_dir() else _open_netcdf(path, options)
        groups = [] if source.data_vars else _groups(path)
    if groups:
        raise UserError(
            f"{path}: its variables are in groups ({in_a_line(', '.join(groups[:5]))}), which are "
            "not read; write the group with the bands as a file of its own"
        )
    return source


def _open_netcdf(path: Path, options: dict[str, Any]) -> xr.Dataset:
    if _is_hdf5(path):
        return xr.open_dataset(path, engine="h5netcdf", phony_dims="sort", **options)
    with path.open("rb") as stream:
        first = stream.read(512)
    if not first.strip(b"\0"):
        raise UserError(f"{path}: is empty, or starts with zeros only; get it anew")
    if first.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        raise UserError(f"{path}: is a web page, such as that of a login; download the file itself")
    for signature, kind in OTHER_FORMATS.items():
        if first.startswith(signature):
            raise UserError(f"{path}: is {kind}" + f"; {CONVERT}" * (";" not in kind))
    if not first.startswith(b"CDF"):
        raise UserError(f"{path}: is neither NetCDF nor Zarr, by its first bytes; name such a file")
    return xr.open_dataset(path, engine="scipy", **options)


def _open_zarr(path: Path, options: dict[str, Any]) -> xr.Dataset:
    import zarr

    if not any((path / name).exists() for name in ("zarr.json", ".zgroup")):
        raise UserError(
            f"{path}: is a folder without Zarr metadata (zarr.json, .zgroup); name one NetCDF "
            "file, or the folder of a Zarr group"
        )
    check_codecs(zarr.open_group(path, mode="r", use_consolidated=False), path)
    return xr.open_zarr(path, consolidated=False, chunks=None, **options)


def _groups(path: Path) -> list[str]:
    """Names of the groups of a Zarr store or of an HDF5 file."""
    if path.is_dir():
        import zarr

        return sorted(zarr.open_group(path, mode="r").group_keys())
    if not _is_hdf5(path):
        return []
    import h5py

    with h5py.File(path) as file:
        return sorted(name for name, node in file.items() if isinstance(node, h5py.Group))


def _is_hdf5(path: str | Path) -> bool:
    import h5py

    return Path(path).is_file() and bool(h5py.is_hdf5(path))


def check_codecs(group: Any, path: Path) -> None:
    """Raise UserError if an array of a Zarr group is packed by a codec not in :data:`CODECS`."""
    for name, array in group.arrays():
        unknown = sorted(set(_codecs(array.metadata)) - CODECS)
        if unknown:
            raise UserError(
                f"{path}: {in_a_line(name)} is packed by the codec {in_a_line(unknown[0])!r}, "
                "which is not trusted; write it again with zstd"
            )


def _codecs(metadata: Any) -> Iterator[str]:
    """Names of the codecs of an array of Zarr v2 or v3, also of those inside shards."""
    for codec in (*(getattr(metadata, "filters", None) or ()), getattr(metadata, "compressor", 0)):
        if codec:
            yield codec.codec_id
    pending = [codec.to_dict() for codec in getattr(metadata, "codecs", ())]
    while pending:
        codec = pending.pop()
        yield str(codec["name"]).removeprefix("numcodecs.")
        inner = codec.get("configuration", {})
        pending += [*inner.get("codecs", ()), *inner.get("index_codecs", ())]
