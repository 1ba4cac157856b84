"""Embedding of arrays that a user has at hand, without files and workflow."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.config import Embed
from pipeline_lib.cubes import merge_days, rolling_mean
from pipeline_lib.cubes.opening import readable
from pipeline_lib.cubes.schema import (
    FRAME_SAMPLE,
    SAMPLE,
    UNITS,
    clear_sample,
    doubtful,
    implausible,
    implausible_frames,
)
from pipeline_lib.embed.arrays import Frames, tiles
from pipeline_lib.embed.store import layers_of, template_of
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from pyproj import CRS

    from pipeline_lib.models import TrainedEncoder

log = logging.getLogger(__name__)

DIMENSIONS = ("time", "band", "y", "x")
APPLY = "set no data to NaN, then apply the scale and offset of the data"
ADVICE = {
    "reflectance": APPLY,
    "backscatter": f"{APPLY}; power is 10 ** (decibels / 10)",
}


def embed_xarray(
    cubes: Mapping[str, xr.DataArray], models: str | Path, resolution_m: float | None = None
) -> xr.Dataset:
    """Embeddings of arrays by trained models, equal to what the workflow makes of files.

    ``cubes`` has one array per sensor of the models, all on one north-up grid, with the dimensions
    ``(time, band, y, x)`` in any order and the coordinates ``time`` (UTC) and ``band`` (names, in
    the order of the models). Values are reflectance (0..1) or linear power as measured (a rolling
    mean over time is taken here), NaN where there is none and under clouds. Frames of one UTC day
    are merged by the mean of their values, and have the time of the first. Dates with a clear
    fraction below the sensor's ``min_clear``, or with implausible values, are left out. Any sensor
    but the reference one, whose dates and coordinates the embeddings have, may be missing.
    ``models`` is the folder of that name of a run, ``starter`` for the weights in the package, or
    an address with its digest (`config.models_folder`), and ``resolution_m`` the pixel size that
    they were trained with (``cube.resolution_m``). The result has the layers of `read_embedding`.

    Arrays are read twice, tile by tile, so that those opened lazily need not fit in memory; the
    embeddings must: 44 bytes per pixel and date for seven dimensions and two sensors. The workflow
    writes larger ones to a store (``models`` and ``own_cubes`` of the config).

    Raises UserError if there are no models, or if an array is not as described above.
    """
    # Torch is loaded here, so that those who only read embeddings do without it.
    from pipeline_lib.embed.dense import embed_arrays
    from pipeline_lib.models import load_models

    fusion, encoders = load_models(models)
    reference = fusion.block.reference
    if unknown := sorted(set(cubes) - set(encoders)):
        raise UserError(f"{unknown[0]}: no sensor of {models}; those are {', '.join(encoders)}")
    if reference not in cubes:
        raise UserError(f"{reference}: is missing, and embeddings have its dates; give its array")
    arrays = {name: _checked(name, array, encoders[name]) for name, array in cubes.items()}
    for name in arrays:
        sizes = encoders[name].inputs.get("resolution_m", [10.0])
        _check_place(name, arrays[name], resolution_m or sizes[0])
        _check_grid(name, arrays[name], reference, arrays[reference])
    arrays = {name: _usable(name, array, encoders[name]) for name, array in arrays.items()}
    if not arrays[reference].sizes["time"]:
        raise UserError(f"{reference}: no date has a valid pixel; there is nothing to embed")

    frames = {name: _frames(array, encoders[name]) for name, array in arrays.items()}
    values = embed_arrays(frames=frames, encoders=encoders, fusion=fusion, embed=Embed())
    coords = arrays[reference].isel(time=_first_of_days(arrays[reference])).coords
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
    if not isinstance(array, xr.DataArray):
        raise UserError(f"{name}: is a {type(array).__name__}; give a DataArray (to_dataarray)")
    if set(array.dims) != set(DIMENSIONS):
        given = ", ".join(map(str, array.dims))
        raise UserError(
            f"{name}: has the dimensions {given}; rename to {', '.join(DIMENSIONS)} (expand_dims "
            "adds one, squeeze removes one of a single entry)"
        )
    if empty := [str(side) for side, size in array.sizes.items() if not size > 0]:
        raise UserError(
            f"{name}: is empty, or of unknown size, along {', '.join(empty)}: there is no pixel to "
            "embed; check how it was cut, and compute unknown chunk sizes of dask"
        )
    if array["band"].dtype.kind in "iuf":
        names = list(trained.sensor.bands)
        raise UserError(f"{name}: bands have numbers; name them: assign_coords(band={names})")
    trained.normalisation.check_bands(array["band"].values, name)
    if array.dtype.kind != "f":
        quantity = trained.sensor.quantity
        raise UserError(f"{name}: holds {array.dtype}, not {quantity}; {ADVICE[quantity]}")
    times = array["time"].values
    if times.dtype.kind != "M":
        raise UserError(
            f"{name}: time must be datetime64 without NaT, not {times.dtype}; convert it "
            "(pandas.to_datetime; of cftime: convert_calendar('standard', use_cftime=False))"
        )
    if unknown := int(np.isnat(times).sum()):
        raise UserError(
            f"{name}: time must be datetime64 without NaT, and has {unknown} unknown dates; drop "
            "them, or read these scenes' times again"
        )
    for side, sign, way in (("y", -1, "fall"), ("x", 1, "rise")):
        if side in array.coords and not np.all(np.diff(array[side].values) * sign > 0):
            raise UserError(f"{name}: {side} must {way}; turn the array north up (sortby)")
    array = array.transpose(*DIMENSIONS)
    return array if (np.diff(times) >= np.timedelta64(0)).all() else array.sortby("time")


def _check_place(name: str, array: xr.DataArray, resolution_m: float) -> None:
    """Raise UserError unless the coordinates are metres, in steps of the pixel size."""
    crs = _crs_of(name, array)
    if crs is not None and (crs.is_geographic or "Pseudo-Mercator" in crs.name):
        # Metres of web maps are shorter than true ones, by a third and more in Europe.
        raise UserError(f"{name}: lies in {crs.name}; warp it to a system in metres, such as UTM")
    for side in ("y", "x"):
        if side not in array.coords or array.sizes[side] < 2:
            continue
        places = array[side].values.astype(np.float64)
        step = abs(places[-1] - places[0]) / (len(places) - 1)
        even = np.linspace(places[0], places[-1], len(places))
        # Single precision rounds northings to half a metre.
        if np.abs(places - even).max() > 0.06 * step:
            raise UserError(f"{name}: {side} has no equal steps; warp it to a regular grid")
        if abs(step - resolution_m) > 1e-3 * resolution_m + 0.5 / (len(places) - 1):
            raise UserError(
                f"{name}: has pixels of {step:g} along {side}, and the models need {resolution_m:g}"
                " m; warp it to a grid of such pixels in metres (not degrees), or state the "
                "resolution_m that the models were trained with"
            )


def _crs_of(name: str, array: xr.DataArray) -> CRS | None:
    """Coordinate reference system by rioxarray's, odc-geo's or stackstac's coordinates."""
    import rioxarray  # noqa: F401
    from pyproj import CRS

    with readable(name, "coordinate reference system", "write it again (rio.write_crs)"):
        given = array.rio.crs
        if given is None and "epsg" in array.coords and array["epsg"].size == 1:
            given = int(array["epsg"])
        return None if given is None else CRS.from_user_input(given)


def _check_grid(name: str, array: xr.DataArray, other: str, wanted: xr.DataArray) -> None:
    mine, its = _crs_of(name, array), _crs_of(other, wanted)
    if mine is not None and its is not None and mine.to_epsg() != its.to_epsg():
        raise UserError(
            f"{name}: is in {mine.name}, and {other} in {its.name}; warp one to the other's grid"
        )
    for side in ("y", "x"):
        here, there = array[side].values, wanted[side].values
        step = float(np.abs(np.diff(there)).min()) if len(there) > 1 else 1.0
        # Coordinates that were written as float32 or computed anew are the same pixels.
        if here.shape != there.shape or np.abs(here - there).max() >= 0.05 * step:
            raise UserError(
                f"{name}: lies on another grid than {other} (see {side}); bring both to one grid"
            )


def _days(array: xr.DataArray) -> NDArray[np.datetime64]:
    return array["time"].values.astype("datetime64[D]")


def _first_of_days(array: xr.DataArray) -> NDArray[np.intp]:
    """Index of the first frame of each day, of an array whose time does not fall."""
    return np.unique(_days(array), return_index=True)[1]


def _frames(array: xr.DataArray, trained: TrainedEncoder) -> Frames:
    """The dates of an array, of which no more than a tile is read at once."""

    def read(rows: slice, columns: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        values, valid = _measured(array[..., rows, columns])
        values = rolling_mean(values, trained.sensor.rolling_mean)
        return trained.normalisation.unclipped(values), valid

    times = array["time"].values[_first_of_days(array)]
    return Frames(times, (array.sizes["y"], array.sizes["x"]), read)


def _measured(array: xr.DataArray) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values of each day ``(day, band, y, x)``, and where all bands have one ``(day, y, x)``."""
    values = array.values.astype(np.float32)
    values[np.isinf(values)] = np.nan
    valid = np.logical_and.reduce(np.isfinite(values), axis=1)
    _, values, valid, _ = merge_days(_days(array), values, valid)
    return values, valid


def _usable(name: str, array: xr.DataArray, trained: TrainedEncoder) -> xr.DataArray:
    """The dates with enough valid pixels, after a check of the array's units."""
    height, width = array.sizes["y"], array.sizes["x"]
    days = _days(array)
    unique = np.unique(days)
    counts = np.zeros(len(unique), np.int64)
    samples: list[list[NDArray[np.float32]]] = [[] for _ in unique]
    parts = tiles(height, width, Embed().tile_px)
    for tile in parts:
        values, valid = _measured(array[..., tile.rows, tile.columns])
        counts += valid.sum(axis=(1, 2))
        most = FRAME_SAMPLE // len(parts) + 1
        for i, sample in enumerate(samples):
            sample.append(clear_sample(values[i : i + 1], valid[i : i + 1], most))
    frames = [np.concatenate(sample) for sample in samples]
    judged = np.concatenate(frames)
    judged = judged[:: len(judged) // SAMPLE + 1]
    bands, quantity = trained.sensor.bands, trained.sensor.quantity
    if mistake := implausible(judged, bands, quantity):
        raise UserError(f"{name}: {mistake}; {ADVICE[quantity]}")
    for remark in doubtful(judged, bands, quantity):
        log.warning("%s: %s", name, remark)
    share = counts / (height * width)
    kept = (share > 0) & (share >= trained.sensor.min_clear)
    for index, reason in implausible_frames(frames, bands, quantity).items():
        log.warning("%s: %s is left out: %s", name, unique[index], reason)
        kept[index] = False
    return array.isel(time=np.isin(days, unique[kept]))
