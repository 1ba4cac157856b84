"""Whether the maps are smooth in time and sharp in space: embeddings beside bands, in numbers.

An empty map is smooth too, and noise has edges everywhere: no number stands without the others,
nor without what probes find in the features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from pipeline_lib.cubes import read_cube
from pipeline_lib.dataset import closest_frames, read_split, valid_pixels
from pipeline_lib.embed import read_embedding, same_model
from pipeline_lib.evaluate.probe_targets import Truth
from pipeline_lib.files import write_json
from pipeline_lib.seeds import generator

FITTED_ON = "training"
SCORED_ON = ("validation", "test")
FIT_PIXELS = 200_000
"""Maximum number of pixels that the features are standardised by, of all training cubes."""
MAX_DAYS = 40
"""Maximum number of days between the two neighbours in time: over more, a season is no straight
line."""
REACH = 3
"""Minimum number of pixels of one class on either side of a boundary."""

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]
Sums = NDArray[np.float64]
MEASURED = ("noise", "step", "step_within_field", "boundary")


@dataclass(frozen=True)
class CubeFeatures:
    """Bands ``(time, y, x, band)`` and embeddings ``(time, y, x, dimension)`` of a cube on the
    dates ``(time,)`` of the embeddings; NaN where there are none.

    The bands are those of the reference sensor, then those of each other sensor in the frame
    closest in time that is valid at the pixel, as it is paired for the embedding.
    """

    times: NDArray[np.datetime64]
    bands: Values
    embedding: Values

    @classmethod
    def read(cls, manifest: Path, cubes: Mapping[str, Path | int]) -> Self:
        """Read a cube of each sensor, the reference first, or the number of bands of an absent
        one."""
        product = read_embedding(manifest.parent)
        times = product["time"].values
        embedding = np.moveaxis(product["embedding"].values, 1, -1)
        shape = embedding.shape[:-1]
        parts = []
        dates = times.astype("datetime64[D]").astype(np.int64)
        for path in cubes.values():
            if isinstance(path, int):
                parts.append(np.full((*shape, path), np.nan, np.float32))
                continue
            cube = read_cube(path)
            days = cube["time"].values.astype("datetime64[D]").astype(np.int64)
            valid = valid_pixels(cube).reshape(len(days), -1)
            values = cube[cube.attrs["quantity"]].values.reshape(len(days), -1, valid.shape[1])
            part = np.empty((len(dates), valid.shape[1], values.shape[1]), np.float32)
            for row, day in enumerate(dates):
                frame, found = closest_frames(days, int(day), valid)
                seen = values[frame, :, np.arange(valid.shape[1])]
                part[row] = np.where(found[:, None], seen, np.nan)
            parts.append(part.reshape(*shape, -1))
        return cls(times, np.concatenate(parts, axis=-1), embedding)

    @property
    def valid(self) -> Mask:
        """``(time, y, x)``: where there is an embedding."""
        return np.asarray(np.isfinite(self.embedding).all(axis=-1))


@dataclass(frozen=True)
class FeatureSets:
    """What standardises bands and embeddings, and the whitened principal components of the bands:
    as many as an embedding has dimensions, none where the bands are no more."""

    bands: StandardScaler
    embedding: StandardScaler
    components: PCA | None

    @classmethod
    def fit(cls, bands: NDArray[np.floating], embedding: NDArray[np.floating]) -> Self:
        """Fit to ``(sample, band)``, NaN where a sensor is absent, and ``(sample, dimension)``.

        Components are fitted to the samples that have all sensors.
        """
        scaler, count = StandardScaler().fit(bands.astype(np.float64)), embedding.shape[1]
        complete = scaler.transform(bands[np.isfinite(bands).all(axis=1)].astype(np.float64))
        enough = count < min(complete.shape)
        components = PCA(count, whiten=True).fit(complete) if enough else None
        return cls(scaler, StandardScaler().fit(embedding.astype(np.float64)), components)

    def of(self, cube: CubeFeatures) -> Iterator[tuple[str, Values]]:
        """Sets of features ``(time, y, x, feature)``, named as of probes; absent bands have the
        mean."""
        bands = np.nan_to_num(_transformed(self.bands, cube.bands), copy=False)
        yield "bands", bands
        if self.components is not None:
            yield f"pca_{self.components.n_components}", _transformed(self.components, bands)
        yield "embedding", _transformed(self.embedding, cube.embedding)


def _transformed(model: StandardScaler | PCA, values: Values) -> Values:
    flat = model.transform(values.reshape(-1, values.shape[-1]))
    return np.asarray(flat.reshape(*values.shape[:-1], -1), np.float32)


def measure(
    values: Values,
    valid: Mask,
    times: NDArray[np.datetime64],
    cover: NDArray[np.int64] | None,
) -> Sums:
    """How many squares were counted and their sum, ``(of MEASURED, 2)``, of the values of a cube.

    ``noise``: of `noise_in_time`; ``step``: of adjacent pixels along rows and columns, and
    ``step_within_field`` of those of one class; ``boundary``: of the two pixels at a boundary,
    where `REACH` pixels in a row, or column, are of one class and the `REACH` next ones of another.
    Values are ``(time, y, x, feature)``, standardised and ignored where they are not valid,
    ``(time, y, x)``; the classes ``(y, x)`` are none where they are not known.
    """
    noise = noise_in_time(values, valid, times)
    step, within, boundary = np.zeros((3, 2))
    for along, seen in ((values, valid), (values.swapaxes(1, 2), valid.swapaxes(1, 2))):
        pairs = seen[..., 1:] & seen[..., :-1]
        step += _squares(along, pairs, 0)
        if cover is None:
            continue
        within += _squares(along, pairs & (cover[:, 1:] == cover[:, :-1]), 0)
        between = boundaries(cover)
        length = between.shape[1]
        for offset in (0, REACH - 1, REACH, 2 * REACH - 1):
            between = between & seen[..., offset : offset + length]
        boundary += _squares(along, between, REACH - 1)
        cover = cover.T
    return np.stack([noise, step, within, boundary])


def noise_in_time(values: Values, valid: Mask, times: NDArray[np.datetime64]) -> Sums:
    """Squared distances of pixels from the line between their neighbours in time.

    Of three consecutive valid dates of a pixel, ``y1 - (y0 + (y2 - y0) (t1 - t0) / (t2 - t0))``
    (Vermote, Justice and Breon 2009, doi 10.1109/TGRS.2008.2005977, take the root of its mean
    square as the noise of a series), where the first and the last are at most `MAX_DAYS` apart. A
    straight line has none. Of white noise it is ``1 + w² + (1 - w)²`` times the variance, with
    ``w = (t1 - t0) / (t2 - t0)``: 3 / 2 where the dates are evenly spaced.
    """
    days = times.astype("datetime64[s]").astype(np.int64) / 86400
    before, after = _previous(valid), len(valid) - 1 - _previous(valid[::-1])[::-1]
    found = np.zeros(2)
    for frame in range(1, len(valid) - 1):
        inside = valid[frame] & (before[frame] >= 0) & (after[frame] < len(valid))
        y, x = np.nonzero(inside)
        first, last = before[frame, y, x], after[frame, y, x]
        near = days[last] - days[first] <= MAX_DAYS
        y, x, first, last = y[near], x[near], first[near], last[near]
        weight = (days[frame] - days[first]) / (days[last] - days[first])
        start, end = values[first, y, x], values[last, y, x]
        apart = values[frame, y, x] - (start + (end - start) * weight[:, None])
        found += len(y), (apart**2).sum() / values.shape[-1]
    return found


def _previous(valid: Mask) -> NDArray[np.int64]:
    """Index of the valid frame before each, pixel by pixel; -1 where there is none."""
    frames = np.where(valid, np.arange(len(valid))[:, None, None], -1)
    latest = np.maximum.accumulate(frames, axis=0)
    return np.concatenate([np.full_like(latest[:1], -1), latest[:-1]])


def boundaries(classes: NDArray[np.int64]) -> Mask:
    """Where `REACH` pixels of one class meet as many of another along the rows of a map: at the
    first of the pixels, ``(y, x - 2 REACH + 1)``."""
    length = max(0, classes.shape[1] - 2 * REACH + 1)
    pixels = [classes[:, i : i + length] for i in range(2 * REACH)]
    left = np.logical_and.reduce([pixels[0] == one for one in pixels[1:REACH]])
    right = np.logical_and.reduce([pixels[REACH] == one for one in pixels[REACH + 1 :]])
    return np.asarray(left & right & (pixels[0] != pixels[REACH]))


def _squares(along: Values, where: Mask, offset: int) -> Sums:
    """Squared differences of a pixel at an offset along a row and the next one."""
    frame, row, column = np.nonzero(where)
    first = column + offset
    apart = along[frame, row, first + 1] - along[frame, row, first]
    return np.array([len(apart), (apart.astype(np.float64) ** 2).sum() / along.shape[-1]])


def numbers(sums: Sums) -> dict[str, float | None]:
    """Root mean squares; none where there is nothing to measure.

    ``contrast`` is that of the two pixels at boundaries divided by ``step_within_field``: 1 where
    boundaries do not stand out.
    """
    roots = {
        name: float(np.sqrt(total / count)) if count else None
        for name, (count, total) in zip(MEASURED, sums, strict=True)
    }
    boundary, within = roots.pop("boundary"), roots["step_within_field"]
    return roots | {"contrast": boundary / within if boundary is not None and within else None}


def assess_maps(
    *,
    embeddings: Mapping[str, Path],
    cubes: Mapping[str, Mapping[str, Path]],
    split_table: Path,
    truth: Mapping[str, Path],
    seed: int,
    output: Path,
) -> None:
    """Measure noise, steps and contrast of bands, their principal components and embeddings.

    Features are standardised by pixels of the training cubes and measured on each of `SCORED_ON`,
    cube by cube, all sets on the same pixels: those that have an embedding. ``embeddings`` are
    manifests and ``truth`` files of a simulated archive, by cube; ``cubes`` files by sensor, the
    reference first, and cube. Raises UserError if the embeddings come from different models, or a
    truth does not fit its cube.

    The JSON file holds ``model_digest``, none without embeddings; ``fit_cubes``; ``splits`` ->
    split -> ``cubes``, ``mapped_cubes`` (those whose classes are known), ``counts`` (of `measure`)
    and ``sets`` -> set, named as of the probes -> ``features``, how many, and `numbers`; and
    ``skipped``, split without embedded cubes -> why.
    """
    split = read_split(split_table)
    own = {
        part: sorted(name for name in embeddings if split.get(name) == part)
        for part in (FITTED_ON, *SCORED_ON)
    }
    opened = {
        name: read_embedding(embeddings[name].parent, load=False) for name in chain(*own.values())
    }
    bands = {
        sensor: read_cube(next(iter(files.values())), load=False).sizes["band"]
        for sensor, files in cubes.items()
        if files
    }

    def read(name: str) -> CubeFeatures:
        files = {sensor: cubes[sensor].get(name, count) for sensor, count in bands.items()}
        return CubeFeatures.read(embeddings[name], files)

    splits: dict[str, Any] = {}
    if own[FITTED_ON]:
        count = max(1, FIT_PIXELS // len(own[FITTED_ON]))
        drawn = [_draw(read(name), generator(seed, "maps", name), count) for name in own[FITTED_ON]]
        sets = FeatureSets.fit(*(np.concatenate(part) for part in zip(*drawn, strict=True)))
        measured = filter(own.get, SCORED_ON)
        splits = {part: _measured(own[part], read, sets, truth) for part in measured}
    missing = [part for part, names in own.items() if not names]
    content = {
        "model_digest": same_model(opened) if opened else None,
        "fit_cubes": len(own[FITTED_ON]),
        "splits": splits,
        "skipped": dict.fromkeys(missing, "none of its cubes is embedded"),
    }
    write_json(output, content)


def _measured(
    names: Sequence[str],
    read: Callable[[str], CubeFeatures],
    sets: FeatureSets,
    truth: Mapping[str, Path],
) -> dict[str, Any]:
    """Counts and numbers of each set of features over some cubes."""
    sums: dict[str, Sums] = {}
    sizes: dict[str, int] = {}
    for name in names:
        cube, cover = read(name), None
        if name in truth:
            cover = Truth.read(truth[name]).on_grid(name, cube.valid.shape[1:]).cover
        for label, values in sets.of(cube):
            found = measure(values, cube.valid, cube.times, cover)
            sums[label], sizes[label] = sums.get(label, 0) + found, values.shape[-1]
    counts = sums["embedding"][:, 0].astype(int).tolist()
    return {
        "cubes": len(names),
        "mapped_cubes": len(truth.keys() & set(names)),
        "counts": dict(zip(MEASURED, counts, strict=True)),
        "sets": {
            label: {"features": sizes[label], **numbers(found)} for label, found in sums.items()
        },
    }


def _draw(
    cube: CubeFeatures, rng: np.random.Generator, count: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Bands and embeddings of pixels and dates drawn at random."""
    known = np.flatnonzero(cube.valid)
    drawn = rng.choice(known, min(count, len(known)), replace=False)
    place = np.unravel_index(drawn, cube.valid.shape)
    return cube.bands[place], cube.embedding[place]
