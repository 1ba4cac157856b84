"""Where the sites lie, beside the fractions of their land-cover classes (Table I)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from pipeline_lib.errors import UserError
from pipeline_lib.report.style import COLOURS, INK, MUTED, drawing

_MARKERS = ("^", "o", "s", "D", "v", "P", "X")
_HATCH = "////"


def plot_sites(
    *,
    sites: Path,
    fractions: Mapping[str, float],
    bounds: tuple[float, float, float, float],
    towers: Mapping[str, tuple[float, float]],
    output: Path,
    planned: bool = True,
) -> None:
    """Draw a map of the sites by class, and the fraction of each class, planned and drawn.

    ``sites`` is ``sites.csv``, one row per cube, in which rows of towers are no sites; fractions
    are planned, or only the classes of a user's table; bounds are west, south, east, north of the
    domain, and towers longitude and latitude, all degrees. Raises UserError if the table holds
    another class.
    """
    drawn = site_classes(sites, fractions, towers)
    west, south, east, north = bounds
    aspect = 1 / math.cos(math.radians((south + north) / 2))
    map_height = 6.0 * aspect * (north - south) / (east - west)
    height = min(max(map_height + 0.6, 4.0), 9.0)
    with drawing(output, width=10.5, height=height) as figure:
        map_axes, bar_axes = figure.subplots(1, 2, width_ratios=(6, 3.4))
        frame = Rectangle((west, south), east - west, north - south)
        frame.set(fill=False, edgecolor=MUTED, linewidth=1)
        map_axes.add_patch(frame)
        map_axes.set_aspect(aspect)
        _draw_map(map_axes, drawn, list(fractions), list(towers.values()))
        _draw_fractions(bar_axes, drawn, fractions, planned)


def site_classes(sites: Path, classes: Iterable[str], towers: Iterable[str] = ()) -> pd.DataFrame:
    """One row per site, in the order of the table: ``site``, ``land_cover``, ``lon``, ``lat``.

    Raises UserError if the table holds another class than these.
    """
    table = pd.read_csv(sites).drop_duplicates("site")
    table = table[~table["site"].isin(list(towers))]
    unknown = sorted(set(table["land_cover"]) - set(classes))
    if unknown:
        raise UserError(
            f"{sites}: class {unknown[0]!r} is not among sites.strata of the config; "
            "draw the sites again"
        )
    return table[["site", "land_cover", "lon", "lat"]].reset_index(drop=True)


def _draw_map(
    axes: Axes,
    drawn: pd.DataFrame,
    classes: Sequence[str],
    towers: Sequence[tuple[float, float]],
) -> None:
    size = 55 if len(drawn) <= 60 else 26
    for name, marker, colour in zip(classes, cycle(_MARKERS), cycle(COLOURS), strict=False):
        of_class = drawn[drawn["land_cover"] == name]
        points = axes.scatter(of_class["lon"], of_class["lat"], size, color=colour, marker=marker)
        points.set(edgecolor="white", linewidth=0.5, label=f"{name} ({len(of_class)})")
    if towers:
        lon, lat = zip(*towers, strict=True)
        points = axes.scatter(lon, lat, size * 2.2, marker="*")
        points.set(facecolor="white", edgecolor=INK, linewidth=1)
        points.set_label(f"flux tower ({len(towers)})")
    axes.grid()
    axes.margins(0.03)
    axes.set_xlabel("longitude, °E")
    axes.set_ylabel("latitude, °N")
    axes.set_title(f"{len(drawn)} sites; the frame is the domain", loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, handletextpad=0.3)


def _draw_fractions(
    axes: Axes, drawn: pd.DataFrame, fractions: Mapping[str, float], planned: bool
) -> None:
    counts = [int((drawn["land_cover"] == name).sum()) for name in fractions]
    wanted = [100 * fraction for fraction in fractions.values()]
    got = [100 * count / max(1, len(drawn)) for count in counts]
    rows = np.arange(len(fractions))
    if planned:
        place = rows - 0.2
        bars = axes.barh(place, wanted, height=0.36, color="white", edgecolor=MUTED, hatch=_HATCH)
        axes.bar_label(bars, [f"{share:.0f} %" for share in wanted], padding=4, color=MUTED)
    colours = [COLOURS[row % len(COLOURS)] for row in rows]
    bars = axes.barh(rows + 0.2 * planned, got, height=0.36, color=colours)
    labels = [f"{share:.0f} % ({count})" for share, count in zip(got, counts, strict=True)]
    axes.bar_label(bars, labels, padding=4)
    axes.set_yticks(rows, list(fractions), color=INK, fontsize=9)
    axes.set_xlim(0, 1.3 * max([*wanted, *got, 1]))
    axes.invert_yaxis()
    axes.set_xlabel("fraction of the sites, %")
    axes.set_title("Classes", loc="left")
    if not planned:
        return
    handles = [
        Patch(facecolor="white", edgecolor=MUTED, hatch=_HATCH, label="planned (Table I)"),
        Patch(color=MUTED, label="drawn"),
    ]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
