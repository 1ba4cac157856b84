"""The correction to nadir view: against sen2nbar on real granules, against the archive's truth.

Two questions. Do we compute the c-factor that sen2nbar computes? And does multiplying with it
bring reflectance nearer to what the nadir would have shown? The second has an answer only where
the nadir is known: on the simulated archive, whose land is PROSAIL's and not that of the fixed
coefficients.
"""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from defusedxml.ElementTree import fromstring
from matplotlib.axes import Axes
from measure import show
from numpy.typing import NDArray
from simulated import Demo, PinnedCube, Simulation, Truth, another_truth, demo_arguments

from pipeline_lib.acquire.angles import BANDS as BAND_IDS
from pipeline_lib.acquire.angles import parse_angles
from pipeline_lib.acquire.brdf import COEFFICIENTS_OF, c_factor_on_nodes
from pipeline_lib.acquire.sentinel2 import NATIVE_M
from pipeline_lib.config import SENTINEL_2
from pipeline_lib.cubes import CLEAR, Grid
from pipeline_lib.cubes.resampling import refine
from pipeline_lib.errors import UserError
from pipeline_lib.report.style import COLOURS, drawing
from simulated_archive.bands import BANDS as ARCHIVE_BANDS
from simulated_archive.canopy import CanopyTable
from simulated_archive.optical import block_mean, surface_reflectance

BANDS = SENTINEL_2.bands
EAST, WEST = "east", "west"
UNSHADED = 0.01
"""Share of the sun that a pixel may lack and still count as untouched by clouds."""
PAIR_DAYS = 5
"""Two views of opposite sides that are at most so far apart are compared with one another."""

Field = NDArray[np.float64]


@dataclass(frozen=True)
class Granule:
    """The c-factors of a real granule, each ``(band, node_y, node_x)``.

    ``ours`` and ``theirs`` as the two compute them; ``ours_plain`` from azimuths averaged as plain
    numbers, as sen2nbar does; ``per_detector`` is the mean over detectors of the c-factor of
    each, ``jump`` how far these lie apart; ``detectors`` counts them.
    """

    name: str
    baseline: str
    ours: Field
    theirs: Field
    ours_plain: Field
    per_detector: Field
    jump: Field
    detectors: NDArray[np.int64]


def read_granule(path: Path) -> Granule:
    """Compute the c-factors of a granule in every way."""
    content = path.read_bytes()
    angles = parse_angles(content, BANDS)
    zenith, azimuth = detector_grids(content)
    with warnings.catch_warnings():
        # Nodes that no detector saw have no mean.
        warnings.simplefilter("ignore", RuntimeWarning)
        plain = replace(
            angles, view_zenith=np.nanmean(zenith, axis=0), view_azimuth=np.nanmean(azimuth, axis=0)
        )
        each = np.stack(
            [
                c_factor_on_nodes(replace(angles, view_zenith=z, view_azimuth=a))
                for z, a in zip(zenith, azimuth, strict=True)
            ]
        )
        return Granule(
            name=path.parent.name,
            baseline=baseline_of(path),
            ours=c_factor_on_nodes(angles),
            theirs=c_factor_of_sen2nbar(path),
            ours_plain=c_factor_on_nodes(plain),
            per_detector=np.nanmean(each, axis=0),
            jump=np.nanmax(each, axis=0) - np.nanmin(each, axis=0),
            detectors=np.isfinite(zenith).sum(axis=0),
        )


def detector_grids(content: bytes) -> tuple[Field, Field]:
    """Zenith and azimuth of each detector, ``(detector, band, node_y, node_x)``, degrees."""
    grids: dict[str, list[list[Field]]] = defaultdict(list)
    for grid in fromstring(content).iter("Viewing_Incidence_Angles_Grids"):
        rows = [
            [row.text.split() for row in grid.iterfind(f"{angle}/Values_List/VALUES")]
            for angle in ("Zenith", "Azimuth")
        ]
        grids[BAND_IDS[int(grid.get("bandId"))]].append([np.array(r, dtype=float) for r in rows])
    most = max(len(grids[band]) for band in BANDS)
    shape = grids[BANDS[0]][0][0].shape
    stacked = np.full((2, most, len(BANDS), *shape), np.nan)
    for place, band in enumerate(BANDS):
        for detector, pair in enumerate(grids[band]):
            stacked[:, detector, place] = pair
    return stacked[0], stacked[1]


def c_factor_of_sen2nbar(path: Path) -> Field:
    """sen2nbar's c-factor from its own reading of the file; B8A through B08's coefficients."""
    from sen2nbar.c_factor import c_factor, c_factor_from_metadata
    from sen2nbar.metadata import angles_from_metadata

    factor = c_factor_from_metadata(str(path))
    angles = angles_from_metadata(str(path))
    sun = angles.sel(band="Sun")
    layers = []
    for band in BANDS:
        if band not in COEFFICIENTS_OF:
            layers.append(factor.sel(band=band))
            continue
        view = angles.sel(band=[band]).assign_coords(band=[COEFFICIENTS_OF[band]])
        lent = c_factor(
            sun.sel(angle="Zenith", drop=True).drop_vars("band"),
            view.sel(angle="Zenith", drop=True),
            (sun.sel(angle="Azimuth", drop=True) - view.sel(angle="Azimuth", drop=True)),
        )
        layers.append(lent.sel(band=COEFFICIENTS_OF[band]))
    return np.stack([np.asarray(layer.transpose("y", "x").values) for layer in layers])


def baseline_of(path: Path) -> str:
    """Processing baseline of a granule, from its product's name."""
    for part in path.parent.name.split("_"):
        if len(part) == 5 and part[0] == "N" and part[1:].isdigit():
            return f"{part[1:3]}.{part[3:]}"
    product = path.with_name("MTD_MSIL2A.xml")
    if product.exists():
        return str(fromstring(product.read_bytes()).findtext(".//PROCESSING_BASELINE"))
    tile = str(fromstring(path.read_bytes()).findtext(".//TILE_ID"))
    return f"{tile[-5:-3]}.{tile[-2:]}" if tile[-6:-5] == "N" else "?"


def granule_row(granule: Granule) -> dict[str, Any]:
    """One line of the table of granules."""
    compared = np.isfinite(granule.ours) & np.isfinite(granule.theirs)
    single, overlap = compared & (granule.detectors == 1), compared & (granule.detectors > 1)
    lent = np.array([band in COEFFICIENTS_OF for band in BANDS])[:, None, None]

    def largest(one: Field, other: Field, where: NDArray[np.bool_]) -> float | None:
        return float(np.abs(one - other)[where].max()) if where.any() else None

    return {
        "granule": granule.name,
        "baseline": granule.baseline,
        "nodes": int(compared.sum()),
        "in_one_only": int((np.isfinite(granule.ours) != np.isfinite(granule.theirs)).sum()),
        "overlap_nodes": int(overlap.sum()),
        "single_max": largest(granule.ours, granule.theirs, single & ~lent),
        "single_max_B8A": largest(granule.ours, granule.theirs, single & lent),
        "overlap_max": largest(granule.ours, granule.theirs, overlap),
        "overlap_max_if_we_averaged_plainly": largest(granule.ours_plain, granule.theirs, overlap),
        "ours_to_mean_of_detectors": largest(granule.ours, granule.per_detector, overlap),
        "theirs_to_mean_of_detectors": largest(granule.theirs, granule.per_detector, overlap),
        "jump_between_detectors": float(granule.jump[overlap].max()) if overlap.any() else None,
    }


class Sums:
    """Per band: the number of pixels, and sums of some fields over them."""

    def __init__(self) -> None:
        self.count = 0
        self.totals: dict[str, Field] = defaultdict(lambda: np.zeros(len(BANDS)))

    def add(self, fields: dict[str, Field], valid: NDArray[np.bool_]) -> None:
        """Add fields ``(band, y, x)`` at the pixels in ``valid`` ``(y, x)``."""
        self.count += int(valid.sum())
        for name, values in fields.items():
            self.totals[name] += values[:, valid].sum(axis=1)

    def mean(self, name: str) -> Field:
        """Mean of a field, ``(band,)``."""
        return self.totals[name] / self.count

    def rmse(self, name: str) -> Field:
        """Square root of the mean of a field of squares, ``(band,)``."""
        return np.sqrt(self.mean(name))


class Archive:
    """Sums over the archive: squared errors and reflectances of groups of pixels."""

    def __init__(self) -> None:
        self.errors: dict[str, Sums] = defaultdict(Sums)
        self.sides: dict[str, Sums] = defaultdict(Sums)
        self.pairs = Sums()
        self.frames = self.pair_count = 0


@dataclass(frozen=True)
class View:
    """A frame beside the truth, ``(band, y, x)`` each.

    ``clear`` pixels are clear by the truth, which allows a veil of optical thickness 0.12 and a
    shade that takes half of the sun; ``untouched`` ones have neither. ``before`` and ``after`` are
    the loader's; ``nadir`` is true; ``seen`` is the ground from the sensor's side without cloud,
    haze, noise and resampling, ``seen_after`` that times the c-factor, ``resampled`` that through
    pixels of the band's own size.
    """

    time: np.datetime64
    side: str
    zenith: float
    clear: NDArray[np.bool_]
    untouched: NDArray[np.bool_]
    before: Field
    after: Field
    nadir: Field
    seen: Field
    seen_after: Field
    resampled: Field


def views_of(
    demo: Demo, cube: PinnedCube, truth: Truth, simulation: Simulation, table: CanopyTable
) -> list[View]:
    """All frames of a cube that the truth knows, in order of time."""
    plain = {f.time: f for f in demo.load(cube, brdf=False, clouds="none")}
    rows = [list(ARCHIVE_BANDS).index(band) for band in BANDS]
    site = simulation.site
    cut = site.within(cube.grid)
    views = []
    for frame in demo.load(cube, brdf=True, clouds="none"):
        place = truth.place.get(frame.time)
        if place is None or frame.c_factor is None:
            continue
        ground = site.ground(simulation.passes[frame.time].time.date())
        seen, nadir = surface_reflectance(
            ground, site.landscape, table, simulation.angles(frame.time)
        )
        true = truth.nadir[place]
        again = np.rint(nadir[rows][:, *cut] * 10000) * np.float32(1e-4)
        if np.abs(again - true).max() > 1.5e-4:
            raise another_truth(demo, site.name)
        clouds = simulation.clouds(frame.time)
        overcast = (clouds.thickness > 0) | (clouds.cirrus > 0) | (clouds.shade > UNSHADED)
        present = np.isfinite(frame.values).all(axis=0)
        directional = seen[rows][:, *cut].astype(np.float64)
        smoothed = through_coarse_pixels(seen[rows], site.window, cube.grid)
        views.append(
            View(
                time=frame.time,
                side=EAST if frame.provenance["view_azimuth"] < 180 else WEST,
                zenith=frame.provenance["view_zenith"],
                clear=(truth.classes[place] == CLEAR) & present,
                untouched=~overcast[cut] & present,
                before=plain[frame.time].values.astype(np.float64),
                after=frame.values.astype(np.float64),
                nadir=true.astype(np.float64),
                seen=directional,
                seen_after=directional * frame.c_factor[:, None, None],
                resampled=smoothed.astype(np.float64),
            )
        )
    return views


def through_coarse_pixels(
    values: NDArray[np.float32], window: Grid, target: Grid
) -> NDArray[np.float32]:
    """Reflectance ``(band, y, x)`` of a window as the loader brings it to a cube's grid.

    Bands of 20 m are averaged to their own pixels and interpolated; the others are cut out.
    """
    half = window.height // 2, window.width // 2
    coarse = Grid(window.epsg, window.left, window.top, 2 * window.resolution, *half)
    smooth = refine(block_mean(values, 2), coarse, target)
    row = round((window.top - target.top) / window.resolution)
    column = round((target.left - window.left) / window.resolution)
    sharp = values[:, row : row + target.height, column : column + target.width]
    own = np.array([NATIVE_M[band] == target.resolution for band in BANDS])
    return np.where(own[:, None, None], sharp, smooth)


def add_views(archive: Archive, views: Sequence[View]) -> None:
    """Add the frames of one cube."""
    for view in views:
        archive.frames += 1
        if not view.clear.any():
            continue
        errors = {
            "before": view.before - view.nadir,
            "after": view.after - view.nadir,
            "view_before": view.seen - view.nadir,
            "view_after": view.seen_after - view.nadir,
            "floor": view.before - view.seen,
            "resampling": view.resampled - view.seen,
        }
        squares = {name: values**2 for name, values in errors.items()}
        for group in ("clear", f"{view.side}, {angle_class(view.zenith)}"):
            archive.errors[group].add(squares, view.clear)
        archive.errors["untouched"].add(squares, view.untouched)
        averaged = {name: blocks(values) ** 2 for name, values in errors.items()}
        whole = blocks(view.untouched[None].astype(float))[0] == 1
        archive.errors["untouched, 20 m"].add(averaged, whole)
        fields = {name: getattr(view, name) for name in ("seen", "seen_after", "nadir")}
        archive.sides[view.side].add(fields, view.clear)
    for one, other in pairwise(views):
        both = one.clear & other.clear
        apart = (other.time - one.time) / np.timedelta64(1, "D")
        if one.side == other.side or apart > PAIR_DAYS or not both.any():
            continue
        archive.pair_count += 1
        names = "before", "after", "seen", "seen_after", "nadir"
        archive.pairs.add({n: np.abs(getattr(one, n) - getattr(other, n)) for n in names}, both)


def angle_class(zenith: float) -> str:
    """Name of the class of view angles."""
    return "0-4 deg" if zenith < 4 else "4-8 deg" if zenith < 8 else "8-12 deg"


def blocks(values: Field) -> Field:
    """Means over 2 x 2 pixels of ``(band, y, x)``: the 20 m pixels of the cube's grid."""
    bands, height, width = values.shape
    return values.reshape(bands, height // 2, 2, width // 2, 2).mean(axis=(2, 4))


def band_rows(archive: Archive) -> list[dict[str, Any]]:
    """RMSE of clear 10 m pixels per band, and its parts."""
    sums = archive.errors["clear"]
    rows = []
    for index, band in enumerate(BANDS):
        row = {name: sums.rmse(name)[index] for name in sums.totals}
        row["ratio"] = row["after"] / row["before"]
        row["view_ratio"] = row["view_after"] / row["view_before"]
        rows.append(rounded({"band": band} | row))
    return rows


def native_rows(archive: Archive) -> list[dict[str, Any]]:
    """RMSE at each band's own pixel size, of pixels without cloud, veil and shade."""
    rows = []
    for index, band in enumerate(BANDS):
        fine = NATIVE_M[band] == 10
        sums = archive.errors["untouched" if fine else "untouched, 20 m"]
        row = {name: sums.rmse(name)[index] for name in ("before", "after", "floor")}
        row["ratio"] = row["after"] / row["before"]
        rows.append(rounded({"band": band, "pixel_m": int(NATIVE_M[band])} | row))
    return rows


def side_rows(archive: Archive) -> list[dict[str, Any]]:
    """Per band: the factor of each side, the right one, and differences between the sides."""
    rows = []
    for index, band in enumerate(BANDS):
        row: dict[str, Any] = {"band": band}
        for side, sums in archive.sides.items():
            seen = sums.mean("seen")[index]
            row[f"factor_{side}"] = sums.mean("seen_after")[index] / seen
            row[f"true_factor_{side}"] = sums.mean("nadir")[index] / seen
        for name in archive.pairs.totals:
            row[f"pair_{name}"] = archive.pairs.mean(name)[index]
        rows.append(rounded(row))
    return rows


def angle_rows(archive: Archive) -> list[dict[str, Any]]:
    """Mean RMSE of the bands, by side and view angle."""
    rows = []
    for name in sorted(name for name in archive.errors if "deg" in name):
        sums = archive.errors[name]
        before, after = sums.rmse("view_before"), sums.rmse("view_after")
        row = {"view": name, "pixels": sums.count, "bands_better": int((after < before).sum())}
        means = {"view_before": float(before.mean()), "view_after": float(after.mean())}
        rows.append(rounded(row | means))
    return rows


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """A row with numbers short enough to read."""
    return {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in row.items()
    }


def measure_archive(demo: Demo, count: int) -> Archive:
    """Sum up the cubes of the run."""
    table = CanopyTable.read(demo.run / "archive" / "canopy.npz")
    archive = Archive()
    for cube, truth, simulation in demo.with_truth(count):
        add_views(archive, views_of(demo, cube, truth, simulation, table))
    return archive


def draw(
    granules: Sequence[Granule],
    bands: Sequence[dict[str, Any]],
    native: Sequence[dict[str, Any]],
    sides: Sequence[dict[str, Any]],
    output: Path,
) -> None:
    """Draw errors per band, the distance of the two sides, and the difference from sen2nbar."""
    observed, corrected = ("as observed", COLOURS[1]), ("corrected", COLOURS[0])
    floor = "without any view effect", COLOURS[2]
    change = "true change of the ground", COLOURS[2]
    error = "RMSE to true nadir reflectance"
    with drawing(output, width=9.6, height=7.0) as figure:
        upper, lower = figure.subplots(2, 2)
        draw_bars(
            upper[0],
            native,
            {"before": observed, "after": corrected, "floor": floor},
            title="Pixels free of cloud and shade, at 10 or 20 m",
            label=error,
        )
        draw_bars(
            upper[1],
            bands,
            {"view_before": observed, "view_after": corrected},
            title="View effect alone: no haze, noise, resampling",
            label=error,
        )
        if "pair_nadir" in sides[0]:
            draw_bars(
                lower[0],
                sides,
                {"pair_before": observed, "pair_after": corrected, "pair_nadir": change},
                title=f"Two view sides, at most {PAIR_DAYS} days apart, clear pixels",
                label="mean |east - west| of reflectance",
            )
        draw_granules(lower[1], granules)


def draw_bars(
    axes: Axes,
    rows: Sequence[dict[str, Any]],
    series: dict[str, tuple[str, str]],
    *,
    title: str,
    label: str,
) -> None:
    """Draw a group of bars per band; ``series`` maps columns to their labels and colours."""
    place, width = np.arange(len(rows)), 0.8 / len(series)
    for number, (name, (meaning, colour)) in enumerate(series.items()):
        shift = (number - (len(series) - 1) / 2) * width
        axes.bar(place + shift, [row[name] for row in rows], width, color=colour, label=meaning)
    axes.set_xticks(place, [row["band"] for row in rows])
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    axes.set_ylabel(label)
    axes.set_title(title, loc="left")
    axes.legend(loc="upper left", ncols=2)
    axes.grid(axis="y")


def draw_granules(axes: Axes, granules: Sequence[Granule]) -> None:
    """Draw how far our c-factor lies from sen2nbar's, granule by granule."""
    random = np.random.default_rng(0)
    kinds = (
        ("one detector", COLOURS[0], lambda g: g.detectors == 1),
        ("overlapping detectors", COLOURS[4], lambda g: g.detectors > 1),
    )
    for label, colour, where in kinds:
        for row, granule in enumerate(granules):
            difference = np.abs(granule.ours - granule.theirs)
            values = difference[np.isfinite(difference) & where(granule)]
            # Equal to the last digit has no place on a logarithmic axis.
            values = np.maximum(values, 1e-17)
            spread = row + random.uniform(-0.3, 0.3, len(values))
            axes.plot(
                values,
                spread,
                ".",
                markersize=2.5,
                color=colour,
                rasterized=True,
                label=label if row == 0 else None,
            )
    names = [f"{g.name[:3]} {tile_of(g.name)}\n{g.baseline}" for g in granules]
    axes.set_yticks(range(len(granules)), names, fontsize=7)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("|c-factor - sen2nbar's|, per band and node (left: equal)")
    axes.set_title("Real granules: tile and baseline", loc="left")
    axes.legend(loc="center", markerscale=4)


def tile_of(name: str) -> str:
    """MGRS tile in the name of a granule."""
    return next(part for part in name.split("_") if part.startswith("T") and len(part) == 6)


def main() -> None:
    """Measure, draw, print."""
    parser = demo_arguments(__doc__.splitlines()[0])
    parser.add_argument("--granules", type=Path, default=Path("../shared/data/metadata/granules"))
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    granules = [read_granule(p) for p in sorted(arguments.granules.glob("*/MTD_TL.xml"))]
    demo = Demo(arguments.run, arguments.config, BANDS)
    archive = measure_archive(demo, arguments.cubes)
    bands, native, sides = band_rows(archive), native_rows(archive), side_rows(archive)
    if arguments.figure:
        draw(granules, bands, native, sides, arguments.figure)
    result = {
        "granules": [rounded(granule_row(granule)) for granule in granules],
        "cubes": [cube.request.cube for cube in demo.chosen(arguments.cubes)],
        "frames": archive.frames,
        "clear_pixels": archive.errors["clear"].count,
        "untouched_pixels": archive.errors["untouched"].count,
        "pairs": archive.pair_count,
        "pair_pixels": archive.pairs.count,
        "bands": bands,
        "own_pixel_size": native,
        "sides": sides,
        "angles": angle_rows(archive),
    }
    show(result, arguments.json)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
