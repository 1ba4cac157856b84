"""Maps of embeddings as colours: their first three principal components (the paper's Fig. 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from pipeline_lib.cubes import grid_of, read_cube
from pipeline_lib.dataset import read_split
from pipeline_lib.dataset.split import UNUSED
from pipeline_lib.embed import read_embedding, read_manifest, same_model
from pipeline_lib.errors import UserError
from pipeline_lib.report.optical import stretch_limit, true_colour
from pipeline_lib.report.style import ABSENT, INK, MASKED, drawing
from pipeline_lib.seeds import generator

_COLOURS = 3
_STRETCH = (0.02, 0.98)
"""Quantiles of a component that become the darkest and the brightest colour."""


@dataclass(frozen=True)
class ColourBasis:
    """One set of colours for embeddings of all places and dates.

    Attributes
    ----------
    mean
        ``(feature,)``.
    components
        ``(3, feature)``, orthonormal, by falling variance; zeros where there are fewer
        than three features.
    lower, upper
        ``(3,)``, scores that become 0 and 1.
    explained
        ``(3,)``, share of the variance, 0..1.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    explained: NDArray[np.float64]


def pca_basis(samples: NDArray[np.floating]) -> ColourBasis:
    """Principal components of embeddings, with the range of their scores.

    The sign of a component is fixed by its largest loading, which is positive, so that
    equal samples always yield equal colours.

    Parameters
    ----------
    samples
        ``(sample, feature)``, finite, two samples at least.

    Raises
    ------
    ValueError
        If there are fewer than two samples.
    """
    if len(samples) < 2:
        raise ValueError("principal components need two samples at least")
    values = samples.astype(np.float64)
    mean = values.mean(axis=0)
    variance, vectors = np.linalg.eigh(np.atleast_2d(np.cov(values, rowvar=False)))
    found = vectors.T[::-1][:_COLOURS]
    largest = np.abs(found).argmax(axis=1)
    found = found * np.sign(found[np.arange(len(found)), largest])[:, None]
    components = np.zeros((_COLOURS, values.shape[1]))
    components[: len(found)] = found
    explained = np.zeros(_COLOURS)
    explained[: len(found)] = variance[::-1][:_COLOURS] / max(variance.sum(), np.finfo(float).tiny)
    lower, upper = np.quantile((values - mean) @ components.T, _STRETCH, axis=0)
    flat = upper - lower < 1e-12
    return ColourBasis(
        mean=mean,
        components=components,
        lower=np.where(flat, lower - 0.5, lower),
        upper=np.where(flat, upper + 0.5, upper),
        explained=explained,
    )


def project_rgb(embedding: NDArray[np.floating], basis: ColourBasis) -> NDArray[np.float32]:
    """Colours of embeddings.

    Parameters
    ----------
    embedding
        ``(feature, y, x)``.
    basis
        The colours' basis.

    Returns
    -------
    picture
        ``(y, x, 4)``, red, green, blue and opacity; transparent where an embedding is missing.
    """
    values = np.moveaxis(embedding, 0, -1).astype(np.float64)
    scores = (values - basis.mean) @ basis.components.T
    colours = np.clip((scores - basis.lower) / (basis.upper - basis.lower), 0, 1)
    seen = np.isfinite(values).all(axis=-1, keepdims=True)
    return np.concatenate([np.where(seen, colours, 0), seen], axis=-1).astype(np.float32)


def draw_samples(
    embedding: NDArray[np.floating], count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw embeddings from all dates and pixels at once.

    Parameters
    ----------
    embedding
        ``(time, feature, y, x)``, NaN where missing.
    count
        Most samples.
    rng
        Source of randomness.

    Returns
    -------
    samples
        ``(sample, feature)``.
    """
    flat = np.moveaxis(embedding, 1, -1).reshape(-1, embedding.shape[1])
    present = np.flatnonzero(np.isfinite(flat).all(axis=1))
    chosen = rng.choice(present, size=min(count, len(present)), replace=False)
    return np.asarray(flat[np.sort(chosen)], np.float32)


def clearest_dates(
    times: NDArray[np.datetime64], share: NDArray[np.floating], count: int
) -> NDArray[np.intp]:
    """The date with the highest share in each of ``count`` equal spans of a record.

    All dates with a share, where there are no more than ``count``.

    Parameters
    ----------
    times, share
        ``(time,)`` each; dates whose share is 0 are not chosen.

    Returns
    -------
    Increasing indexes into ``times``, at most ``count``.
    """
    shown = np.flatnonzero(share > 0)
    if len(shown) <= count:
        return shown
    stamps = times.astype("datetime64[s]").astype(np.int64)
    edges = np.linspace(stamps[0], stamps[-1] + 1, count + 1)
    span = np.searchsorted(edges, stamps, side="right") - 1
    best = [
        inside[np.argmax(share[inside])]
        for inside in (np.flatnonzero((span == index) & (share > 0)) for index in range(count))
        if len(inside)
    ]
    return np.asarray(best, dtype=np.intp)


def choose_cubes(cubes: Mapping[str, tuple[str, str]], count: int) -> list[str]:
    """Cubes that show as many land covers, and then splits, as there is room for.

    Parameters
    ----------
    cubes
        Land cover and split of each cube.
    count
        Most cubes.

    Returns
    -------
    names
        Sorted; the same for equal arguments.
    """
    chosen: list[str] = []
    while len(chosen) < min(count, len(cubes)):
        shown = Counter(part for name in chosen for part in enumerate(cubes[name]))
        left = (name for name in cubes if name not in chosen)
        chosen.append(min(left, key=lambda n: (*(shown[part] for part in enumerate(cubes[n])), n)))
    return sorted(chosen)


@dataclass(frozen=True)
class _Row:
    """One cube of the figure: its label, and pictures of the chosen dates."""

    label: str
    dates: list[str]
    pictures: list[NDArray[np.float32]]
    embeddings: NDArray[np.float32]
    extent_m: float
    aspect: float


def plot_pca_maps(
    *,
    embeddings: Mapping[str, Path],
    cubes: Mapping[str, Path],
    split_table: Path,
    rgb: tuple[str, str, str],
    seed: int,
    output: Path,
    dates: int = 4,
    rows: int = 8,
    samples_per_cube: int = 20_000,
) -> None:
    """Draw true colour beside the embeddings' principal components, cube by cube.

    Where there are fewer cubes than rows, a cube takes as many rows as there is room for.

    One basis and one stretch, from all cubes, serve the whole figure, so that equal colours
    mean equal embeddings everywhere in it.

    Parameters
    ----------
    embeddings
        Folder of each cube's embeddings.
    cubes
        The reference sensor's cube file of each of them.
    split_table
        Table with the split of each cube.
    rgb
        Red, green and blue band of the reference sensor.
    seed
        Seed of the samples that the basis is computed from.
    output
        PNG file to write.
    dates
        Dates in a row, spread over the cube's record.
    rows
        Rows of the figure; cubes of differing land cover and split come first.
    samples_per_cube
        Embeddings of each cube that the basis is computed from.

    Raises
    ------
    UserError
        If the embeddings come from different models, or are unfinished or damaged.
    """
    if not embeddings:
        raise UserError(f"{output}: there are no embeddings to draw")
    split = read_split(split_table)
    samples, products, kinds = [], {}, {}
    for name, folder in embeddings.items():
        product = read_embedding(folder)
        rng = generator(seed, name)
        samples.append(draw_samples(product["embedding"].values, samples_per_cube, rng))
        products[name] = product.drop_vars(list(product.data_vars))
        kinds[name] = (str(product.attrs["land_cover"]), split.get(name, UNUSED))
    same_model(products)
    names = choose_cubes(kinds, rows)
    shown = dates * (rows // len(names))
    chosen = []
    for name in names:
        label = "\n".join((name, *kinds[name]))
        row = _row(label, cubes[name], read_embedding(embeddings[name]), shown, rgb)
        chosen += _lines(row, dates)
    _draw(chosen, pca_basis(np.concatenate(samples)), columns=dates, rgb=rgb, output=output)


def plot_pca_dates(
    *,
    embeddings: Mapping[str, Path],
    cubes: Mapping[str, Path],
    rgb: tuple[str, str, str],
    output: Path,
    dates: int = 4,
) -> None:
    """Draw one cube through its record: true colour, and below it the embeddings as colours.

    The dates are the clearest ones of equal spans of the record, and the cube is the one that
    has the most embeddings on such dates. One basis and one stretch, from all embeddings that
    are shown, serve all dates.

    Parameters
    ----------
    embeddings
        Folder of each cube's embeddings.
    cubes
        The reference sensor's cube file of each of them.
    rgb
        Red, green and blue band of the reference sensor.
    output
        PNG file to write.
    dates
        Most dates.

    Raises
    ------
    UserError
        If there are no embeddings, or if those of the cube are unfinished or damaged.
    """
    if not embeddings:
        raise UserError(f"{output}: there are no embeddings to draw")
    chosen = {name: _fullest_dates(folder, dates) for name, folder in sorted(embeddings.items())}
    name = max(chosen, key=lambda cube: chosen[cube][1])
    product = read_embedding(embeddings[name], load=False).isel(time=chosen[name][0]).load()
    pictures = true_colours(cubes[name], product, rgb)
    flat = np.moveaxis(product["embedding"].values, 1, -1).reshape(-1, product.sizes["feature"])
    basis = pca_basis(flat[np.isfinite(flat).all(axis=1)])
    _draw_dates(product, pictures, basis, rgb=rgb, output=output)


def _fullest_dates(folder: Path, count: int) -> tuple[NDArray[np.intp], int]:
    """Dates of a product to draw, and how many embeddings they have."""
    manifest = read_manifest(folder)
    numbers = np.asarray(manifest["embeddings"])
    chosen = clearest_dates(np.asarray(manifest["times"], "datetime64[s]"), numbers, count)
    return chosen, int(numbers[chosen].sum())


def _lines(row: _Row, length: int) -> list[_Row]:
    """Cut a row that is too long; only the first part keeps the label."""
    cuts = range(0, max(1, len(row.dates)), length)
    return [
        replace(
            row,
            label="" if start else row.label,
            dates=row.dates[start : start + length],
            pictures=row.pictures[start : start + length],
            embeddings=row.embeddings[start : start + length],
        )
        for start in cuts
    ]


def _row(label: str, path: Path, product: xr.Dataset, dates: int, rgb: Sequence[str]) -> _Row:
    share = np.isfinite(product["reconstruction_error"].values).mean(axis=(1, 2))
    product = product.isel(time=clearest_dates(product["time"].values, share, dates))
    grid = grid_of(product)
    return _Row(
        label=label,
        dates=[np.datetime_as_string(time, unit="D") for time in product["time"].values],
        pictures=true_colours(path, product, rgb),
        embeddings=product["embedding"].values,
        extent_m=grid.resolution * grid.width,
        aspect=grid.height / grid.width,
    )


def true_colours(path: Path, product: xr.Dataset, rgb: Sequence[str]) -> list[NDArray[np.float32]]:
    """True colour of a product's dates, all in one stretch.

    Parameters
    ----------
    path
        The reference sensor's cube.
    product
        Its embeddings, of which only the dates are looked at.
    rgb
        Red, green and blue band.

    Returns
    -------
    pictures
        ``(y, x, 3)`` of each date.

    Raises
    ------
    UserError
        If the cube lacks a band.
    """
    cube = read_cube(path)
    missing = sorted(set(rgb) - {str(band) for band in cube["band"].values})
    if missing:
        raise UserError(f"{path}: no band {missing[0]!r} for a picture; mend `rgb` of its sensor")
    cube = cube.sel(band=list(rgb), time=product["time"].values)
    values = cube[cube.attrs["quantity"]].values
    limit = stretch_limit(values, cube["mask"].values)
    return [true_colour(frame, limit) for frame in values]


def _draw(
    rows: Sequence[_Row], basis: ColourBasis, *, columns: int, rgb: Sequence[str], output: Path
) -> None:
    side = 1.25
    caption = (
        f"Left of each pair: {' '.join(rgb)}; right: {_legend_of(basis)}.\n"
        "One basis and one stretch for all cubes and dates. Stretch of true colour by cube."
    )
    heights = [side * row.aspect + 0.25 for row in rows]
    with drawing(output, width=2 * side * columns + 1.1, height=sum(heights) + 0.7) as figure:
        panels = figure.subplots(len(rows), 2 * columns, squeeze=False, height_ratios=heights)
        for axes in panels.flat:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        for row, line in zip(rows, panels, strict=True):
            _draw_row(row, line, basis)
        _legend(figure, caption)


def _draw_row(row: _Row, line: NDArray[np.object_], basis: ColourBasis) -> None:
    line[0].set_ylabel(row.label, rotation=0, ha="right", va="center", labelpad=6)
    for column, date in enumerate(row.dates):
        left, right = line[2 * column], line[2 * column + 1]
        left.set_title(date, loc="left")
        left.imshow(row.pictures[column], interpolation="nearest")
        right.patch.set(facecolor=MASKED, hatch="////", edgecolor=ABSENT)
        right.imshow(project_rgb(row.embeddings[column], basis), interpolation="nearest")
    for axes in line[2 * len(row.dates) :]:
        axes.set_axis_off()
    if row.label and row.dates:
        _scale_bar(line[0], row)


def _draw_dates(
    product: xr.Dataset,
    pictures: Sequence[NDArray[np.float32]],
    basis: ColourBasis,
    *,
    rgb: Sequence[str],
    output: Path,
) -> None:
    grid, embeddings = grid_of(product), product["embedding"].values
    extent = (0, grid.width * grid.resolution / 1000, 0, grid.height * grid.resolution / 1000)
    # Wide enough for the caption, whatever the number of dates.
    side = max(2.3, 7.5 / len(pictures))
    width, height = side * len(pictures) + 0.7, 2 * side * grid.height / grid.width
    with drawing(output, width=width, height=height + 1.35) as figure:
        panels = figure.subplots(2, len(pictures), squeeze=False, sharex=True, sharey=True)
        for (above, below), time, picture, embedding in zip(
            panels.T, product["time"].values, pictures, embeddings, strict=True
        ):
            clear = np.isfinite(embedding).all(axis=0).mean()
            day = np.datetime_as_string(time, unit="D")
            above.set_title(f"{day}, {100 * clear:.0f} % clear", loc="left")
            above.imshow(picture, extent=extent, interpolation="nearest")
            below.patch.set(facecolor=MASKED, hatch="////", edgecolor=ABSENT)
            colours = project_rgb(embedding, basis)
            below.imshow(colours, extent=extent, interpolation="nearest")
            below.set_xlabel("km east")
        panels[0, 0].set_ylabel("true colour\nkm north")
        panels[1, 0].set_ylabel("embeddings\nkm north")
        corner = f"{grid.bounds[0]:.0f} E, {grid.bounds[1]:.0f} N, EPSG:{grid.epsg}"
        _legend(
            figure,
            f"{product.attrs['cube']}, kilometres from {corner}. Above: {' '.join(rgb)}.\n"
            f"Below: {_legend_of(basis)}.\nOne basis and one stretch for all dates.",
        )


def _legend_of(basis: ColourBasis) -> str:
    share = ", ".join(f"{100 * part:.0f} %" for part in basis.explained)
    return (
        "principal components 1, 2, 3 of the embeddings as red, green, blue "
        f"({share} of the variance)"
    )


def _scale_bar(axes: Axes, row: _Row) -> None:
    """A bar of a round length, about a third of the picture wide."""
    height, width = row.pictures[0].shape[:2]
    metres = row.extent_m / 3
    unit = 10 ** np.floor(np.log10(metres))
    length = unit * max(step for step in (1, 2, 5) if step * unit <= metres)
    pixels = length / row.extent_m * width
    y, start = height * 0.93, width * 0.06
    axes.plot([start, start + pixels], [y, y], color="white", linewidth=3.2, solid_capstyle="butt")
    axes.plot([start, start + pixels], [y, y], color=INK, linewidth=1.4, solid_capstyle="butt")
    axes.text(
        start,
        y - height * 0.04,
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
