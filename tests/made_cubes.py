"""Small cubes of given values, written as those of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline_lib.config import Sensor
from pipeline_lib.cubes import Grid, make_cube, write_cube


def write_made_cube(
    path: Path, values: np.ndarray, mask: np.ndarray, sensor: Sensor, *, start: str = "2021-01-01"
) -> Path:
    """Write a cube of values ``(time, band, y, x)``, a frame every six days; its path."""
    days = 6 * np.arange(len(values))
    cube = make_cube(
        values=values.astype(np.float32),
        mask=mask.astype(np.uint8),
        times=np.datetime64(start) + days.astype("timedelta64[D]"),
        bands=sensor.bands,
        grid=Grid(32631, 600000, 5600000, 10, *values.shape[2:]),
        quantity=sensor.quantity,
        frames={},
        attributes={"cube": path.name.split(".")[0]},
    )
    write_cube(cube, path)
    return path
