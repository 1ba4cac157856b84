"""Training of the Sentinel-2 autoencoder: samples per second and per GFLOP/s.

One thread, default widths, the paper's sample (11 frames of 15 x 15 pixels, ten bands), random
cubes of the paper's size of which a fifth is cloudy. The peak is the fastest of several products of
large single-precision matrices by the same library in the same run. Dense and patch encoder
have the same decoder and loss.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measure import measured, one_thread, show

from pipeline_lib.config import SENTINEL_2, Context, Training
from pipeline_lib.dataset import CubeArrays, Normalisation, SequenceIndex
from pipeline_lib.models import Autoencoder
from pipeline_lib.training.data import Batch, SensorDataset
from pipeline_lib.training.tasks import EncoderTask

CUBES, FRAMES, SIDE = 4, 60, 90
MATRIX = 2048


def random_cubes() -> list[CubeArrays]:
    """Cubes of the paper's size, with a fifth of the pixels cloudy in blotches of 9 x 9."""
    rng = np.random.default_rng(0)
    cubes = []
    for number in range(CUBES):
        shape = (FRAMES, len(SENTINEL_2.bands), SIDE, SIDE)
        blotches = rng.random((FRAMES, SIDE // 9, SIDE // 9)) > 0.2
        valid = blotches.repeat(9, axis=1).repeat(9, axis=2)
        values = rng.integers(0, 2**16, shape, dtype=np.uint16) * valid[:, None]
        cubes.append(CubeArrays(f"cube {number}", values, valid, 5 * np.arange(FRAMES)))
    return cubes


def peak_gflops() -> float:
    """Fastest of several products of two large matrices, GFLOP/s."""
    a, b = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)
    return 2 * MATRIX**3 / median_seconds(lambda: a @ b, 7, fastest=True) / 1e9


def median_seconds(action: Callable[[], Any], repeats: int, *, fastest: bool = False) -> float:
    """Median, or least, wall time of an action that ran once before."""
    action()
    spent = []
    for _ in range(repeats):
        begin = time.perf_counter()
        action()
        spent.append(time.perf_counter() - begin)
    return min(spent) if fastest else float(np.median(spent))


def train(kind: str, batch_size: int, repeats: int) -> dict[str, float]:
    """Seconds of the parts of a training step with one kind of encoder."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    context, block = Context(), Training()
    block_of = SENTINEL_2.encoder.model_copy(update={"kind": kind})
    sensor = SENTINEL_2.model_copy(update={"encoder": block_of})
    bands = len(sensor.bands)
    scaling = Normalisation(sensor.bands, np.zeros(bands), np.ones(bands))
    task = EncoderTask(Autoencoder(sensor, context), sensor, context, scaling)
    optimiser = torch.optim.AdamW(
        task.parameters(), lr=block.learning_rate, weight_decay=block.weight_decay
    )
    index = SequenceIndex(random_cubes(), sequence=sensor.sequence, context=context)
    dataset, rng = SensorDataset("sentinel-2", index), np.random.default_rng(1)

    def load() -> Batch:
        return dataset[dataset.draw(rng, batch_size, "benchmark")]

    batch = load()

    def forward() -> torch.Tensor:
        return task(batch)["loss"].mean()

    def step() -> None:
        optimiser.zero_grad()
        forward().backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), block.gradient_clip)
        optimiser.step()

    loader = median_seconds(load, repeats)
    whole = median_seconds(step, repeats)
    ahead = median_seconds(forward, repeats)
    loss = forward()
    back = median_seconds(lambda: loss.backward(retain_graph=True), repeats)
    return {
        "samples_per_s": batch_size / (loader + whole),
        "loader_share": loader / (loader + whole),
        "forward_s": ahead,
        "backward_s": back,
        "optimiser_s": median_seconds(optimiser.step, repeats),
        "step_s": whole,
        "peak_gflops": peak_gflops(),
        "parameters": sum(parameter.numel() for parameter in task.parameters()),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--batch", type=int, default=64, help="samples per step")
    parser.add_argument("--repeats", type=int, default=7, help="steps that are timed")
    arguments = parser.parse_args()
    one_thread()
    costs = {
        kind: measured(train, kind, arguments.batch, arguments.repeats)
        for kind in ("dense", "patch")
    }
    dense, patch = costs["dense"].result, costs["patch"].result
    peak = max(dense.pop("peak_gflops"), patch.pop("peak_gflops"))
    show(
        {
            "samples_per_s": dense["samples_per_s"],
            "peak_gflops": peak,
            "samples_per_peak_gflop": dense["samples_per_s"] / peak,
            "patch_samples_per_s": patch["samples_per_s"],
            "loader_share": dense["loader_share"],
            "threads": 1,
            "batch": arguments.batch,
            "peak_gb": costs["dense"].peak_gb,
            "dense": dense,
            "patch": patch,
        },
        arguments.json,
    )


if __name__ == "__main__":
    main()
