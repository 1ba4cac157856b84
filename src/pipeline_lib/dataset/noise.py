"""The noise of a sensor, measured on its own cubes: by distance in space, and across bands.

What a frame has that the frames before and after it do not foretell is noise, and what changes
faster than the sensor returns. An encoder that knows it can tell signal from noise.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.dataset.normalisation import Normalisation, cube_name, cubes_of
from pipeline_lib.dataset.stacks import QUANTUM, CubeArrays, load_stack
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json, write_json
from pipeline_lib.seeds import generator

LOG = logging.getLogger("pipeline_lib.dataset")

MAX_SPAN_DAYS = 40
"""Days from the first to the last of three successive frames, above which the land changes more
than the noise."""
MAX_DISTANCE_PX = 8
APART_PX = 3
"""Pixels from one to another whose noise is its own, also where pixels of 20 m were refined."""
LEAST_CORRELATION = 0.25
"""Correlation of the noise of two pixels from which on they share it."""
KEPT = 0.9
"""Share of the residuals that are noise and no cloud, snow or harvest: the shortest."""
TRIPLES = 24
"""Triples, at most, of a cube."""
PIXELS = 400_000
"""Pixels, at most, of all triples, and no more than the hundredth part of it from one triple."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Noise of a sensor's bands, scaled to 0..1.

    ``covariance`` is ``(band, band)``, ``correlation`` ``(distance,)`` that of two pixels 0, 1, ...
    pixels apart, and ``correlated_px`` the distance up to which they share their noise.
    ``triples`` is the number of frames it is measured on; 0: none, and all of it is assumed.
    """

    bands: tuple[str, ...]
    covariance: Array
    correlation: Array
    correlated_px: int
    triples: int

    @classmethod
    def unknown(cls, bands: Sequence[str]) -> Self:
        """Equal and independent in all bands, and shared with the direct neighbours."""
        return cls(tuple(bands), np.eye(len(bands)), np.empty(0), 1, 0)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Noise from the file of `measure_noise`; raises UserError if it is not such."""
        content: Mapping[str, Any] = read_json(path)
        try:
            bands = tuple(str(band) for band in content["bands"])
            covariance = np.array(content["covariance"], dtype=np.float64)
            correlation = np.array(content["correlation"], dtype=np.float64)
            found = cls(
                bands, covariance, correlation, int(content["correlated_px"]), content["triples"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not a sensor's noise; delete it and run again") from error
        if covariance.shape != (len(bands),) * 2 or not np.isfinite(covariance).all():
            raise UserError(f"{path}: does not fit its bands; delete it and run again")
        return found


def measure_noise(
    *,
    cubes: Sequence[Path],
    split_table: Path,
    normalisation: Path,
    reach: int,
    seed: int,
    output: Path,
) -> None:
    """Measure a sensor's noise on its training cubes, and write `Noise` as JSON.

    ``reach`` is the distance of frames, in frames, from which on they share no measurement: the
    length of the rolling mean. Where no cube has three frames that far apart and close enough in
    time, the noise is `Noise.unknown`.
    """
    chosen = cubes_of(cubes, split_table, "training")
    scaling = Normalisation.read(normalisation)
    parts, correlations = [], []
    pixels = max(1, min(PIXELS // 100, PIXELS // (TRIPLES * max(1, len(chosen)))))
    for path in chosen:
        (cube,) = load_stack([path], scaling)
        rng = generator(seed, "noise", cube_name(path))
        middles = rng.permutation(_middles(cube.days, reach))[:TRIPLES]
        for middle in sorted(middles.tolist()):
            residual, valid = residuals(cube, middle, reach)
            own = differences(residual, valid)
            if len(own) == 0:
                continue
            parts.append(own[rng.permutation(len(own))[:pixels]])
            correlations.append(correlation_by_distance(residual, valid))
    found = Noise.unknown(scaling.bands)
    if parts and sum(map(len, parts)) > 10 * len(scaling.bands):
        correlation = np.nanmean(correlations, axis=0)
        covariance = trimmed_covariance(np.concatenate(parts))
        shared = correlated_px(correlation)
        found = Noise(scaling.bands, covariance, correlation, shared, len(parts))
        LOG.info("noise of %d frames is shared up to a distance of %d px", len(parts), shared)
    else:
        LOG.warning("no three frames are close enough in time: the noise is assumed, not measured")
    content = vars(found) | {
        "covariance": found.covariance.tolist(),
        "correlation": [round(value, 6) for value in found.correlation.tolist()],
    }
    write_json(output, content)


def _middles(days: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Middle frames of the triples of a record."""
    middles = np.arange(reach, len(days) - reach)
    span = days[middles + reach] - days[middles - reach]
    return middles[span <= MAX_SPAN_DAYS * reach]


def residuals(
    cube: CubeArrays, middle: int, reach: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What a frame has beyond the linear interpolation of those ``reach`` before and after it.

    ``(band, y, x)``, divided by what three independent errors of one size make of it, so that its
    variance is the noise's; and where all three frames are valid, ``(y, x)``.
    """
    triple = [middle - reach, middle, middle + reach]
    before, now, after = cube.values[triple].astype(np.float32) * QUANTUM
    first, day, last = cube.days[triple].tolist()
    weight = (day - first) / (last - first)
    residual = now - (1 - weight) * before - weight * after
    valid: NDArray[np.bool_] = np.logical_and.reduce(cube.valid[triple], axis=0)
    return residual / np.float32((1 + weight**2 + (1 - weight) ** 2) ** 0.5), valid


def differences(residual: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Differences ``(pair, band)`` of residuals ``(band, y, x)`` between pixels `APART_PX` apart in
    a row, divided by what two independent errors of one size make of them.

    Light, haze and growth change whole fields between two dates, and would pass for noise: they are
    what neighbours have in common (Green et al. 1988 take their differences likewise).
    """
    pairs = valid[:, APART_PX:] & valid[:, :-APART_PX]
    apart = residual[:, :, APART_PX:] - residual[:, :, :-APART_PX]
    return apart[:, pairs].T / np.float32(2**0.5)


def correlation_by_distance(
    residual: NDArray[np.float32], valid: NDArray[np.bool_], most: int = MAX_DISTANCE_PX
) -> Array:
    """Correlation ``(distance,)`` of residuals ``(band, y, x)`` with those 0, 1, ... pixels away.

    The mean over rows, columns and bands; NaN where a distance has no pair of valid pixels. What
    the whole frame has in common is no noise of its pixels, and is subtracted.
    """
    count = valid.sum()
    mean = residual[:, valid].mean(axis=1)[:, None, None]
    centred = np.where(valid, residual - mean, 0)
    variance = (centred.astype(np.float64) ** 2).sum(axis=(1, 2)) / count
    found = np.full((most + 1, 2), np.nan)
    for axis in (1, 2):
        for distance in range(min(most + 1, valid.shape[axis - 1])):
            ahead = np.arange(valid.shape[axis - 1] - distance)
            one, other = ahead, ahead + distance
            pairs = np.take(valid, one, axis - 1) & np.take(valid, other, axis - 1)
            if not pairs.any():
                continue
            products = np.take(centred, one, axis) * np.take(centred, other, axis)
            covariance = products.sum(axis=(1, 2), dtype=np.float64) / pairs.sum()
            found[distance, axis - 1] = (covariance / np.maximum(variance, 1e-12)).mean()
    return found.mean(axis=1)


def trimmed_covariance(residuals: NDArray[np.float32], kept: float = KEPT) -> Array:
    """Covariance ``(band, band)`` of the shortest ``kept`` of residuals ``(pixel, band)``.

    Their length is that of vectors over the median absolute deviation of each band.
    """
    spread = np.median(np.abs(residuals), axis=0)
    length = np.square(residuals / np.maximum(spread, QUANTUM)).sum(axis=1)
    short = residuals[length <= np.quantile(length, kept)]
    return np.cov(short.T.astype(np.float64)).reshape((residuals.shape[1],) * 2)


def correlated_px(correlation: Array) -> int:
    """The distance up to which noise is shared, from its correlation ``(distance,)``."""
    own = np.flatnonzero(~(correlation >= LEAST_CORRELATION))
    return max(0, int(own[0]) - 1) if len(own) else len(correlation) - 1
