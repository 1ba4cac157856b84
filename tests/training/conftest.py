"""Small synthetic cubes of two sensors, and training small enough for a test."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_cubes import write_made_cube, write_split

from pipeline_lib.config import (
    SENTINEL_1,
    SENTINEL_2,
    Context,
    Encoder,
    Fusion,
    Loss,
    Sequence,
    Training,
)
from pipeline_lib.cubes import CLEAR, THICK_CLOUD
from pipeline_lib.dataset import fit_normalisation, measure_noise
from pipeline_lib.training import loop, train_encoder, train_fusion

SMALL = Encoder(width=16, head_width=16, heads=2, head_layers=1, decoder_width=16)
OPTICAL = SENTINEL_2.model_copy(
    update={
        "bands": ("B03", "B04", "B08"),
        "rgb": None,
        "latent_dim": 3,
        "quantiles": (0.01, 0.99),
        "sequence": Sequence(frames=9, stride_time=6, stride_space=2),
        "encoder": SMALL.model_copy(update={"components": 2}),
    }
)
RADAR = SENTINEL_1.model_copy(
    update={
        "quantiles": (0.01, 0.99),
        "sequence": Sequence(frames=10, stride_time=8, stride_space=2),
        "encoder": SMALL.model_copy(update={"blind": True}),
        "loss": Loss(),
    }
)
CONTEXT = Context(patch_px=9, frames=5)
TRAINING = Training(
    learning_rate=3e-3, batch_size=16, max_epochs=3, max_samples=96, warmup_steps=3, threads=1
)
FUSION = Fusion(embedding_dim=4)


def write_synthetic_cube(path, sensor, *, number, spacing, size=17, count=14):
    """A seasonal signal of a smooth field, clouded in blocks where the sensor is optical."""
    rng = np.random.default_rng(number)
    days = np.cumsum(rng.integers(spacing - 2, spacing + 3, count))
    y, x = np.mgrid[:size, :size] / size
    field = 0.3 + 0.2 * np.sin(3 * x + number) * np.cos(4 * y)
    season = 1 + 0.4 * np.sin(2 * np.pi * days / 120)
    gains = np.linspace(0.5, 1.5, len(sensor.bands))
    values = season[:, None, None, None] * gains[:, None, None] * field
    values = values + 0.005 * rng.standard_normal(values.shape)
    mask = np.full((count, size, size), CLEAR, np.uint8)
    if sensor.quantity == "reflectance":
        cloudy = rng.random((count, 3, 3)) < 0.25
        mask[cloudy.repeat(6, 1).repeat(6, 2)[:, :size, :size]] = THICK_CLOUD
    return write_made_cube(path, values, mask, sensor, start="2020-01-01", days=days)


class Killed(Exception):
    pass


@contextmanager
def killed(epoch, batch):
    """A training that is killed in a batch of an epoch."""
    original = loop._Module.training_step

    def dying(self, samples, number):
        if (self.current_epoch, number) == (epoch, batch):
            raise Killed
        return original(self, samples, number)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop._Module, "training_step", dying)
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Five sites, the last of which has no radar cube; split, scaling, and both encoders."""
    root: Path = tmp_path_factory.mktemp("world")
    sensors = {"optical": OPTICAL, "radar": RADAR}
    names = [f"site-{number}" for number in range(5)]
    splits = ["training", "training", "validation", "test", "training"]
    cubes = {name: [] for name in sensors}
    for number, cube in enumerate(names):
        for sensor, spacing in (("optical", 6), ("radar", 5)):
            if (cube, sensor) == ("site-4", "radar"):
                continue
            path = root / "cubes" / sensor / f"{cube}.zarr.zip"
            write_synthetic_cube(path, sensors[sensor], number=number, spacing=spacing)
            cubes[sensor].append(path)
    table = write_split(root / "split.csv", dict(zip(names, splits, strict=True)), "others")
    scalings, noises = {}, {}
    for name, sensor in sensors.items():
        scalings[name] = root / name / "normalisation.json"
        fit_normalisation(
            cubes=cubes[name],
            split_table=table,
            bands=sensor.bands,
            quantiles=sensor.quantiles,
            output=scalings[name],
            scale=sensor.scale,
        )
        noises[name] = root / name / "noise.json"
        measure_noise(
            cubes=cubes[name],
            split_table=table,
            normalisation=scalings[name],
            reach=sensor.rolling_mean,
            seed=7,
            output=noises[name],
        )

    def train(name, output, state, *, training=TRAINING, seed=7, **changes):
        sensor = sensors[name]
        encoder = sensor.encoder.model_copy(update=changes)
        train_encoder(
            sensor_name=name,
            sensor=sensor.model_copy(update={"encoder": encoder}),
            context=CONTEXT,
            training=training,
            seed=seed,
            cubes=cubes[name],
            split_table=table,
            normalisation=scalings[name],
            noise=noises[name],
            state=state,
            output=output,
            config_digest="test",
        )

    def fuse(output, state, *, chosen=("optical", "radar"), block=FUSION):
        train_fusion(
            fusion=block.model_copy(update={"reference": "optical"}),
            context=CONTEXT,
            seed=7,
            cubes={name: cubes[name] for name in chosen},
            split_table=table,
            encoders={name: root / "models" / name for name in chosen},
            state=state,
            output=output,
            config_digest="test",
        )

    for name in sensors:
        train(name, root / "models" / name, root / "state" / name)
    return SimpleNamespace(
        root=root,
        cubes=cubes,
        table=table,
        training=TRAINING,
        fusion=FUSION,
        train=train,
        fuse=fuse,
        killed=killed,
    )
