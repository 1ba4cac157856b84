"""Cubes as compact arrays, in memory or mapped from files, ready to be cut into patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.cubes import CLEAR, read_cube
from pipeline_lib.dataset.normalisation import Normalisation, cube_name, valid_pixels
from pipeline_lib.files import atomic_path, digest_file, read_json, write_json

QUANTUM = np.float32(1 / 65535)
"""One step of a stored value, in units of the scaled bands: far below a sensor's noise."""

INDEX, VALUES, VALID = "index.json", "values.uint16", "valid.bool"


@dataclass(frozen=True)
class CubeArrays:
    """One normalised cube, of its frames those with a clear pixel.

    Values ``(time, band, y, x)``, uint16, are scaled values in steps of `QUANTUM`, 0 where
    invalid; validity is ``(time, y, x)``, and days ``(time,)``, int64, count from 1970-01-01.
    ``place`` is the folder of the files that the arrays are mapped from, and the cube's number
    there; None: they are in memory. Another process gets the place of a mapped cube, not its
    arrays.
    """

    name: str
    values: NDArray[np.uint16]
    valid: NDArray[np.bool_]
    days: NDArray[np.int64]
    place: tuple[Path, int] | None = None

    def __reduce__(self) -> tuple[Callable[..., CubeArrays], tuple[Any, ...]]:
        if self.place is None:
            return CubeArrays, (self.name, self.values, self.valid, self.days)
        return _received, self.place


def load_stack(
    paths: Sequence[Path], normalisation: Normalisation, folder: Path | None = None
) -> list[CubeArrays]:
    """One sensor's cubes, scaled to 0..1, in memory or mapped from a folder.

    Mapped arrays need not fit in memory, and several processes share them. A folder that holds
    those of the same cubes and scaling is used again. Raises UserError if a cube is unreadable or
    has other bands than the normalisation.
    """
    if folder is None or not paths:
        return [_pack(path, normalisation) for path in paths]
    origin = {
        "cubes": [[cube_name(path), digest_file(path)] for path in paths],
        "normalisation": normalisation.to_json(),
    }
    if not (folder / INDEX).exists() or read_json(folder / INDEX)["origin"] != origin:
        with atomic_path(folder) as partial:
            _write(paths, normalisation, origin, partial)
    return _open(folder)


def _pack(path: Path, normalisation: Normalisation) -> CubeArrays:
    cube = clear_frames(read_cube(path))
    normalisation.check_bands(cube["band"].values, path)
    valid = valid_pixels(cube)
    scaled = normalisation.apply(cube[cube.attrs["quantity"]].values)
    scaled = np.where(valid[:, None], scaled, np.float32(0))
    return CubeArrays(
        name=cube_name(path),
        values=np.rint(scaled / QUANTUM).astype(np.uint16),
        valid=valid,
        days=days_of(cube),
    )


def clear_frames(cube: xr.Dataset) -> xr.Dataset:
    """A cube's record as the models see it: its frames with a clear pixel."""
    clear = (cube["mask"].values == CLEAR).any(axis=(1, 2))
    return cube if clear.all() else cube.isel(time=np.flatnonzero(clear))


def days_of(cube: xr.Dataset) -> NDArray[np.int64]:
    """Days of a cube's frames since 1970-01-01, ``(time,)``."""
    return cube["time"].values.astype("datetime64[D]").astype(np.int64)


def _write(
    paths: Sequence[Path], normalisation: Normalisation, origin: dict[str, Any], folder: Path
) -> None:
    # Two files for all cubes: a mapped file stays open, and a file for each cube of a large
    # training would exceed the number of files that a process may usually have open.
    folder.mkdir()
    cubes = []
    with (folder / VALUES).open("wb") as values, (folder / VALID).open("wb") as valid:
        for path in paths:
            cube = _pack(path, normalisation)
            cube.values.tofile(values)
            cube.valid.tofile(valid)
            days = cube.days.tolist()
            cubes.append({"name": cube.name, "shape": cube.values.shape, "days": days})
    write_json(folder / INDEX, {"origin": origin, "cubes": cubes})


def _open(folder: Path) -> list[CubeArrays]:
    # The views are plain arrays: slicing numpy's own class of mapped arrays takes longer.
    values, valid = _mapped(folder / VALUES, np.uint16), _mapped(folder / VALID, np.bool_)
    stack = []
    for number, row in enumerate(read_json(folder / INDEX)["cubes"]):
        frames, bands, height, width = row["shape"]
        pixels = frames * height * width
        stack.append(
            CubeArrays(
                name=row["name"],
                values=values[: pixels * bands].reshape(row["shape"]),
                valid=valid[:pixels].reshape(frames, height, width),
                days=np.array(row["days"], np.int64),
                place=(folder, number),
            )
        )
        values, valid = values[pixels * bands :], valid[pixels:]
    return stack


def _mapped(path: Path, dtype: type[np.generic]) -> NDArray[Any]:
    # An empty file, of cubes without a clear frame, cannot be mapped.
    return np.asarray(np.memmap(path, dtype, "r")) if path.stat().st_size else np.empty(0, dtype)


@cache
def _opened(folder: Path) -> list[CubeArrays]:
    return _open(folder)


def _received(folder: Path, number: int) -> CubeArrays:
    """A mapped cube in another process; that maps the files once, for all their cubes."""
    return _opened(folder)[number]
