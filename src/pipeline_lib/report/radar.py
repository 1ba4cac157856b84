"""Radar frames of a cube before and after the rolling mean over time."""

from __future__ import annotations

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

    Cubes without ``backscatter_unfiltered`` have no row and no dots of single frames.

    Raises UserError if the cube has no frames.
    """
    content = read_cube(cube)
    if not content.sizes["time"]:
        raise UserError(f"{cube}: the cube has no frames to draw")
    content = content.isel(band=0)
    smoothed = decibel(content["backscatter"].values)
    raw = None
    if "backscatter_unfiltered" in content:
        raw = decibel(content["backscatter_unfiltered"].values)
    start = fullest_run(np.isfinite(smoothed).mean(axis=(1, 2)), dates)
    shown = slice(start, start + dates)
    rows = [("after rolling mean" if raw is not None else "as read", smoothed[shown])]
    if raw is not None:
        rows.insert(0, ("single frames", raw[shown]))
    _draw(content, rows=rows, raw=raw, smoothed=smoothed, shown=shown, output=output)


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


def _draw(
    content: xr.Dataset,
    *,
    rows: list[tuple[str, NDArray[np.float32]]],
    raw: NDArray[np.float32] | None,
    smoothed: NDArray[np.float32],
    shown: slice,
    output: Path,
) -> None:
    times = content["time"].values
    orbits = orbit_states(content)
    count = len(rows[0][1])
    side = 1.65
    shape = content.sizes["y"] / content.sizes["x"]
    pictures = np.concatenate([values.ravel() for _, values in rows])
    pictures = pictures[np.isfinite(pictures)]
    low, high = np.quantile(pictures, (0.02, 0.98)) if pictures.size else (-25.0, 0.0)
    strip = len(rows) * side * shape + 0.55
    band = str(content["band"].values).upper()
    with drawing(output, width=side * max(count, 4) + 1.6, height=strip + 2.4) as figure:
        upper, lower = figure.subfigures(2, 1, height_ratios=(strip, 2.4), squeeze=False)[:, 0]
        panels = upper.subplots(len(rows), count, squeeze=False)
        for row, (name, values) in enumerate(rows):
            for column in range(count):
                axes = panels[row, column]
                image = axes.imshow(
                    values[column], cmap="gray", vmin=low, vmax=high, interpolation="nearest"
                )
                bare(axes)
                if row == 0:
                    day = np.datetime_as_string(times[shown][column], unit="D")
                    axes.set_title(f"{day}\n{orbits[shown][column]}")
            panels[row, 0].set_ylabel(name)
        upper.colorbar(image, ax=panels, label=f"{band}, dB", shrink=0.9, extend="both")
        _draw_record(
            lower.subplots(),
            times=times,
            orbits=orbits,
            raw=None if raw is None else _centre(raw),
            smoothed=_centre(smoothed),
            shown=shown,
            band=band,
        )


def orbit_states(content: xr.Dataset) -> NDArray[np.object_]:
    """Orbit direction of each frame, ``(time,)``; ``orbit unknown`` where the cube does not say."""
    if "orbit_state" not in content.coords:
        return np.full(content.sizes["time"], "orbit unknown", dtype=object)
    states = [str(state) for state in content["orbit_state"].values]
    return np.array([s if s in _ORBITS else "orbit unknown" for s in states], dtype=object)


def _centre(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values[:, values.shape[1] // 2, values.shape[2] // 2]


def _draw_record(
    axes: Axes,
    *,
    times: NDArray[np.datetime64],
    orbits: NDArray[np.object_],
    raw: NDArray[np.float32] | None,
    smoothed: NDArray[np.float32],
    shown: slice,
    band: str,
) -> None:
    axes.axvspan(times[shown][0], times[shown][-1], color="#F0F0F0", label="dates above")
    if raw is not None:
        for state in sorted(set(orbits)):
            colour, marker = _ORBITS.get(state, _UNKNOWN_ORBIT)
            of_orbit = orbits == state
            axes.plot(
                times[of_orbit],
                raw[of_orbit],
                linestyle="none",
                marker=marker,
                markersize=4,
                color=colour,
                alpha=0.8,
                label=f"single frames, {state}",
            )
    marker = "." if raw is None else ""
    label = "as read" if raw is None else "rolling mean"
    axes.plot(times, smoothed, color=INK, linewidth=1.3, marker=marker, label=label)
    axes.grid()
    axes.set_ylabel(f"{band}, dB")
    axes.set_title("Centre pixel", loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0.2)
