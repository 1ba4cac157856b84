"""Sentinel-2 level 2A: from items to nadir reflectance with a cloud mask."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.angles import parse_angles
from pipeline_lib.acquire.baseline import QUANTIFICATION, baseline_of, offset_of
from pipeline_lib.acquire.brdf import (
    LARGEST_SUN_ZENITH,
    LARGEST_VIEW_ZENITH,
    beyond_model,
    c_factor_on_nodes,
    check_bands,
    fill_nearest,
    mean_angles,
    on_grid,
)
from pipeline_lib.acquire.catalog import Item, start_of
from pipeline_lib.acquire.clouds import CLOUD_BANDS, CloudModel, mask_of_scene_classes
from pipeline_lib.acquire.frames import Frame, joined, timestamp
from pipeline_lib.acquire.items import property_of
from pipeline_lib.acquire.mosaic import (
    NOTHING,
    Scene,
    check_plausible,
    covers,
    first_valid,
    groups,
    loaded,
    shows,
    solar_day,
    take,
)
from pipeline_lib.acquire.placement import epsg_of
from pipeline_lib.acquire.reading import AssetReader
from pipeline_lib.acquire.retries import Missing
from pipeline_lib.config import CubeGrid, SensorSource
from pipeline_lib.cubes import CLEAR, NO_DATA, Grid
from pipeline_lib.cubes.resampling import coarse_grid, nearest, refine
from pipeline_lib.errors import UserError

NATIVE_M = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 10.0),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12", "SCL"), 20.0),
    **dict.fromkeys(("B01", "B09"), 60.0),
}

FEWEST_SHOWN_PX = 64
"""On smaller images the cloud network mostly sees their rim."""

LARGEST_CLASS = 11
"""Of Sen2Cor's scene classification."""

SMALLEST = -0.0998
"""Reflectance of the number 1 is -0.0999: deep shade in mountains, in particular in winter."""

GRANULE_METADATA = "granule-metadata"

STEP_PX = 2**20
"""Pixels of the days held at once; bounds memory, changes no result."""

ANGLES = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorrectableScene(Scene):
    """One item: ``values`` are reflectance as observed, on the padded grid, NaN where missing.

    ``classes`` and ``c_factor``, ``(cube band, y, x)``, lie on the cube's grid; the latter is None
    where the sensor is not corrected. ``angles`` are means over the cube, degrees.
    """

    c_factor: NDArray[np.float32] | None
    angles: dict[str, float]


def reflectance_of(numbers: NDArray[np.uint16], offset: int) -> NDArray[np.float32]:
    """Surface reflectance of digital numbers, NaN where they are 0, whatever the file's tag says.

    ``offset`` is added to the numbers: with -1000, dark pixels can be negative.
    """
    values = numbers.astype(np.float32)
    values += np.float32(offset)
    values /= np.float32(QUANTIFICATION)
    values[numbers == 0] = np.nan
    return values


def load_sentinel2(
    *,
    sensor: SensorSource,
    cube: CubeGrid,
    grid: Grid,
    items: Sequence[Item],
    lon: float,
    reader: AssetReader,
) -> Iterator[Frame]:
    """The frames of a Sentinel-2 cube whose longitude is ``lon``, degrees.

    Each item is corrected on its own, then the items of one solar day are merged: a pixel
    comes whole from the first item that has all its bands; items of the cube's own UTM zone
    come first, then newer baselines. Raises UserError if a band has no BRDF coefficients.
    """
    bands = list(sensor.bands)
    known = sorted(set(NATIVE_M) - {"SCL"})
    if unknown := sorted(set(bands) - set(known)):
        raise UserError(
            f"bands {', '.join(unknown)}: Sentinel-2 has no such reflectance; use some of "
            f"{', '.join(known)}"
        )
    if sensor.brdf:
        check_bands(bands)
    model = CloudModel() if sensor.clouds == "cloudsen12" else None
    context = cube.cloud_context_px if model else 0
    padded = grid.padded(context)
    if model and min(padded.shape) < FEWEST_SHOWN_PX:
        log.warning(
            "the cloud network is shown %d x %d pixels, and was trained on 509 x 509: its classes "
            "may be worse; raise cube.cloud_context_px",
            *padded.shape,
        )
    read_bands = bands + [band for band in CLOUD_BANDS if model and band not in bands]
    loader = _Loader(sensor, read_bands, grid, padded, model, reader)

    def order(item: Item) -> tuple[Any, ...]:
        foreign = epsg_of(item) not in (None, grid.epsg)
        return foreign, tuple(-part for part in baseline_of(item) or ()), item["id"]

    days = groups(items, lambda item: solar_day(start_of(item), lon), order)
    for part in loaded(days, loader.scene, reader=reader, grid=padded, step_px=STEP_PX):
        yield from loader.frames(part)


@dataclass(frozen=True)
class _Loader:
    """Reads scenes of ``bands``, those of the cube first, and merges those of a day."""

    sensor: SensorSource
    bands: list[str]
    grid: Grid
    padded: Grid
    model: CloudModel | None
    reader: AssetReader

    def scene(self, item: Item) -> CorrectableScene | None:
        """A scene on its grids; None if it shows nothing of the cube and its context."""
        sensor, grid, padded, reader = self.sensor, self.grid, self.padded, self.reader
        bands = self.bands
        offset = offset_of(item, bands)
        reflectance = np.empty((len(bands), *padded.shape), dtype=np.float32)
        for native in sorted({NATIVE_M[band] for band in bands}):
            group = [band for band in bands if NATIVE_M[band] == native]
            source = padded if native == padded.resolution else coarse_grid(padded, native)
            values = reflectance_of(reader.read(item, group, source, np.uint16(0)), offset)
            if source is not padded:
                values = refine(values, source, padded)
            reflectance[[bands.index(band) for band in group]] = values
        if not shows(item, reflectance, bands, grid=grid, reader=reader):
            return None
        c_factor: NDArray[np.float32] | None = None
        angles = dict.fromkeys(ANGLES, np.nan) | {
            "sun_zenith": float(property_of(item, "s2:mean_solar_zenith", np.nan)),
            "sun_azimuth": float(property_of(item, "s2:mean_solar_azimuth", np.nan)),
        }
        if sensor.brdf:

            def correction(content: bytes) -> tuple[NDArray[np.float32], dict[str, float], float]:
                grids = parse_angles(content, sensor.bands)
                nodes, beyond = fill_nearest(c_factor_on_nodes(grids)), beyond_model(grids)
                share = on_grid(beyond.astype(float), grids, grid).mean() if beyond.any() else 0.0
                return on_grid(nodes, grids, grid), mean_angles(grids, grid), float(share)

            c_factor, angles, beyond = reader.read_document(item, GRANULE_METADATA, correction)
            if beyond > 0:
                reader.remark(
                    item,
                    f"{100 * beyond:.3g} % not corrected to nadir view: sun zenith "
                    f"{angles['sun_zenith']:.1f}, view zenith {angles['view_zenith']:.1f} degrees, "
                    f"and the model holds up to {LARGEST_SUN_ZENITH:g} and {LARGEST_VIEW_ZENITH:g}",
                )
        classes = np.full(grid.shape, CLEAR, dtype=np.uint8)
        if sensor.clouds == "scl":
            source = coarse_grid(grid, NATIVE_M["SCL"])
            found = reader.read(item, ["SCL"], source, np.uint16(0))[0]
            if found.max() > LARGEST_CLASS or (not found.any() and covers(item, grid)):
                raise Missing(f"SCL: {found.max()} is its largest class here; 1 to 11 are expected")
            classes = mask_of_scene_classes(nearest(found, source, grid))
        return CorrectableScene(item, reflectance, classes, c_factor, angles)

    def frames(self, days: Sequence[Sequence[CorrectableScene]]) -> list[Frame]:
        """The merged days that show enough of the cube, of plausible scenes alone."""
        sensor, model = self.sensor, self.model
        count = len(sensor.bands)
        choices, mosaics = [], []
        for day in days:
            layers = np.stack([scene.values for scene in day])
            choices.append(first_valid(np.asarray(np.isfinite(layers[:, :count]).all(axis=1))))
            mosaics.append(take(layers, choices[-1]))
        context = (self.padded.height - self.grid.height) // 2
        inner = np.s_[context : context + self.grid.height, context : context + self.grid.width]
        if model is not None:
            shown = [self.bands.index(band) for band in CLOUD_BANDS]
            clouds = model.classify(np.stack([mosaic[shown] for mosaic in mosaics]))
        frames = []
        for index, day in enumerate(days):
            chosen = choices[index][inner]
            mask = take(np.stack([scene.classes for scene in day]), chosen, NO_DATA)
            if model is not None:
                mask = np.where(chosen == NOTHING, np.uint8(NO_DATA), clouds[index][inner])
            clear_share = float((mask == CLEAR).mean())
            if clear_share < sensor.min_clear or (mask == NO_DATA).all():
                continue
            # A copy, so that the frame does not keep the mosaic's context and other bands alive.
            values = mosaics[index][:count, *inner].copy()
            plausible = []
            for number, scene in enumerate(day):
                seen = (chosen == number) & (mask == CLEAR)
                # A number of 1 is where the product ends, not a value that was filled in.
                clipped = seen & (values < SMALLEST).any(axis=0)
                if clipped.sum() < 0.1 * seen.sum():
                    seen &= ~clipped
                try:
                    check_plausible(scene.item, values, seen, sensor=sensor, reader=self.reader)
                    plausible.append(scene)
                except Missing as reason:
                    self.reader.lose(scene.item, reason)
            if len(plausible) == len(day):
                frames.append(_frame(day, chosen, values, mask, clear_share))
            elif plausible:
                frames += self.frames([plausible])
        return frames


def _frame(
    day: Sequence[CorrectableScene],
    chosen: NDArray[np.int8],
    values: NDArray[np.float32],
    mask: NDArray[np.uint8],
    clear_share: float,
) -> Frame:
    """The observation of a day; ``values`` are corrected in place."""
    c_factor = None
    factors = [scene.c_factor for scene in day if scene.c_factor is not None]
    if factors:
        factor = take(np.stack(factors), chosen)
        values *= factor
        mean = np.nanmean(factor, axis=(1, 2), dtype=np.float64)
        c_factor = np.asarray(mean, dtype=np.float32)
    pixels = np.array([(chosen == index).sum() for index in range(len(day))])
    used = [scene for scene, count in zip(day, pixels, strict=True) if count]
    items = [scene.item for scene in used]
    provenance = {
        "item": joined([item["id"] for item in items]),
        "platform": joined([property_of(item, "platform", "") for item in items]),
        "relative_orbit": int(float(property_of(items[0], "sat:relative_orbit", -1))),
        "orbit_state": str(property_of(items[0], "sat:orbit_state", "")),
        "processing_baseline": joined(
            [".".join(f"{part:02d}" for part in baseline_of(item) or ()) for item in items]
        ),
        **mean_of_angles([scene.angles for scene in used], pixels[pixels > 0]),
        "clear_share": clear_share,
    }
    return Frame(timestamp(start_of(items[0])), values, mask, provenance, c_factor)


def mean_of_angles(
    angles: Sequence[dict[str, float]], weights: NDArray[np.integer[Any]]
) -> dict[str, float]:
    """Weighted means; azimuths as directions, since they wrap at 360 degrees."""
    result = {}
    share = weights / weights.sum()
    for name in ANGLES:
        values = np.array([entry[name] for entry in angles])
        if name.endswith("azimuth"):
            radians = np.radians(values)
            mean = np.arctan2(share @ np.sin(radians), share @ np.cos(radians))
            result[name] = float(np.degrees(mean) % 360)
        else:
            result[name] = float(share @ values)
    return result
