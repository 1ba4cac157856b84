"""Cloud masks: CloudSEN12 and SCL against the archive's truth, and what real scenes let one see.

The archive's SCL is drawn from the truth, with the kinds of error that SCL is known for; its
figures say how the simulation was set, not how good Sen2Cor is. The network sees simulated
pixels that it was not trained on. No real scene here has clouds that a person labelled.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Patch
from measure import show
from numpy.typing import NDArray
from simulated import (
    SENSOR,
    Demo,
    PinnedCube,
    Simulation,
    Truth,
    another_truth,
    demo_arguments,
)

from pipeline_lib.acquire.clouds import CLOUD_BANDS, CloudModel, mask_of_scene_classes
from pipeline_lib.cubes import CLEAR, CLOUD_SHADOW, NO_DATA, THICK_CLOUD, THIN_CLOUD
from pipeline_lib.errors import UserError
from pipeline_lib.report.style import ABSENT, COLOURS, drawing
from simulated_archive.clouds import CIRRUS_FROM, SHADOW_FROM, THICK_FROM, THIN_FROM

SOURCES = ("cloudsen12", "scl")
CLASSES = {CLEAR: "clear", THICK_CLOUD: "thick", THIN_CLOUD: "thin", CLOUD_SHADOW: "shadow"}
MASK_COLOURS = ("#CFE8CF", "#0072B2", "#56B4E9", "#5B3A29", ABSENT)

CLOUD_BINS = (THIN_FROM, 1.0, 1.5, 2.0, THICK_FROM)
VEIL_BINS = (CIRRUS_FROM, 0.25, 0.5, np.inf)
SHADE_BINS = (SHADOW_FROM, 0.65, 0.8, 1.0)
"""Edges of classes of optical thickness, and of the share of the sun that a shadow takes."""
COMPANY = 0.2
"""Fraction of thick cloud in the window from which a veil counts as lying beside it."""

STAND_INS = {"B01": "B02", "B09": "B8A"}
"""Bands missing in the Tervuren file, and the bands that replace them."""
OTHER_STAND_INS = {"B01": ("B02", 0.9), "B09": ("B8A", 0.8)}
"""As plausible; they show how much the mask depends on the replacement."""

SOUTH_TYROL_DATES = ("2022-06-02", "2022-06-05", "2022-06-10", "2022-06-17")
TERVUREN_DATES = ("2022-01-11", "2022-02-11", "2022-05-01", "2022-07-11", "2022-11-11")
NETCDF_SOUTH_TYROL = "s2/openeo_southtyrol_2022-06_12dates_512px.nc"
NETCDF_TERVUREN = "s1s2/tervuren_BE_2022_dekads_S1S2_10m.nc"
ARRAYS_TWELVE_BANDS = "s2/sentle_pc_nbar.npz"

Mask = NDArray[np.uint8]


@dataclass
class Tally:
    """Pixels by true and predicted class, and by kind and thickness of what covers them.

    ``bins`` holds, per kind and thickness: pixels, those predicted not clear, those predicted
    right, and the sum of what the cloud added to B02.
    """

    confusion: NDArray[np.int64] = field(default_factory=lambda: np.zeros((4, 4), dtype=np.int64))
    bins: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def add(self, truth: Mask, called: Mask) -> None:
        """Add pixels."""
        pairs = truth.astype(np.intp) * 4 + called
        self.confusion += np.bincount(pairs, minlength=16).reshape(4, 4)

    def add_bin(
        self, name: str, where: NDArray[np.bool_], called: Mask, own: int, added: NDArray[Any]
    ) -> None:
        """Add the pixels of one kind and thickness."""
        inside = called[where]
        seen = (len(inside), (inside != CLEAR).sum(), (inside == own).sum(), added[where].sum())
        self.bins[name] = self.bins.get(name, np.zeros(4)) + np.array(seen, dtype=np.float64)


def tally_cube(
    demo: Demo, cube: PinnedCube, truth: Truth, simulation: Simulation, tallies: dict[str, Tally]
) -> tuple[int, int]:
    """Add the frames of a cube to the tallies of both masks.

    Returns the numbers of frames and of those that lie wholly under thick cloud.
    """
    loaded = {source: list(demo.load(cube, brdf=False, clouds=source)) for source in SOURCES}
    cut = simulation.site.within(cube.grid)
    overcast = 0
    for frames in zip(*loaded.values(), strict=True):
        time = frames[0].time
        clouds = simulation.clouds(time)
        classes = clouds.classes[cut]
        place = truth.place.get(time)
        if place is None:
            # The archive keeps no truth of what nobody could see.
            overcast += 1
            expected = np.full_like(classes, THICK_CLOUD)
        else:
            expected = truth.classes[place]
        if not np.array_equal(classes, expected):
            raise another_truth(demo, simulation.site.name)
        thickness, veil, shade = (a[cut] for a in (clouds.thickness, clouds.cirrus, clouds.shade))
        added = np.zeros(classes.shape)
        if place is not None:
            blue = demo.config.sensors[SENSOR].bands.index("B02")
            added = frames[0].values[blue] - truth.nadir[place, 0]
        # What no scene shows cannot be called anything.
        judged = frames[0].mask != NO_DATA
        thin = (classes == THIN_CLOUD) & judged
        shadow = (classes == CLOUD_SHADOW) & judged
        for source, frame in zip(SOURCES, frames, strict=True):
            tally = tallies[source]
            tally.add(classes[judged], frame.mask[judged])
            thin_veil = thin & (thickness <= THIN_FROM)
            kinds = (
                ("cloud of thickness", thin & ~thin_veil, thickness, CLOUD_BINS, THIN_CLOUD),
                ("veil of thickness", thin_veil, veil, VEIL_BINS, THIN_CLOUD),
                ("shade", shadow, shade, SHADE_BINS, CLOUD_SHADOW),
            )
            for name, where, depth, edges, own in kinds:
                for low, high in pairwise(edges):
                    inside = where & (depth > low) & (depth <= high)
                    label = f"{name} {low:g}-{high:g}".replace("-inf", " and more")
                    tally.add_bin(label, inside, frame.mask, own, added)
            # Whether the network sees a veil depends on what else its window shows.
            company = (clouds.classes == THICK_CLOUD).mean() > COMPANY
            label = "veil beside thick cloud" if company else "veil without thick cloud"
            tally.add_bin(label, thin_veil, frame.mask, THIN_CLOUD, added)
    return len(loaded["scl"]), overcast


def class_rows(tallies: dict[str, Tally]) -> list[dict[str, Any]]:
    """Recall and precision per class, and what was called anything but clear, of each mask."""
    rows = []
    for own, name in CLASSES.items():
        row: dict[str, Any] = {"class": name}
        for source, tally in tallies.items():
            right = tally.confusion[own, own]
            row["pixels"] = int(tally.confusion[own].sum())
            row[f"{source}_recall"] = share(right, tally.confusion[own].sum())
            row[f"{source}_precision"] = share(right, tally.confusion[:, own].sum())
            # For who uses clear pixels alone, the name of a cloud does not matter.
            row[f"{source}_not_clear"] = share(
                tally.confusion[own, 1:].sum(), tally.confusion[own].sum()
            )
        rows.append(row)
    return rows


def binary_rows(tallies: dict[str, Tally]) -> list[dict[str, Any]]:
    """Clear or not: what a user of the mask gains and loses."""
    rows = []
    for source, tally in tallies.items():
        table = tally.confusion
        dirty = table[1:].sum()
        called_clear = table[:, CLEAR].sum()
        rows.append(
            {
                "mask": source,
                "contamination_detected": share(dirty - table[1:, CLEAR].sum(), dirty),
                "clear_lost": share(table[CLEAR, 1:].sum(), table[CLEAR].sum()),
                "contaminated_among_called_clear": share(table[1:, CLEAR].sum(), called_clear),
                "thick_among_called_clear": share(table[THICK_CLOUD, CLEAR], called_clear),
                "thin_among_called_clear": share(table[THIN_CLOUD, CLEAR], called_clear),
                "shadow_among_called_clear": share(table[CLOUD_SHADOW, CLEAR], called_clear),
            }
        )
    return rows


def thickness_rows(tallies: dict[str, Tally]) -> list[dict[str, Any]]:
    """Detection of thin clouds, veils and shadows, by thickness."""
    rows = []
    for name, first in tallies[SOURCES[0]].bins.items():
        if not first[0]:
            continue
        row: dict[str, Any] = {
            "kind": name,
            "pixels": int(first[0]),
            "added_to_B02": round(float(first[3] / first[0]), 4),
        }
        for source, tally in tallies.items():
            count, dirty, right, _ = tally.bins[name]
            row[f"{source}_not_clear"] = share(dirty, count)
            row[f"{source}_right_class"] = share(right, count)
        rows.append(row)
    return rows


def share(part: Any, whole: Any) -> float | None:
    """A share with three digits, or None of nothing."""
    return round(float(part / whole), 3) if whole else None


def measure_archive(demo: Demo, count: int) -> tuple[dict[str, Tally], int, int]:
    """Compare the masks of the run's cubes with the truth."""
    tallies = {source: Tally() for source in SOURCES}
    frames = overcast = 0
    for cube, truth, simulation in demo.with_truth(count):
        more, hidden = tally_cube(demo, cube, truth, simulation, tallies)
        frames += more
        overcast += hidden
    return tallies, frames, overcast


def draw_archive(
    classes: Sequence[dict[str, Any]], thickness: Sequence[dict[str, Any]], output: Path
) -> None:
    """Draw recall and precision per class, and detection by thickness."""
    with drawing(output, width=9.6, height=3.6) as figure:
        axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.7))
        place = np.arange(len(CLASSES))
        for panel, kind in zip(axes, ("recall", "precision"), strict=False):
            for shift, source, colour in zip((-0.2, 0.2), SOURCES, COLOURS, strict=False):
                heights = [row[f"{source}_{kind}"] or 0 for row in classes]
                panel.bar(place + shift, heights, 0.4, color=colour)
            panel.set_xticks(place, list(CLASSES.values()))
            panel.set_ylim(0, 1)
            panel.set_ylabel(f"{kind}, share of pixels")
            panel.set_title(f"{kind.capitalize()} per class", loc="left")
            panel.grid(axis="y")
        panel = axes[2]
        rows = np.arange(len(thickness))
        names = {"cloudsen12": "CloudSEN12", "scl": "SCL (simulated)"}
        for shift, source, colour in zip((-0.2, 0.2), SOURCES, COLOURS, strict=False):
            widths = [row[f"{source}_not_clear"] for row in thickness]
            panel.barh(rows + shift, widths, 0.4, color=colour, label=names[source])
        panel.set_yticks(rows, [row["kind"] for row in thickness], fontsize=7)
        panel.invert_yaxis()
        panel.set_xlim(0, 1)
        panel.set_xlabel("called not clear, share of pixels")
        panel.set_title("Detected, by optical thickness or share of sun lost", loc="left")
        panel.grid(axis="x")
        handles, labels = panel.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=2)


def draw_south_tyrol(real: Path, output: Path) -> list[dict[str, Any]]:
    """Draw a real scene beside the classes of its SCL; four bands are too few for the network."""
    with xr.open_dataset(real / NETCDF_SOUTH_TYROL) as content:
        scene = content.sel(t=list(SOUTH_TYROL_DATES)).load()
    masks = mask_of_scene_classes(scene["SCL"].values)
    pictures = np.stack([scene[band].values for band in ("B04", "B03", "B02")], axis=-1) / 10000
    draw_rows(
        [true_colour(pictures), masks],
        rows=["B04, B03, B02", "SCL in our classes"],
        columns=list(SOUTH_TYROL_DATES),
        caption="South Tyrol, 512 x 512 px of 10 m, reflectance 0 to 0.25. No labels: agreement "
        "with the eye\nis all that can be judged. Pictures: grey is no data, white is "
        "brighter than 0.25.",
        output=output,
    )
    return [
        {"scene": "South Tyrol", "date": date, "mask": "scl"} | class_shares(mask)
        for date, mask in zip(SOUTH_TYROL_DATES, masks, strict=True)
    ]


def draw_small_scenes(real: Path, output: Path) -> list[dict[str, Any]]:
    """Draw the network's classes of two small real scenes."""
    model = CloudModel()
    arrays = np.load(real / ARRAYS_TWELVE_BANDS, allow_pickle=False)
    order = [arrays["bands"].tolist().index(band) for band in CLOUD_BANDS]
    trentino = (arrays["data"][:, order] / 10000).astype(np.float32)
    trentino_masks = model.classify(trentino)
    with xr.open_dataset(real / NETCDF_TERVUREN) as content:
        chosen = content.sel(t=list(TERVUREN_DATES)).load()
    bands = {}
    for band in CLOUD_BANDS:
        if band not in STAND_INS:
            values = chosen[f"S2-L2A-{band}"].values / 10000
            bands[band] = np.where(values >= 0, values, np.nan).astype(np.float32)
    tervuren, other = (
        np.stack(
            [
                bands[band] if band in bands else bands[lent[band][0]] * np.float32(lent[band][1])
                for band in CLOUD_BANDS
            ],
            axis=1,
        )
        for lent in ({band: (name, 1.0) for band, name in STAND_INS.items()}, OTHER_STAND_INS)
    )
    masks, other_masks = model.classify(tervuren), model.classify(other)
    hidden = np.isnan(tervuren).any(axis=1)
    masks[hidden] = other_masks[hidden] = NO_DATA
    colours = [CLOUD_BANDS.index(band) for band in ("B04", "B03", "B02")]

    def picture(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return true_colour(np.moveaxis(values[:, colours], 1, -1))

    frames = [f"frame {number}" for number in range(1, len(trentino) + 1)]
    draw_rows(
        [picture(trentino), trentino_masks, picture(tervuren), masks],
        rows=["Trentino, 2023", "CloudSEN12", "Tervuren, 10 days", "CloudSEN12,\n2 stand-ins"],
        columns=frames,
        lower_columns=list(TERVUREN_DATES),
        caption="Above: 50 x 50 px of 5 to 15 June, all 12 bands, nadir-corrected by another tool, "
        "no context around. Below: 63 x 58 px\nof composites that were masked before (grey: no "
        "data); B02 stands in for B01, B8A for B09. White: brighter than 0.25. No labels.",
        output=output,
    )
    rows = [
        {"scene": "Trentino", "date": name, "mask": "cloudsen12"} | class_shares(mask)
        for name, mask in zip(frames, trentino_masks, strict=True)
    ]
    for date, mask, again in zip(TERVUREN_DATES, masks, other_masks, strict=True):
        valid = mask != NO_DATA
        rows.append(
            {"scene": "Tervuren", "date": date, "mask": "cloudsen12, 2 stand-ins"}
            | class_shares(mask)
            | {"changed_by_other_stand_ins": share((mask != again)[valid].sum(), valid.sum())}
        )
    return rows


def class_shares(mask: Mask) -> dict[str, float | None]:
    """Share of each class among the pixels that have data."""
    valid = mask != NO_DATA
    return {name: share((mask == own).sum(), valid.sum()) for own, name in CLASSES.items()}


def true_colour(values: NDArray[Any]) -> NDArray[np.float32]:
    """Picture of reflectance ``(..., 3)``: 0 to 0.25, brightened; no data in any band is grey."""
    stretched = np.clip(values / 0.25, 0, 1) ** 0.7
    present = np.isfinite(stretched).all(axis=-1, keepdims=True)
    return np.where(present, stretched, 0.894).astype(np.float32)


def draw_rows(
    stacks: Sequence[NDArray[Any]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    caption: str,
    output: Path,
    lower_columns: Sequence[str] = (),
) -> None:
    """Draw pictures ``(date, y, x, 3)`` and masks ``(date, y, x)``, one stack per row."""
    count = len(columns)
    side = 8.0 / count
    with drawing(output, width=8.6, height=side * len(stacks) + 1.0) as figure:
        grid = figure.subplots(len(stacks), count, squeeze=False)
        for row, (stack, name) in enumerate(zip(stacks, rows, strict=True)):
            for axes, layer in zip(grid[row], stack, strict=True):
                draw_layer(axes, layer)
            grid[row, 0].set_ylabel(name)
        for axes, title in zip(grid[0], columns, strict=True):
            axes.set_title(title)
        for axes, title in zip(grid[2], lower_columns, strict=False) if lower_columns else ():
            axes.set_title(title)
        names = ("clear", "thick cloud", "thin cloud", "shadow", "no data")
        patches = [Patch(facecolor=c, label=n) for c, n in zip(MASK_COLOURS, names, strict=True)]
        place = {"loc": "outside lower center", "ncols": 5}
        figure.legend(handles=patches, title=caption, title_fontsize=8, **place)
    few_colours(output)


def draw_layer(axes: Axes, layer: NDArray[Any]) -> None:
    """Draw one picture or one mask."""
    if layer.ndim == 3:
        axes.imshow(layer, interpolation="antialiased")
    else:
        norm = BoundaryNorm(np.arange(6) - 0.5, 5)
        axes.imshow(layer, cmap=ListedColormap(MASK_COLOURS), norm=norm, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def few_colours(path: Path) -> None:
    """Rewrite a picture with a palette: photographs as PNG are large."""
    from PIL import Image

    with Image.open(path) as picture:
        reduced = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)


def main() -> None:
    """Measure, draw, print."""
    parser = demo_arguments(__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--figure", type=Path, help="FILE.png; FILE-south-tyrol.png, FILE-small.png lie beside it"
    )
    arguments = parser.parse_args()
    demo = Demo(arguments.run, arguments.config, ["B02"])
    tallies, frames, overcast = measure_archive(demo, arguments.cubes)
    result: dict[str, Any] = {
        "cubes": [cube.request.cube for cube in demo.chosen(arguments.cubes)],
        "frames": frames,
        "frames_wholly_under_thick_cloud": overcast,
        "classes": class_rows(tallies),
        "binary": binary_rows(tallies),
        "thickness": thickness_rows(tallies),
    }
    if arguments.figure:
        file = arguments.figure
        draw_archive(result["classes"], result["thickness"], file)
        if arguments.real.is_dir():
            tyrol = draw_south_tyrol(arguments.real, file.with_stem(f"{file.stem}-south-tyrol"))
            small = draw_small_scenes(arguments.real, file.with_stem(f"{file.stem}-small"))
            result["real"] = tyrol + small
    show(result, arguments.json)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
