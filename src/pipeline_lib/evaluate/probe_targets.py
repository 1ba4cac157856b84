"""What probes shall tell of a sample: its neighbourhood, what comes next, its land cover."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Context
from pipeline_lib.dataset import CubeArrays, Draw, Normalisation
from pipeline_lib.dataset.stacks import QUANTUM
from pipeline_lib.errors import UserError

MAX_DAYS = 30
"""Days to the pixel's next valid date at most: a later one is another season."""
MAX_TRUTH_GAP_DAYS = 15
"""Days between two dates of the truth at most, if leaf area is interpolated between them."""
MIN_SHARE = 0.5
"""Least share of valid pixels around the centre: of fewer, mean and spread are mostly noise."""
NDVI = ("B08", "B04")
"""Near infrared and red, by their names at Sentinel-2."""

Array = NDArray[np.float64]
Labels = NDArray[np.str_]


@dataclass(frozen=True)
class Truth:
    """What a simulated archive knows of a site and no sensor tells.

    Parameters
    ----------
    days
        ``(time,)``, increasing: days since 1970-01-01.
    leaf_area
        ``(time, y, x)``, m2 m-2, on the grid of the site's cubes.
    cover
        ``(y, x)``, a number per class of land cover.
    """

    days: NDArray[np.int64]
    leaf_area: NDArray[np.float32]
    cover: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file that the simulation of a site wrote.

        Raises
        ------
        UserError
            If the file is absent or is not such a file.
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
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; simulate the site again") from None
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path}: not the truth of a site ({error}); delete it and simulate the site again"
            ) from error

    def check_grid(self, cube: str, shape: tuple[int, ...]) -> None:
        """Refuse the truth of another grid than that of a cube, ``(y, x)``.

        Raises
        ------
        UserError
            If they differ.
        """
        if self.cover.shape != shape:
            raise UserError(
                f"cube {cube}: the truth of its site has another grid; simulate it again"
            )

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


@dataclass(frozen=True)
class Targets:
    """What probes shall predict of some samples.

    Parameters
    ----------
    numbers
        Target -> ``(sample, column)``; NaN in all columns where a sample has none.
    classes
        Target -> ``(sample,)``; an empty text where a sample has none.
    """

    numbers: dict[str, Array]
    classes: dict[str, Labels]

    def of(self, target: str) -> NDArray[Any]:
        """One target, of either kind."""
        return self.numbers[target] if target in self.numbers else self.classes[target]


def neighbourhood(
    values: NDArray[np.floating], valid: NDArray[np.bool_]
) -> tuple[Array, Array] | None:
    """Mean and standard deviation of a patch per band, its centre pixel left out.

    Parameters
    ----------
    values, valid
        ``(band, y, x)`` and ``(y, x)``, of odd size. What stands at invalid pixels is ignored.

    Returns
    -------
    tuple of array or None
        ``(band,)`` each; none where under `MIN_SHARE` of the other pixels are valid.
    """
    around = valid.copy()
    around[around.shape[0] // 2, around.shape[1] // 2] = False
    if around.sum() < MIN_SHARE * (around.size - 1):
        return None
    pixels = values[:, around].astype(np.float64)
    return pixels.mean(axis=1), pixels.std(axis=1)


def next_valid(valid: NDArray[np.bool_], days: NDArray[np.int64], frame: int) -> int | None:
    """The next frame of a record in which a pixel is valid, at most `MAX_DAYS` on.

    Parameters
    ----------
    valid, days
        ``(time,)`` each, of the whole record and of one pixel.
    frame
        The frame that comes before.
    """
    later = frame + 1 + np.flatnonzero(valid[frame + 1 :])
    if len(later) == 0 or days[later[0]] - days[frame] > MAX_DAYS:
        return None
    return int(later[0])


def context_targets(
    stack: Sequence[CubeArrays],
    drawn: Draw,
    *,
    context: Context,
    normalisation: Normalisation,
    land_cover: Mapping[str, str],
    truth: Mapping[str, Truth],
) -> Targets:
    """Targets of drawn samples.

    Parameters
    ----------
    stack, drawn
        The cubes, and which samples of them.
    context
        Size of a sample.
    normalisation
        Scaling of the stack.
    land_cover
        Class of a cube, by its name; used where a cube has no truth.
    truth
        Truth of a cube, by its name.

    Returns
    -------
    Targets
        ``surroundings_mean`` and ``surroundings_spread`` (of the patch in the centre frame,
        without the centre; scaled bands), ``next_change`` (of the centre pixel's scaled bands,
        to its next valid date of the record), ``ndvi_change`` (the same of NDVI, where the
        sensor has `NDVI`), and, where a cube has truth, ``leaf_area`` and
        ``leaf_area_change`` to that date; classes: ``land_cover`` of the centre pixel by the
        truth, else of the cube.

    Raises
    ------
    UserError
        If a truth has another grid than its cube.
    """
    for cube in stack:
        if cube.name in truth:
            truth[cube.name].check_grid(cube.name, cube.valid.shape[1:])
    bands, size, half = len(normalisation.bands), context.patch_px, context.patch_px // 2
    columns = {"surroundings_mean": bands, "surroundings_spread": bands, "next_change": bands}
    vegetation = _vegetation_index(normalisation)
    if vegetation is not None:
        columns["ndvi_change"] = 1
    if any(cube.name in truth for cube in stack):
        columns |= {"leaf_area": 1, "leaf_area_change": 1}
    numbers = {name: np.full((len(drawn), count), np.nan) for name, count in columns.items()}
    labels = []
    for row in range(len(drawn)):
        cube = stack[drawn.cube[row]]
        frame = int(drawn.frames[row, context.frames // 2])
        top, left = int(drawn.top[row]), int(drawn.left[row])
        patch = np.s_[top : top + size, left : left + size]
        y, x = top + half, left + half
        around = neighbourhood(cube.values[frame, :, *patch] * QUANTUM, cube.valid[frame, *patch])
        if around is not None:
            numbers["surroundings_mean"][row], numbers["surroundings_spread"][row] = around
        known = truth.get(cube.name)
        if known is not None:
            numbers["leaf_area"][row] = known.leaf_area_at(int(cube.days[frame]), y, x)
        labels.append(land_cover.get(cube.name, "") if known is None else str(known.cover[y, x]))
        later = next_valid(cube.valid[:, y, x], cube.days, frame)
        if later is None:
            continue
        now, then = cube.values[[frame, later], :, y, x].astype(np.float64) * float(QUANTUM)
        numbers["next_change"][row] = then - now
        if vegetation is not None:
            numbers["ndvi_change"][row] = vegetation(then) - vegetation(now)
        if known is not None:
            numbers["leaf_area_change"][row] = (
                known.leaf_area_at(int(cube.days[later]), y, x) - numbers["leaf_area"][row]
            )
    return Targets(numbers, {"land_cover": np.array(labels, dtype=np.str_)})


def _vegetation_index(normalisation: Normalisation) -> Callable[[Array], float] | None:
    """NDVI of a scaled spectrum, or none where the sensor lacks a band of it."""
    if not set(NDVI) <= set(normalisation.bands):
        return None
    near, red = (normalisation.bands.index(band) for band in NDVI)
    lower = normalisation.lower.astype(np.float64)
    extent = normalisation.upper.astype(np.float64) - lower

    def ndvi(scaled: Array) -> float:
        spectrum = lower + scaled * extent
        total = spectrum[near] + spectrum[red]
        return float((spectrum[near] - spectrum[red]) / total) if total > 0 else float("nan")

    return ndvi
