"""The stored product: a Zarr v3 store written tile by tile, and its manifest.

A run of the export may be killed at any moment. Finished tiles are recorded beside the
growing store, in a working folder; the finished store is moved into place and its
manifest, which lists every file with size and SHA-256, is written last. A folder without
a manifest is no product.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from pipeline_lib.embed.arrays import Embeddings, Tile, tiles
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_file, read_json, write_json

STORE = "embedding.zarr"
MANIFEST = "manifest.json"
ITEM = "item.json"
TIME_CHUNK = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """What a store holds.

    Attributes
    ----------
    template
        Dataset of coordinates (``time``, ``feature``, ``y``, ``x``, ``spatial_ref``) and
        attributes.
    sensors
        Sensors besides the reference one.
    reference, units
        Reference sensor and the units of its values.
    dtype
        Type of ``embedding``; the quality layers are float32.
    tile_px
        Side of a tile, which is also the side of a chunk.
    """

    template: xr.Dataset
    sensors: tuple[str, ...]
    reference: str
    units: str
    dtype: str
    tile_px: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Dates, features, rows, columns."""
        sizes = self.template.sizes
        return sizes["time"], sizes["feature"], sizes["y"], sizes["x"]

    @property
    def chunks(self) -> tuple[int, int, int, int]:
        """Shape of a chunk of ``embedding``; those of the other layers lack the feature."""
        time, feature, y, x = self.shape
        return min(TIME_CHUNK, time), feature, min(self.tile_px, y), min(self.tile_px, x)

    def layers(self) -> dict[str, dict[str, Any]]:
        """Attributes of each stored array."""
        return {
            "embedding": {"long_name": "embedding of the pixel and its context", "units": "1"},
            "context_share": {
                "long_name": f"share of valid {self.reference} pixels in the context",
                "units": "1",
            },
            "reconstruction_error": {
                "long_name": (
                    f"mean absolute error over the bands of {self.reference}, "
                    "decoded from the embedding at the centre pixel"
                ),
                "units": self.units,
            },
            **{
                f"days_to_{sensor}": {
                    "long_name": f"signed time to the paired frame of {sensor}; missing: none",
                    "units": "days",
                }
                for sensor in self.sensors
            },
        }


class TileStore:
    """A store that grows in a working folder, tile by tile.

    Parameters
    ----------
    state
        Working folder, on the file system of the product.
    origin
        Everything the values depend on: digests of model, inputs and settings. A working
        folder of another origin is thrown away: models never mix in one store.
    layout
        What the store holds.
    """

    def __init__(self, state: Path, origin: Mapping[str, Any], layout: Layout) -> None:
        self._state, self._origin, self._layout = state, dict(origin), layout
        header, store = state / "origin.json", state / STORE
        if header.exists():
            found = read_json(header)
            differs = sorted(k for k in {*found, *origin} if found.get(k) != origin.get(k))
            if differs:
                log.warning("%s: begun with another %s; starting anew", state, ", ".join(differs))
                header.unlink()
        if not (header.exists() and store.exists()):
            shutil.rmtree(state, ignore_errors=True)
            _create(store, layout)
            write_json(header, self._origin)
        for torn in store.rglob("*.partial"):
            torn.unlink()
        self._arrays: dict[str, Any] = dict(zarr.open_group(store, mode="r+").arrays())

    def pending(self) -> list[Tile]:
        """Tiles that are not finished, in order."""
        _, _, height, width = self._layout.shape
        return [
            tile for tile in tiles(height, width, self._layout.tile_px) if not self._is_whole(tile)
        ]

    def write(self, tile: Tile, part: Embeddings) -> None:
        """Store a tile and record it as finished."""
        area = (..., tile.rows, tile.columns)
        self._arrays["embedding"][area] = part.embedding
        self._arrays["context_share"][area] = part.context_share
        self._arrays["reconstruction_error"][area] = part.reconstruction_error
        for sensor, days in part.days.items():
            self._arrays[f"days_to_{sensor}"][area] = days
        store = self._state / STORE
        record = {
            "tile": asdict(tile),
            "embeddings": [int(n) for n in np.isfinite(part.reconstruction_error).sum((1, 2))],
            "files": _describe(store, (store / key for key in self._keys(tile))),
        }
        write_json(self._record(tile), record)

    def finish(self, output: Path, item: Mapping[str, Any]) -> None:
        """Move the finished store into ``output``, add its STAC item, then the manifest."""
        _, _, height, width = self._layout.shape
        store = self._state / STORE
        records = [
            read_json(self._record(tile)) for tile in tiles(height, width, self._layout.tile_px)
        ]
        files: dict[str, Any] = {}
        for record in records:
            files |= record["files"]
        files |= _describe(
            store,
            (path for path in store.rglob("*") if path.relative_to(store).as_posix() not in files),
        )
        manifest = {
            **self._origin,
            "tiles": [record["tile"] for record in records],
            "embeddings": np.sum([record["embeddings"] for record in records], 0).tolist(),
            "files": dict(sorted(files.items())),
        }
        output.mkdir(parents=True, exist_ok=True)
        (output / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(output / STORE, ignore_errors=True)
        store.rename(output / STORE)
        write_json(output / ITEM, item)
        write_json(output / MANIFEST, manifest)
        shutil.rmtree(self._state)

    def _record(self, tile: Tile) -> Path:
        return self._state / "tiles" / f"{tile.row}-{tile.column}.json"

    def _is_whole(self, tile: Tile) -> bool:
        if not self._record(tile).exists():
            return False
        files = read_json(self._record(tile))["files"]
        return not _damaged(self._state / STORE, files)

    def _keys(self, tile: Tile) -> Iterable[str]:
        steps, _, rows, columns = self._layout.chunks
        place = f"{tile.row // rows}/{tile.column // columns}"
        for name in self._layout.layers():
            middle = "0/" if name == "embedding" else ""
            for step in range(-(-self._layout.shape[0] // steps)):
                yield f"{name}/c/{step}/{middle}{place}"


def _create(path: Path, layout: Layout) -> None:
    """An empty store: coordinates, attributes and arrays without a chunk."""
    template = layout.template
    encoding = {"time": {"units": "seconds since 1970-01-01", "dtype": "float64"}}
    template.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    group = zarr.open_group(path, mode="r+")
    codec = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")
    for name, attributes in layout.layers().items():
        whole = name == "embedding"
        keep = slice(None) if whole else [0, 2, 3]
        group.create_array(
            name,
            shape=tuple(np.array(layout.shape)[keep].tolist()),
            chunks=tuple(np.array(layout.chunks)[keep].tolist()),
            dtype=layout.dtype if whole else "float32",
            fill_value=np.nan,
            compressors=(codec,),
            dimension_names=("time", "feature", "y", "x") if whole else ("time", "y", "x"),
            attributes=attributes | {"grid_mapping": "spatial_ref", "coordinates": "spatial_ref"},
        )


def _describe(store: Path, paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of those paths that are files."""
    return {
        path.relative_to(store).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": digest_file(path),
        }
        for path in paths
        if path.is_file()
    }


def _damaged(store: Path, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Files that are gone or whose size is not what was written."""
    return [
        key
        for key, about in files.items()
        if not (store / key).is_file() or (store / key).stat().st_size != about["bytes"]
    ]


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read the manifest of a product.

    Raises
    ------
    UserError
        If the folder holds no finished product.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        raise UserError(f"{folder}: no finished embeddings (no {MANIFEST}); run the export again")
    manifest: dict[str, Any] = read_json(path)
    return manifest


def read_embedding(folder: str | Path, *, load: bool = True) -> xr.Dataset:
    """Read the embeddings of a cube.

    Parameters
    ----------
    folder
        Folder with ``manifest.json`` and ``embedding.zarr``.
    load
        Read everything, compare it with the manifest and turn it into float32. Otherwise
        only the presence and size of each file are checked, and values are read on use, in
        the stored type.

    Returns
    -------
    embedding
        ``embedding`` ``(time, feature, y, x)``, ``context_share``,
        ``reconstruction_error`` and one ``days_to_<sensor>`` per further sensor
        ``(time, y, x)``; NaN where there is no embedding.

    Raises
    ------
    UserError
        If there is no finished product, or if it is damaged.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    store, files = folder / STORE, manifest["files"]
    damaged = _damaged(store, files)
    if load and not damaged:
        damaged = [key for key in files if digest_file(store / key) != files[key]["sha256"]]
    if damaged:
        raise UserError(
            f"{store}: damaged, {len(damaged)} file(s) differ from the manifest, "
            f"first {damaged[0]}; delete {folder / MANIFEST} and run the export again"
        )
    data: xr.Dataset = xr.open_zarr(store, consolidated=False, chunks=None, decode_coords="all")
    if data.attrs["model_digest"] != manifest["model_digest"]:
        raise UserError(
            f"{folder}: the manifest and the store are of different models; "
            f"delete {folder / MANIFEST} and run the export again"
        )
    if load:
        data = data.load()
        data["embedding"] = data["embedding"].astype(np.float32)
    return data


def same_model(embeddings: Mapping[str, xr.Dataset]) -> str:
    """Digest of the one model that made all of these embeddings.

    Raises
    ------
    UserError
        If they come from different models: their numbers cannot be compared.
    """
    digests = {name: data.attrs["model_digest"] for name, data in embeddings.items()}
    first = next(iter(digests))
    foreign = [name for name, digest in digests.items() if digest != digests[first]]
    if foreign:
        raise UserError(
            f"embeddings of {', '.join(foreign)} come from another model than those of {first}; "
            "export them again with one model"
        )
    digest: str = digests[first]
    return digest
