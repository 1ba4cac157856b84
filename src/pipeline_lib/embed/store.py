"""The stored product: a Zarr v3 store written tile by tile, and its manifest.

A tile is one shard, thus one file, of each layer, with all dates; inside, small chunks can
be read one by one, and each has a checksum. A file has one writer, and appears whole.

An export may be killed at any moment. Finished tiles are recorded beside the growing store,
in a working folder; the finished store is moved into place, and its manifest is written last.
A folder without a manifest is no product.
"""

from __future__ import annotations

import errno
import logging
import shutil
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.errors import ZarrUserWarning

from pipeline_lib import __version__
from pipeline_lib.cubes.schema import days_layer
from pipeline_lib.embed.arrays import Layers, Tile, tiles
from pipeline_lib.embed.manifest import MANIFEST, other_version, read_manifest
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, digest_file, read_json, remove, write_json

STORE = "embedding.zarr"
ITEM = "item.json"
HEADER = "origin.json"
CHUNK_DATES = 8
CHUNK_PX = 64
"""Dates and side of a chunk: one date of an area and one pixel's series both read little."""

COMPRESSORS = (
    # A block as large as a chunk: the four bytes of a float32 are then compressed one by one.
    BloscCodec(cname="zstd", clevel=5, shuffle="shuffle", blocksize=2**20),
    # With a checksum every reader notices an altered chunk.
    Crc32cCodec(),
)
FRACTION_BITS = 23
"""Those of a float32."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Coding:
    """How values are stored: as they are, or as whole multiples of a step (CF: scale_factor).

    ``fill`` stands where there is no value; of an integer type it is the end of the range, which
    no value is stored as. A float32 is rounded to the first ``fraction_bits`` of its fraction:
    zeros take no room when compressed.
    """

    dtype: str
    fill: float
    step: float | None = None
    fraction_bits: int = FRACTION_BITS

    @property
    def exact(self) -> bool:
        """Whether float32 values are stored unchanged."""
        return self.step is None and self.fraction_bits == FRACTION_BITS

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes by which readers of CF, GDAL among them, decode."""
        if self.step is None:
            # NaN, as xarray writes it in Zarr: the little-endian bytes of a float64 in base64.
            return {"_FillValue": "AAAAAAAA+H8="}
        return {
            "_FillValue": int(self.fill),
            **({"scale_factor": self.step} if self.step != 1 else {}),
        }

    def encode(self, values: NDArray[np.floating]) -> tuple[NDArray[Any], int]:
        """Stored form of values (NaN where missing), and how many were clipped to the range."""
        if self.step is None:
            stored = np.array(values, np.float32)
            if spare := FRACTION_BITS - self.fraction_bits:
                # To the closest; of two to the even one, as IEEE 754 rounds.
                bits = stored.view(np.uint32)
                bits += (bits >> spare & 1) + np.uint32((1 << spare - 1) - 1)
                bits &= np.uint32(0xFFFFFFFF << spare & 0xFFFFFFFF)
                # The sum overflows where all bits of a NaN are set, as GPUs do.
                stored[np.isnan(values)] = np.nan
            return stored, 0
        limits = np.iinfo(self.dtype)
        first = limits.min + (self.fill == limits.min)
        last = limits.max - (self.fill == limits.max)
        whole = np.divide(values, self.step, dtype=np.float32)
        np.rint(whole, out=whole)
        clipped = int(np.count_nonzero((whole < first) | (whole > last)))
        whole.clip(first, last, out=whole)
        return np.nan_to_num(whole, copy=False, nan=self.fill).astype(self.dtype), clipped


EMBEDDING_CODINGS = {
    "float32": Coding("float32", np.nan),
    # As exact as float16 over the range of float32, and no reader computes in float16, whose sums
    # are inf from 65504 on.
    "float16": Coding("float32", np.nan, fraction_bits=10),
    # Features have unit variance over the training samples, so that one step serves all. A
    # step of s adds noise of s / sqrt(12): 0.018 standard deviations at 1/16, which leaves
    # room for 7.94 of them on either side, and binary fractions are decoded exactly.
    "int8": Coding("int8", -128, 1 / 16),
}
SHARE_CODING = Coding("uint8", 255, 0.004)
DISTANCE_CODING = Coding("uint8", 255, 0.02)
DAYS_CODING = Coding("int16", -32768, 1)
# Off by 0.8 % at most, whatever the units.
ERROR_CODING = Coding("float32", np.nan, fraction_bits=6)


@dataclass(frozen=True)
class Layer:
    """One array of a product: its attributes in CF, and how it is stored."""

    long_name: str
    units: str
    coding: Coding
    dims: tuple[str, ...] = ("time", "y", "x")

    @property
    def attributes(self) -> dict[str, Any]:
        """Long name and units."""
        return {"long_name": self.long_name, "units": self.units}


def layers_of(reference: str, others: Iterable[str], *, units: str, dtype: str) -> dict[str, Layer]:
    """Layers of a product by name; ``units`` are those of the reference sensor's values."""
    embedding, coding = "embedding of the pixel and its context", EMBEDDING_CODINGS[dtype]
    share = f"share of valid {reference} pixels in the context"
    error = (
        f"mean absolute error over the bands of {reference}, "
        "decoded from the embedding at the centre pixel"
    )
    distance = (
        "Mahalanobis distance of the pixel's values to those of the training pixels, over the "
        "distance that 99.9 % of these stay below; above 1: outside the training domain"
    )
    layers = {
        "embedding": Layer(embedding, "1", coding, ("time", "feature", "y", "x")),
        "context_share": Layer(share, "1", SHARE_CODING),
        "reconstruction_error": Layer(error, units, ERROR_CODING),
        "domain_distance": Layer(distance, "1", DISTANCE_CODING),
    }
    for sensor in others:
        days = f"signed time to the paired frame of {sensor}; missing: none"
        # In the plural, xarray may take the unit for that of a duration.
        layers[days_layer(sensor)] = Layer(days, "day", DAYS_CODING)
    return layers


def template_of(
    coords: Mapping[Any, Any], features: int, attributes: Mapping[str, str]
) -> xr.Dataset:
    """A product without its layers: coordinates, a number for each feature, attributes."""
    numbers = ("feature", np.arange(features), {"long_name": "number of the feature"})
    made = {"Conventions": "CF-1.11", "software": f"pipeline_lib {__version__}"}
    return xr.Dataset(coords={**coords, "feature": numbers}, attrs={**made, **attributes})


@dataclass(frozen=True)
class Layout:
    """What a store holds: coordinates and attributes (`template_of`), and its layers.

    A tile, ``tile_px`` on a side, is a shard of each layer.
    """

    template: xr.Dataset
    layers: Mapping[str, Layer]
    tile_px: int

    @property
    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """Of each dimension the size, that of a chunk, and that of a shard, in whole chunks."""
        sizes = {str(name): size for name, size in self.template.sizes.items()}
        fitting = (px for px in range(CHUNK_PX, 15, -1) if self.tile_px % px == 0)
        side = next(fitting, self.tile_px)
        chunks = sizes | {"time": min(CHUNK_DATES, sizes["time"]), "y": side, "x": side}
        shards = {name: -(-size // chunks[name]) * chunks[name] for name, size in sizes.items()}
        shards |= {name: min(self.tile_px, shards[name]) for name in ("y", "x")}
        return {name: (size, chunks[name], shards[name]) for name, size in sizes.items()}


class TileStore:
    """A store that grows in the working folder ``state``, tile by tile.

    ``origin`` holds everything the values depend on: digests of model, inputs and settings. With
    other inputs or settings the export starts anew. Raises UserError if the folder holds an
    unfinished export of another model: models never mix in one store, and days of work are not
    thrown away for a slip in the config.
    """

    def __init__(self, state: Path, origin: Mapping[str, Any], layout: Layout) -> None:
        self._state, self._origin, self._layout = state, dict(origin), layout
        sizes = layout.template.sizes
        self._tiles = tiles(sizes["y"], sizes["x"], layout.tile_px)
        header, store = state / HEADER, state / STORE
        if header.exists():
            earlier = read_json(header)
            differs = sorted(k for k in {*earlier, *origin} if earlier.get(k) != origin.get(k))
            if "model_digest" in differs:
                raise UserError(
                    f"{state}: holds an unfinished export of another model (model_digest "
                    f"{earlier.get('model_digest')}); delete this folder to start anew"
                )
            if differs:
                log.warning("%s: other %s than before; starting anew", state, ", ".join(differs))
                header.unlink()
        # A run may have been killed between moving the store away and writing its manifest.
        if not (header.exists() and (store.exists() or (state / MANIFEST).exists())):
            shutil.rmtree(state, ignore_errors=True)
            _create(store, layout)
            write_json(header, self._origin)
        for torn in store.rglob("*.partial"):
            torn.unlink()
        found = zarr.open_group(store, mode="r+").arrays() if store.exists() else ()
        # A shard without a value is a file too: some web servers forbid what is absent.
        self._arrays = {
            name: array.with_config({"write_empty_chunks": True}) for name, array in found
        }

    def pending(self) -> list[Tile]:
        """Tiles that are not finished, in order."""
        return [tile for tile in self._tiles if self._arrays and not self._is_finished(tile)]

    def write(self, tile: Tile, layers: Layers) -> None:
        """Store a tile and record it as finished."""
        side, clipped, shards = self._layout.tile_px, 0, []
        for name, values in layers.items():
            place = f"{'0/0' if values.ndim == 4 else '0'}/{tile.row // side}/{tile.column // side}"
            shards.append(self._state / STORE / name / "c" / place)
            # Zarr would read a damaged shard before it writes into it.
            shards[-1].unlink(missing_ok=True)
            stored, beyond = self._layout.layers[name].coding.encode(values)
            self._arrays[name][..., tile.rows, tile.columns] = stored
            clipped += beyond if name == "embedding" else 0
        record = {
            "embeddings": (~np.isnan(layers["reconstruction_error"])).sum((1, 2)).tolist(),
            "clipped": clipped,
            "files": (files := _sizes(self._state / STORE, shards)),
            "digests": {name: digest_file(self._state / STORE / name) for name in files},
        }
        write_json(self._record(tile), record)

    def finish(self, output: Path, item: Mapping[str, Any]) -> None:
        """Move the finished store into ``output``, add its STAC item, then the manifest.

        An earlier product stays until all of the new one lies on its disk.
        """
        store, sealed = self._state / STORE, self._state / MANIFEST
        arrived, moved = output / f".partial-{STORE}", output / STORE
        if store.exists():
            write_json(sealed, self._sealed())
            output.mkdir(parents=True, exist_ok=True)
            remove(arrived)
            try:
                store.rename(arrived)
            except OSError as error:
                # The products may lie on another disk than the working folder.
                if error.errno != errno.EXDEV:
                    raise
                _copy(store, arrived)
        if arrived.exists():
            (output / MANIFEST).unlink(missing_ok=True)
            remove(moved)
            arrived.rename(moved)
        write_json(output / ITEM, item)
        write_json(output / MANIFEST, read_json(sealed))
        # Without its header, what a kill leaves of the folder is no unfinished export.
        shutil.rmtree(self._state / "tiles", ignore_errors=True)
        (self._state / HEADER).unlink()
        shutil.rmtree(self._state)

    def _sealed(self) -> dict[str, Any]:
        """The manifest of the whole store, whose metadata are completed and consolidated."""
        store = self._state / STORE
        records = [read_json(self._record(tile)) for tile in self._tiles]
        counts = np.sum([record["embeddings"] for record in records], 0).tolist()
        clipped = sum(record["clipped"] for record in records)
        values = sum(counts) * self._layout.template.sizes["feature"]
        share = clipped / values if values else 0.0
        log.log(
            logging.WARNING if clipped else logging.INFO,
            "%s: %d of %d values (%.3g %%) were clipped to the range of %s",
            self._layout.template.attrs["cube"],
            clipped,
            values,
            100 * share,
            self._layout.layers["embedding"].coding.dtype,
        )
        zarr.open_group(store, mode="r+").attrs["clipped_share"] = share
        with warnings.catch_warnings():
            # Zarr warns that they are no part of the specification yet. Web servers list no files.
            warnings.simplefilter("ignore", ZarrUserWarning)
            zarr.consolidate_metadata(store)
        files = _sizes(store, store.rglob("*"))
        digests: dict[str, str] = {}
        for record in records:
            files |= record["files"]
            digests |= record.get("digests", {})
        times = self._layout.template["time"].values
        return {
            **self._origin,
            "times": np.datetime_as_string(times, unit="s").tolist(),
            "embeddings": counts,
            "clipped": clipped,
            "clipped_share": share,
            "files": dict(sorted(files.items())),
            "digests": dict(sorted(digests.items())),
        }

    def _record(self, tile: Tile) -> Path:
        return self._state / "tiles" / f"{tile.row}-{tile.column}.json"

    def _is_finished(self, tile: Tile) -> bool:
        record = self._record(tile)
        return record.exists() and not _damaged(self._state / STORE, read_json(record)["files"])


def _create(path: Path, layout: Layout) -> None:
    """An empty store: coordinates, attributes and arrays without a chunk."""
    encoding = {"time": {"units": "seconds since 1970-01-01", "dtype": "float64"}}
    layout.template.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    group = zarr.open_group(path, mode="r+")
    grid = {"grid_mapping": "spatial_ref", "coordinates": "spatial_ref"}
    for name, layer in layout.layers.items():
        shape, chunks, shards = zip(*(layout.sizes[dim] for dim in layer.dims), strict=True)
        group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            shards=shards,
            dtype=layer.coding.dtype,
            fill_value=layer.coding.fill,
            compressors=COMPRESSORS,
            dimension_names=layer.dims,
            attributes=layer.attributes | layer.coding.attributes | grid,
        )


def _copy(store: Path, target: Path) -> None:
    """Copy a store to another disk. Raises OSError, of the first file that cannot be copied."""
    with atomic_path(target) as partial:
        try:
            shutil.copytree(store, partial)
        except shutil.Error as error:
            raise OSError(error.args[0][0][-1]) from error


def _sizes(store: Path, paths: Iterable[Path]) -> dict[str, int]:
    """Bytes of those paths that are files."""
    return {
        path.relative_to(store).as_posix(): path.stat().st_size for path in paths if path.is_file()
    }


def _damaged(store: Path, files: Mapping[str, int]) -> list[str]:
    """Files that are gone or whose size is not what was written."""
    present = _sizes(store, (store / key for key in files))
    return [key for key, size in files.items() if present.get(key) != size]


def read_embedding(folder: str | Path, *, load: bool = True) -> xr.Dataset:
    """Embeddings of a cube and their quality layers, from the folder of the product.

    The layers are ``embedding`` ``(time, feature, y, x)``, ``context_share``,
    ``reconstruction_error``, ``domain_distance`` and one ``days_to_<sensor>`` per further sensor
    ``(time, y, x)``; float32 whatever is stored, NaN where there is no embedding.

    With ``load`` everything is read, and the digests of all shards and the numbers of embeddings
    are compared: a shard of another product may be sound in itself. Without, presence and size of
    every file. Raises UserError if there is no finished product, if it is damaged, or if store and
    manifest are of different models.
    """
    manifest, folder = read_manifest(folder), Path(folder)
    again = f"delete {folder / MANIFEST} and run the export again, or copy the folder again"
    if damaged := _damaged(folder / STORE, manifest["files"]):
        raise UserError(
            f"{folder / STORE}: damaged, {len(damaged)} file(s) differ from the manifest, "
            f"first {damaged[0]}; {again}"
        )
    data: xr.Dataset = xr.open_zarr(
        folder / STORE, consolidated=False, chunks=None, decode_cf=False
    )
    if data.attrs.get("model_digest") != manifest["model_digest"]:
        raise UserError(f"{folder}: the manifest and the store are of different models; {again}")
    days = sorted(str(name) for name in data if str(name).startswith("days_to_"))
    layers = ["embedding", "context_share", "reconstruction_error", "domain_distance", *days]
    if missing := [name for name in layers if name not in data]:
        raise other_version(folder / STORE, missing)
    for name in layers:
        # Factors of type float32 decode into float32.
        data[name].attrs["scale_factor"] = np.float32(data[name].attrs.get("scale_factor", 1))
    data = xr.decode_cf(data, decode_coords="all")[layers]
    if not load:
        return data
    try:
        data = data.load()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{folder / STORE}: damaged ({error}); {again}") from error
    digests = manifest.get("digests", {}).items()
    if foreign := [key for key, one in digests if digest_file(folder / STORE / key) != one]:
        raise UserError(
            f"{folder / STORE}: {len(foreign)} file(s) are sound and not those of this product, "
            f"first {foreign[0]}; {again}"
        )
    counts = data["reconstruction_error"].notnull().sum(("y", "x"))
    if counts.values.tolist() != manifest["embeddings"]:
        raise UserError(f"{folder / STORE}: damaged, embeddings are missing; {again}")
    return data


def same_model(embeddings: Mapping[str, xr.Dataset]) -> str:
    """Digest of the one model that made all of these embeddings.

    Raises UserError if they come from different models: these cannot be compared.
    """
    digests = {name: str(data.attrs["model_digest"]) for name, data in embeddings.items()}
    first = next(iter(digests))
    if foreign := [name for name, digest in digests.items() if digest != digests[first]]:
        raise UserError(
            f"embeddings of {', '.join(foreign)} come from another model than those of {first}; "
            "export them again with one model"
        )
    return digests[first]
