"""Exactness of embeddings: what they must not depend on, and beside it what they must.

Both kinds of encoder and both sensors, default widths, random weights, invented frames with
clouds. What the exporter gives is compared with single patches that are cut out by hand and run
alone, with other tiles, offsets and batches, and with other values where nothing is valid. The
frames' order, their dates and the bands' order are changed for contrast.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from measure import measured, one_thread, show
from numpy.typing import NDArray

from pipeline_lib.config import SENTINEL_1, SENTINEL_2, Context, Encoder
from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.dataset import Normalisation, window_frames
from pipeline_lib.embed.arrays import Frames, Tile, days_of, tiles
from pipeline_lib.embed.dense import crops_of, embed_crops
from pipeline_lib.errors import UserError
from pipeline_lib.models import Autoencoder, Fusion, TrainedEncoder, TrainedFusion, load_encoder
from pipeline_lib.report.style import ABSENT, COLOURS, INK, MASKED, MUTED, drawing

LIMIT = 1e-5
LEAST = 1e-8
"""Where the figure's scales begin."""
KINDS = ("dense", "patch")
SENSORS = {"sentinel-1": SENTINEL_1, "sentinel-2": SENTINEL_2}
FUSED = "fused"
BATCH = 256
"""Windows of one step where nothing else is said: the default of the export."""

CHANGES = {
    "patchwise": "single patches, alone",
    "mates": "single patches, together",
    "tiles": "smaller tiles",
    "offset": "tiles begin elsewhere",
    "batch": "smaller batches",
    "masked 1000": "masked values: 1000",
    "masked nan": "masked values: NaN",
    "order": "frames reversed around the centre",
    "dates": "every other date a day later",
    "bands": "bands in reverse order",
}
CONTRASTS = ("order", "dates", "bands")
"""Changes of the content. All others only change the way it is computed, or what is masked."""

Vectors = dict[str, NDArray[np.float32]]
"""By sensor the latents, and the fused embedding: ``(..., number)``, NaN where there is none."""


class Opened(torch.nn.Module):
    """A fusion whose embedding also shows the latents that it was made of.

    Parameters
    ----------
    fusion
        Whose embedding comes last, after the latents of its sensors.
    """

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion = fusion

    def fuse(
        self,
        latents: Mapping[str, torch.Tensor],
        days: Mapping[str, torch.Tensor],
        present: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Latents, NaN where a sensor is absent, and embedding ``(B, all numbers)``."""
        shown = [
            torch.where(present[name][:, None], latents[name], torch.nan)
            for name in self.fusion.sensors
        ]
        return torch.cat([*shown, self.fusion.fuse(latents, days, present)], dim=1)

    def split(self, embedding: torch.Tensor) -> dict[str, torch.Tensor]:
        """As the fusion does."""
        return self.fusion.split(embedding[:, -self.fusion.leave.in_features :])


@dataclass(frozen=True)
class Models:
    """Encoders by sensor and a fusion over them, by either path.

    Attributes
    ----------
    fusion
        An `Opened` one.
    """

    encoders: dict[str, TrainedEncoder]
    fusion: TrainedFusion

    @classmethod
    def over(cls, encoders: Mapping[str, TrainedEncoder]) -> Models:
        """Join encoders by a fusion with random weights."""
        encoders = dict(sorted(encoders.items()))
        reference = max(encoders, key=lambda name: encoders[name].sensor.latent_dim)
        latents = {name: trained.sensor.latent_dim for name, trained in encoders.items()}
        block = FusionBlock(reference=reference)
        opened = Opened(Fusion(latents, block).eval())
        wide = block.model_copy(
            update={"embedding_dim": sum(latents.values()) + block.embedding_dim}
        )
        # The exporter asks a fusion for no more than the two methods of `Opened`.
        return cls(encoders, TrainedFusion(wide, opened, {}, "", {}))  # type: ignore[arg-type]

    @classmethod
    def random(cls, kind: str, seed: int) -> Models:
        """Default models of both sensors with random weights."""
        torch.manual_seed(seed)
        encoders = {}
        for name, default in SENSORS.items():
            sensor = default.model_copy(update={"encoder": Encoder(kind=kind)})
            bounds = (f(len(sensor.bands), np.float32) for f in (np.zeros, np.ones))
            scaling = Normalisation(sensor.bands, *bounds)
            model = Autoencoder(sensor, Context()).eval()
            encoders[name] = TrainedEncoder(name, sensor, Context(), model, scaling, "", {})
        return cls.over(encoders)

    @property
    def reference(self) -> str:
        """Sensor whose dates the embeddings have."""
        return self.fusion.block.reference

    def parts(self, embedding: NDArray[np.float32]) -> Vectors:
        """Divide ``(..., all numbers)`` of `Opened`."""
        sizes = [trained.sensor.latent_dim for trained in self.encoders.values()]
        divided = np.split(embedding, np.cumsum(sizes), axis=-1)
        return dict(zip((*self.encoders, FUSED), divided, strict=True))


@dataclass(frozen=True)
class Record:
    """Frames in memory: values ``(time, band, y, x)``, validity ``(time, y, x)``."""

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    times: NDArray[np.datetime64]

    @property
    def days(self) -> NDArray[np.int64]:
        """Calendar day of each frame, counted from 1970."""
        return days_of(self.times)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.valid.shape[1], self.valid.shape[2]

    def frames(self) -> Frames:
        """The frames as the dense path reads them."""
        return Frames(
            self.times,
            self.shape,
            lambda rows, columns: (self.values[..., rows, columns], self.valid[:, rows, columns]),
        )


def invented(models: Models, size: int, seed: int) -> dict[str, Record]:
    """Frames of fields with a season, noise and clouds in blotches, on ``size`` x ``size`` px."""
    rng = np.random.default_rng(seed)
    found = {}
    steps: NDArray[np.int64] | None = None
    for number, (name, trained) in enumerate(models.encoders.items()):
        count, bands = trained.context.frames, len(trained.sensor.bands)
        if steps is None:
            steps = np.cumsum(rng.integers(3, 12, count))
        fields = _blotches(rng.random((1, bands, size, size)), 6)
        season = _blotches(rng.random((1, bands, size, size)), 6) - 0.5
        phase = np.sin(2 * np.pi * steps / 365)[:, None, None, None]
        noise = rng.normal(0, 0.03, (count, bands, size, size))
        valid = _blotches(rng.random((count, size, size)), 5) > 0.25
        valid[1] = False
        valid[count // 2, size // 2, size // 2] = True
        values = np.clip(fields + season * phase + noise, 0, 1) * valid[:, None]
        # A day apart, frame by frame: the pairs of sensors stay when a date moves by a day.
        times = np.datetime64("2021-01-01", "D") + steps + number
        found[name] = Record(values.astype(np.float32), valid, times.astype("datetime64[ns]"))
    return found


def _blotches(maps: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Every ``side``-th pixel of the last two dimensions, repeated to their size."""
    size = maps.shape[-1]
    large = maps[..., ::side, ::side].repeat(side, axis=-1).repeat(side, axis=-2)
    return large[..., :size, :size]


def dense(
    models: Models, frames: Mapping[str, Record], tile: Tile, batch: int = BATCH
) -> NDArray[np.float32]:
    """The exported numbers of a tile, ``(date, y, x, number)``."""
    read = {name: own.frames() for name, own in frames.items()}
    crops = crops_of(read, models.encoders, tile)
    found = embed_crops(crops=crops, encoders=models.encoders, fusion=models.fusion, batch=batch)
    return np.moveaxis(found["embedding"], 1, -1)


def tiled(
    models: Models, frames: Mapping[str, Record], side: int, offset: int = 0
) -> NDArray[np.float32]:
    """As `dense` for a whole cube, in tiles of ``side`` px of which the first is cut ``offset``."""
    height, width = frames[models.reference].shape
    numbers, dates = models.fusion.block.embedding_dim, len(frames[models.reference].times)
    whole = np.full((dates, height, width, numbers), np.nan, np.float32)
    for tile in tiles(height + offset, width + offset, side):
        top, left = max(tile.row - offset, 0), max(tile.column - offset, 0)
        bottom, right = tile.row + tile.height - offset, tile.column + tile.width - offset
        part = Tile(top, left, bottom - top, right - left)
        whole[:, part.rows, part.columns] = dense(models, frames, part)
    return whole


@torch.inference_mode()
def patchwise(
    models: Models, frames: Mapping[str, Record], places: NDArray[np.intp], together: int
) -> NDArray[np.float32]:
    """The same numbers ``(place, number)`` from patches that are cut out one by one.

    Parameters
    ----------
    places
        ``(place, 3)``: date, row and column, valid in the reference sensor.
    together
        Patches of one call of the models.
    """
    found = []
    for start in range(0, len(places), together):
        part = places[start : start + together]
        latents, days, present = {}, {}, {}
        dates = frames[models.reference].days
        for name, trained in models.encoders.items():
            own = frames[name]
            gaps = np.abs(own.days[:, None] - dates[part[:, 0]])
            gaps[~own.valid[:, part[:, 1], part[:, 2]]] = np.iinfo(gaps.dtype).max
            pairs = gaps.argmin(axis=0)
            windows = [
                cut(own, trained, int(pair), int(row), int(column))
                for pair, (_, row, column) in zip(pairs, part, strict=True)
            ]
            batch = [torch.from_numpy(np.stack(arrays)) for arrays in zip(*windows, strict=True)]
            latents[name] = trained.autoencoder.encoder(*batch)
            days[name] = torch.from_numpy((own.days[pairs] - dates[part[:, 0]]).astype(np.float32))
            present[name] = torch.from_numpy(own.valid[pairs, part[:, 1], part[:, 2]])
        found.append(models.fusion.fusion.fuse(latents, days, present).numpy())
    return np.concatenate(found)


def cut(
    frames: Record, trained: TrainedEncoder, centre: int, row: int, column: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Values, validity and days of one window, missing where it has no frame."""
    side, length = trained.context.patch_px, trained.context.frames
    height, width = frames.shape
    values = np.zeros((length, frames.values.shape[1], side, side), np.float32)
    valid, days = np.zeros((length, side, side), bool), np.zeros(length, np.float32)
    top, left = row - side // 2, column - side // 2
    here = (slice(max(top, 0), top + side), slice(max(left, 0), left + side))
    there = (
        slice(max(-top, 0), min(height - top, side)),
        slice(max(-left, 0), min(width - left, side)),
    )
    span, rolling_mean = trained.sensor.sequence.max_span_days, trained.sensor.rolling_mean
    window, present = window_frames(frames.days, centre, length, span, rolling_mean=rolling_mean)
    for slot in np.flatnonzero(present):
        frame = window[slot]
        values[slot][(..., *there)] = frames.values[frame][(..., *here)]
        valid[slot][there] = frames.valid[frame][here]
        days[slot] = frames.days[frame] - frames.days[centre]
    return values, valid, days


def measure(label: str, models: Models, size: int, windows: int, seed: int) -> list[dict[str, Any]]:
    """Largest difference of each of the numbers' kinds after each change, one row for each."""
    frames = invented(models, size, seed)
    height, width = frames[models.reference].shape
    whole = dense(models, frames, Tile(0, 0, height, width))
    spread = {name: np.nanstd(part, axis=(0, 1, 2)) for name, part in models.parts(whole).items()}

    def everywhere(change: Callable[[Record], Record]) -> dict[str, Record]:
        return {name: change(own) for name, own in frames.items()}

    def filled(value: float) -> dict[str, Record]:
        return everywhere(
            lambda own: replace(
                own, values=np.where(own.valid[:, None], own.values, np.float32(value))
            )
        )

    places = np.argwhere(np.isfinite(whole[..., -1]))
    edge = np.isin(places[:, 1:], (0, size - 1)).all(axis=1)
    rng = np.random.default_rng(seed)
    drawn = places[rng.choice(len(places), min(windows, len(places)), replace=False)]
    chosen = np.concatenate([drawn, places[edge][:windows]])
    near = Tile(size // 3, size // 4, size // 2, size // 3)
    middle = len(whole) // 2
    before = dense(models, frames, near)
    alone = patchwise(models, frames, chosen, 1)
    side = size // 3
    after = {
        "patchwise": (whole[tuple(chosen.T)], alone),
        "mates": (alone, patchwise(models, frames, chosen, 32)),
        "tiles": (
            np.stack([whole, whole]),
            np.stack([tiled(models, frames, side), tiled(models, frames, 2 * side)]),
        ),
        "offset": (whole, tiled(models, frames, side, side // 2)),
        "batch": (before, dense(models, frames, near, 7)),
        "masked 1000": (before, dense(models, filled(1000), near)),
        "masked nan": (before, dense(models, filled(np.nan), near)),
    }
    contents = {
        "order": everywhere(lambda own: Record(own.values[::-1], own.valid[::-1], own.times)),
        "dates": everywhere(_day_later),
        "bands": everywhere(lambda own: replace(own, values=own.values[:, ::-1].copy())),
    }
    for change, content in contents.items():
        # Only there the centre frame and its date are still the same.
        after[change] = (before[middle], dense(models, content, near)[middle])
    rows = []
    for change, (first, second) in after.items():
        again = models.parts(second)
        for name, part in models.parts(first).items():
            seen = np.isfinite(part[..., 0])
            if not np.array_equal(seen, np.isfinite(again[name][..., 0])):
                raise UserError(f"{label}, {name}: {change} gives numbers in other places")
            apart = np.abs(part - again[name])[seen]
            rows.append(
                {
                    "encoder": label,
                    "numbers": name,
                    "change": change,
                    "largest": float(apart.max()),
                    "largest_in_sd": float((apart / spread[name]).max()),
                    "typical": float(np.median(apart.max(axis=-1))),
                }
            )
    return rows


def _day_later(own: Record) -> Record:
    """Move the dates before and after the middle one, the third ones, and so on."""
    odd = (np.arange(len(own.times)) - len(own.times) // 2) % 2
    return replace(own, times=own.times + odd * np.timedelta64(1, "D"))


def measure_kind(kind: str, size: int, windows: int, seeds: int) -> list[dict[str, Any]]:
    """Rows of `measure` with random weights: largest over seeds; of contrasts the smallest."""
    torch.set_num_threads(1)
    runs = [measure(kind, Models.random(kind, seed), size, windows, seed) for seed in range(seeds)]
    rows = []
    for same in zip(*runs, strict=True):
        choose = min if same[0]["change"] in CONTRASTS else max
        values = ("largest", "largest_in_sd", "typical")
        rows.append(same[0] | {key: choose(row[key] for row in same) for key in values})
    return rows


def measure_trained(folders: list[Path], size: int, windows: int) -> list[dict[str, Any]]:
    """Rows of `measure` with the weights of trained encoders, one per sensor."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    loaded = [load_encoder(folder) for folder in folders]
    return measure("trained", Models.over({one.name: one for one in loaded}), size, windows, 0)


def map_kind(kind: str, size: int, side: int) -> NDArray[np.float32]:
    """Largest difference over the Sentinel-2 latent, dense in tiles from patchwise, ``(y, x)``.

    Of the middle date; NaN where nothing is valid.
    """
    torch.set_num_threads(1)
    models = Models.random(kind, 0)
    models = Models.over({"sentinel-2": models.encoders["sentinel-2"]})
    frames = invented(models, size, 0)
    whole = tiled(models, frames, side)
    middle = len(whole) // 2
    places = np.argwhere(np.isfinite(whole[..., -1]))
    places = places[places[:, 0] == middle]
    single = models.parts(patchwise(models, frames, places, 1))["sentinel-2"]
    together = models.parts(whole[tuple(places.T)])["sentinel-2"]
    found = np.full(whole.shape[1:3], np.nan, np.float32)
    found[tuple(places[:, 1:].T)] = np.abs(single - together).max(axis=1)
    return found


def draw(
    rows: list[dict[str, Any]], maps: Mapping[str, NDArray[np.float32]], side: int, output: Path
) -> None:
    """Draw both maps, and the largest difference after each change."""
    with drawing(output, width=7.2, height=7.2) as figure:
        (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.3))
        _draw_maps(above, maps, side)
        _draw_bars(below, rows)


def _draw_maps(figure: SubFigure, maps: Mapping[str, NDArray[np.float32]], side: int) -> None:
    norm = LogNorm(LEAST, LIMIT)
    colours = colormaps["viridis"].with_extremes(under=ABSENT, bad=MASKED)
    panels = figure.subplots(1, len(maps))
    for axes, letter, (kind, found) in zip(panels, "ab", maps.items(), strict=True):
        size = len(found)
        # What is equal to the last bit has no logarithm: it lies below the scale's end.
        shown = np.where(found == 0, LEAST / 2, found)
        axes.imshow(shown, norm=norm, cmap=colours, extent=(0, size, size, 0))
        for line in range(side, size, side):
            axes.axhline(line, color=INK, linewidth=1.5)
            axes.axvline(line, color=INK, linewidth=1.5)
        axes.set(xticks=range(0, size + 1, side), yticks=range(0, size + 1, side))
        axes.set(
            xlabel="column, px", title=f"{kind} encoder, at most {_short(float(np.nanmax(found)))}"
        )
        axes.set_title(letter, loc="left", fontweight="bold")
        axes.spines[:].set_visible(False)
    panels[0].set_ylabel("row, px")
    bar = figure.colorbar(
        ScalarMappable(norm, colours),
        ax=panels,
        extend="min",
        label="difference from single patches,\nlargest of 9 Sentinel-2 numbers",
    )
    bar.outline.set_visible(False)
    marks: list[Artist] = [Line2D([], [], color=INK, linewidth=1.5, label="tile borders")]
    marks.append(Patch(facecolor=MASKED, label="masked"))
    if any((found == 0).any() for found in maps.values()):
        marks.append(Patch(facecolor=ABSENT, label="equal to the last bit"))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))


def _draw_bars(figure: SubFigure, rows: list[dict[str, Any]]) -> None:
    axes = figure.subplots()
    labels = list(dict.fromkeys(row["encoder"] for row in rows))
    height = 0.8 / len(labels)
    for number, label in enumerate(labels):
        for place, change in enumerate(CHANGES):
            own = [r for r in rows if (r["encoder"], r["change"]) == (label, change)]
            # Of what must matter, the numbers that it matters least to.
            choose = min if change in CONTRASTS else max
            largest = choose(row["largest"] for row in own)
            where = place + (number - (len(labels) - 1) / 2) * height
            name = f"{label} encoder" if place == 0 else None
            axes.barh(where, largest, height * 0.9, color=COLOURS[number], label=name)
            text = _short(largest) if largest else "0: equal to the last bit"
            axes.annotate(
                text,
                (max(largest, LEAST), where),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
    axes.axvline(LIMIT, color=INK, linestyle="--", linewidth=1.2, label=f"limit {_short(LIMIT)}")
    axes.axhline(len(CHANGES) - len(CONTRASTS) - 0.5, color=MUTED, linewidth=0.8)
    for top, text in ((0, "must not\nmatter"), (len(CHANGES) - len(CONTRASTS), "must\nmatter")):
        axes.annotate(
            text,
            (1, top - 0.4),
            xycoords=axes.get_yaxis_transform(),
            va="top",
            ha="right",
            color=MUTED,
        )
    axes.set(xscale="log", xlim=(LEAST, 10), ylim=(len(CHANGES) - 0.5, -0.5))
    axes.set_yticks(range(len(CHANGES)), list(CHANGES.values()))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.set_xlabel("largest difference of a latent or an embedding, in its own units")
    axes.set_title("c", loc="left", fontweight="bold")
    axes.grid(axis="x")
    figure.legend(loc="outside lower center", ncols=len(labels) + 1)


def _short(value: float) -> str:
    """One digit and the power of ten, as ``4e-7``."""
    digits, power = f"{value:.0e}".split("e")
    return f"{digits}e{int(power)}"


def main() -> None:
    """Measure, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seeds", type=int, default=3, help="random models and frames of each")
    parser.add_argument("--dense-px", type=int, default=36, help="side of the dense kind's cube")
    parser.add_argument("--patch-px", type=int, default=12, help="side of the patch kind's cube")
    parser.add_argument("--windows", type=int, default=24, help="patches that are run alone")
    parser.add_argument(
        "--model", type=Path, nargs="+", default=[], help="folders of trained encoders, as well"
    )
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    parser.add_argument("--map-px", type=int, default=36, help="side of the figure's maps")
    arguments = parser.parse_args()
    one_thread()
    sizes = dict(zip(KINDS, (arguments.dense_px, arguments.patch_px), strict=True))
    costs = {
        kind: measured(measure_kind, kind, size, arguments.windows, arguments.seeds)
        for kind, size in sizes.items()
    }
    if arguments.model:
        costs["trained"] = measured(
            measure_trained, arguments.model, arguments.dense_px, arguments.windows
        )
    rows = [row for cost in costs.values() for row in cost.result]
    result = {
        "limit": LIMIT,
        "largest_invariant": max(row["largest"] for row in rows if row["change"] not in CONTRASTS),
        "smallest_contrast": min(row["largest"] for row in rows if row["change"] in CONTRASTS),
        "seeds": arguments.seeds,
        "threads": 1,
        "seconds": sum(cost.seconds for cost in costs.values()),
        "peak_gb": max(cost.peak_gb for cost in costs.values()),
        "changes": rows,
    }
    if arguments.figure:
        side = arguments.map_px // 3
        maps = {kind: measured(map_kind, kind, arguments.map_px, side).result for kind in KINDS}
        draw(rows, maps, side, arguments.figure)
        result["largest_in_map"] = {kind: float(np.nanmax(maps[kind])) for kind in KINDS}
    show(result, arguments.json)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
