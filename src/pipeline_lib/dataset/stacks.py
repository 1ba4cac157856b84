"""Cubes as compact arrays in memory, ready to be cut into patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import read_cube
from pipeline_lib.dataset.normalisation import (
    Normalisation,
    check_cube_bands,
    cube_name,
    valid_pixels,
)

QUANTUM = np.float32(1 / 65535)
"""One step of a stored value, in units of the scaled bands: far below a sensor's noise."""


@dataclass(frozen=True)
class CubeArrays:
    """One normalised cube.

    Parameters
    ----------
    name
        Name of the cube.
    values
        ``(time, band, y, x)``, uint16: scaled values in steps of `QUANTUM`; 0 where invalid.
    valid
        ``(time, y, x)``.
    days
        ``(time,)``, int64: days since 1970-01-01.
    """

    name: str
    values: NDArray[np.uint16]
    valid: NDArray[np.bool_]
    days: NDArray[np.int64]


def load_stack(paths: Sequence[Path], normalisation: Normalisation) -> list[CubeArrays]:
    """Read cubes into memory, scaled to 0..1.

    Raises
    ------
    UserError
        If a cube is unreadable or has other bands than the normalisation.
    """
    stack = []
    for path in paths:
        cube = read_cube(path)
        check_cube_bands(cube, normalisation.bands, path)
        valid = valid_pixels(cube)
        scaled = normalisation.apply(cube[cube.attrs["quantity"]].values)
        scaled = np.where(valid[:, None], scaled, np.float32(0))
        stack.append(
            CubeArrays(
                name=cube_name(path),
                values=np.rint(scaled / QUANTUM).astype(np.uint16),
                valid=valid,
                days=cube["time"].values.astype("datetime64[D]").astype(np.int64),
            )
        )
    return stack
