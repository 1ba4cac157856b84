"""Optical frames of a cube through the year: before correction, mask, after correction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.colors import BoundaryNorm, ListedColormap, to_rgb
from matplotlib.patches import Patch
from numpy.typing import NDArray

from pipeline_lib.cubes import CLEAR, grid_of, read_cube
from pipeline_lib.errors import UserError
from pipeline_lib.report.style import ABSENT, INK, MASKED, bare, drawing

_MASK_COLOURS = ("#CFE8CF", "#0072B2", "#56B4E9", "#5B3A29", ABSENT)
_MASK_NAMES = ("clear", "thick cloud", "thin cloud", "cloud shadow", "no data")
_GAMMA = 0.6
"""Brightens the dark end of a picture, where most of the land's reflectance lies."""


def plot_optical_strip(*, cube: Path, rgb: Sequence[str], output: Path, dates: int = 6) -> None:
    """Draw a strip of dates: true colour before correction, mask, true colour after it.

    Before the BRDF correction is reflectance divided by the mean c-factor of the frame; after
    it, all but clear pixels are grey. Cubes without the coordinate ``c_factor`` have two rows,
    true colour as read and the mask.

    Raises UserError if the cube has no such band or no frames.
    """
    content = read_cube(cube)
    if not content.sizes["time"]:
        raise UserError(f"{cube}: the cube has no frames to draw")
    clear = (content["mask"] == CLEAR).mean(("y", "x")).values
    chosen = content.isel(time=spread_dates(content["time"].values, clear, dates))
    colours = pick_bands(chosen, cube, rgb)
    corrected = colours["reflectance"].values
    mask = colours["mask"].values
    upper = stretch_limit(corrected, mask)
    pictures = {"as read": true_colour(corrected, upper)}
    if "c_factor" in colours.coords:
        factor = colours["c_factor"].transpose("time", "band").values[:, :, None, None]
        seen = true_colour(corrected, upper)
        seen[mask != CLEAR] = to_rgb(MASKED)
        before = true_colour(corrected / factor, upper)
        pictures = {"before BRDF\ncorrection": before, "corrected to nadir,\nmasked grey": seen}
    count, height, width = mask.shape
    side = 1.65
    size = (side * max(count, 4) + 0.9, (len(pictures) + 1) * side * height / width + 1.25)
    classes = ListedColormap(_MASK_COLOURS)
    bounds = BoundaryNorm(np.arange(-0.5, len(_MASK_NAMES)), classes.N)
    with drawing(output, width=size[0], height=size[1]) as figure:
        panels = figure.subplots(len(pictures) + 1, count, squeeze=False)
        for line, (label, frames) in zip(panels[::2], pictures.items(), strict=True):
            line[0].set_ylabel(label)
            for axes, picture in zip(line, frames, strict=True):
                axes.imshow(picture, interpolation="nearest")
        panels[1, 0].set_ylabel("mask")
        for column, day in enumerate(np.datetime_as_string(chosen["time"].values, unit="D")):
            share = 100 * float((mask[column] == CLEAR).mean())
            panels[0, column].set_title(f"{day}\n{share:.0f} % clear")
            panels[1, column].imshow(
                mask[column], cmap=classes, norm=bounds, interpolation="nearest"
            )
            if len(pictures) > 1:
                red = float(chosen["c_factor"].isel(time=column).sel(band=rgb[0]))
                panels[2, column].set_xlabel(f"c-factor {rgb[0]} {red:.3f}")
        for axes in panels.flat:
            bare(axes)
        figure.legend(
            handles=[
                Patch(facecolor=colour, edgecolor=INK, linewidth=0.4, label=name)
                for colour, name in zip(_MASK_COLOURS, _MASK_NAMES, strict=True)
            ],
            loc="outside lower center",
            ncols=len(_MASK_NAMES),
            title=(
                f"Panels are {grid_of(chosen).resolution * width:,.0f} m wide; reflectance 0 to "
                f"{upper:.2f}, gamma {_GAMMA:g}, the same for all"
            ),
            title_fontsize=8,
        )


def pick_bands(cube: xr.Dataset, path: Path, rgb: Sequence[str]) -> xr.Dataset:
    """The bands of a cube that a picture is made of. Raises UserError if it lacks one."""
    missing = sorted(set(rgb) - {str(band) for band in cube["band"].values})
    if missing:
        raise UserError(f"{path}: no band {missing[0]!r} for a picture; fix `rgb` of its sensor")
    return cube.sel(band=list(rgb))


def spread_dates(
    times: NDArray[np.datetime64], clear: NDArray[np.floating], count: int
) -> NDArray[np.intp]:
    """Dates spread over a record, most of them clear and every third one half cloudy.

    ``clear`` is the clear fraction of each date; see `best_of_spans`.
    """
    return best_of_spans(
        times, count, lambda span: -np.abs(clear - 0.5) if span % 3 == 1 else clear
    )


def best_of_spans(
    times: NDArray[np.datetime64], count: int, merit: Callable[[int], NDArray[np.floating]]
) -> NDArray[np.intp]:
    """The date ``(time,)`` with most merit in each of ``count`` equal spans of a record, as
    increasing indexes. Spans without dates have none."""
    stamps = times.astype("datetime64[s]").astype(np.int64)
    edges = np.linspace(stamps[0], stamps[-1] + 1, count + 1)
    span = np.searchsorted(edges, stamps, side="right") - 1
    inside = [np.flatnonzero(span == index) for index in range(count)]
    chosen = [own[np.argmax(merit(index)[own])] for index, own in enumerate(inside) if len(own)]
    return np.asarray(chosen, dtype=np.intp)


def stretch_limit(values: NDArray[np.float32], mask: NDArray[np.uint8]) -> float:
    """Reflectance that is drawn white: the 99.5th percentile of clear pixels, 0.1 at least.

    Values are ``(time, band, y, x)``, the mask ``(time, y, x)``.
    """
    clear = np.moveaxis(values, 1, -1)[mask == CLEAR]
    clear = clear[np.isfinite(clear)]
    return max(0.1, float(np.quantile(clear, 0.995))) if clear.size else 1.0


def true_colour(values: NDArray[np.float32], upper: float) -> NDArray[np.float32]:
    """Picture ``(..., y, x, 3)`` of reflectance ``(..., 3, y, x)``, light grey where missing."""
    scaled = np.clip(np.moveaxis(values, -3, -1) / upper, 0, 1) ** _GAMMA
    missing = ~np.isfinite(scaled).all(axis=-1)
    scaled[missing] = to_rgb(ABSENT)
    return scaled.astype(np.float32)
