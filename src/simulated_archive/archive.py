"""The jobs that write the embedded archive, and the truth beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import CubeGrid, Demo, Period, Tower
from pipeline_lib.cubes import THICK_CLOUD, CubeRequest
from pipeline_lib.files import atomic_path
from simulated_archive import landsat, optical, passes
from simulated_archive.arrays import Float32, Float64
from simulated_archive.bands import BANDS
from simulated_archive.canopy import CanopyTable, Ground
from simulated_archive.clouds import Clouds, cover_with_clouds, draw_clouds
from simulated_archive.geometry import SceneAngles, granule_of, scene_angles
from simulated_archive.geotiff import write_geotiff
from simulated_archive.granule import granule_xml
from simulated_archive.landsat import FILL, LANDSAT_BANDS, LandsatTile, landsat_tile
from simulated_archive.landscape import Cover
from simulated_archive.optical import block_mean
from simulated_archive.passes import LandsatPass, OpticalPass, RadarPass
from simulated_archive.radar import NO_DATA, backscatter, speckle
from simulated_archive.site import Site, Tile, make_site, tiles_of
from simulated_archive.stac import landsat_item, optical_item, optical_name, radar_item, radar_name
from simulated_archive.tower import carbon_fluxes, write_tower_file

SPLIT_SHARE = 0.15
"""Share of radar passes that come in two slices whose border crosses the site."""
ARCHIVED_SHARE = 0.93
"""Share of optical passes that reach the archive: instruments rest and links fail."""
FOOTPRINT_PX = 11
"""Side of the area that a tower sees, pixels."""

Pass = TypeVar("Pass", OpticalPass, RadarPass, LandsatPass)


@dataclass(frozen=True)
class Observation:
    """An optical acquisition of the whole window, and the truth behind it.

    ``measured`` and ``nadir`` are reflectances ``(band, y, x)`` in the bands of Sentinel-2.
    """

    angles: SceneAngles
    ground: Ground
    clouds: Clouds
    measured: Float32
    nadir: Float32


def simulate_site(
    *,
    requests: Sequence[CubeRequest],
    cube: CubeGrid,
    demo: Demo,
    seed: int,
    canopy_table: Path,
    folder: Path,
    truth: Path,
    tower: Tower | None = None,
) -> None:
    """Write what the archive holds of one site: Sentinel-2, Sentinel-1 and Landsat.

    Assets go to ``folder / assets / <site> / <item>``, then ``items/<site>.json``; for a tower the
    daily file goes to ``fluxnet/``. Raises UserError if the scenes are too small for the cube.

    ``truth / <site>.npz`` holds what no sensor measures, on the cube's grid and for each
    acquisition of Sentinel-2 that sees some of the ground: ``time``, ``bands``,
    ``nadir_reflectance`` ``(time, band, y, x)`` in 1e-4, ``cloud_class`` (see ``cubes``),
    ``leaf_area`` and ``soil_moisture`` ``(time, y, x)``; ``cover`` ``(y, x)``; and for a tower the
    daily ``gpp`` of ``gpp_date``, g C m-2 d-1.
    """
    site = make_site(requests, cube=cube, demo=demo, seed=seed)
    table = CanopyTable.read(canopy_table)
    span = min(one.start for one in requests), max(one.end for one in requests)

    def asked(found: list[Pass]) -> list[Pass]:
        return [p for p in found if any(r.start <= p.time.date() <= r.end for r in requests)]

    sentinel_2 = [
        one
        for one in asked(passes.optical_passes(site.lon, *span, demo.optical_revisit_days))
        if site.generator("outage", one.time.date().toordinal()).random() < ARCHIVED_SHARE
    ]
    sentinel_1 = asked(passes.radar_passes(*span, demo.radar_revisit_days))
    landsat_8 = asked(passes.landsat_passes(site.lon, site.lat, *span))
    items: list[dict[str, Any]] = []
    states = []
    tiles = tiles_of(site)
    for one in sentinel_2:
        rng = site.generator("optical", one.time.date().toordinal())
        across = passes.across_angle(site.lon, one.sensor_side)
        observation = observe(site, one.time, across, table, rng)
        items += _write_optical(site, one, observation, rng, tiles, folder)
        state = _truth_of(site, one, observation)
        if np.any(state["cloud_class"] != THICK_CLOUD):
            states.append(state)
    for passed in sentinel_1:
        items += _write_radar(site, passed, folder)
    pixels = {epsg: landsat_tile(site.window, epsg) for epsg in {seen.epsg for seen in landsat_8}}
    items += [write_landsat(site, seen, pixels[seen.epsg], table, folder) for seen in landsat_8]
    extra: dict[str, NDArray[Any]] = {}
    if tower is not None:
        fluxes = _fluxes(site, tower)
        write_tower_file(
            tower=tower,
            period=Period(start=span[0], end=span[1]),
            fluxes=fluxes,
            weather=site.weather,
            rng=site.generator("tower"),
            folder=folder / "fluxnet",
        )
        days = np.datetime64(site.weather.first) + np.arange(len(site.weather))
        extra = {"gpp_date": days.astype("U10"), "gpp": fluxes[0].astype(np.float32)}
    content = {key: np.stack([state[key] for state in states]) for key in states[0]} | extra
    content["bands"] = np.array(list(BANDS))
    content["cover"] = site.landscape.ground_map[site.within(site.cube)]
    with atomic_path(truth / f"{site.name}.npz") as partial, partial.open("wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, **content)
    # Without indentation: half the size, and a fifth of the time.
    with atomic_path(folder / "items" / f"{site.name}.json") as partial:
        partial.write_text(json.dumps({"type": "FeatureCollection", "features": items}))


def observe(
    site: Site, time: datetime, across: float, table: CanopyTable, rng: np.random.Generator
) -> Observation:
    """Optical acquisition of the site's window; ``across`` as in :func:`scene_angles`."""
    day = time.date()
    angles = scene_angles(time=time, lon=site.lon, lat=site.lat, window=site.window, across=across)
    ground = site.ground(day)
    seen, nadir = optical.surface_reflectance(ground, site.landscape, table, angles)
    clouds = draw_clouds(
        rng,
        site.window.width,
        cloudiness=float(site.weather.cloudiness[site.weather.day(day)]),
        sun_zenith=angles.sun_zenith,
        sun_azimuth=angles.sun_azimuth,
    )
    measured = optical.add_noise(rng, cover_with_clouds(seen, clouds))
    return Observation(angles, ground, clouds, measured, nadir)


def _truth_of(site: Site, one: OpticalPass, observation: Observation) -> dict[str, NDArray[Any]]:
    cut = site.within(site.cube)
    nadir = observation.nadir[:, *cut]
    return {
        "time": np.array(one.time.isoformat()),
        "nadir_reflectance": np.rint(nadir * 10000).astype(np.uint16),
        "cloud_class": observation.clouds.classes[cut],
        "leaf_area": observation.ground.leaf_area[cut].astype(np.float16),
        "soil_moisture": observation.ground.soil_moisture[cut].astype(np.float16),
    }


def _write_optical(
    site: Site,
    one: OpticalPass,
    observation: Observation,
    rng: np.random.Generator,
    tiles: list[Tile],
    folder: Path,
) -> list[dict[str, Any]]:
    """Write all versions and tiles of an acquisition; only the western track sees neighbours."""
    classes = optical.scene_classification(
        rng, observation.measured, observation.clouds, site.landscape.cover_map
    )
    versions = passes.processings(site.generator("processing", one.time.date().toordinal()), one)
    seen = [(0, version) for version in versions]
    if one.sensor_side < 0:
        seen += [(number, versions[-1]) for number in range(1, len(tiles))]
    items = []
    for number, version in seen:
        made = version.generated + timedelta(minutes=7 * number)
        tile, version = tiles[number], replace(version, generated=made)
        path, href = _asset_folder(folder, site, optical_name(one, version, tile.name))
        picked = observation.measured[:, tile.row, tile.column]
        picked = np.where(tile.inside, picked, np.float32(np.nan))
        for values, (name, band) in zip(picked, BANDS.items(), strict=True):
            mean = block_mean(values, band.resolution_m // 10)
            numbers = optical.digital_numbers(mean, version.offset)
            write_geotiff(path / f"{name}.tif", numbers, tile.grid, resolution=band.resolution_m)
        scl = np.where(tile.inside, classes[tile.row, tile.column], 0).astype(np.uint8)[::2, ::2]
        write_geotiff(path / "SCL.tif", scl, tile.grid, resolution=20)
        counts = np.bincount(scl.ravel(), minlength=12).tolist()
        item = optical_item(
            one, version, tile, angles=observation.angles, scl_counts=counts, folder=href
        )
        xml = granule_xml(granule_of(tile.grid), observation.angles, item["properties"])
        (path / "MTD_TL.xml").write_text(xml)
        items.append(item)
    return items


def _write_radar(site: Site, one: RadarPass, folder: Path) -> list[dict[str, Any]]:
    day = one.time.date()
    rng = site.generator("radar", day.toordinal(), one.relative_orbit)
    clean = backscatter(
        site.ground(day),
        site.landscape,
        incidence=one.incidence,
        ascending=one.orbit_state == "ascending",
    )
    window = site.radar_window
    cut = site.within(window)
    power = {name: speckle(rng, values[cut]) for name, values in clean.items()}
    items = []
    for number, seen in enumerate(_slices(rng, window.shape)):
        rows = np.flatnonzero(seen.any(axis=1)).tolist()
        part = slice(rows[0], rows[-1] + 1)
        grid = window.cut(rows[0], 0, part.stop - part.start, window.width)
        order = number if one.orbit_state == "descending" else 1 - number
        path, href = _asset_folder(folder, site, radar_name(one, order))
        for name, values in power.items():
            image = np.where(seen, values, np.float32(NO_DATA))[part]
            write_geotiff(path / f"{name}.tif", image, grid, no_data=NO_DATA)
        items.append(radar_item(one, grid, order, href))
    return items


def write_landsat(
    site: Site, one: LandsatPass, tile: LandsatTile, table: CanopyTable, folder: Path
) -> dict[str, Any]:
    """Write a scene of Landsat, without saturated pixels; its item."""
    rng = site.generator("landsat", one.time.date().toordinal())
    observation = observe(site, one.time, one.across, table, rng)
    numbers = landsat.landsat_numbers(tile, observation.measured)
    quality = landsat.pixel_quality(rng, tile, observation.clouds, numbers)
    grid = tile.grid
    path, href = _asset_folder(folder, site, one.identifier)
    for name, values in zip(LANDSAT_BANDS, numbers, strict=True):
        write_geotiff(path / f"{name}.tif", values, grid)
    write_geotiff(path / "qa_pixel.tif", quality, grid, no_data=1 << FILL)
    write_geotiff(path / "qa_radsat.tif", np.zeros_like(quality), grid)
    return landsat_item(one, grid, angles=observation.angles, quality=quality, folder=href)


def _asset_folder(folder: Path, site: Site, item: str) -> tuple[Path, str]:
    """Folder of an item's assets, created: its path, and the path relative to the archive."""
    href = f"assets/{site.name}/{item}"
    (folder / href).mkdir(parents=True, exist_ok=True)
    return folder / href, href


def _slices(rng: np.random.Generator, shape: tuple[int, int]) -> list[NDArray[np.bool_]]:
    """Pixels that each slice of a pass covers, from north to south; mostly one covers all."""
    if rng.random() >= SPLIT_SHARE:
        return [np.ones(shape, dtype=bool)]
    row, column = np.indices(shape)
    border = shape[0] * rng.uniform(0.3, 0.7) + 0.2 * (column - shape[1] / 2)
    return [row < border, row >= border]


def _fluxes(site: Site, tower: Tower) -> tuple[Float64, Float64]:
    """Fluxes of the area around the middle of the cube, on all days of the weather."""
    half = FOOTPRINT_PX // 2
    middles = [(side.start + side.stop) // 2 for side in site.within(site.cube)]
    cut = tuple(slice(max(middle - half, 0), middle + half + 1) for middle in middles)
    landscape = site.landscape
    parcel = landscape.parcel[cut].ravel()
    living = (1 - landscape.sealed[cut]) * (landscape.cover_map[cut] != Cover.WATER)
    share = living.ravel() / parcel.size
    count = len(landscape.cover)
    vigour = landscape.vigour[cut].ravel()
    weights = np.bincount(parcel, share * vigour, count).astype(np.float64)
    plain = np.bincount(parcel, share, count).astype(np.float64)
    return carbon_fluxes(
        vegetation=tower.vegetation,
        leaf_area=weights @ site.growth.leaf_area.astype(np.float64),
        chlorophyll=plain @ site.growth.chlorophyll.astype(np.float64),
        weather=site.weather,
    )
