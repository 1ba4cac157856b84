"""What maps are compared by: the features of each pixel and date, standardised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import read_cube
from pipeline_lib.dataset import closest_frames, valid_pixels
from pipeline_lib.embed import read_embedding
from pipeline_lib.embed.arrays import days_of
from pipeline_lib.evaluate.map_scores import Array, Mask, Values
from pipeline_lib.seeds import generator


@dataclass(frozen=True)
class CubeFeatures:
    """Bands and embeddings of a cube on the dates of the embeddings.

    Attributes
    ----------
    times
        ``(time,)``.
    bands
        ``(time, band, y, x)``: those of the reference sensor, then those of each other sensor in
        the frame closest in time that is valid at the pixel, as it is paired for the embedding;
        NaN where a sensor shows nothing.
    embedding
        ``(time, feature, y, x)``, NaN where there is none.
    """

    times: NDArray[np.datetime64]
    bands: Values
    embedding: Values

    @property
    def valid(self) -> Mask:
        """``(time, y, x)``: where there is an embedding."""
        return np.asarray(np.isfinite(self.embedding).all(axis=1))

    @property
    def days(self) -> Array:
        """``(time,)``, days and their parts since 1970."""
        seconds = self.times.astype("datetime64[s]").astype(np.int64)
        return np.asarray(seconds / 86400)


def observe(folder: Path, cubes: Mapping[str, Path | int]) -> CubeFeatures:
    """Read a cube's bands and embeddings.

    Parameters
    ----------
    folder
        Of its embeddings.
    cubes
        Sensor -> the sensor's cube; of a sensor that has none, how many bands it would have. The
        first one is the reference.

    Raises
    ------
    UserError
        If a file is absent or broken.
    """
    product = read_embedding(folder)
    times, embedding = product["time"].values, product["embedding"].values
    shape = (len(times), embedding.shape[2] * embedding.shape[3])
    parts = []
    for path in cubes.values():
        if isinstance(path, int):
            parts.append(np.full((shape[0], path, shape[1]), np.nan, np.float32))
            continue
        cube = read_cube(path)
        values = cube[cube.attrs["quantity"]].values
        seen = valid_pixels(cube).reshape(len(values), -1)
        values = values.reshape(*values.shape[:2], -1)
        days = days_of(cube["time"].values)
        part = np.empty((shape[0], values.shape[1], shape[1]), np.float32)
        for row, day in enumerate(days_of(times)):
            frame, found = closest_frames(days, int(day), seen)
            part[row] = np.where(found, values[frame, :, np.arange(shape[1])].T, np.nan)
        parts.append(part)
    bands = np.concatenate(parts, axis=1)
    return CubeFeatures(times, bands.reshape(*bands.shape[:2], *embedding.shape[2:]), embedding)


@dataclass(frozen=True)
class Scaling:
    """What standardises features: their mean and standard deviation, ``(feature,)`` each."""

    mean: Array
    deviation: Array

    @classmethod
    def fit(cls, samples: NDArray[np.floating]) -> Self:
        """Fit to ``(sample, feature)``, NaN left out; what does not vary keeps its unit."""
        known = np.isfinite(samples)
        count = known.sum(axis=0).clip(1)
        mean = np.where(known, samples, 0.0).sum(axis=0, dtype=np.float64) / count
        squares = np.where(known, samples - mean, 0.0) ** 2
        deviation = np.sqrt(squares.sum(axis=0) / count)
        return cls(mean, np.where(deviation > 0, deviation, 1.0))

    def apply(self, values: Values) -> Values:
        """Standardise ``(..., feature, y, x)``; what is absent has the mean, which is 0."""
        mean, deviation = (
            part.astype(np.float32)[:, None, None] for part in (self.mean, self.deviation)
        )
        return np.nan_to_num((values - mean) / deviation, copy=False)


@dataclass(frozen=True)
class Basis:
    """What makes sets of standardised features of bands and embeddings.

    Attributes
    ----------
    bands, embedding
        Their scaling.
    components
        ``(component, band)``: the strongest principal components of the scaled bands, as many as
        an embedding has numbers, each to unit variance; none where the bands are no more.
    """

    bands: Scaling
    embedding: Scaling
    components: Array | None

    @classmethod
    def fit(cls, bands: NDArray[np.floating], embedding: NDArray[np.floating]) -> Self:
        """Fit to ``(sample, band)``, NaN where a sensor is absent, and ``(sample, feature)``.

        Components are fitted to the samples that have all sensors, where these are more than
        components.
        """
        scaling, count = Scaling.fit(bands), embedding.shape[1]
        whole = (bands[np.isfinite(bands).all(axis=1)] - scaling.mean) / scaling.deviation
        components = None
        if count < min(whole.shape):
            variance, axes = np.linalg.eigh(np.cov(whole, rowvar=False))
            size = np.sqrt(variance[::-1][:count].clip(np.finfo(np.float64).tiny))
            components = axes.T[::-1][:count] / size[:, None]
        return cls(scaling, Scaling.fit(embedding), components)

    def sets(self, seen: CubeFeatures) -> Iterator[tuple[str, Values]]:
        """Sets of features ``(time, feature, y, x)``, one after the other, named as of probes."""
        bands = self.bands.apply(seen.bands)
        yield "spectrum", bands
        if self.components is not None:
            scores = np.einsum("cb,tbyx->tcyx", self.components.astype(np.float32), bands)
            yield f"pca_{len(self.components)}", scores
        del bands
        yield "embedding", self.embedding.apply(seen.embedding)


def fit_basis(seen: Iterable[tuple[str, CubeFeatures]], *, seed: int, pixels: int) -> Basis:
    """Fit a basis to pixels drawn at random, the same number of each cube.

    Parameters
    ----------
    seen
        Name of each cube, and what is seen of it.
    seed
        It and the name decide which pixels of a cube are drawn.
    pixels
        Of a cube, at most, over all dates.
    """
    bands, embedding = [], []
    for name, cube in seen:
        drawn = np.flatnonzero(cube.valid)
        rng = generator(seed, "maps", name)
        drawn = rng.choice(drawn, min(pixels, len(drawn)), replace=False)
        place = np.unravel_index(drawn, cube.valid.shape)
        bands.append(np.moveaxis(cube.bands, 1, -1)[place])
        embedding.append(np.moveaxis(cube.embedding, 1, -1)[place])
    return Basis.fit(np.concatenate(bands), np.concatenate(embedding))
