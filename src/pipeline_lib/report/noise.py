"""How far the noise of each sensor reaches in space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from pipeline_lib.dataset.noise import LEAST_CORRELATION, MAX_DISTANCE_PX, Noise
from pipeline_lib.report.style import COLOURS, MUTED, drawing


def plot_noise(*, noise: Mapping[str, Path], output: Path) -> None:
    """Draw the correlation of noise by distance, a line for each sensor that has been measured.

    ``noise`` is sensor -> the file of `dataset.measure_noise`.
    """
    with drawing(output, width=6, height=2.8) as figure:
        axes = figure.subplots()
        for number, (sensor, path) in enumerate(sorted(noise.items())):
            correlation = Noise.read(path).correlation
            label = sensor if len(correlation) else f"{sensor}: not measured"
            axes.plot(correlation, marker=".", color=COLOURS[number % len(COLOURS)], label=label)
        axes.axhline(LEAST_CORRELATION, color=MUTED, linestyle=":")
        axes.set_xlim(0, MAX_DISTANCE_PX)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("distance (px)")
        axes.set_ylabel("correlation")
        axes.grid()
        axes.legend(loc="upper right")
