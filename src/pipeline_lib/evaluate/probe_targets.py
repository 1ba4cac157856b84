"""What probes predict of a sample: its neighbourhood, what comes next, the state of the ground."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.probe_features import Array, Pixels, measured

MAX_DAYS = 30
"""Maximum number of days to the pixel's next valid date: a later one is another season."""
MAX_TRUTH_GAP_DAYS = 15
"""Maximum number of days between two dates of the truth between which leaf area is interpolated."""
MAX_SOIL_DAYS = 1
"""Maximum number of days from a date of the truth at which its soil moisture is interpolated."""
MIN_FRACTION = 0.5
"""Minimum fraction of valid pixels around the target pixel, below which mean and standard
deviation are mostly noise."""
STATES = ("leaf_area", "soil_moisture")
"""States of the ground in the truth of a simulation, m2 m-2 and m3 m-3."""
NDVI = ("B08", "B04")
"""Near infrared and red, by their names at Sentinel-2."""

Labels = NDArray[np.str_]
Targets = dict[str, NDArray[Any]]
"""Target -> ``(sample, column)``, NaN in a row without one; of classes ``(sample,)`` text, empty
where a sample has none."""


@dataclass(frozen=True)
class Truth:
    """What a simulated archive knows of a site and no sensor shows: `STATES`
    ``(time, state, y, x)`` on increasing days since 1970-01-01, and the class of land cover
    ``(y, x)`` as a number, on the grid of the site's cubes."""

    days: NDArray[np.int64]
    states: NDArray[np.float32]
    cover: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file that the simulation of a site wrote.

        Raises UserError if it is absent or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                # A date and its time of day; the zone's sign would make NumPy warn.
                dates = content["time"].astype("U10").astype("datetime64[D]")
                return cls(
                    dates.astype(np.int64),
                    np.stack([content[state] for state in STATES], 1).astype(np.float32),
                    content["cover"].astype(np.int64),
                )
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path}: not the truth of a site ({error}); delete it and simulate the site again"
            ) from error

    def on_grid(self, cube: str, shape: tuple[int, ...]) -> Self:
        """This truth. Raises UserError if a cube ``(y, x)`` has another grid."""
        if self.cover.shape != shape:
            raise UserError(
                f"cube {cube}: the truth of its site has another grid; simulate it again"
            )
        return self

    def at(self, day: int, y: int, x: int) -> Array:
        """States ``(state,)`` of a pixel, linear between two dates; NaN where these are far apart,
        and soil moisture, which follows the rain, more than `MAX_SOIL_DAYS` from both."""
        after = int(np.searchsorted(self.days, day))
        exact = after < len(self.days) and self.days[after] == day
        first, last = (after, after) if exact else (after - 1, after)
        if first < 0 or last == len(self.days):
            return np.full(len(STATES), np.nan)
        apart = self.days[[first, last]] - day
        if apart[1] - apart[0] > MAX_TRUTH_GAP_DAYS:
            return np.full(len(STATES), np.nan)
        weight = 0.0 if exact else -apart[0] / (apart[1] - apart[0])
        own = self.states[[first, last], :, y, x].astype(np.float64)
        found = (1 - weight) * own[0] + weight * own[1]
        if np.abs(apart).min() > MAX_SOIL_DAYS:
            found[STATES.index("soil_moisture")] = np.nan
        return np.asarray(found)


@dataclass(frozen=True)
class FieldLabels:
    """Classes of a cube's pixels as somebody mapped them: numbers ``(y, x)`` on its grid, 0 where
    there is none, and the names of the numbers from 1 on."""

    labels: NDArray[np.int64]
    names: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``labels`` and ``names`` of an NPZ file.

        Raises UserError if it is absent or damaged, or a number has no name.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                labels, names = content["labels"].astype(np.int64), content["names"].tolist()
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: not the labels of a cube ({error}); delete it") from error
        if labels.size and not 0 <= labels.min() <= labels.max() <= len(names):
            raise UserError(f"{path}: labels beyond its {len(names)} names; delete it")
        return cls(labels, tuple(str(name) for name in names))

    def on_grid(self, cube: str, shape: tuple[int, ...]) -> Self:
        """These labels. Raises UserError if a cube ``(y, x)`` has another grid."""
        if self.labels.shape != shape:
            raise UserError(f"cube {cube}: its labels have another grid; write them again")
        return self

    def at(self, y: int, x: int) -> str:
        """The class of a pixel; empty where there is none."""
        number = int(self.labels[y, x])
        return self.names[number - 1] if number else ""


def neighbourhood(
    values: NDArray[np.floating], valid: NDArray[np.bool_]
) -> tuple[Array, Array] | None:
    """Mean and standard deviation ``(band,)`` of a patch without its centre pixel.

    Values are ``(band, y, x)``, those of invalid pixels ignored; none where less than
    `MIN_FRACTION` of the other pixels are valid.
    """
    around = valid.copy()
    around[around.shape[0] // 2, around.shape[1] // 2] = False
    if around.sum() < MIN_FRACTION * (around.size - 1):
        return None
    pixels = values[:, around].astype(np.float64)
    return pixels.mean(axis=1), pixels.std(axis=1)


def next_valid(valid: NDArray[np.bool_], days: NDArray[np.int64], frame: int) -> int | None:
    """The next frame of a record in which a pixel is valid, at most `MAX_DAYS` later."""
    later = frame + 1 + np.flatnonzero(valid[frame + 1 :])
    if len(later) == 0 or days[later[0]] - days[frame] > MAX_DAYS:
        return None
    return int(later[0])


def context_targets(
    paths: Iterable[Path],
    pixels: Pixels,
    *,
    bands: Sequence[str],
    patch_px: int,
    land_cover: Mapping[str, str],
    truth: Mapping[str, Truth],
    labels: Mapping[str, FieldLabels],
) -> Targets:
    """Targets of samples of the cubes of one sensor, by target, in its quantity (backscatter in
    decibel).

    ``neighbourhood_mean`` and ``neighbourhood_std`` (of the patch in the centre frame, without the
    target pixel), ``next_change`` (of the target pixel's bands, to its next valid date of the
    record), ``ndvi_change`` (the same of NDVI, where the sensor has `NDVI`), and, where any cube
    has truth, `STATES` and ``leaf_area_change`` to that date; classes: ``land_cover`` of the target
    pixel by the truth, else of the cube, and ``label``, where any cube has labels. ``land_cover``,
    ``truth`` and ``labels`` are by the cube's name. Raises UserError if a truth or labels have
    another grid than their cube.
    """
    count, half = len(bands), patch_px // 2
    columns = {"neighbourhood_mean": count, "neighbourhood_std": count, "next_change": count}
    optical = set(NDVI) <= set(bands)
    if optical:
        columns["ndvi_change"] = 1
    if truth:
        columns |= dict.fromkeys((*STATES, "leaf_area_change"), 1)
    found: Targets = {name: np.full((len(pixels), size), np.nan) for name, size in columns.items()}
    found["land_cover"] = np.array([land_cover.get(cube, "") for cube in pixels.cube], object)
    if labels:
        found["label"] = np.full(len(pixels), "", object)
    near, red = (bands.index(band) for band in NDVI) if optical else (0, 0)
    for cube, rows in measured(paths, pixels):
        known, mapped = truth.get(cube.name), labels.get(cube.name)
        for field in (known, mapped):
            if field is not None:
                field.on_grid(cube.name, cube.valid.shape[1:])
        for row in rows:
            day, y, x = pixels.at(row)
            frame = cube.frame_at(day, y, x)
            if frame is None or cube.days[frame] != day:
                raise ValueError(f"{cube.name}: the target pixel of a sample is not valid")
            patch = np.s_[y - half : y + half + 1, x - half : x + half + 1]
            around = neighbourhood(cube.values[frame, :, *patch], cube.valid[frame, *patch])
            if around is not None:
                found["neighbourhood_mean"][row], found["neighbourhood_std"][row] = around
            if known is not None:
                for state, value in zip(STATES, known.at(day, y, x), strict=True):
                    found[state][row] = value
                found["land_cover"][row] = str(known.cover[y, x])
            if mapped is not None:
                found["label"][row] = mapped.at(y, x)
            later = next_valid(cube.valid[:, y, x], cube.days, frame)
            if later is None:
                continue
            now, then = cube.values[[frame, later], :, y, x].astype(np.float64)
            found["next_change"][row] = then - now
            if optical:
                found["ndvi_change"][row] = _ndvi(then[near], then[red]) - _ndvi(
                    now[near], now[red]
                )
            if known is not None:
                change = known.at(int(cube.days[later]), y, x) - known.at(day, y, x)
                found["leaf_area_change"][row] = change[STATES.index("leaf_area")]
    return {
        name: values.astype(np.str_) if values.dtype == object else values
        for name, values in found.items()
    }


def _ndvi(near: float, red: float) -> float:
    return (near - red) / (near + red) if near + red > 0 else float("nan")
