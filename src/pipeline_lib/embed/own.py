"""Embedding of arrays that a user has at hand, without files and workflow."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib import __version__
from pipeline_lib.config import Embed
from pipeline_lib.cubes import rolling_mean
from pipeline_lib.cubes.schema import UNITS, days_layer, implausible
from pipeline_lib.embed.arrays import Crop, Tile, days_of, padded, reach, tiles
from pipeline_lib.embed.store import Layout
from pipeline_lib.errors import UserError, in_a_line

if TYPE_CHECKING:
    from pipeline_lib.models import TrainedEncoder, TrainedFusion

DIMENSIONS = ("time", "band", "y", "x")
ADVICE = {
    "reflectance": "apply the scale and offset of the data",
    "backscatter": "apply the scale and offset of the data; power is 10 ** (decibels / 10)",
}
LOOKED_AT = 100_000
"""Most values of a tile that the median is taken of."""


def embed_xarray(cubes: Mapping[str, xr.DataArray], models: str | Path) -> xr.Dataset:
    """Embed arrays with trained models, as the workflow embeds the files of a user.

    Arrays are read twice, tile by tile, so that those opened lazily need not fit in memory; the
    embeddings must: 40 bytes per pixel and date for seven numbers and two sensors. The workflow
    writes larger ones to a store (``models`` and ``own_cubes`` of the config).

    Parameters
    ----------
    cubes
        One array per sensor of the models, all on one north-up grid, with the dimensions
        ``(time, band, y, x)`` in any order and the coordinates ``time`` (UTC, increasing) and
        ``band`` (names, in the order of the models). Values are reflectance (0..1) or linear
        power, NaN where there is none and under clouds. They are given as measured: where the
        sensor has a rolling mean over time, it is taken here. Dates that show less than the
        sensor's ``min_clear`` are left out. Any sensor but the reference one, whose dates the
        embeddings have, may be missing.
    models
        Folder ``models`` of a run.

    Returns
    -------
    embedding
        ``embedding`` ``(time, feature, y, x)``, ``context_share``, ``reconstruction_error`` and
        one ``days_to_<sensor>`` per further sensor ``(time, y, x)``, float32, NaN where the
        reference sensor shows nothing. Coordinates are those of its array, ``spatial_ref``
        among them where it is there; attributes name the models by their digests.

    Raises
    ------
    UserError
        If the folder holds no models, or if an array is not as described above.
    """
    # Torch is loaded here, so that those who only read embeddings do without it.
    from pipeline_lib.embed.dense import embed_arrays
    from pipeline_lib.models import load_encoder, load_fusion

    fusion = load_fusion(Path(models) / "fusion")
    encoders = {sensor: load_encoder(Path(models) / sensor) for sensor in fusion.encoders}
    fusion.check_encoders(encoders)
    reference = fusion.block.reference
    if unknown := sorted(set(cubes) - set(encoders)):
        raise UserError(
            f"{in_a_line(unknown[0])}: no sensor of {models}; those are {', '.join(encoders)}"
        )
    if reference not in cubes:
        raise UserError(f"{reference}: is missing, and embeddings have its dates; give its array")
    arrays = {name: _checked(name, array, encoders[name]) for name, array in cubes.items()}
    for name in arrays:
        _check_grid(name, arrays[name], reference, arrays[reference])
    frames = {name: _usable(name, array, encoders[name]) for name, array in arrays.items()}
    if not len(frames[reference].times):
        raise UserError(f"{reference}: no date has a valid pixel; there is nothing to embed")

    layout = Layout(
        template=_template(frames[reference].array, encoders, fusion),
        sensors=tuple(name for name in encoders if name != reference),
        reference=reference,
        units=UNITS[encoders[reference].sensor.quantity],
        dtype="float32",
        tile_px=Embed().tile_px,
    )
    found = embed_arrays(frames=frames, encoders=encoders, fusion=fusion, embed=Embed())
    values = {
        "embedding": found.embedding,
        "context_share": found.context_share,
        "reconstruction_error": found.reconstruction_error,
        **{days_layer(sensor): days for sensor, days in found.days.items()},
    }
    place = {"grid_mapping": "spatial_ref"} if "spatial_ref" in layout.template.coords else {}
    layers = {}
    for name, attributes in layout.layers().items():
        own = ("time", "feature", "y", "x") if name == "embedding" else ("time", "y", "x")
        layers[name] = (own, values[name], attributes | place)
    return layout.template.assign(layers)


def _checked(name: str, array: xr.DataArray, trained: TrainedEncoder) -> xr.DataArray:
    """The array with its dimensions in order, if it is what the encoder was trained for."""
    if not isinstance(array, xr.DataArray):
        raise UserError(f"{name}: is a {type(array).__name__}; give one DataArray of all bands")
    if set(array.dims) != set(DIMENSIONS):
        raise UserError(
            f"{name}: has the dimensions {in_a_line(', '.join(map(str, array.dims)))}; rename to "
            f"{', '.join(DIMENSIONS)}"
        )
    if array.dtype.kind not in "biuf":
        raise UserError(f"{name}: holds {array.dtype}, not numbers; give reflectance or power")
    for needed in ("time", "band"):
        if needed not in array.coords:
            raise UserError(f"{name}: has no coordinate {needed!r}; add it (assign_coords)")
    trained.check_bands([str(band) for band in array["band"].values], name)
    if array["time"].dtype.kind != "M":
        raise UserError(f"{name}: its times are {array['time'].dtype}; make them datetime64")
    late = np.flatnonzero(np.diff(array["time"].values) <= np.timedelta64(0))
    if late.size:
        raise UserError(
            f"{name}: time does not increase after {array['time'].values[late[0]]:.16}; sort the "
            "dates (sortby) and merge those that are there twice"
        )
    for side, sign, way in (("y", -1, "fall"), ("x", 1, "rise")):
        if side in array.coords and array[side].dtype.kind not in "iuf":
            raise UserError(f"{name}: {side} holds {array[side].dtype}, not numbers; give metres")
        if side in array.coords and np.any(np.diff(array[side].values) * sign <= 0):
            raise UserError(f"{name}: {side} must {way}; turn the array north up (sortby)")
    return array.transpose(*DIMENSIONS)


def _check_grid(name: str, array: xr.DataArray, other: str, wanted: xr.DataArray) -> None:
    for side in ("y", "x"):
        here, there = array[side].values, wanted[side].values
        # Coordinates that were written as float32 or computed anew are the same pixels.
        same = here.shape == there.shape and np.abs(here - there).max() < 0.01 * _step(there)
        if not same:
            raise UserError(
                f"{name}: lies on another grid than {other} (see {side}); bring both to one grid"
            )


def _step(places: Any) -> float:
    return float(np.abs(np.diff(places)).min()) if len(places) > 1 else 1.0


@dataclass(frozen=True)
class _Array:
    """The usable dates of an array: a `Source` that reads no more than a tile at once."""

    array: xr.DataArray
    trained: TrainedEncoder

    @property
    def times(self) -> NDArray[np.datetime64]:
        return self.array["time"].values

    @property
    def shape(self) -> tuple[int, int]:
        return self.array.sizes["y"], self.array.sizes["x"]

    def crop(self, tile: Tile, margin: int) -> Crop:
        inside, beyond = reach(self.shape, tile, margin)
        values, valid = _measured(self.array[(..., *inside)])
        values = rolling_mean(values, self.trained.sensor.rolling_mean)
        scaled = self.trained.normalisation.apply(values)
        scaled[~np.broadcast_to(valid[:, None], scaled.shape)] = 0
        return padded(scaled, valid, beyond, days_of(self.times), margin)


def _measured(array: xr.DataArray) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values of a part of an array, and where all bands have one ``(time, y, x)``."""
    values = array.values.astype(np.float32)
    return values, np.logical_and.reduce(np.isfinite(values), axis=1)


def _usable(name: str, array: xr.DataArray, trained: TrainedEncoder) -> _Array:
    """Look through an array once: its units, and the dates that show enough."""
    shape = array.sizes["y"], array.sizes["x"]
    counts = np.zeros(array.sizes["time"], np.int64)
    shown = []
    for tile in tiles(*shape, Embed().tile_px):
        values, valid = _measured(array[..., tile.rows, tile.columns])
        counts += valid.sum(axis=(1, 2))
        known = values[np.isfinite(values)]
        shown.append(known[:: max(1, known.size // LOOKED_AT)])
    known = np.concatenate(shown)
    quantity = trained.sensor.quantity
    if known.size and (told := implausible(float(np.median(known)), quantity)):
        raise UserError(f"{name}: {told}; {ADVICE[quantity]}")
    share = counts / math.prod(shape)
    return _Array(array.isel(time=(share > 0) & (share >= trained.sensor.min_clear)), trained)


def _template(
    array: xr.DataArray,
    encoders: Mapping[str, TrainedEncoder],
    fusion: TrainedFusion,
) -> xr.Dataset:
    """Coordinates and attributes of the embeddings of an array."""
    kept = {key: held for key, held in array.coords.items() if "band" not in held.dims}
    features = np.arange(fusion.block.embedding_dim)
    return (
        xr.Dataset(coords=kept)
        .assign_coords(feature=("feature", features, {"long_name": "number of the feature"}))
        .assign_attrs(
            Conventions="CF-1.11",
            model_digest=fusion.model_digest,
            encoder_digests=json.dumps(fusion.encoders),
            software=f"pipeline_lib {__version__}",
        )
    )
