"""The contract of a cube: what it holds, and how it lies in a file.

A cube is one sensor, one site, one period: a Zarr v3 store in one zip file that plain
``xarray.open_zarr("zip::FILE", consolidated=False)`` reads. Dimensions are
``(time, band, y, x)``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from pipeline_lib import __version__
from pipeline_lib.cubes.grid import Grid
from pipeline_lib.cubes.opening import check_codecs, readable
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, pack, scratch_folder
from pipeline_lib.seeds import generator

CLEAR, THICK_CLOUD, THIN_CLOUD, CLOUD_SHADOW, NO_DATA = range(5)
MASK_MEANINGS = "clear thick_cloud thin_cloud cloud_shadow no_data"

REFLECTANCE_SCALE = 1e-4
INTEGER_FILL = -32768
TIME_CHUNK = 32
SPACE_CHUNK = 256
PART_PX = 2**23
"""Pixels times frames that are written at once; bounds memory."""

UNITS = {"reflectance": "1", "backscatter": "1"}
LONG_NAMES = {
    "reflectance": "surface reflectance",
    "backscatter": "gamma nought backscatter, linear power",
}
RANGES = {"reflectance": (-0.05, 2.0), "backscatter": (1e-5, 100.0)}
"""Lowest and highest value that is measured.

Reflectance of water and shadow is below 0 by the error of the atmospheric correction, some
hundredths; clouds and snow in low sun exceed 1, whole scenes reach 1.8. Linear power of 1e-5
(-50 dB) is far below the noise of Sentinel-1 (about -25 dB); only single buildings and ships reach
100 (20 dB).
"""
SAMPLE, FRAME_SAMPLE = 100_000, 10_000
"""Number of pixels on which the values of a cube, and of each of its frames, are judged."""
ENOUGH = 100
"""Pixels from which on a sample tells of more than single objects."""


def clear_sample(
    values: NDArray[np.float32], clear: NDArray[np.bool_], most: int = SAMPLE
) -> NDArray[np.float32]:
    """Values of clear pixels ``(n, band)``, at most ``most`` of them, the same in each run.

    ``values`` are ``(time, band, y, x)``, ``clear`` is ``(time, y, x)``.
    """
    places = np.flatnonzero(clear)
    if len(places) > most:
        places = generator(0, "plausibility").choice(places, most)
    time, y, x = np.unravel_index(places, clear.shape)
    return values[time, :, y, x]


def implausible(values: NDArray[np.float32], bands: Sequence[str], quantity: str) -> str | None:
    """Why values ``(n, band)`` cannot be reflectance or linear power, or None.

    The text names the band, the share of the values and what they may be (digital numbers, percent,
    decibels, fill values, values scaled twice); the caller says where, and what to do. ``values``
    are those of clear pixels, for instance of :func:`clear_sample`; pixels without a value in some
    band take no part. Snow, clouds, water and shadow are plausible.
    """
    return next((text for wrong, text in _doubts(values, bands, quantity) if wrong), None)


def implausible_frames(
    samples: Sequence[NDArray[np.float32]], bands: Sequence[str], quantity: str
) -> dict[int, str]:
    """The frames whose values ``(n, band)`` are :func:`implausible`, by index, with the reason.

    Frames of fewer than :data:`ENOUGH` pixels are not judged.
    """
    reasons = {
        index: implausible(sample, bands, quantity)
        for index, sample in enumerate(samples)
        if len(sample) >= ENOUGH
    }
    return {index: reason for index, reason in reasons.items() if reason}


def doubtful(values: NDArray[np.float32], bands: Sequence[str], quantity: str) -> list[str]:
    """What is odd in values that are not :func:`implausible`: small shares of such values."""
    return [text for _, text in _doubts(values, bands, quantity)]


def _doubts(
    values: NDArray[np.float32], bands: Sequence[str], quantity: str
) -> Iterator[tuple[bool, str]]:
    """What is odd in values ``(n, band)``, and whether they are wrong for that."""
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        return
    same = values[(values == values[:, :1]).all(axis=1), 0]
    if len(same):
        distinct, counts = np.unique(same, return_counts=True)
        value, share = distinct[counts.argmax()], counts.max() / len(values)
        most = 1 if quantity == "reflectance" else 0.5  # -1000 dB is 0, too
        # Bands that are equal everywhere are made, not measured.
        if share < most and (value == 0 or (share > 0.01 and len(same) < 0.9 * len(values))):
            text = f"{_percent(share)} of the pixels are {value:.6g} in every band"
            yield bool(share > 0.01), f"{text}, as where there is no data"
    medians = np.median(values, axis=0)
    for band, column in zip(bands, values.T, strict=True):
        yield from _doubts_of(column, band, quantity)
    enough = len(values) >= ENOUGH
    floor = np.quantile(values, 0.01, axis=0)
    if quantity == "backscatter":
        # A filtered city is about as bright in one band, and darker in cross-polarisation.
        most = 0.5 if (floor > 0.5).all() else 0.9
        for band in np.asarray(bands)[(floor > most) & enough]:
            # Speckle, shadow and streets are darker, even in a city.
            yield True, f"99 % of {band} are above {most:g}, which no backscatter is: a wrong unit"
        return
    # Clouds alone may be as bright, but the darkest of them are not all but 1.
    if enough and 1 <= floor.min() < 1.03 and np.quantile(values, 0.99) < 1.3:
        yield True, "nearly all values are just above 1, which no reflectance is: a wrong unit"
    elif floor.min() >= 0.1 and enough:
        yield (
            False,
            "hardly a value is below 0.1 in any band: bright land, or numbers of processing "
            "baseline 04.00 or later whose offset of -1000 was not applied",
        )
    elif np.quantile(values, 0.99) < 0.06:
        yield False, "hardly a value is above 0.06 in any band: water, or too small a scale"
    for band, column in zip(bands, values.T, strict=True):
        # Digital numbers of 5: dark water in the short-wave infrared, but no land beside it.
        if 0 < np.quantile(column, 0.99) < 5e-4 and (medians.max() > 0.1 or (values < 5e-4).all()):
            yield True, f"{band} is below 0.0005, which no reflectance of land is: scaled twice"


def _doubts_of(column: NDArray[np.float32], band: str, quantity: str) -> Iterator[tuple[bool, str]]:
    """What is odd in the values of one band ``(n,)``."""
    low, high = RANGES[quantity]
    median = float(np.median(column))
    distinct, counts = np.unique(column, return_counts=True)
    outside = (distinct < low) | (distinct > high)
    share = counts[outside].sum() / len(column)
    if 0 < share < 0.5:
        # Measured values outside of the range differ from each other.
        most = counts[outside].argmax()
        value, count = distinct[outside][most], counts[outside][most]
        if value and count >= max(10, 0.001 * len(column), 0.5 * share * len(column)):
            part = _percent(count / len(column))
            yield True, f"{part} of {band} are exactly {value:.6g}, a no-data value"
    above, below = float((column > high).mean()), float((column < low).mean())
    held = f"(median {median:.3g})"
    if above:
        wrong = above > 0.1
        reason = f", which is no {quantity} (0..1): digital numbers or percent" if wrong else ""
        yield wrong, f"{_percent(above)} of {band} are above {high:g} {held}{reason}"
    if quantity == "backscatter" and median > 2 and len(column) >= ENOUGH:
        yield True, f"half of {band} are above {median:.3g}, which is no backscatter (0..1)"
    if below and quantity == "reflectance":
        wrong = below > 0.1
        reason = ", which is no reflectance (0..1): a wrong offset, or no data" if wrong else ""
        yield wrong, f"{_percent(below)} of {band} are below {low:g} {held}{reason}"
    elif below:
        # Where the noise was subtracted, little or nothing is left of calm water.
        wrong = below > 0.5 or float((column < 0).mean()) > 0.1
        reason = ", and linear power is needed: decibels, or a wrong scale" if wrong else ""
        yield wrong, f"{_percent(below)} of {band} are below {low:g}, or -50 dB {held}{reason}"
    zeros = float((column == 0).mean())
    if quantity == "reflectance" and zeros > 0.5 and _is_land(column[column != 0]):
        yield True, f"{_percent(zeros)} of {band} are 0: no data, or a band that is missing"
    if len(distinct) > 50 and counts[-1] >= max(10, 0.01 * len(column)):
        part = _percent(counts[-1] / len(column))
        wrong = bool(counts[-1] > 0.2 * len(column))
        yield wrong, f"{part} of {band} equal the largest value, {distinct[-1]:.3g}: saturated"


def _is_land(column: NDArray[np.float32]) -> bool:
    """Whether values are brighter than water, or there are none."""
    return not column.size or float(np.median(column)) > 0.02


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def make_cube(
    *,
    values: NDArray[np.float32],
    mask: NDArray[np.uint8],
    times: ArrayLike,
    bands: Sequence[str],
    grid: Grid,
    quantity: str,
    frames: Mapping[str, ArrayLike],
    attributes: Mapping[str, Any],
    unfiltered: NDArray[np.float32] | None = None,
) -> xr.Dataset:
    """A cube in memory, with coordinates, masks and attributes.

    ``values`` are ``(time, band, y, x)``, NaN where there is none, and ``unfiltered`` those before
    the rolling mean; ``mask`` is ``(time, y, x)`` with the classes of this module; ``times`` are
    UTC and increase strictly; ``quantity`` is ``reflectance`` or ``backscatter``.

    ``frames`` are texts or numbers of each frame, ``(time,)`` each: ``item``, ``platform``,
    ``relative_orbit``, ``orbit_state``, ``processing_baseline``, angles in degrees. ``attributes``
    are ``sensor``, ``cube``, ``site``, ``land_cover``, ``config_digest``, ``license``, ``source``,
    and ``missing``, a list of texts: the scenes that the cube should hold and does not.

    Raises ValueError if shapes disagree or times do not increase.
    """
    stamps = np.asarray(times, dtype="datetime64[ns]")
    shape = (len(stamps), len(bands), *grid.shape)
    if values.shape != shape or mask.shape != (shape[0], *grid.shape):
        raise ValueError(f"values {values.shape} and mask {mask.shape} do not fit {shape}")
    if np.any(np.diff(stamps) <= np.timedelta64(0)):
        raise ValueError("times must increase strictly")
    described = {"units": UNITS[quantity], "long_name": LONG_NAMES[quantity]}
    described["grid_mapping"] = "spatial_ref"
    variables = {
        quantity: (("time", "band", "y", "x"), values, described),
        "mask": (
            ("time", "y", "x"),
            mask,
            {
                "long_name": "what the pixel shows",
                "flag_values": list(range(5)),
                "flag_meanings": MASK_MEANINGS,
                "grid_mapping": "spatial_ref",
            },
        ),
    }
    if unfiltered is not None:
        variables[f"{quantity}_unfiltered"] = (
            ("time", "band", "y", "x"),
            unfiltered,
            described | {"long_name": f"{LONG_NAMES[quantity]}, before the rolling mean"},
        )
    return xr.Dataset(
        variables,
        coords={
            "time": ("time", stamps, {"standard_name": "time"}),
            "band": ("band", np.asarray(bands, dtype=object)),
            "y": ("y", grid.y, {"standard_name": "projection_y_coordinate", "units": "m"}),
            "x": ("x", grid.x, {"standard_name": "projection_x_coordinate", "units": "m"}),
            "spatial_ref": ((), np.int32(0), _grid_mapping(grid)),
            **{name: ("time", _column(column)) for name, column in frames.items()},
        },
        attrs={
            **{k: v for k, v in attributes.items() if k != "missing"},
            "Conventions": "CF-1.11",
            "quantity": quantity,
            "software": f"pipeline_lib {__version__}",
            "missing": json.dumps(list(attributes.get("missing", ()))),
            "valid_counts": json.dumps(_valid_counts(mask)),
        },
    )


def _column(values: ArrayLike) -> NDArray[Any]:
    column = np.asarray(values)
    return column.astype(object) if column.dtype.kind == "U" else column


def _grid_mapping(grid: Grid) -> dict[str, Any]:
    from pyproj import CRS

    mapping = CRS.from_epsg(grid.epsg).to_cf()
    west, _, _, north = grid.bounds
    size = grid.resolution
    mapping["GeoTransform"] = f"{west} {size} 0.0 {north} 0.0 {-size}"
    mapping["spatial_ref"] = mapping["crs_wkt"]
    return mapping


def frames_per_part(grid: Grid) -> int:
    """Frames that are written at once, and lie in one chunk: fewer of a larger grid."""
    return max(1, min(TIME_CHUNK, PART_PX // (grid.height * grid.width)))


def write_cube(cube: xr.Dataset, path: str | Path) -> None:
    """Write a cube as one ``.zarr.zip``, atomically; equal cubes have equal bytes."""
    step = frames_per_part(grid_of(cube))
    starts = range(0, cube.sizes["time"], step)
    write_parts((cube.isel(time=slice(start, start + step)) for start in starts), path)


def write_parts(parts: Iterable[xr.Dataset], path: str | Path) -> None:
    """Write a cube that comes in parts, with the bytes of :func:`write_cube` for the whole.

    Each part has :func:`frames_per_part` consecutive frames, the last one that many or fewer.
    The attributes of the last part become the cube's. Raises ValueError if time does not increase
    from part to part.
    """
    with atomic_path(path) as target, scratch_folder(path) as folder, warnings.catch_warnings():
        # Variable-length text has no final Zarr v3 specification yet; xarray, zarr-python and
        # GDAL 3.13 read it.
        warnings.filterwarnings("ignore", message=".*Zarr V3 specification.*")
        warnings.filterwarnings("ignore", message=".*does not have a Zarr.*")
        store = folder / "cube.zarr"
        counts: list[int] = []
        last = np.datetime64("NaT")
        for part in parts:
            times = part["time"].values
            if times[0] <= last:
                raise ValueError("times must increase strictly")
            last = times[-1]
            counts += _valid_counts(part["mask"].values)
            joined = _storable(part).assign_attrs(valid_counts=json.dumps(counts))
            if store.exists():
                joined.to_zarr(store, append_dim="time", consolidated=False)
            else:
                encoding = _encoding(part)
                joined.to_zarr(store, zarr_format=3, consolidated=False, encoding=encoding)
        pack(store, target)


def _valid_counts(mask: NDArray[np.uint8]) -> list[int]:
    return [int(n) for n in (mask != NO_DATA).sum(axis=(1, 2))]


def _storable(part: xr.Dataset) -> xr.Dataset:
    """Reflectance beyond what the integers hold is saturated; it must not wrap around."""
    if "reflectance" not in part:
        return part
    most = np.float32(REFLECTANCE_SCALE * (np.iinfo(np.int16).max - 1))
    return part.assign(reflectance=part["reflectance"].clip(-most, most, keep_attrs=True))


def _encoding(part: xr.Dataset) -> dict[str, dict[str, Any]]:
    from zarr.codecs import BloscCodec

    quantity = part.attrs["quantity"]
    codec = {"compressors": (BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"),)}
    sides = [min(SPACE_CHUNK, part.sizes[name]) for name in ("y", "x")]
    frames = part.sizes["time"]
    encoding: dict[str, dict[str, Any]] = {
        # Readers that know Zarr and not CF take fill_value as no data: GDAL does.
        "mask": codec | {"chunks": (frames, *sides), "fill_value": NO_DATA},
        "time": {"units": "seconds since 1970-01-01", "dtype": "float64"},
    }
    for name in (quantity, f"{quantity}_unfiltered"):
        if name in part:
            encoding[name] = codec | {"chunks": (frames, part.sizes["band"], *sides)}
    if quantity == "reflectance":
        encoding[quantity] |= {
            "dtype": "int16",
            "scale_factor": REFLECTANCE_SCALE,
            "add_offset": 0.0,
            "_FillValue": INTEGER_FILL,
            "fill_value": INTEGER_FILL,
        }
    return encoding


def read_cube(path: str | Path, *, load: bool = True) -> xr.Dataset:
    """A cube, with values as float32 and NaN where there is none.

    With ``load=False`` nothing is read and values stay as stored: :func:`decode` reads parts.
    Raises UserError if the file is absent, is not a cube, or is damaged.
    """
    import zarr
    from zarr.storage import ZipStore

    path = Path(path)
    if not path.exists():
        raise UserError(f"cube not found: {path}")
    with _readable(path):
        store = ZipStore(path, mode="r")
        check_codecs(zarr.open_group(store, mode="r", use_consolidated=False), path)
        cube = xr.open_zarr(store, consolidated=False, mask_and_scale=False, chunks=None)
        cube.encoding["source"] = str(path)
        _check_contract(cube)
        for name in cube.coords:
            if cube[name].dtype.kind == "T":
                cube[name] = cube[name].astype(object)
        if load:
            cube = decode(cube)
    if load:
        _check_counts(_valid_counts(cube["mask"].values), cube, path)
    return cube


_readable = partial(readable, what="cube", advice="delete it and run again")


def _check_contract(cube: xr.Dataset) -> None:
    """Raise ValueError or KeyError unless a file holds what :func:`write_parts` writes."""
    quantity = cube.attrs["quantity"]
    if quantity not in LONG_NAMES:
        raise ValueError(f"its quantity is {quantity!r}")
    shapes = {quantity: ("time", "band", "y", "x"), "mask": ("time", "y", "x")}
    for name, dimensions in shapes.items():
        kinds = "u" if name == "mask" else "if"
        if cube[name].dims != dimensions or cube[name].dtype.kind not in kinds:
            raise ValueError(f"{name} is {cube[name].dtype} {dict(cube[name].sizes)}")
    if not (np.diff(cube["time"].values) > np.timedelta64(0)).all():
        raise ValueError("its times do not increase")
    if len(json.loads(cube.attrs["valid_counts"])) != cube.sizes["time"]:
        raise ValueError("valid_counts do not fit its times")
    grid_of(cube)


def decode(cube: xr.Dataset) -> xr.Dataset:
    """A cube opened with ``load=False``, or a part of it, read: float32, NaN where there is none.

    Raises UserError if the file is damaged there.
    """
    with _readable(cube.encoding.get("source", "cube")):
        cube = cube.load()
    for name in (cube.attrs["quantity"], f"{cube.attrs['quantity']}_unfiltered"):
        if name in cube:
            cube[name] = _decode(cube[name])
    return cube


def clear_counts(cube: xr.Dataset, path: str | Path) -> NDArray[np.int64]:
    """Clear pixels of each frame of a cube opened with ``load=False``, ``(time,)``.

    The mask is read strip by strip. Raises UserError if valid pixels differ from what was written.
    """
    valid = clear = np.zeros(cube.sizes["time"], np.int64)
    for row in range(0, cube.sizes["y"], SPACE_CHUNK):
        with _readable(path):
            strip = cube["mask"][:, row : row + SPACE_CHUNK].values
        valid = valid + _valid_counts(strip)
        clear = clear + (strip == CLEAR).sum(axis=(1, 2))
    _check_counts(valid.tolist(), cube, path)
    return clear


def _check_counts(valid: list[int], cube: xr.Dataset, path: str | Path) -> None:
    # A chunk that is gone reads as fill values, without a word from zarr.
    if valid != json.loads(cube.attrs["valid_counts"]):
        raise UserError(
            f"{path}: damaged: valid pixels differ from what was written; delete it and run again"
        )


def _decode(variable: xr.DataArray) -> xr.DataArray:
    """Scale integers to float32; xarray's own decoding yields float64."""
    if variable.dtype.kind == "f":
        return variable
    scale = np.float32(variable.attrs.pop("scale_factor", 1.0))
    offset = np.float32(variable.attrs.pop("add_offset", 0.0))
    fill = variable.attrs.pop("_FillValue", INTEGER_FILL)
    values = variable.values.astype(np.float32) * scale + offset
    values[variable.values == fill] = np.nan
    return variable.copy(data=values)


def grid_of(cube: xr.Dataset) -> Grid:
    """The grid of a cube, from its coordinates and grid mapping."""
    from pyproj import CRS

    x, y = cube["x"].values, cube["y"].values
    resolution = float(x[1] - x[0]) if len(x) > 1 else float(y[0] - y[1])
    epsg = CRS.from_wkt(cube["spatial_ref"].attrs["crs_wkt"]).to_epsg()
    if epsg is None:
        raise UserError("the cube's coordinate reference system has no EPSG code")
    left, top = float(x[0]) - resolution / 2, float(y[0]) + resolution / 2
    return Grid(epsg, left, top, resolution, len(y), len(x))


def days_layer(sensor: str) -> str:
    """Name of the embeddings' layer that holds the days to the paired date of a sensor."""
    return f"days_to_{sensor.replace('-', '_')}"
