"""Embedding of arrays that a user has at hand, without files and workflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.config import Embed
from pipeline_lib.cubes import rolling_mean
from pipeline_lib.cubes.schema import UNITS, clear_sample, implausible
from pipeline_lib.embed.arrays import Frames, tiles
from pipeline_lib.embed.store import layers_of, template_of
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from pipeline_lib.models import TrainedEncoder

DIMENSIONS = ("time", "band", "y", "x")
ADVICE = {
    "reflectance": "apply the scale and offset of the data",
    "backscatter": "apply the scale and offset of the data; power is 10 ** (decibels / 10)",
}


def embed_xarray(cubes: Mapping[str, xr.DataArray], models: str | Path) -> xr.Dataset:
    """Embeddings of arrays by trained models, equal to what the workflow makes of files.

    ``cubes`` has one array per sensor of the models, all on one north-up grid, with the dimensions
    ``(time, band, y, x)`` in any order and the coordinates ``time`` (UTC, increasing) and ``band``
    (names, in the order of the models). Values are reflectance (0..1) or linear power as measured
    (a rolling mean over time is taken here), NaN where there is none and under clouds. Dates with
    a clear fraction below the sensor's ``min_clear`` are left out. Any sensor but the reference
    one, whose dates and coordinates the embeddings have, may be missing. ``models`` is the folder
    of that name of a run; the result has the layers of `read_embedding`.

    Arrays are read twice, tile by tile, so that those opened lazily need not fit in memory; the
    embeddings must: 40 bytes per pixel and date for seven dimensions and two sensors. The workflow
    writes larger ones to a store (``models`` and ``own_cubes`` of the config).

    Raises UserError if the folder holds no models, or if an array is not as described above.
    """
    # Torch is loaded here, so that those who only read embeddings do without it.
    from pipeline_lib.embed.dense import embed_arrays
    from pipeline_lib.models import load_encoder, load_fusion

    fusion = load_fusion(Path(models) / "fusion")
    encoders = {sensor: load_encoder(Path(models) / sensor) for sensor in fusion.encoders}
    fusion.check_encoders(encoders)
    reference = fusion.block.reference
    if unknown := sorted(set(cubes) - set(encoders)):
        raise UserError(f"{unknown[0]}: no sensor of {models}; those are {', '.join(encoders)}")
    if reference not in cubes:
        raise UserError(f"{reference}: is missing, and embeddings have its dates; give its array")
    arrays = {name: _checked(name, array, encoders[name]) for name, array in cubes.items()}
    for name in arrays:
        _check_grid(name, arrays[name], reference, arrays[reference])
    arrays = {name: _usable(name, array, encoders[name]) for name, array in arrays.items()}
    if not arrays[reference].sizes["time"]:
        raise UserError(f"{reference}: no date has a valid pixel; there is nothing to embed")

    frames = {name: _frames(array, encoders[name]) for name, array in arrays.items()}
    values = embed_arrays(frames=frames, encoders=encoders, fusion=fusion, embed=Embed())
    coords = arrays[reference].coords
    embedding = template_of(
        {name: coord for name, coord in coords.items() if "band" not in coord.dims},
        fusion.block.embedding_dim,
        {"model_digest": fusion.model_digest, "encoder_digests": json.dumps(fusion.encoders)},
    )
    grid = {"grid_mapping": "spatial_ref"} if "spatial_ref" in coords else {}
    others = [name for name in encoders if name != reference]
    units = UNITS[encoders[reference].sensor.quantity]
    layers = layers_of(reference, others, units=units, dtype="float32")
    return embedding.assign(
        {
            name: (layer.dims, values[name], layer.attributes | grid)
            for name, layer in layers.items()
        }
    )


def _checked(name: str, array: xr.DataArray, trained: TrainedEncoder) -> xr.DataArray:
    """The array with its dimensions in order, if it is what the encoder was trained for."""
    if set(array.dims) != set(DIMENSIONS):
        given = ", ".join(map(str, array.dims))
        raise UserError(f"{name}: has the dimensions {given}; rename to {', '.join(DIMENSIONS)}")
    trained.normalisation.check_bands(array["band"].values, name)
    times = array["time"].values
    if times.dtype.kind != "M" or np.isnat(times).any():
        raise UserError(f"{name}: time must be datetime64 without NaT, not {times.dtype}")
    late = np.flatnonzero(np.diff(times) <= np.timedelta64(0))
    if late.size:
        raise UserError(
            f"{name}: time does not increase after {times[late[0]]:.16}; sort the dates (sortby) "
            "and merge duplicates"
        )
    for side, sign, way in (("y", -1, "fall"), ("x", 1, "rise")):
        if side in array.coords and np.any(np.diff(array[side].values) * sign <= 0):
            raise UserError(f"{name}: {side} must {way}; turn the array north up (sortby)")
    return array.transpose(*DIMENSIONS)


def _check_grid(name: str, array: xr.DataArray, other: str, wanted: xr.DataArray) -> None:
    for side in ("y", "x"):
        here, there = array[side].values, wanted[side].values
        step = float(np.abs(np.diff(there)).min()) if len(there) > 1 else 1.0
        # Coordinates that were written as float32 or computed anew are the same pixels.
        if here.shape != there.shape or np.abs(here - there).max() >= 0.01 * step:
            raise UserError(
                f"{name}: lies on another grid than {other} (see {side}); bring both to one grid"
            )


def _frames(array: xr.DataArray, trained: TrainedEncoder) -> Frames:
    """The dates of an array, of which no more than a tile is read at once."""

    def read(rows: slice, columns: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        values, valid = _measured(array[..., rows, columns])
        values = rolling_mean(values, trained.sensor.rolling_mean)
        return trained.normalisation.apply(values), valid

    return Frames(array["time"].values, (array.sizes["y"], array.sizes["x"]), read)


def _measured(array: xr.DataArray) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Finite values of a part of an array, and where all bands have one ``(time, y, x)``."""
    values = array.values.astype(np.float32)
    values[np.isinf(values)] = np.nan
    return values, np.logical_and.reduce(np.isfinite(values), axis=1)


def _usable(name: str, array: xr.DataArray, trained: TrainedEncoder) -> xr.DataArray:
    """The dates with enough valid pixels, after a check of the array's units."""
    height, width = array.sizes["y"], array.sizes["x"]
    counts = np.zeros(array.sizes["time"], np.int64)
    samples = []
    for tile in tiles(height, width, Embed().tile_px):
        values, valid = _measured(array[..., tile.rows, tile.columns])
        counts += valid.sum(axis=(1, 2))
        samples.append(clear_sample(values, valid))
    quantity = trained.sensor.quantity
    if mistake := implausible(np.concatenate(samples), trained.sensor.bands, quantity):
        raise UserError(f"{name}: {mistake}; {ADVICE[quantity]}")
    share = counts / (height * width)
    return array.isel(time=(share > 0) & (share >= trained.sensor.min_clear))
