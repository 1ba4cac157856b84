"""Opening NetCDF files and Zarr stores, with errors of one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from pipeline_lib.errors import UserError, in_a_line

CODECS = {
    *("bytes", "transpose", "sharding_indexed", "vlen-utf8", "vlen-bytes"),
    *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"),
    *("astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle"),
    *("adler32", "crc32", "crc32c", "fletcher32"),
}
"""Zarr codecs that only compute. ``pickle`` is not among them: decoding it runs code."""


@contextmanager
def readable(path: str | Path, what: str, advice: str) -> Iterator[None]:
    """Turn any exception of a reading library into a UserError: file, what it should be, advice."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {in_a_line(error)}"
        raise UserError(f"{path}: not a readable {what} ({reason}); {advice}") from error


def open_file(path: Path, **options: Any) -> xr.Dataset:
    """A NetCDF file or a Zarr folder, opened by xarray; ``options`` are those of its opener.

    HDF5 goes through h5netcdf and classic NetCDF through scipy: NetCDF's own library ends the
    process at some damaged files.

    Raises UserError if a Zarr array is packed by a codec that is not in :data:`CODECS`.
    """
    if path.is_dir():
        import zarr

        check_codecs(zarr.open_group(path, mode="r", use_consolidated=False), path)
        return xr.open_zarr(path, consolidated=False, chunks=None, **options)
    import h5py

    if h5py.is_hdf5(path):
        return xr.open_dataset(path, engine="h5netcdf", phony_dims="sort", **options)
    return xr.open_dataset(path, engine="scipy", **options)


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
