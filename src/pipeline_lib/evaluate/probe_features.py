"""What probes learn from: bands as they were measured, averages of them, and embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline_lib.cubes import read_cube
from pipeline_lib.dataset import closest_frames, cube_name
from pipeline_lib.dataset.normalisation import valid_pixels
from pipeline_lib.dataset.stacks import days_of

WINDOWS = (3, 5, 9, 15)
"""Sides of the moving averages of backscatter, pixels."""
RADAR_WINDOW = 5
"""Side of the average where backscatter stands beside other bands, pixels."""
AVERAGED = "_averaged"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A cube as it was measured: values ``(time, band, y, x)`` in its own quantity, backscatter in
    decibel, 0 where ``valid`` ``(time, y, x)`` is not; ``days`` ``(time,)`` since 1970-01-01."""

    name: str
    bands: tuple[str, ...]
    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    days: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a cube's file."""
        cube = read_cube(path)
        valid, radar = valid_pixels(cube), cube.attrs["quantity"] == "backscatter"
        values = np.where(valid[:, None], cube[cube.attrs["quantity"]].values, np.float32(radar))
        bands = tuple(str(band) for band in cube["band"].values)
        values = 10 * np.log10(values) if radar else values
        return cls(cube_name(path), bands, values, valid, days_of(cube))

    def frame_at(self, day: int, y: int, x: int) -> int | None:
        """The frame closest in time to a day that is valid at a pixel, as it is paired for the
        embedding; none where there is none."""
        (frame,), (there,) = closest_frames(self.days, day, self.valid[:, y, x][:, None])
        return int(frame) if there else None

    def mean(self, frame: int, y: int, x: int, side: int) -> Array:
        """Mean ``(band,)`` of the valid pixels of a square around a valid pixel."""
        half = side // 2
        around = np.s_[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]
        pixels = self.values[frame, :, *around][:, self.valid[frame, *around]]
        return np.asarray(pixels.mean(axis=1, dtype=np.float64))


@dataclass(frozen=True)
class Pixels:
    """Target pixels of samples: names of cubes, days since 1970-01-01, rows and columns, each
    ``(sample,)``."""

    cube: NDArray[np.str_]
    day: NDArray[np.int64]
    y: NDArray[np.int64]
    x: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.cube)

    def at(self, row: int) -> tuple[int, int, int]:
        """Day, row and column of one of them."""
        return int(self.day[row]), int(self.y[row]), int(self.x[row])


def measured(paths: Iterable[Path], pixels: Pixels) -> Iterator[tuple[Measured, list[int]]]:
    """The cubes that have some of the target pixels, read one by one, and the samples in each."""
    for path in paths:
        rows = np.flatnonzero(pixels.cube == cube_name(path))
        if len(rows):
            yield Measured.read(path), rows.tolist()


def bands_at(paths: Iterable[Path], pixels: Pixels, sides: Sequence[int], bands: int) -> Array:
    """Means ``(side, sample, band)`` over squares of given sides around target pixels, of the cubes
    of one sensor.

    They are of the frame closest in time that is valid at the target pixel, NaN where there is
    none, or no cube.
    """
    found = np.full((len(sides), len(pixels), bands), np.nan)
    for cube, rows in measured(paths, pixels):
        for row in rows:
            day, y, x = pixels.at(row)
            frame = cube.frame_at(day, y, x)
            if frame is not None:
                found[:, row] = [cube.mean(frame, y, x, side) for side in sides]
    return found


def feature_sets(fit: Mapping[str, Array], features: Mapping[str, Array]) -> dict[str, Array]:
    """Sets of features of some samples, what is absent having the mean of the fit.

    Beside those given: as many principal components of the bands, and of the averaged bands, as the
    embedding has dimensions, and the bands beside the embedding. Components are of bands of unit
    variance, fitted on the samples of the fit that have all sensors, where these are more and the
    bands are too.
    """
    sets = {name: _imputed(fit[name], values) for name, values in features.items()}
    count = fit["embedding"].shape[1]
    components = {}
    for suffix in ("", AVERAGED):
        name = f"bands{suffix}"
        complete = fit.get(name, np.empty((0, 0)))
        complete = complete[np.isfinite(complete).all(axis=1)]
        if count < min(complete.shape):
            model = make_pipeline(StandardScaler(), PCA(count)).fit(complete)
            components[f"pca_{count}{suffix}"] = model.transform(sets[name])
    both = np.concatenate([sets["bands"], sets["embedding"]], axis=1)
    baselines = {name: sets.pop(name) for name in list(sets) if name.startswith(("bands", "mean"))}
    return baselines | components | sets | {"bands+embedding": both}


def _imputed(fit: Array, values: Array) -> Array:
    """Values with the fit's mean, or 0 where it has none, in place of NaN."""
    return SimpleImputer(keep_empty_features=True).fit(fit).transform(values)
