"""Radar frames of a cube before and after the rolling mean over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pipeline_lib.cubes import read_cube
from pipeline_lib.errors import UserError
from pipeline_lib.report.style import COLOURS, INK, bare, drawing

_ORBITS = {"ascending": (COLOURS[0], "^"), "descending": (COLOURS[4], "v")}
_UNKNOWN_ORBIT = (COLOURS[3], "o")


def plot_radar_strip(*, cube: Path, output: Path, dates: int = 6) -> None:
    """Draw consecutive dates of the first band in dB, and the record of the centre pixel.

    Cubes without ``backscatter_unfiltered`` have no row and no dots of single frames. Raises
    UserError if the cube has no frames.
    """
    content = read_cube(cube)
    if not content.sizes["time"]:
        raise UserError(f"{cube}: the cube has no frames to draw")
    content = content.isel(band=0)
    names = {"single frames": "backscatter_unfiltered", "rolling mean": "backscatter"}
    if "backscatter_unfiltered" not in content:
        names = {"as read": "backscatter"}
    layers = {label: decibel(content[name].values) for label, name in names.items()}
    last = list(layers)[-1]
    start = fullest_run(np.isfinite(layers[last]).mean(axis=(1, 2)), dates)
    shown = slice(start, start + dates)
    rows = {label: values[shown] for label, values in layers.items()}
    times, orbits = content["time"].values, orbit_states(content)
    count, side, shape = len(rows[last]), 1.65, content.sizes["y"] / content.sizes["x"]
    pictures = np.concatenate([values.ravel() for values in rows.values()])
    pictures = pictures[np.isfinite(pictures)]
    low, high = np.quantile(pictures, (0.02, 0.98)) if pictures.size else (-25.0, 0.0)
    strip = len(rows) * side * shape + 0.55
    unit = f"{str(content['band'].values).upper()}, dB"
    with drawing(output, width=side * max(count, 4) + 1.6, height=strip + 2.4) as figure:
        upper, lower = figure.subfigures(2, 1, height_ratios=(strip, 2.4), squeeze=False)[:, 0]
        panels = upper.subplots(len(rows), count, squeeze=False)
        for line, (label, values) in zip(panels, rows.items(), strict=True):
            for axes, picture in zip(line, values, strict=True):
                image = axes.imshow(
                    picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest"
                )
                bare(axes)
            line[0].set_ylabel("after rolling mean" if label == "rolling mean" else label)
        for axes, time, orbit in zip(panels[0], times[shown], orbits[shown], strict=True):
            axes.set_title(f"{np.datetime_as_string(time, unit='D')}\n{orbit}")
        upper.colorbar(image, ax=panels, label=unit, shrink=0.9, extend="both")
        axes = lower.subplots()
        axes.axvspan(times[shown][0], times[shown][-1], color="#F0F0F0", label="dates above")
        y, x = (content.sizes[side] // 2 for side in ("y", "x"))
        record = {label: values[:, y, x] for label, values in layers.items()}
        _draw_record(axes, times, orbits, record)
        axes.set_ylabel(unit)


def decibel(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Backscatter in dB, ``10 log10(power)``; NaN where there is no positive power."""
    positive = np.where(power > 0, power, np.nan)
    return (10 * np.log10(positive)).astype(np.float32)


def fullest_run(share: NDArray[np.floating], length: int) -> int:
    """Start of the ``length`` consecutive frames with most values, nearest to the middle.

    ``share`` is the fraction of pixels with a value, ``(time,)``; a shorter record yields 0.
    """
    if len(share) <= length:
        return 0
    sums = np.convolve(share, np.ones(length), mode="valid")
    best = np.flatnonzero(sums >= sums.max() - 1e-6)
    return int(best[np.argmin(np.abs(best - (len(sums) - 1) / 2))])


def orbit_states(content: xr.Dataset) -> NDArray[np.object_]:
    """Orbit direction of each frame, ``(time,)``; ``orbit unknown`` where the cube does not say."""
    if "orbit_state" not in content.coords:
        return np.full(content.sizes["time"], "orbit unknown", dtype=object)
    states = [str(state) for state in content["orbit_state"].values]
    return np.array([s if s in _ORBITS else "orbit unknown" for s in states], dtype=object)


def _draw_record(
    axes: Axes,
    times: NDArray[np.datetime64],
    orbits: NDArray[np.object_],
    record: Mapping[str, NDArray[np.float32]],
) -> None:
    """Draw layers ``(time,)`` of one pixel: single frames as dots by orbit, the last as a line."""
    *single, last = record
    for label in single:
        for state in sorted(set(orbits)):
            colour, marker = _ORBITS.get(state, _UNKNOWN_ORBIT)
            of_orbit = orbits == state
            axes.plot(
                times[of_orbit],
                record[label][of_orbit],
                linestyle="none",
                marker=marker,
                markersize=4,
                color=colour,
                alpha=0.8,
                label=f"{label}, {state}",
            )
    marker = "" if single else "."
    axes.plot(times, record[last], color=INK, linewidth=1.3, marker=marker, label=last)
    axes.grid()
    axes.set_title("Centre pixel", loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0.2)
