"""Where the sites lie, beside the shares of their land-cover classes (Table I)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from pipeline_lib.config import Stratum, Tower
from pipeline_lib.errors import UserError
from pipeline_lib.report.style import COLOURS, INK, MUTED, drawing

_MARKERS = ("^", "o", "s", "D", "v", "P", "X")
_HATCH = "////"


def plot_sites(
    *,
    sites: Path,
    strata: Sequence[Stratum],
    bounds: tuple[float, float, float, float],
    towers: Sequence[Tower],
    output: Path,
) -> None:
    """Draw a map of the sites by class, and the share of each class wanted and drawn.

    Parameters
    ----------
    sites
        ``sites.csv``, one row per cube; rows of towers are no sites.
    strata
        The classes and the shares that are wanted.
    bounds
        Domain: west, south, east, north, degrees.
    towers
        Flux towers, marked on the map.
    output
        PNG file to write.

    Raises
    ------
    UserError
        If the table holds a class that no stratum names.
    """
    drawn = site_classes(sites, strata, towers)
    west, south, east, north = bounds
    aspect = 1 / math.cos(math.radians((south + north) / 2))
    map_height = 6.0 * aspect * (north - south) / (east - west)
    height = min(max(map_height + 0.6, 4.0), 9.0)
    with drawing(output, width=10.5, height=height) as figure:
        map_axes, bar_axes = figure.subplots(1, 2, width_ratios=(6, 3.4))
        _draw_map(map_axes, drawn, strata, bounds, towers, aspect)
        _draw_shares(bar_axes, drawn, strata)


def site_classes(
    sites: Path, strata: Sequence[Stratum], towers: Sequence[Tower] = ()
) -> pd.DataFrame:
    """One row per site, in the order of the table: ``site``, ``land_cover``, ``lon``, ``lat``.

    Raises
    ------
    UserError
        If the table holds a class that no stratum names.
    """
    table = pd.read_csv(sites).drop_duplicates("site")
    table = table[~table["site"].isin([tower.name for tower in towers])]
    unknown = sorted(set(table["land_cover"]) - {stratum.name for stratum in strata})
    if unknown:
        raise UserError(
            f"{sites}: class {unknown[0]!r} is not among sites.strata of the config; "
            "draw the sites again"
        )
    return table[["site", "land_cover", "lon", "lat"]].reset_index(drop=True)


def _draw_map(
    axes: Axes,
    drawn: pd.DataFrame,
    strata: Sequence[Stratum],
    bounds: tuple[float, float, float, float],
    towers: Sequence[Tower],
    aspect: float,
) -> None:
    west, south, east, north = bounds
    domain = Rectangle(
        (west, south), east - west, north - south, fill=False, edgecolor=MUTED, linewidth=1
    )
    axes.add_patch(domain)
    size = 55 if len(drawn) <= 60 else 26
    for index, stratum in enumerate(strata):
        of_class = drawn[drawn["land_cover"] == stratum.name]
        axes.scatter(
            of_class["lon"],
            of_class["lat"],
            s=size,
            marker=_MARKERS[index % len(_MARKERS)],
            color=COLOURS[index % len(COLOURS)],
            edgecolor="white",
            linewidth=0.5,
            label=f"{stratum.name} ({len(of_class)})",
        )
    if towers:
        axes.scatter(
            [tower.lon for tower in towers],
            [tower.lat for tower in towers],
            s=size * 2.2,
            marker="*",
            color="white",
            edgecolor=INK,
            linewidth=1,
            label=f"flux tower ({len(towers)})",
        )
    axes.set_aspect(aspect)
    axes.grid()
    axes.margins(0.03)
    axes.set_xlabel("longitude, °E")
    axes.set_ylabel("latitude, °N")
    axes.set_title(f"{len(drawn)} sites; the frame is the domain", loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, handletextpad=0.3)


def _draw_shares(axes: Axes, drawn: pd.DataFrame, strata: Sequence[Stratum]) -> None:
    names = [stratum.name for stratum in strata]
    counts = [int((drawn["land_cover"] == name).sum()) for name in names]
    wanted = [100 * stratum.fraction for stratum in strata]
    got = [100 * count / max(1, len(drawn)) for count in counts]
    rows = range(len(names))
    axes.barh(
        [row - 0.2 for row in rows],
        wanted,
        height=0.36,
        color="white",
        edgecolor=MUTED,
        hatch=_HATCH,
    )
    axes.barh(
        [row + 0.2 for row in rows],
        got,
        height=0.36,
        color=[COLOURS[row % len(COLOURS)] for row in rows],
    )
    for row, (share, count) in enumerate(zip(got, counts, strict=True)):
        axes.annotate(
            f"{share:.0f} % ({count})",
            (share, row + 0.2),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    for row, share in enumerate(wanted):
        axes.annotate(
            f"{share:.0f} %",
            (share, row - 0.2),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=MUTED,
        )
    axes.set_yticks(list(rows), names, color=INK, fontsize=9)
    axes.set_xlim(0, 1.3 * max([*wanted, *got, 1]))
    axes.invert_yaxis()
    axes.set_xlabel("share of the sites, %")
    axes.set_title("Classes", loc="left")
    handles = [
        Patch(facecolor="white", edgecolor=MUTED, hatch=_HATCH, label="wanted (Table I)"),
        Patch(color=MUTED, label="drawn"),
    ]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
