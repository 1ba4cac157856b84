"""STAC collections and items, in the layout of Planetary Computer's."""

from __future__ import annotations

import math
from datetime import timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import Grid
from simulated_archive.bands import BANDS
from simulated_archive.geometry import SceneAngles
from simulated_archive.landsat import CLOUD, LANDSAT_BANDS, OFFSET, PIXEL_M, SCALE
from simulated_archive.passes import LandsatPass, OpticalPass, Processing, RadarPass
from simulated_archive.site import Tile

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
SENTINEL_LICENSE = "https://sentinel.esa.int/documents/247904/690755/Sentinel_Data_Legal_Notice"
LANDSAT_LICENSE = "https://www.usgs.gov/core-science-systems/hdds/data-policy"
CCI_LICENSE = "https://cds.climate.copernicus.eu/api/v2/terms/static/satellite-land-cover.pdf"
EXTENSIONS = "https://stac-extensions.github.io"
SLICE_LENGTH = timedelta(seconds=25)
_DATA = {"type": COG, "roles": ["data"]}
_METADATA = {"type": "application/xml", "roles": ["metadata"], "title": "Granule metadata"}
STAMP, TIME = "%Y%m%dT%H%M%S", "%Y-%m-%dT%H:%M:%S.%fZ"
"""Times as names of products and as items spell them."""

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

LAND_COVER: dict[int, tuple[str, str, float, float]] = {
    10: ("cropland-1", "Cropland, rainfed", 0.17, 14),
    11: ("cropland-1a", "Cropland, rainfed, herbaceous cover", 0.09, 10),
    12: ("cropland-1b", "Cropland, rainfed, tree, or shrub cover", 0.01, 5),
    30: ("cropland-3", "Mosaic cropland (over half) and natural vegetation", 0.09, 7),
    40: ("natural-veg", "Mosaic natural vegetation (over half) and cropland", 0.04, 6),
    60: ("tree-2", "Tree cover, broadleaved, deciduous, closed to open", 0.13, 12),
    61: ("tree-2a", "Tree cover, broadleaved, deciduous, closed", 0.03, 7),
    70: ("tree-3", "Tree cover, needleleaved, evergreen, closed to open", 0.18, 14),
    80: ("tree-4", "Tree cover, needleleaved, deciduous, closed to open", 0.01, 6),
    90: ("tree-5", "Tree cover, mixed leaf type", 0.05, 8),
    100: ("tree-shrub", "Mosaic tree and shrub (over half) and herbaceous cover", 0.02, 5),
    120: ("shrubland", "Shrubland", 0.02, 6),
    130: ("grassland", "Grassland", 0.12, 12),
    150: ("sparse-veg", "Sparse vegetation", 0.005, 4),
    190: ("urban", "Urban areas", 0.045, 5),
    200: ("bare", "Bare areas", 0.005, 4),
    210: ("water", "Water bodies", 0.015, 6),
}
"""LCCS code -> name, meaning, share of the region, and size of its patches in cells of 300 m."""


def optical_name(one: OpticalPass, version: Processing, tile: str, baseline: str = "") -> str:
    """Name of the product of a tile; without its ``baseline``, identifier of the item."""
    sensed = f"S2{one.platform}_MSIL2A_{one.time:{STAMP}}"
    made = f"T{tile}_{version.generated:{STAMP}}"
    return f"{sensed}_{baseline}R{one.relative_orbit:03d}_{made}"


def radar_name(one: RadarPass, number: int) -> str:
    """Identifier of the item of a slice of a pass: the product's name and ``_rtc``."""
    begins = one.time + number * SLICE_LENGTH
    span = f"{begins:{STAMP}}_{begins + SLICE_LENGTH:{STAMP}}"
    orbit = one.absolute_orbit
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
        "links": [{"rel": "license", "href": SENTINEL_LICENSE}],
        "assets": {},
        "geometry": {"type": "Polygon", "coordinates": [[list(point) for point in ring]]},
        "collection": collection,
        "properties": {},
        "stac_extensions": [f"{EXTENSIONS}/{name}/schema.json" for name in extensions],
        "stac_version": "1.0.0",
    }


def optical_item(
    one: OpticalPass,
    version: Processing,
    tile: Tile,
    *,
    angles: SceneAngles,
    scl_counts: list[int],
    folder: str,
) -> dict[str, Any]:
    """Item of ``sentinel-2-l2a``: one version of one tile of an acquisition.

    ``scl_counts`` are the pixels of each class of the scene classification, from 0 to 11;
    ``folder`` of its assets is relative to the archive.
    """
    grid, baseline = tile.grid, version.baseline
    sensed, made = f"{one.time:{STAMP}}", f"MSFT_{version.generated:{STAMP}}"
    product = optical_name(one, version, tile.name, f"N{baseline.replace('.', '')}_")
    orbit = f"{one.absolute_orbit:06d}"
    operation = f"S2{one.platform}_OPER_MSI_L2A"
    extensions = ("eo/v1.0.0", "sat/v1.0.0", "projection/v1.1.0")
    item = _item(optical_name(one, version, tile.name), "sentinel-2-l2a", grid, extensions)
    total = max(1, sum(scl_counts))
    distance = 1 - 0.01673 * math.cos(0.9856 * math.pi / 180 * (one.time.timetuple().tm_yday - 4))
    item["properties"] = {
        "datetime": f"{one.time:{TIME}}",
        "platform": f"Sentinel-2{one.platform}",
        "proj:epsg": grid.epsg,
        "instruments": ["msi"],
        "s2:mgrs_tile": tile.name,
        "constellation": "Sentinel 2",
        "s2:granule_id": f"{operation}_TL_{made}_A{orbit}_T{tile.name}_N{baseline}",
        "s2:datatake_id": f"GS2{one.platform}_{sensed}_{orbit}_N{baseline}",
        "s2:product_uri": f"{product}.SAFE",
        "s2:datastrip_id": f"{operation}_DS_{made}_S{sensed}_N{baseline}",
        "s2:product_type": "S2MSI2A",
        "sat:orbit_state": "descending",
        "s2:datatake_type": "INS-NOBS",
        "s2:generation_time": f"{version.generated:{TIME}}",
        "sat:relative_orbit": one.relative_orbit,
        "s2:mean_solar_zenith": angles.sun_zenith,
        "s2:mean_solar_azimuth": angles.sun_azimuth,
        "s2:processing_baseline": baseline,
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
        assets[name] = _raster(f"{folder}/{name}.tif", grid, band.resolution_m, title)
        assets[name]["eo:bands"] = [{k: v for k, v in label.items() if v}]
    assets["SCL"] = _raster(f"{folder}/SCL.tif", grid, 20, "Scene classfication map (SCL)")
    assets["granule-metadata"] = {"href": f"{folder}/MTD_TL.xml"} | _METADATA
    return item


def _raster(href: str, grid: Grid, resolution: int, title: str) -> dict[str, Any]:
    return (
        {"href": href}
        | _projection(grid, float(resolution))
        | {"gsd": float(resolution), "type": COG, "roles": ["data"], "title": title}
    )


def radar_item(one: RadarPass, grid: Grid, number: int, folder: str) -> dict[str, Any]:
    """Item of ``sentinel-1-rtc``: a slice of a pass, whose first is number 0.

    ``folder`` of its assets is relative to the archive.
    """
    begins = one.time + number * SLICE_LENGTH
    ends = begins + SLICE_LENGTH
    extensions = ("sar/v1.0.0", "sat/v1.0.0", "projection/v1.1.0", "file/v2.0.0", "raster/v1.1.0")
    item = _item(radar_name(one, number), "sentinel-1-rtc", grid, extensions)
    middle = begins + SLICE_LENGTH / 2
    projection = _projection(grid, grid.resolution)
    projection["proj:transform"] += [0.0, 0.0, 1.0]
    item["properties"] = projection | {
        "datetime": f"{middle:{TIME}}",
        "platform": "SENTINEL-1A",
        "s1:shape": [grid.width, grid.height],
        "proj:epsg": grid.epsg,
        "end_datetime": f"{ends:%Y-%m-%d %H:%M:%S.%f}+00:00",
        "constellation": "Sentinel-1",
        "s1:resolution": "high",
        "s1:datatake_id": str(_datatake(one.absolute_orbit)),
        "start_datetime": f"{begins:%Y-%m-%d %H:%M:%S.%f}+00:00",
        "s1:orbit_source": "RESORB",
        "s1:slice_number": str(11 + number),
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
        "created": f"{one.time + timedelta(days=12):{TIME}}",
        "sci:doi": doi,
        "datetime": f"{one.time:{TIME}}",
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


def collection(name: str) -> dict[str, Any]:
    """A collection: ``sentinel-2-l2a``, ``sentinel-1-rtc``, ``landsat-c2-l2``, ``esa-cci-lc``."""
    title, description, license_name, license_href, assets = {
        "sentinel-2-l2a": (
            "Sentinel-2 Level-2A",
            "Simulated surface reflectance in the layout of Sentinel-2 Level-2A.",
            *("proprietary", SENTINEL_LICENSE, _optical_assets()),
        ),
        "sentinel-1-rtc": (
            "Sentinel 1 Radiometrically Terrain Corrected (RTC)",
            "Simulated backscatter in the layout of Sentinel-1 RTC.",
            *("CC-BY-4.0", SENTINEL_LICENSE, _radar_assets()),
        ),
        "landsat-c2-l2": (
            "Landsat Collection 2 Level-2",
            "Simulated surface reflectance in the layout of Landsat Collection 2 Level-2.",
            *("proprietary", LANDSAT_LICENSE, landsat_assets()),
        ),
        "esa-cci-lc": (
            "ESA Climate Change Initiative Land Cover Maps",
            "A simulated land-cover map with the classes of ESA CCI.",
            *("proprietary", CCI_LICENSE, {"lccs_class": _land_cover_asset()}),
        ),
    }[name]
    return {
        "type": "Collection",
        "id": name,
        "stac_version": "1.0.0",
        "title": title,
        "description": description,
        "license": license_name,
        "links": [{"rel": "license", "href": license_href}],
        "stac_extensions": [f"{EXTENSIONS}/item-assets/v1.0.0/schema.json"],
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2015-06-27T00:00:00Z", None]]},
        },
        "keywords": ["simulated"],
        "providers": [{"name": "pipeline_lib", "roles": ["producer"]}],
        "item_assets": assets,
    }


def _optical_assets() -> dict[str, Any]:
    assets: dict[str, Any] = {
        name: _DATA
        | {"gsd": float(band.resolution_m), "title": f"{name} - {band.title}"}
        | {"raster:bands": [{"nodata": 0, "data_type": "uint16"}]}
        for name, band in BANDS.items()
    }
    assets["SCL"] = _DATA | {"gsd": 20.0, "title": "Scene classfication map (SCL)"}
    assets["granule-metadata"] = _METADATA
    return assets


def _radar_assets() -> dict[str, Any]:
    bands = [{"nodata": -32768, "data_type": "float32", "spatial_resolution": 10.0}]
    return {name: _DATA | {"title": name.upper(), "raster:bands": bands} for name in ("vv", "vh")}


def _land_cover_asset() -> dict[str, Any]:
    names = {0: ("no-data", "No data")} | {code: kind[:2] for code, kind in LAND_COVER.items()}
    classes = [{"value": c, "name": name, "description": text} for c, (name, text) in names.items()]
    return _DATA | {
        "title": "Land Cover Class Defined in the Land Cover Classification System",
        "raster:bands": [
            {"nodata": 0, "sampling": "area", "data_type": "uint8", "spatial_resolution": 300}
        ],
        "classification:classes": classes,
    }
