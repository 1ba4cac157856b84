"""Maps of embeddings as colours: their first three principal components (the paper's Fig. 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from pipeline_lib.cubes import grid_of, read_cube
from pipeline_lib.dataset import read_split
from pipeline_lib.dataset.split import UNUSED
from pipeline_lib.embed import read_embedding, read_manifest, same_model
from pipeline_lib.report.optical import best_of_spans, pick_bands, stretch_limit, true_colour
from pipeline_lib.report.style import ABSENT, INK, MASKED, bare, drawing
from pipeline_lib.seeds import generator

Picture = NDArray[np.float32]

DATES, ROWS = 4, 8
"""Dates in a row, spread over the record of a cube, and rows of the figure of all cubes."""
SAMPLES_PER_CUBE = 20_000

_COLOURS = 3
_STRETCH = (0.02, 0.98)
"""Quantiles of a component that become the darkest and the brightest colour."""


@dataclass(frozen=True)
class ColourBasis:
    """Principal components that become red, green and blue; scores from ``lower`` to ``upper``,
    ``(component,)``, become 0 to 1. There are fewer than three where there are fewer features."""

    components: PCA
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    @property
    def caption(self) -> str:
        """What the colours are, and the explained variance."""
        parts = [f"{100 * part:.0f} %" for part in self.components.explained_variance_ratio_]
        return (
            "principal components 1, 2, 3 of the embeddings as red, green, blue "
            f"({', '.join(parts)} of the variance)"
        )


def pca_basis(samples: NDArray[np.floating]) -> ColourBasis:
    """Components of embeddings ``(sample, feature)``, with the range of their scores.

    The largest loading of a component is positive, so that equal samples yield equal colours.
    """
    values = samples.astype(np.float64)
    components = PCA(min(_COLOURS, *values.shape)).fit(values)
    lower, upper = np.quantile(components.transform(values), _STRETCH, axis=0)
    flat = upper - lower < 1e-12
    return ColourBasis(
        components, np.where(flat, lower - 0.5, lower), np.where(flat, upper + 0.5, upper)
    )


def project_rgb(embedding: NDArray[np.floating], basis: ColourBasis) -> Picture:
    """Red, green, blue and opacity ``(y, x, 4)`` of embeddings ``(feature, y, x)``; transparent
    where an embedding is missing."""
    values = np.moveaxis(embedding, 0, -1).astype(np.float64)
    seen = np.isfinite(values).all(axis=-1)
    picture = np.full((*seen.shape, _COLOURS + 1), 0.5, np.float32)
    picture[..., -1] = seen
    if seen.any():
        scores = basis.components.transform(values[seen])
        scaled = np.clip((scores - basis.lower) / (basis.upper - basis.lower), 0, 1)
        picture[seen, : scaled.shape[1]] = scaled
    return picture


def draw_samples(
    embedding: NDArray[np.floating], count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Embeddings ``(sample, feature)`` drawn from all dates and pixels of
    ``(time, feature, y, x)``, at most ``count``."""
    flat = np.moveaxis(embedding, 1, -1).reshape(-1, embedding.shape[1])
    present = np.flatnonzero(np.isfinite(flat).all(axis=1))
    chosen = rng.choice(present, size=min(count, len(present)), replace=False)
    return np.asarray(flat[np.sort(chosen)], np.float32)


def clearest_dates(
    times: NDArray[np.datetime64], share: NDArray[np.floating], count: int
) -> NDArray[np.intp]:
    """The dates with the highest share in ``count`` equal spans of a record, all dates with a
    share where there are no more; those without one are never chosen."""
    if (share > 0).sum() <= count:
        return np.flatnonzero(share > 0)
    best = best_of_spans(times, count, lambda span: share)
    return np.asarray(best[share[best] > 0])


def choose_cubes(cubes: Mapping[str, tuple[str, str]], count: int) -> list[str]:
    """Names of cubes that show as many land covers, and then splits, as there is room for.

    ``cubes`` holds the land cover and the split of each.
    """
    chosen: list[str] = []
    while len(chosen) < min(count, len(cubes)):
        shown = Counter(part for name in chosen for part in enumerate(cubes[name]))
        others = (name for name in cubes if name not in chosen)
        chosen.append(
            min(others, key=lambda n: (*(shown[part] for part in enumerate(cubes[n])), n))
        )
    return sorted(chosen)


def true_colours(path: Path, times: NDArray[np.datetime64], rgb: Sequence[str]) -> list[Picture]:
    """True colour ``(y, x, 3)`` of some dates of a cube, all in one stretch."""
    cube = pick_bands(read_cube(path), path, rgb).sel(time=times)
    values = cube[cube.attrs["quantity"]].values
    limit = stretch_limit(values, cube["mask"].values)
    return [true_colour(frame, limit) for frame in values]


def plot_pca_maps(
    *,
    embeddings: Mapping[str, Path],
    cubes: Mapping[str, Path],
    split_table: Path,
    rgb: Sequence[str],
    seed: int,
    output: Path,
) -> None:
    """Draw true colour beside the embeddings' principal components, cube by cube.

    Where there are fewer cubes than rows, a cube takes as many rows as there is room for. One
    basis and one stretch, from all cubes, serve the whole figure, so that equal colours mean equal
    embeddings everywhere in it. ``embeddings`` are manifests and ``cubes`` files of the reference
    sensor, whose red, green and blue band is ``rgb``, by cube. Raises UserError if the embeddings
    come from different models.
    """
    split = read_split(split_table)
    samples, products, kinds = [], {}, {}
    for name, manifest in embeddings.items():
        product = read_embedding(manifest.parent)
        rng = generator(seed, name)
        samples.append(draw_samples(product["embedding"].values, SAMPLES_PER_CUBE, rng))
        products[name] = product.drop_vars(list(product.data_vars))
        kinds[name] = (str(product.attrs["land_cover"]), split.get(name, UNUSED))
    same_model(products)
    basis = pca_basis(np.concatenate(samples))
    names = choose_cubes(kinds, ROWS)
    lines = ROWS // len(names)
    shown: list[tuple[str, xr.Dataset, list[Picture]]] = []
    for name in names:
        product = read_embedding(embeddings[name].parent)
        share = np.isfinite(product["reconstruction_error"].values).mean(axis=(1, 2))
        product = product.isel(time=clearest_dates(product["time"].values, share, DATES * lines))
        pictures = true_colours(cubes[name], product["time"].values, rgb)
        for start in range(0, max(1, len(pictures)), DATES):
            part = slice(start, start + DATES)
            label = "" if start else "\n".join((name, *kinds[name]))
            shown.append((label, product.isel(time=part), pictures[part]))
    side = 1.25
    heights = [side * one.sizes["y"] / one.sizes["x"] + 0.25 for _, one, _ in shown]
    caption = (
        f"Left of each pair: {' '.join(rgb)}; right: {basis.caption}.\n"
        "One basis and one stretch for all cubes and dates. Stretch of true colour by cube."
    )
    with drawing(output, width=2 * side * DATES + 1.1, height=sum(heights) + 0.7) as figure:
        panels = figure.subplots(len(shown), 2 * DATES, squeeze=False, height_ratios=heights)
        for axes in panels.flat:
            bare(axes)
        for (label, product, pictures), line in zip(shown, panels, strict=True):
            line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6)
            for column, picture in enumerate(pictures):
                left, right = line[2 * column], line[2 * column + 1]
                _show(left, right, product.isel(time=column), picture, basis)
            for axes in line[2 * len(pictures) :]:
                axes.set_axis_off()
            if label and pictures:
                _scale_bar(line[0], product)
        _legend(figure, caption)


def plot_pca_dates(
    *,
    embeddings: Mapping[str, Path],
    cubes: Mapping[str, Path],
    rgb: Sequence[str],
    output: Path,
) -> None:
    """Draw one cube through its record: true colour, and below it the embeddings as colours.

    The dates are the clearest ones of equal spans of the record, and the cube is the one that has
    the most embeddings on such dates. One basis and one stretch serve all dates. Arguments as of
    `plot_pca_maps`.
    """
    chosen = {name: _fullest_dates(path.parent, DATES) for name, path in sorted(embeddings.items())}
    name = max(chosen, key=lambda cube: chosen[cube][1])
    product = read_embedding(embeddings[name].parent, load=False).isel(time=chosen[name][0]).load()
    pictures = true_colours(cubes[name], product["time"].values, rgb)
    samples = np.moveaxis(product["embedding"].values, 1, -1).reshape(-1, product.sizes["feature"])
    basis = pca_basis(samples[np.isfinite(samples).all(axis=1)])
    grid = grid_of(product)
    extent = (0, grid.width * grid.resolution / 1000, 0, grid.height * grid.resolution / 1000)
    # Wide enough for the caption, whatever the number of dates.
    side = max(2.3, 7.5 / len(pictures))
    width, height = side * len(pictures) + 0.7, 2 * side * grid.height / grid.width
    with drawing(output, width=width, height=height + 1.35) as figure:
        panels = figure.subplots(2, len(pictures), squeeze=False, sharex=True, sharey=True)
        for column, picture in enumerate(pictures):
            date, (above, below) = product.isel(time=column), panels[:, column]
            _show(above, below, date, picture, basis, extent=extent)
            clear = np.isfinite(date["embedding"].values).all(axis=0).mean()
            title = above.get_title("left")
            above.set_title(f"{title}, {100 * clear:.0f} % clear", loc="left")
            below.set_xlabel("km east")
        panels[0, 0].set_ylabel("true colour\nkm north")
        panels[1, 0].set_ylabel("embeddings\nkm north")
        corner = f"{grid.bounds[0]:.0f} E, {grid.bounds[1]:.0f} N, EPSG:{grid.epsg}"
        _legend(
            figure,
            f"{product.attrs['cube']}, kilometres from {corner}. Above: {' '.join(rgb)}.\n"
            f"Below: {basis.caption}.\nOne basis and one stretch for all dates.",
        )


def _fullest_dates(folder: Path, count: int) -> tuple[NDArray[np.intp], int]:
    """Dates of a product to draw, and how many embeddings they have."""
    manifest = read_manifest(folder)
    numbers = np.asarray(manifest["embeddings"])
    chosen = clearest_dates(np.asarray(manifest["times"], "datetime64[s]"), numbers, count)
    return chosen, int(numbers[chosen].sum())


def _show(
    colour: Axes,
    components: Axes,
    date: xr.Dataset,
    picture: Picture,
    basis: ColourBasis,
    **placed: Any,
) -> None:
    """True colour and embeddings of one date, side by side or above each other."""
    colour.set_title(str(np.datetime_as_string(date["time"].values, unit="D")), loc="left")
    colour.imshow(picture, interpolation="nearest", **placed)
    components.patch.set(facecolor=MASKED, hatch="////", edgecolor=ABSENT)
    embedding = project_rgb(date["embedding"].values, basis)
    components.imshow(embedding, interpolation="nearest", **placed)


def _scale_bar(axes: Axes, product: xr.Dataset) -> None:
    """A bar of a round length, about a third of the picture wide."""
    grid = grid_of(product)
    metres = grid.resolution * grid.width / 3
    unit = 10 ** np.floor(np.log10(metres))
    length = unit * max(step for step in (1, 2, 5) if step * unit <= metres)
    y, start = grid.height * 0.93, grid.width * 0.06
    ends = [start, start + length / grid.resolution]
    for colour, width in (("white", 3.2), (INK, 1.4)):
        axes.plot(ends, [y, y], color=colour, linewidth=width, solid_capstyle="butt")
    axes.text(
        start,
        y - grid.height * 0.04,
        f"{length:g} m",
        fontsize=6.5,
        va="bottom",
        bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.8, "linewidth": 0},
    )


def _legend(figure: Figure, caption: str) -> None:
    masked = Patch(facecolor=MASKED, edgecolor=ABSENT, hatch="////", label="no embedding")
    figure.legend(
        handles=[masked], loc="outside lower center", title=caption, title_fontsize=8, ncols=1
    )
