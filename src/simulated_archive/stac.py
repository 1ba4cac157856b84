"""STAC items of simulated scenes, in the layout of Planetary Computer's collections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import Grid
from simulated_archive.bands import BANDS
from simulated_archive.geometry import SceneAngles
from simulated_archive.granule import GranuleNames
from simulated_archive.landsat import CLOUD, LANDSAT_BANDS, OFFSET, PIXEL_M, SCALE
from simulated_archive.passes import LandsatPass, OpticalPass, Processing, RadarPass

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
LICENSE = "https://sentinel.esa.int/documents/247904/690755/Sentinel_Data_Legal_Notice"
EXTENSIONS = "https://stac-extensions.github.io"
SLICE_LENGTH = timedelta(seconds=25)

SCL_SHARES = {
    f"s2:{name}_percentage": (number,)
    for number, name in enumerate(
        (
            *("nodata_pixel", "saturated_defective_pixel", "dark_features", "cloud_shadow"),
            *("vegetation", "not_vegetated", "water", "unclassified"),
            *("medium_proba_clouds", "high_proba_clouds", "thin_cirrus", "snow_ice"),
        )
    )
} | {"eo:cloud_cover": (8, 9, 10)}
"""Property of an item -> classes of the scene classification that it counts."""


@dataclass(frozen=True)
class OpticalScene:
    """One archived version of one tile of an acquisition."""

    observed: OpticalPass
    processing: Processing
    grid: Grid
    tile: str

    @property
    def platform(self) -> str:
        """Satellite as products spell it."""
        return f"S2{self.observed.platform}"

    @property
    def stamp(self) -> str:
        """Sensing time as products spell it."""
        return f"{self.observed.time:%Y%m%dT%H%M%S}"

    def _name(self, baseline: str = "") -> str:
        orbit = f"R{self.observed.relative_orbit:03d}_T{self.tile}"
        made = f"{self.processing.generated:%Y%m%dT%H%M%S}"
        return f"{self.platform}_MSIL2A_{self.stamp}_{baseline}{orbit}_{made}"

    @property
    def identifier(self) -> str:
        """Identifier of the item: the product's name without its baseline."""
        return self._name()

    @property
    def product(self) -> str:
        """Name of the product."""
        return self._name(f"N{self.processing.baseline.replace('.', '')}_") + ".SAFE"

    @property
    def names(self) -> GranuleNames:
        """Identifiers of the granule's metadata."""
        made = f"MSFT_{self.processing.generated:%Y%m%dT%H%M%S}"
        orbit, baseline = self.observed.absolute_orbit, self.processing.baseline
        return GranuleNames(
            f"{self.platform}_OPER_MSI_L2A_TL_{made}_A{orbit:06d}_T{self.tile}_N{baseline}",
            f"{self.platform}_OPER_MSI_L2A_DS_{made}_S{self.stamp}_N{baseline}",
            f"{self.observed.time:%Y-%m-%dT%H:%M:%S.%f}Z",
        )


@dataclass(frozen=True)
class RadarScene:
    """One slice of a radar pass."""

    observed: RadarPass
    grid: Grid
    order: int

    @property
    def begins(self) -> datetime:
        """Start of the acquisition."""
        return self.observed.time + self.order * SLICE_LENGTH

    @property
    def identifier(self) -> str:
        """Identifier of the item: the product's name and ``_rtc``."""
        span = f"{self.begins:%Y%m%dT%H%M%S}_{self.begins + SLICE_LENGTH:%Y%m%dT%H%M%S}"
        orbit = self.observed.absolute_orbit
        return f"S1A_IW_GRDH_1SDV_{span}_{orbit:06d}_{_datatake(orbit):06X}_rtc"


def _datatake(absolute_orbit: int) -> int:
    """Number of the datatake: it grows by some eight per orbit."""
    return 425458 + 8 * (absolute_orbit - 53498)


@lru_cache(maxsize=64)
def _footprint(grid: Grid) -> tuple[tuple[float, ...], tuple[tuple[float, float], ...]]:
    from pyproj import Transformer

    west, south, east, north = grid.bounds
    to_lonlat = Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    xs, ys = [west, east, east, west, west], [north, north, south, south, north]
    lon, lat = to_lonlat.transform(xs, ys)
    ring = tuple((round(a, 8), round(b, 8)) for a, b in zip(lon, lat, strict=True))
    return (min(lon), min(lat), max(lon), max(lat)), ring


def _projection(grid: Grid, resolution: float) -> dict[str, Any]:
    step = resolution / grid.resolution
    return {
        "proj:bbox": list(grid.bounds),
        "proj:shape": [round(grid.height / step), round(grid.width / step)],
        "proj:transform": [resolution, 0.0, grid.left, 0.0, -resolution, grid.top],
    }


def _item(
    identifier: str, collection: str, grid: Grid, extensions: tuple[str, ...]
) -> dict[str, Any]:
    bbox, ring = _footprint(grid)
    return {
        "id": identifier,
        "bbox": list(bbox),
        "type": "Feature",
        "links": [{"rel": "license", "href": LICENSE}],
        "assets": {},
        "geometry": {"type": "Polygon", "coordinates": [[list(point) for point in ring]]},
        "collection": collection,
        "properties": {},
        "stac_extensions": [f"{EXTENSIONS}/{name}/schema.json" for name in extensions],
        "stac_version": "1.0.0",
    }


def optical_item(
    scene: OpticalScene, *, angles: SceneAngles, scl_counts: list[int], folder: str
) -> dict[str, Any]:
    """Item of ``sentinel-2-l2a``.

    ``scl_counts`` are the pixels of each class of the scene classification, from 0 to 11;
    ``folder`` of its assets is relative to the archive.
    """
    one, processing = scene.observed, scene.processing
    extensions = ("eo/v1.0.0", "sat/v1.0.0", "projection/v1.1.0")
    item = _item(scene.identifier, "sentinel-2-l2a", scene.grid, extensions)
    total = max(1, sum(scl_counts))
    distance = 1 - 0.01673 * math.cos(0.9856 * math.pi / 180 * (one.time.timetuple().tm_yday - 4))
    item["properties"] = {
        "datetime": scene.names.sensing_time,
        "platform": f"Sentinel-2{one.platform}",
        "proj:epsg": scene.grid.epsg,
        "instruments": ["msi"],
        "s2:mgrs_tile": scene.tile,
        "constellation": "Sentinel 2",
        "s2:granule_id": scene.names.tile_id,
        "s2:datatake_id": f"G{scene.platform}_{scene.stamp}_{one.absolute_orbit:06d}"
        f"_N{processing.baseline}",
        "s2:product_uri": scene.product,
        "s2:datastrip_id": scene.names.datastrip_id,
        "s2:product_type": "S2MSI2A",
        "sat:orbit_state": "descending",
        "s2:datatake_type": "INS-NOBS",
        "s2:generation_time": f"{processing.generated:%Y-%m-%dT%H:%M:%S.%f}Z",
        "sat:relative_orbit": one.relative_orbit,
        "s2:mean_solar_zenith": angles.sun_zenith,
        "s2:mean_solar_azimuth": angles.sun_azimuth,
        "s2:processing_baseline": processing.baseline,
        "s2:degraded_msi_data_percentage": 0.0,
        "s2:reflectance_conversion_factor": 1 / distance**2,
    } | {
        name: round(100 * sum(scl_counts[k] for k in classes) / total, 6)
        for name, classes in SCL_SHARES.items()
    }
    assets = item["assets"]
    for name, band in BANDS.items():
        title = f"Band {name[1:].lstrip('0')} - {band.title}"
        label = {
            "name": name,
            "common_name": band.common_name,
            "description": title,
            "center_wavelength": band.centre_nm / 1000,
            "full_width_half_max": band.width_nm / 1000,
        }
        title = f"{title} - {band.resolution_m}m"
        assets[name] = _raster(f"{folder}/{name}.tif", scene.grid, band.resolution_m, title)
        assets[name]["eo:bands"] = [{k: v for k, v in label.items() if v}]
    assets["SCL"] = _raster(f"{folder}/SCL.tif", scene.grid, 20, "Scene classfication map (SCL)")
    assets["granule-metadata"] = {
        "href": f"{folder}/MTD_TL.xml",
        "type": "application/xml",
        "roles": ["metadata"],
        "title": "Granule metadata",
    }
    return item


def _raster(href: str, grid: Grid, resolution: int, title: str) -> dict[str, Any]:
    return (
        {"href": href}
        | _projection(grid, float(resolution))
        | {"gsd": float(resolution), "type": COG, "roles": ["data"], "title": title}
    )


def radar_item(scene: RadarScene, *, folder: str) -> dict[str, Any]:
    """Item of ``sentinel-1-rtc``; ``folder`` of its assets is relative to the archive."""
    one, begins = scene.observed, scene.begins
    ends = begins + SLICE_LENGTH
    grid = scene.grid
    extensions = ("sar/v1.0.0", "sat/v1.0.0", "projection/v1.1.0", "file/v2.0.0", "raster/v1.1.0")
    item = _item(scene.identifier, "sentinel-1-rtc", grid, extensions)
    middle = begins + SLICE_LENGTH / 2
    projection = _projection(grid, grid.resolution)
    projection["proj:transform"] += [0.0, 0.0, 1.0]
    item["properties"] = projection | {
        "datetime": f"{middle:%Y-%m-%dT%H:%M:%S.%f}Z",
        "platform": "SENTINEL-1A",
        "s1:shape": [grid.width, grid.height],
        "proj:epsg": grid.epsg,
        "end_datetime": f"{ends:%Y-%m-%d %H:%M:%S.%f}+00:00",
        "constellation": "Sentinel-1",
        "s1:resolution": "high",
        "s1:datatake_id": str(_datatake(one.absolute_orbit)),
        "start_datetime": f"{begins:%Y-%m-%d %H:%M:%S.%f}+00:00",
        "s1:orbit_source": "RESORB",
        "s1:slice_number": str(11 + scene.order),
        "s1:total_slices": "20",
        "sar:looks_range": 5,
        "sat:orbit_state": one.orbit_state,
        "sar:product_type": "GRD",
        "sar:looks_azimuth": 1,
        "sar:polarizations": ["VV", "VH"],
        "sar:frequency_band": "C",
        "sat:absolute_orbit": one.absolute_orbit,
        "sat:relative_orbit": one.relative_orbit,
        "s1:processing_level": "1",
        "sar:instrument_mode": "IW",
        "sar:center_frequency": 5.405,
        "sar:resolution_range": 20,
        "s1:product_timeliness": "Fast-24h",
        "sar:resolution_azimuth": 22,
        "sar:pixel_spacing_range": 10,
        "sar:observation_direction": "right",
        "sar:pixel_spacing_azimuth": 10,
        "sar:looks_equivalent_number": 4.4,
        "s1:instrument_configuration_ID": "7",
        "sat:platform_international_designator": "2014-016A",
    }
    for name, received in (("vh", "horizontal"), ("vv", "vertical")):
        item["assets"][name] = {
            "href": f"{folder}/{name}.tif",
            "type": COG,
            "roles": ["data"],
            "title": f"{name.upper()}: vertical transmit, {received} receive",
            "description": "Gamma nought of a signal sent with vertical and received with "
            f"{received} polarisation, after radiometric terrain correction",
            "raster:bands": [
                {"nodata": -32768, "data_type": "float32", "spatial_resolution": grid.resolution}
            ],
        }
    return item


def landsat_item(
    one: LandsatPass, grid: Grid, *, angles: SceneAngles, quality: NDArray[np.uint16], folder: str
) -> dict[str, Any]:
    """Item of ``landsat-c2-l2``.

    ``quality`` is the scene's pixel quality, ``(y, x)``; ``folder`` of its assets is relative to
    the archive.
    """
    extensions = (
        *("raster/v1.0.0", "eo/v1.0.0", "view/v1.0.0", "projection/v1.0.0"),
        *("landsat/v1.1.1", "classification/v1.0.0", "scientific/v1.0.0"),
    )
    item = _item(one.identifier, "landsat-c2-l2", grid, extensions)
    doi = "10.5066/P9OGBGM6"
    item["links"] = [{"rel": "cite-as", "href": f"https://doi.org/{doi}"}]
    cover = round(100 * float((quality >> CLOUD & 1).mean()), 2)
    projection = _projection(grid, grid.resolution)
    item["properties"] = {
        "gsd": PIXEL_M,
        "created": f"{one.time + timedelta(days=12):%Y-%m-%dT%H:%M:%S.%f}Z",
        "sci:doi": doi,
        "datetime": f"{one.time:%Y-%m-%dT%H:%M:%S.%f}Z",
        "platform": "landsat-8",
        "proj:epsg": grid.epsg,
        "proj:shape": projection["proj:shape"],
        "proj:transform": projection["proj:transform"],
        "description": "Landsat Collection 2 Level-2",
        "instruments": ["oli", "tirs"],
        "eo:cloud_cover": cover,
        "view:off_nadir": 0,
        "landsat:wrs_row": f"{one.row:03d}",
        "landsat:scene_id": one.scene,
        "landsat:wrs_path": f"{one.path:03d}",
        "landsat:wrs_type": "2",
        "view:sun_azimuth": angles.sun_azimuth,
        "landsat:correction": "L2SP",
        "view:sun_elevation": 90 - angles.sun_zenith,
        "landsat:cloud_cover_land": cover,
        "landsat:collection_number": "02",
        "landsat:collection_category": "T1",
    }
    item["assets"] = {
        name: {"href": f"{folder}/{name}.tif"} | asset for name, asset in landsat_assets().items()
    }
    return item


def landsat_assets() -> dict[str, dict[str, Any]]:
    """Assets of ``landsat-c2-l2`` that the archive has, without their addresses."""
    assets: dict[str, dict[str, Any]] = {}
    kept = {"data_type": "uint16", "spatial_resolution": PIXEL_M}
    for name, band in LANDSAT_BANDS.items():
        title = f"{band.title} (B{band.number})"
        assets[name] = {
            "type": COG,
            "roles": ["reflectance"],
            "title": title,
            "description": f"Collection 2 Level-2 {title} Surface Reflectance",
            "eo:bands": [
                {
                    "name": f"OLI_B{band.number}",
                    "common_name": name,
                    "center_wavelength": band.centre_um,
                    "full_width_half_max": band.width_um,
                }
            ],
            "raster:bands": [{"scale": SCALE, "nodata": 0, "offset": OFFSET} | kept],
        }
    quality = "Pixel Quality Assessment Band"
    saturation = "Radiometric Saturation and Terrain Occlusion Quality Assessment Band"
    for name, title, roles in (
        ("qa_pixel", quality, ["cloud", "cloud-shadow", "snow-ice", "water-mask"]),
        ("qa_radsat", saturation, ["saturation"]),
    ):
        assets[name] = {
            "type": COG,
            "roles": roles,
            "title": title,
            "description": f"Collection 2 Level-1 {title}",
            "raster:bands": [{"unit": "bit index"} | kept],
        }
    return assets
