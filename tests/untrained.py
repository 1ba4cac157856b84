"""Models with random weights, saved as trained ones are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pipeline_lib.config import Context, Fusion, Sensor
from pipeline_lib.dataset import Normalisation
from pipeline_lib.models import Autoencoder, save_encoder, save_fusion
from pipeline_lib.models import Fusion as FusionLayers
from pipeline_lib.models.artefact import Results

DIGESTS = {"data_digest": "none", "config_digest": "none"}
RESULTS: Results = {
    "metrics": {},
    "training": DIGESTS | {"cubes": {}, "seed": 0, "epochs": 0, "best_epoch": 0},
    "curves": [{"epoch": 0}],
}


def scaled_by(lower: float, upper: float) -> Callable[[Sensor], Normalisation]:
    """Scaling of every band of a sensor by the same bounds."""

    def scaling(sensor: Sensor) -> Normalisation:
        bounds = (np.full(len(sensor.bands), bound, np.float32) for bound in (lower, upper))
        return Normalisation(sensor.bands, *bounds)

    return scaling


def save_all_untrained(
    folder: Path,
    sensors: Mapping[str, Sensor],
    context: Context,
    block: Fusion,
    scaling: Callable[[Sensor], Normalisation],
) -> dict[str, Path]:
    """Save an untrained encoder of each sensor and their fusion; their folders by name."""
    digests = {
        name: save_encoder(
            folder / name,
            name=name,
            sensor=sensor,
            context=context,
            autoencoder=Autoencoder(sensor, context),
            normalisation=scaling(sensor),
            **RESULTS,
        )
        for name, sensor in sensors.items()
    }
    latents = {name: sensor.latent_dim for name, sensor in sensors.items()}
    save_fusion(
        folder / "fusion",
        block=block,
        fusion=FusionLayers(latents, block),
        latents=latents,
        encoders=digests,
        **RESULTS,
    )
    return {name: folder / name for name in (*sensors, "fusion")}
