"""Floating-point operations of the networks that a config describes, counted by running them.

The only module of the package that needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipeline_lib.config import Config, Context, Sensor

SAMPLES = 2
TILE_PX = 16


@dataclass(frozen=True)
class Flops:
    """Operations, in 1e9 (GFLOP): matrix products and convolutions, two for each product.

    Attributes
    ----------
    training
        Sensor, or ``fusion``, to those of one training sample, there and back.
    frame
        Sensor to those of the features of one pixel and date.
    window
        Those of one embedding besides, of all sensors and the fusion.
    """

    training: Mapping[str, float]
    frame: Mapping[str, float]
    window: float


def count_flops(config: Config) -> Flops:
    """Count the operations of the networks of a config, with random weights."""
    import torch

    from pipeline_lib.models import Fusion

    encoders = {name: _untrained(name, config) for name in config.sensors}
    dense = {name: _dense(one) for name, one in encoders.items()}
    latents = {name: block.latent_dim for name, block in config.sensors.items()}
    fusion, reference = Fusion(latents, config.fusion), config.fusion.reference
    decoder = encoders[reference].autoencoder.decoder
    inputs = {name: torch.rand(SAMPLES, count) for name, count in latents.items()}
    pairs = _offsets(config, SAMPLES), _present(config, SAMPLES)
    joined = _gflop(lambda: decoder.centre(fusion.split(fusion.fuse(inputs, *pairs))[reference]))
    training = {name: _gflop(encoder_step(config, name, SAMPLES)) for name in config.sensors}
    training["fusion"] = _gflop(fusion_step(config, SAMPLES))
    return Flops(
        training={name: gflop / SAMPLES for name, gflop in training.items()},
        frame={name: frame for name, (frame, _) in dense.items()},
        window=joined / SAMPLES + sum(window for _, window in dense.values()),
    )


def encoder_step(config: Config, name: str, samples: int) -> Callable[[], None]:
    """A training step of an autoencoder on random samples, without its optimiser."""
    from pipeline_lib.training.tasks import EncoderTask

    one = _untrained(name, config)
    task = EncoderTask(one.autoencoder, one.sensor, config.context, one.normalisation)
    return partial(_step, task, _batch(one.sensor, config.context, samples))


def fusion_step(config: Config, samples: int) -> Callable[[], None]:
    """A training step of the fusion on random samples of all sensors, without its optimiser."""
    from pipeline_lib.models import Fusion
    from pipeline_lib.training.tasks import FusionTask

    latents = {name: block.latent_dim for name, block in config.sensors.items()}
    encoders = {name: _untrained(name, config) for name in config.sensors}
    offsets, present = _offsets(config, samples), _present(config, samples)
    batch = {
        name: _batch(block, config.context, samples)._asdict()
        | {"offset": offsets[name], "present": present[name]}
        for name, block in config.sensors.items()
    }
    return partial(
        _step, FusionTask(Fusion(latents, config.fusion), config.fusion, encoders), batch
    )


def _step(task: Any, batch: Any) -> None:
    task(batch)["loss"].mean().backward()


def _offsets(config: Config, samples: int) -> dict[str, Any]:
    import torch

    return {name: torch.zeros(samples) for name in config.sensors}


def _present(config: Config, samples: int) -> dict[str, Any]:
    import torch

    return {name: torch.ones(samples, dtype=torch.bool) for name in config.sensors}


def _untrained(name: str, config: Config) -> Any:
    """An encoder as training begins with it."""
    import numpy as np

    from pipeline_lib.dataset import Normalisation
    from pipeline_lib.models import Autoencoder, TrainedEncoder

    sensor, context = config.sensors[name], config.context
    bounds = (make(len(sensor.bands), np.float32) for make in (np.zeros, np.ones))
    scaling = Normalisation(sensor.bands, *bounds)
    return TrainedEncoder(name, sensor, context, Autoencoder(sensor, context), scaling, "", {})


def _dense(one: Any) -> tuple[float, float]:
    """Operations of the features of one pixel and date, and of one latent."""
    import torch

    encoder, frames = one.autoencoder.encoder, one.context.frames
    side = TILE_PX + one.context.patch_px - 1
    values = torch.rand(1, len(one.sensor.bands), side, side)
    valid = torch.ones(1, side, side, dtype=torch.bool)
    frame = _gflop(partial(encoder.frame_features, values, valid)) / TILE_PX**2
    features, days = torch.rand(SAMPLES, frames, encoder.features), torch.zeros(SAMPLES, frames)
    there = torch.ones(SAMPLES, frames, dtype=torch.bool)
    return frame, _gflop(partial(encoder.latent, features, days, there, frames // 2)) / SAMPLES


def _batch(sensor: Sensor, context: Context, samples: int) -> Any:
    import torch

    from pipeline_lib.training.batches import Batch

    shape = (samples, context.frames, len(sensor.bands), context.patch_px, context.patch_px)
    seen = torch.ones(*shape[:2], *shape[3:], dtype=torch.bool)
    days = torch.arange(float(context.frames)).expand(samples, -1) - context.frames // 2
    return Batch(torch.rand(shape), seen, days)


def _gflop(run: Callable[[], Any]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9
