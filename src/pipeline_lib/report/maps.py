"""How smooth and how sharp the maps are, as tables and as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import SubFigure
from numpy.typing import NDArray

from pipeline_lib.cubes import grid_of
from pipeline_lib.embed import read_embedding
from pipeline_lib.evaluate.map_features import Scaling, observe
from pipeline_lib.evaluate.map_scores import Classes, Mask, Values, boundaries
from pipeline_lib.evaluate.probe_scores import NEAREST_TARGETS
from pipeline_lib.evaluate.probe_targets import Truth
from pipeline_lib.files import read_json
from pipeline_lib.report.pca import pca_basis, project_rgb, true_colours
from pipeline_lib.report.probes import METRICS, PROBES, TARGETS, set_colour, set_label
from pipeline_lib.report.style import ABSENT, INK, MASKED, MUTED, drawing
from pipeline_lib.report.tables import SPLITS, Table, number

SHOWN = ("test", "validation")
"""Splits in the order of preference for the pictures."""
WINDOW_PX = 32
"""Side of the pictures: pixels can be told apart."""
NUMBERS = {
    "noise": "noise",
    "spread": "spread",
    "noise_to_spread": "noise / spread",
    "step": "step",
    "inner_step": "step within a class",
    "contrast": "contrast",
    "edge_norms": "edge: sizes",
    "edge_share": "edge: share",
}
_IN_TIME = 3
_PANELS = {
    "noise": ("noise in time", "standard deviations", ()),
    "step": ("step to the next pixel", "standard deviations", ()),
    "inner_step": ("step within a class", "standard deviations", ()),
    "contrast": ("contrast of boundaries", "ratio", ((1.0, "no edge"),)),
    "edge_norms": ("edge: sizes of steps", "ratio", ((1.0, "sharp"), (0.2, "slope"))),
    "edge_share": ("edge: share of the step", "ratio", ((1.0, "sharp"), (0.2, "slope"))),
}
"""Number -> title, unit and lines to go by."""


def _label(features: str) -> str:
    return "bands" if features == "spectrum" else set_label(features)


def map_tables(maps: Mapping[str, Any], probes: Mapping[str, Any] | None) -> tuple[Table, ...]:
    """Smoothness and edges by split and set of features, their counts, and what is left out.

    Parameters
    ----------
    maps
        ``evaluation/maps.json``.
    probes
        ``evaluation/probes-fusion.json``, whose scores of `NEAREST_TARGETS` are told beside, if
        known.
    """
    splits = {split: maps["splits"][split] for split in SPLITS if split in maps["splits"]}
    targets = {split: _scored(probes, split) for split in splits}
    metrics = {name: one["metric"] for found in targets.values() for name, one in found.items()}
    told = [(name, kind) for name in metrics for kind in PROBES]
    rows = tuple(
        (
            split,
            f"{_label(features)} ({numbers['features']})",
            *(number(numbers[name]) for name in NUMBERS),
            *(
                number(targets[split].get(name, {}).get(kind, {}).get(features))
                for name, kind in told
            ),
        )
        for split, part in splits.items()
        for features, numbers in part["sets"].items()
    )
    measured = Table(
        caption="Smoothness and edges of the maps of each set of features; noise, spread and steps "
        "in standard deviations of the training pixels.",
        columns=(
            "split",
            "features",
            *NUMBERS.values(),
            *(f"{TARGETS[name]}, {PROBES[kind]} ({METRICS[metrics[name]]})" for name, kind in told),
        ),
        rows=rows,
        words=2,
        groups=(
            ("", 2),
            ("in time", _IN_TIME),
            ("in space", len(NUMBERS) - _IN_TIME),
            *((("what probes find", len(told)),) if told else ()),
        ),
    )
    counts = {
        "cubes": "cubes",
        "mapped_cubes": "of these, with known classes",
        "pixels": "pixels",
        "triples": "triples of dates",
        "pairs": "adjacent pixels",
        "inner_pairs": "adjacent pixels of one class",
        "boundaries": "boundaries",
    }
    counted = Table(
        caption="What the maps are measured on, all dates counted.",
        columns=("split", *counts.values()),
        rows=tuple(
            (split, *(number(part[name]) for name in counts)) for split, part in splits.items()
        ),
        folded=True,
    )
    left_out = Table(
        caption="What of the maps is not measured, and why.",
        columns=("what", "of it", "why"),
        rows=tuple((one["what"], one["of"], one["why"]) for one in maps["left_out"]),
        words=3,
        folded=True,
    )
    return measured, counted, left_out


def _scored(probes: Mapping[str, Any] | None, split: str) -> dict[str, Mapping[str, Any]]:
    """The targets of `NEAREST_TARGETS` that have scores."""
    targets = (probes or {}).get("splits", {}).get(split, {}).get("targets", {})
    return {
        name: targets[name]
        for name in NEAREST_TARGETS
        if name in targets and targets[name]["reason"] is None
    }


@dataclass(frozen=True)
class Shown:
    """Pictures of a part of one cube on one date.

    Attributes
    ----------
    caption
        Which cube and date.
    pictures
        Title -> ``(y, x, 3 or 4)``.
    cover
        ``(y, x)``, classes; none where they are not known.
    resolution
        Side of a pixel, metres.
    """

    caption: str
    pictures: dict[str, NDArray[np.float32]]
    cover: Classes | None
    resolution: float


def plot_maps(
    *,
    evaluation: Path,
    embeddings: Mapping[str, Path],
    cubes: Mapping[str, Mapping[str, Path]],
    truth: Mapping[str, Path],
    rgb: tuple[str, str, str],
    output: Path,
) -> None:
    """Draw the numbers of `maps.assess_maps` as bars, and below them a part of one cube.

    The cube is the one of the test split, else of the validation split, with the most boundaries,
    or pixels where no classes are known; the date its clearest one, and the part that with the
    most boundaries. Where nothing was measured, the picture says so.

    Parameters
    ----------
    evaluation
        ``evaluation/maps.json``.
    embeddings, cubes, truth
        As in `maps.assess_maps`.
    rgb
        Red, green and blue band of the reference sensor.
    output
        PNG file to write.

    Raises
    ------
    UserError
        If a file is absent or broken.
    """
    content = read_json(evaluation)
    split = next((name for name in SHOWN if name in content["splits"]), None)
    if split is None:
        with drawing(output, width=9.6, height=2) as figure:
            axes = figure.subplots()
            axes.set_axis_off()
            axes.text(0.5, 0.5, "No map could be measured.", ha="center")
        return
    own = {name: one for name, one in content["cubes"].items() if one["split"] == split}
    name = max(own, key=lambda cube: (own[cube]["boundaries"], own[cube]["pixels"], cube))
    files = {sensor: paths[name] for sensor, paths in cubes.items() if name in paths}
    cover = Truth.read(truth[name]).cover if name in truth else None
    shown = _show(embeddings[name], files, cover, rgb, f"{name} ({split})")
    with drawing(output, width=9.6, height=6.2) as figure:
        (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[2.4, 3.8])
        _draw_numbers(above, content["splits"])
        _draw_pictures(below, shown)


def _show(
    folder: Path,
    files: Mapping[str, Path],
    cover: Classes | None,
    rgb: Sequence[str],
    name: str,
) -> Shown:
    seen, product = observe(folder, files), read_embedding(folder, load=False)
    date = int(seen.valid.sum(axis=(1, 2)).argmax())
    product = product.isel(time=[date])
    part = _window(seen.valid.shape[1:], cover)
    (colours,) = true_colours(next(iter(files.values())), product, rgb)
    day = np.datetime_as_string(seen.times[date], unit="D")
    pictures = {
        "true colour": colours[part],
        "bands: components 1, 2, 3": _components(seen.bands[date], seen.valid[date])[part],
        "embedding: components 1, 2, 3": _components(seen.embedding[date], seen.valid[date])[part],
    }
    return Shown(
        caption=f"{name}, {day}",
        pictures=pictures,
        cover=None if cover is None else cover[part],
        resolution=grid_of(product).resolution,
    )


def _components(values: Values, valid: Mask) -> NDArray[np.float32]:
    """The first principal components of standardised features ``(feature, y, x)`` as colours."""
    scaled = Scaling.fit(values[:, valid].T).apply(values)
    picture = project_rgb(scaled, pca_basis(scaled[:, valid].T))
    picture[~valid] = 0
    return picture


def _window(shape: tuple[int, int], cover: Classes | None) -> tuple[slice, slice]:
    """The part of a cube with the most boundaries; the middle where they are not known."""
    height, width = (min(WINDOW_PX, side) for side in shape)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    if cover is not None:
        found = np.zeros(shape)
        along, across = boundaries(cover), boundaries(cover.T).T
        found[:, : along.shape[1]] += along
        found[: across.shape[0]] += across
        sums = np.pad(found, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
        inside += sums[:-height, :-width]
        top, left = (int(i) for i in np.unravel_index(inside.argmax(), inside.shape))
    return slice(top, top + height), slice(left, left + width)


def _draw_numbers(figure: SubFigure, splits: Mapping[str, Mapping[str, Any]]) -> None:
    names = [split for split in SPLITS if split in splits]
    sets = list(splits[names[0]]["sets"])
    known = {
        kind
        for kind in _PANELS
        if any(one[kind] is not None for split in names for one in splits[split]["sets"].values())
    }
    # Where classes are known, steps within them say more than those across them.
    known -= {"step"} if "inner_step" in known else set()
    kinds = [kind for kind in _PANELS if kind in known]
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    wide, places = 0.8 / len(sets), np.arange(len(names))
    for axes, kind in zip(panels, kinds, strict=True):
        title, unit, lines = _PANELS[kind]
        for position, features in enumerate(sets):
            values = [splits[split]["sets"][features][kind] for split in names]
            axes.bar(
                places + (position - (len(sets) - 1) / 2) * wide,
                [np.nan if value is None else value for value in values],
                wide * 0.92,
                color=set_colour(features),
                label=_label(features),
            )
        for height, text in lines:
            axes.axhline(height, color=MUTED, linestyle=":")
            axes.text(1.0, height, text, transform=axes.get_yaxis_transform(), fontsize=8)
        axes.set_title(title, loc="left")
        axes.set_ylabel(unit)
        axes.set_xticks(places, names)
        axes.tick_params(axis="x", length=0, labelcolor=INK)
        axes.grid(axis="y")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _draw_pictures(figure: SubFigure, shown: Shown) -> None:
    panels = figure.subplots(1, len(shown.pictures), squeeze=False, sharey=True)[0]
    for axes, (title, picture) in zip(panels, shown.pictures.items(), strict=True):
        height, width = (side * shown.resolution for side in picture.shape[:2])
        axes.patch.set(facecolor=MASKED, hatch="////", edgecolor=ABSENT)
        axes.imshow(picture, extent=(0, width, 0, height), interpolation="nearest")
        axes.set_title(title, loc="left")
        axes.set_xlabel("metres east")
        if shown.cover is not None:
            _outline(axes, shown.cover, shown.resolution)
    panels[0].set_ylabel("metres north")
    figure.suptitle(shown.caption, x=0.01, ha="left", fontsize=9)


def _outline(axes: Axes, cover: Classes, resolution: float) -> None:
    """Draw the boundaries of classes along the sides of pixels."""
    row, column = np.nonzero(cover[:, 1:] != cover[:, :-1])
    upright = [[(x + 1, y), (x + 1, y + 1)] for y, x in zip(row, column, strict=True)]
    row, column = np.nonzero(cover[1:] != cover[:-1])
    level = [[(x, y + 1), (x + 1, y + 1)] for y, x in zip(row, column, strict=True)]
    sides = np.array(upright + level, np.float64).reshape(-1, 2, 2)
    sides[..., 1] = len(cover) - sides[..., 1]
    for colour, wide in (("white", 1.8), (INK, 0.9)):
        axes.add_collection(
            LineCollection(list(sides * resolution), colors=colour, linewidths=wide)
        )
