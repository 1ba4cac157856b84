"""Memory of the jobs that hold the cubes of a sensor or of all."""

from __future__ import annotations

from collections.abc import Collection

from pipeline_lib.config import Config
from pipeline_lib.plan.cubes import cubes_of
from pipeline_lib.plan.rates import RATES, Rates

BASE_MB = 3000
VALUE_BYTES = 2
"""Bytes of a value in the arrays that are learned from."""
LAYERS = 16
"""Arrays of the size of a batch's features that a step of training keeps; 11 were measured."""


def learning_mb(config: Config, sensors: Collection[str], batch_size: int) -> int:
    """Memory of a job that trains or evaluates models of these sensors, MB.

    A base, the arrays of all cubes that are learned from, and the features of a batch. Of
    user-supplied cubes the size of their files counts.
    """
    cubes = cubes_of(config, {}, Rates.read(RATES))
    arrays = sum(
        VALUE_BYTES * kind.pixel_frames * len(config.sensors[kind.sensor].bands)
        for kind in cubes
        if kind.learned and kind.sensor in sensors
    )
    files = {
        file.file
        for block in config.own_cubes.values()
        for sensor in sensors
        for file in block.files.get(sensor, ())
    }
    arrays += sum(path.stat().st_size for path in files if path.is_file()) / 1e6
    patch = config.context.frames * config.context.patch_px**2
    widths = sum(config.sensors[sensor].encoder.width for sensor in sensors)
    return round(BASE_MB + arrays + LAYERS * 4e-6 * batch_size * patch * widths)
