"""Speed of the dense export, beside single patches and the machine's peak, and how it grows.

Cubes and models are invented: default widths, the paper's latents, random weights, no cloud, so
that every pixel of every date has an embedding. What is timed is the export as the workflow runs
it, from the cubes' files to the finished store. The process is held on one core: its threads for
reading and writing get no other.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from invented import REFERENCE, SENSORS, Scene, sensors_of, write_cubes, write_models
from measure import measured, one_thread, show

from pipeline_lib.config import Embed
from pipeline_lib.embed import embed_cube, read_manifest
from pipeline_lib.embed.arrays import Frames
from pipeline_lib.embed.store import TileStore
from pipeline_lib.models import Fusion, load_encoder, load_fusion
from pipeline_lib.models.decoder import Decoder
from pipeline_lib.models.encoder import SensorEncoder
from pipeline_lib.report.style import COLOURS, MUTED, drawing

MATRIX = 2048
PATCHES = (16, 64)
"""Single patches computed together; the faster counts."""
PATCH_SECONDS = 3.0
DATES_OF_A_YEAR = 60
GROWTH = {
    "pixels": [Scene(side, 15) for side in (128, 256, 512)],
    "dates": [Scene(64, dates) for dates in (8, 32, 128)],
    "sensors": [1, 4, 16],
}
"""Sizes over a factor of 16 each."""
SMALL = Scene(64, 15)
PARTS = {
    "reading": [(Frames, "crop")],
    "frame features": [(SensorEncoder, "frame_features")],
    "temporal heads": [(SensorEncoder, "latent")],
    "fusion": [(Fusion, "fuse"), (Fusion, "split")],
    "centre decoded": [(Decoder, "centre")],
    "writing": [(TileStore, "write")],
}


def peak_gflops() -> float:
    """Speed of torch's product of two float32 matrices, the best of some."""
    a, b = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * MATRIX**3 / min(seconds) / 1e9


def hold_on_one_core() -> None:
    """Keep this process and its threads on one core."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def prepare(folder: Path, count: int, scene: Scene) -> None:
    """Write models and cubes of as many sensors."""
    sensors = SENSORS if count == len(SENSORS) else sensors_of(count)
    write_models(folder / "models", sensors)
    folder.joinpath("cubes").mkdir(exist_ok=True)
    write_cubes(folder / "cubes", sensors, scene)


def export(folder: Path) -> dict[str, Any]:
    """Export what `prepare` wrote; seconds, embeddings and seconds of a core by part."""
    hold_on_one_core()
    names = sorted(path.name for path in (folder / "models").iterdir() if path.name != "fusion")
    peaks = [peak_gflops()]
    parts = _clocked()
    start = time.perf_counter()
    embed_cube(
        cube="invented",
        cubes={name: folder / "cubes" / f"{name}.zarr.zip" for name in names},
        encoders={name: folder / "models" / name for name in names},
        fusion=folder / "models" / "fusion",
        embed=Embed(),
        state=folder / "state",
        output=folder / "output",
        config_digest="none",
    )
    seconds = time.perf_counter() - start
    peaks.append(peak_gflops())
    return {
        "seconds": seconds,
        "embeddings": sum(read_manifest(folder / "output")["embeddings"]),
        "parts": dict(parts),
        "peaks": peaks,
    }


def _clocked() -> dict[str, float]:
    """Count the core's seconds inside the parts of an export from now on."""
    spent: dict[str, float] = defaultdict(float)

    def clocked(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*arguments, **more)
            finally:
                spent[part] += time.thread_time() - start

        return call

    for part, functions in PARTS.items():
        for owner, name in functions:
            setattr(owner, name, clocked(part, getattr(owner, name)))
    return spent


@torch.inference_mode()
def patchwise(folder: Path) -> float:
    """Fused embeddings per second where each is computed from its own patches."""
    hold_on_one_core()
    fusion = load_fusion(folder / "models" / "fusion")
    encoders = {name: load_encoder(folder / "models" / name) for name in fusion.encoders}
    return max(_patches_per_second(fusion, encoders, count) for count in PATCHES)


def _patches_per_second(fusion: Any, encoders: Mapping[str, Any], count: int) -> float:
    days = torch.arange(-5.0, 6.0).expand(count, -1)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < PATCH_SECONDS:
        latents = {}
        for name, trained in encoders.items():
            shape = (count, 11, len(trained.sensor.bands), 15, 15)
            values, valid = torch.rand(shape), torch.ones(count, 11, 15, 15, dtype=torch.bool)
            latents[name] = trained.autoencoder.encoder(values, valid, days)
        offsets = {name: torch.zeros(count) for name in latents}
        present = {name: torch.ones(count, dtype=torch.bool) for name in latents}
        back = fusion.fusion.split(fusion.fusion.fuse(latents, offsets, present))
        encoders[REFERENCE].autoencoder.decoder.centre(back[REFERENCE])
        done += count
    return done / (time.perf_counter() - start)


def run(size: int, dates: int) -> dict[str, Any]:
    """The table of this benchmark, but for the growth."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured(prepare, folder / "both", 2, Scene(size, dates))
        both = measured(export, folder / "both")
        measured(prepare, folder / "one", 1, Scene(min(size, 128), dates))
        one = measured(export, folder / "one").result
        single = measured(patchwise, folder / "both").result
    found = both.result
    fused = found["embeddings"] / found["seconds"]
    peak = float(np.mean(found["peaks"]))
    core = sum(found["parts"].values())
    return {
        "s2_embeddings_per_s": one["embeddings"] / one["seconds"],
        "fused_embeddings_per_s": fused,
        "peak_gflops": peak,
        "fused_embeddings_per_peak_gflop": fused / peak,
        "patchwise_per_s": single,
        "ratio": fused / single,
        "pixel_year_ms": 1e3 * DATES_OF_A_YEAR / fused,
        "peak_gb": both.peak_gb,
        "embeddings": found["embeddings"],
        "seconds": found["seconds"],
        "shares": {part: seconds / core for part, seconds in found["parts"].items()},
    }


def growth() -> list[dict[str, Any]]:
    """Seconds of exports over a factor of 16 in pixels, dates and sensors."""
    rows = []
    for kind, sizes in GROWTH.items():
        for given in sizes:
            scene, count = (SMALL, given) if kind == "sensors" else (given, 2)
            with tempfile.TemporaryDirectory() as name:
                measured(prepare, Path(name), count, scene)
                made = measured(export, Path(name))
            amount = {"pixels": scene.pixels**2, "dates": scene.dates, "sensors": count}[kind]
            found = made.result
            rows.append(
                {
                    "kind": kind,
                    "amount": amount,
                    "seconds": found["seconds"],
                    "us_per_embedding": 1e6 * found["seconds"] / found["embeddings"],
                    "peak_gb": made.peak_gb,
                }
            )
    return rows


def draw(result: dict[str, Any], path: Path) -> None:
    """Where the time goes, and seconds over pixels, dates and sensors."""
    with drawing(path, width=10.5, height=2.9) as figure:
        axes = figure.subplots(1, 4, width_ratios=(1.25, 1, 1, 1))
        shares = dict(reversed(result["shares"].items()))
        bars = axes[0].barh(list(shares), [100 * share for share in shares.values()])
        axes[0].bar_label(bars, fmt="%.0f", padding=2)
        axes[0].set(xlabel="share of the core's time, %", title="Where the time goes")
        axes[0].margins(x=0.15)
        for axis, kind in zip(axes[1:], GROWTH, strict=True):
            rows = [row for row in result["growth"] if row["kind"] == kind]
            amounts = np.array([row["amount"] for row in rows])
            seconds = np.array([row["seconds"] for row in rows])
            axis.loglog(amounts, seconds, "o-", color=COLOURS[0], label="measured")
            straight = seconds[-1] * amounts / amounts[-1]
            axis.loglog(amounts, straight, "--", color=MUTED, label="in proportion")
            axis.set(xlabel=kind, ylabel="export, s", title=f"Growth with {kind}")
            axis.set_xticks(amounts, [f"{amount:,}" for amount in amounts])
            axis.minorticks_off()
        axes[1].legend(loc="upper left")


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--size", type=int, default=512, help="side of the area, pixels")
    parser.add_argument("--dates", type=int, default=60, help="dates of either sensor")
    parser.add_argument("--figure", type=Path, help="also measure the growth, and draw it here")
    arguments = parser.parse_args()
    one_thread()
    result = run(arguments.size, arguments.dates)
    if arguments.figure:
        result["growth"] = growth()
        draw(result, arguments.figure)
    show(result, arguments.json)


if __name__ == "__main__":
    main()
