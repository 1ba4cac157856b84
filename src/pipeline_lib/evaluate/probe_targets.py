"""What probes predict of a sample: its neighbourhood, what comes next, its land cover."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Context
from pipeline_lib.dataset import CubeArrays, Normalisation, SampleIndex
from pipeline_lib.dataset.stacks import QUANTUM
from pipeline_lib.errors import UserError

MAX_DAYS = 30
"""Maximum number of days to the pixel's next valid date: a later one is another season."""
MAX_TRUTH_GAP_DAYS = 15
"""Maximum number of days between two dates of the truth between which leaf area is interpolated."""
MIN_FRACTION = 0.5
"""Minimum fraction of valid pixels around the target pixel, below which mean and standard
deviation are mostly noise."""
NDVI = ("B08", "B04")
"""Near infrared and red, by their names at Sentinel-2."""

Array = NDArray[np.float64]
Labels = NDArray[np.str_]
Targets = dict[str, NDArray[Any]]
"""Target -> ``(sample, column)``, NaN in a row without one; of classes ``(sample,)`` text, empty
where a sample has none."""


@dataclass(frozen=True)
class Truth:
    """What a simulated archive knows of a site and no sensor shows: leaf area ``(time, y, x)``,
    m2 m-2, on increasing days since 1970-01-01, and the class of land cover ``(y, x)`` as a number,
    on the grid of the site's cubes."""

    days: NDArray[np.int64]
    leaf_area: NDArray[np.float32]
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
                    content["leaf_area"].astype(np.float32),
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

    def leaf_area_at(self, day: int, y: int, x: int) -> float:
        """Leaf area of a pixel, linear between two dates; NaN where these are far apart."""
        after = int(np.searchsorted(self.days, day))
        if after < len(self.days) and self.days[after] == day:
            return float(self.leaf_area[after, y, x])
        if not 0 < after < len(self.days):
            return float("nan")
        first, last = self.days[after - 1], self.days[after]
        if last - first > MAX_TRUTH_GAP_DAYS:
            return float("nan")
        return float(np.interp(day, [first, last], self.leaf_area[after - 1 : after + 1, y, x]))


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
    stack: Sequence[CubeArrays],
    drawn: SampleIndex,
    *,
    context: Context,
    normalisation: Normalisation,
    land_cover: Mapping[str, str],
    truth: Mapping[str, Truth],
) -> Targets:
    """Targets of samples drawn from a stack of cubes, by target.

    ``neighbourhood_mean`` and ``neighbourhood_std`` (of the patch in the centre frame, without the
    target pixel; scaled bands), ``next_change`` (of the target pixel's scaled bands, to its next
    valid date of the record), ``ndvi_change`` (the same of NDVI, where the sensor has `NDVI`), and,
    where a cube has truth, ``leaf_area`` and ``leaf_area_change`` to that date; classes:
    ``land_cover`` of the target pixel by the truth, else of the cube. ``land_cover`` and ``truth``
    are by the cube's name. Raises UserError if a truth has another grid than its cube.
    """
    for cube in stack:
        if cube.name in truth:
            truth[cube.name].on_grid(cube.name, cube.valid.shape[1:])
    bands, size, half = len(normalisation.bands), context.patch_px, context.patch_px // 2
    columns = {"neighbourhood_mean": bands, "neighbourhood_std": bands, "next_change": bands}
    ndvi = _ndvi(normalisation)
    if ndvi is not None:
        columns["ndvi_change"] = 1
    if any(cube.name in truth for cube in stack):
        columns |= {"leaf_area": 1, "leaf_area_change": 1}
    found: Targets = {name: np.full((len(drawn), count), np.nan) for name, count in columns.items()}
    labels = []
    for row in range(len(drawn)):
        cube = stack[drawn.cube[row]]
        frame = int(drawn.frames[row, context.frames // 2])
        top, left = int(drawn.top[row]), int(drawn.left[row])
        patch = np.s_[top : top + size, left : left + size]
        y, x = top + half, left + half
        around = neighbourhood(cube.values[frame, :, *patch] * QUANTUM, cube.valid[frame, *patch])
        if around is not None:
            found["neighbourhood_mean"][row], found["neighbourhood_std"][row] = around
        known = truth.get(cube.name)
        if known is not None:
            found["leaf_area"][row] = known.leaf_area_at(int(cube.days[frame]), y, x)
        labels.append(land_cover.get(cube.name, "") if known is None else str(known.cover[y, x]))
        later = next_valid(cube.valid[:, y, x], cube.days, frame)
        if later is None:
            continue
        now, then = cube.values[[frame, later], :, y, x].astype(np.float64) * float(QUANTUM)
        found["next_change"][row] = then - now
        if ndvi is not None:
            found["ndvi_change"][row] = ndvi(then) - ndvi(now)
        if known is not None:
            found["leaf_area_change"][row] = (
                known.leaf_area_at(int(cube.days[later]), y, x) - found["leaf_area"][row]
            )
    return found | {"land_cover": np.array(labels, dtype=np.str_)}


def _ndvi(normalisation: Normalisation) -> Callable[[Array], float] | None:
    """NDVI of a scaled spectrum, or none where the sensor has no band for it."""
    if not set(NDVI) <= set(normalisation.bands):
        return None
    near, red = (normalisation.bands.index(band) for band in NDVI)

    def ndvi(scaled: Array) -> float:
        spectrum = normalisation.physical(scaled)
        total = spectrum[near] + spectrum[red]
        return float((spectrum[near] - spectrum[red]) / total) if total > 0 else float("nan")

    return ndvi
