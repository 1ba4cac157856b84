"""STAC collections of the archive."""

from __future__ import annotations

from typing import Any

from simulated_archive.bands import BANDS
from simulated_archive.stac import COG, EXTENSIONS, LICENSE, landsat_assets

CCI_LICENSE = "https://cds.climate.copernicus.eu/api/v2/terms/static/satellite-land-cover.pdf"

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

LANDSAT_LICENSE = "https://www.usgs.gov/core-science-systems/hdds/data-policy"

_DATA = {"type": COG, "roles": ["data"]}


def collection(name: str) -> dict[str, Any]:
    """A collection: ``sentinel-2-l2a``, ``sentinel-1-rtc``, ``landsat-c2-l2``, ``esa-cci-lc``."""
    title, description, license_name, license_href, assets = {
        "sentinel-2-l2a": (
            "Sentinel-2 Level-2A",
            "Simulated surface reflectance in the layout of Sentinel-2 Level-2A.",
            *("proprietary", LICENSE, _optical_assets()),
        ),
        "sentinel-1-rtc": (
            "Sentinel 1 Radiometrically Terrain Corrected (RTC)",
            "Simulated backscatter in the layout of Sentinel-1 RTC.",
            *("CC-BY-4.0", LICENSE, _radar_assets()),
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
    assets["granule-metadata"] = {
        "type": "application/xml",
        "roles": ["metadata"],
        "title": "Granule metadata",
    }
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
