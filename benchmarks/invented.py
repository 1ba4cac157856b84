"""Cubes and models of any size, without data and training: what speed and seams depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom

from pipeline_lib.config import SENTINEL_1, SENTINEL_2, Context, Sensor
from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.cubes import CLEAR, THICK_CLOUD, Grid, frames_per_part, make_cube, write_parts
from pipeline_lib.dataset import Normalisation
from pipeline_lib.models import Autoencoder, Fusion, save_encoder, save_fusion

REFERENCE = "sentinel-2"
SENSORS = {"sentinel-1": SENTINEL_1, REFERENCE: SENTINEL_2}
TRAINING = {
    "cubes": {"training": 0},
    "data_digest": "none",
    "seed": 0,
    "epochs": 0,
    "best_epoch": 0,
    "config_digest": "none",
}
COARSE = 16
"""Pixels of the invented ground's patches."""


@dataclass(frozen=True)
class Scene:
    """Size of invented cubes: ``pixels`` squared, ``dates`` in a year, share of clear pixels."""

    pixels: int
    dates: int
    clear: float = 1.0


def sensors_of(count: int) -> dict[str, Sensor]:
    """The reference sensor and further ones like Sentinel-1."""
    others = {f"radar-{number:02d}": SENTINEL_1 for number in range(count - 1)}
    return {**others, REFERENCE: SENTINEL_2}


def write_models(folder: Path, sensors: Mapping[str, Sensor], seed: int = 0) -> None:
    """Encoders and a fusion of default widths and random weights."""
    torch.manual_seed(seed)
    digests = {}
    for name, sensor in sensors.items():
        bounds = (make(len(sensor.bands), np.float32) for make in (np.zeros, np.ones))
        digests[name] = save_encoder(
            folder / name,
            name=name,
            sensor=sensor,
            context=Context(),
            autoencoder=Autoencoder(sensor, Context()),
            normalisation=Normalisation(sensor.bands, *bounds),
            metrics={},
            training=TRAINING,
            curves=[{"epoch": 0}],
        )
    latents = {name: sensor.latent_dim for name, sensor in sensors.items()}
    block = FusionBlock(reference=REFERENCE)
    save_fusion(
        folder / "fusion",
        block=block,
        fusion=Fusion(latents, block),
        latents=latents,
        encoders=digests,
        metrics={},
        training=TRAINING,
        curves=[{"epoch": 0}],
    )


def write_cubes(
    folder: Path, sensors: Mapping[str, Sensor], scene: Scene, seed: int = 0
) -> dict[str, Path]:
    """One cube per sensor: a smooth ground with noise, dates at irregular distances, clouds."""
    paths = {}
    for number, (name, sensor) in enumerate(sensors.items()):
        rng = np.random.default_rng([seed, number])
        days = np.sort(rng.choice(365, scene.dates, replace=False))
        times = np.datetime64("2021-01-01T10:30", "ns") + days * np.timedelta64(1, "D")
        paths[name] = folder / f"{name}.zarr.zip"
        grid = Grid(32632, 600000, 5300040, 10.0, scene.pixels, scene.pixels)
        step = frames_per_part(grid)
        parts = (times[start : start + step] for start in range(0, len(times), step))
        write_parts((_part(rng, name, sensor, part, grid, scene) for part in parts), paths[name])
    return paths


def _part(
    rng: np.random.Generator,
    name: str,
    sensor: Sensor,
    times: NDArray[np.datetime64],
    grid: Grid,
    scene: Scene,
):
    shape = (len(times), len(sensor.bands))
    values = 0.5 * _smooth(rng, shape, scene.pixels) + 0.05 * rng.random(
        (*shape, *grid.shape), np.float32
    )
    clouds = _smooth(rng, (len(times),), scene.pixels) > scene.clear
    return make_cube(
        values=values,
        mask=np.where(clouds, THICK_CLOUD, CLEAR).astype(np.uint8),
        times=times,
        bands=sensor.bands,
        grid=grid,
        quantity=sensor.quantity,
        frames={"item": [f"{name}-{time}" for time in times.astype("datetime64[D]")]},
        attributes={"sensor": name, "cube": "invented", "site": "invented", "license": "other"},
    )


def _smooth(rng: np.random.Generator, shape: Sequence[int], pixels: int) -> NDArray[np.float32]:
    """Fields ``(*shape, pixels, pixels)``, 0..1, that vary over some pixels."""
    coarse = rng.random((*shape, pixels // COARSE + 2, pixels // COARSE + 2), np.float32)
    factors = (*[1] * len(shape), COARSE, COARSE)
    return zoom(coarse, factors, order=1)[..., :pixels, :pixels]
