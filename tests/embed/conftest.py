"""Cubes of two sensors with gaps, and small models with random weights."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from untrained import save_all_untrained

from pipeline_lib.config import (
    SENTINEL_1,
    SENTINEL_2,
    Context,
    Embed,
    Encoder,
    Fusion,
    Sensor,
    Sequence,
)
from pipeline_lib.cubes import CLEAR, THICK_CLOUD, Grid, make_cube, write_cube
from pipeline_lib.dataset import Normalisation
from pipeline_lib.dataset.domain import Domain
from pipeline_lib.embed import embed_cube

CONTEXT = Context(patch_px=7, frames=5)
SMALL = {"encoder": Encoder(width=8, head_width=16, heads=2, head_layers=1, decoder_width=8)}
OPTICAL = {
    "bands": ("B04", "B08", "B11"),
    "rgb": None,
    "latent_dim": 3,
    "sequence": Sequence(frames=10, max_span_days=60),
}
RADAR = {
    "latent_dim": 4,
    "encoder": SMALL["encoder"].model_copy(update={"blind": True}),
    "sequence": Sequence(frames=15, max_span_days=40),
}
SENSORS = {
    "optical": SENTINEL_2.model_copy(update=SMALL | OPTICAL),
    "radar": SENTINEL_1.model_copy(update=SMALL | RADAR),
}
BLOCK = Fusion(reference="optical", embedding_dim=4)
SIZE = (21, 26)
DATES = {"optical": 9, "radar": 12}
SPANS = ((0, 0.1), (0.3, 0.6))
"""Spans of the lower and of the upper bounds of the bands."""


def write_models(folder: Path, seed: int) -> dict[str, Path]:
    """Encoders and a fusion with random weights; their folders by name."""

    def scaling(sensor: Sensor) -> Normalisation:
        bounds = [np.linspace(*span, len(sensor.bands), dtype=np.float32) for span in SPANS]
        pixels = 0.6 * np.random.default_rng(seed).random((999, len(sensor.bands)))
        domain = Domain.fit(10 * np.log10(pixels) if sensor.scale == "decibel" else pixels)
        return Normalisation(sensor.bands, *bounds, sensor.scale, domain)

    torch.manual_seed(seed)
    return save_all_untrained(folder, SENSORS, CONTEXT, BLOCK, scaling)


def write_cubes(folder: Path) -> dict[str, Path]:
    """One cube per sensor, with clouds, an empty corner, and a date without a clear pixel."""
    rng = np.random.default_rng(11)
    paths = {}
    for number, (name, sensor) in enumerate(SENSORS.items()):
        count = DATES[name]
        days = np.cumsum(rng.integers(3, 9, count)) * np.timedelta64(1, "D")
        mask = np.where(rng.random((count, *SIZE)) < 0.3, THICK_CLOUD, CLEAR).astype(np.uint8)
        mask[:, :8, :9] = THICK_CLOUD
        mask[count // 2] = THICK_CLOUD
        if name == "radar":
            mask[0] = CLEAR
            mask[1::2, :, 13:] = THICK_CLOUD
            mask[:, 14:, 18:] = THICK_CLOUD
        values = (0.6 * rng.random((count, len(sensor.bands), *SIZE))).astype(np.float32)
        cube = make_cube(
            values=values,
            mask=mask,
            times=np.datetime64("2022-03-01T10:30", "ns") + days,
            bands=sensor.bands,
            grid=Grid(32631, 600000, 5600040, 10, *SIZE),
            quantity=sensor.quantity,
            unfiltered=values if sensor.rolling_mean > 1 else None,
            frames={"item": [f"scene-{number}-{date}" for date in range(count)]},
            attributes={
                **{"sensor": name, "cube": "field", "site": "field", "land_cover": "grassland"},
                "license": "proprietary",
                "source": f"{sensor.collection} of https://stac.example.org/v1",
            },
        )
        paths[name] = folder / f"{name}.zarr.zip"
        write_cube(cube, paths[name])
    return paths


@pytest.fixture(scope="session")
def field(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Cubes, models, what embeds them, and the arguments that it passes to `embed_cube`."""
    root = tmp_path_factory.mktemp("field")
    models, cubes = write_models(root / "models", seed=1), write_cubes(root)

    def arguments(
        output: Path, *, models: dict[str, Path] = models, **changed: Any
    ) -> dict[str, Any]:
        return {
            "cube": "field",
            "cubes": cubes,
            "encoders": {name: models[name] for name in SENSORS},
            "fusion": models["fusion"],
            "embed": Embed(dtype="float32", tile_px=10, batch_size=100),
            "state": output.with_name(f"{output.name}-state"),
            "output": output,
            "config_digest": "config",
            **changed,
        }

    return SimpleNamespace(
        models=models,
        cubes=cubes,
        arguments=arguments,
        embed=lambda output, **changed: embed_cube(**arguments(output, **changed)),
        write_models=write_models,
    )


@pytest.fixture(scope="session", params=["int8", "float16", "float32"])
def product(
    request: pytest.FixtureRequest, field: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A product that no test changes, named by the type of its embeddings."""
    folder = tmp_path_factory.mktemp("product") / request.param
    field.embed(folder, embed=Embed(dtype=request.param, tile_px=16, batch_size=1000))
    return folder
