"""STAC items of a cube's embeddings, and of single dates of them.

STAC 1.1 with the projection, datacube, raster and processing extensions and the proposed
embedding extension (https://github.com/geo-embeddings/embeddings-stac-specification,
v0.0.1), whose fields may change. It keeps the temporal resolution for collections; an item
states it among the parameters of its run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_lib import __version__
from pipeline_lib.cubes import Grid
from pipeline_lib.embed.store import EMBEDDING_CODINGS, Coding, Layout

_HOME = "https://stac-extensions.github.io"
SHARED_EXTENSIONS = (
    f"{_HOME}/projection/v2.0.0/schema.json",
    f"{_HOME}/processing/v1.2.0/schema.json",
    f"{_HOME}/embeddings/v0.0.1/schema.json",
)
DATACUBE = f"{_HOME}/datacube/v2.3.0/schema.json"
RASTER = f"{_HOME}/raster/v2.0.0/schema.json"
ZARR = "application/vnd+zarr; version=3"
GEOTIFF = "image/tiff; application=geotiff; profile=cloud-optimized"


def embedding_item(
    *,
    cube: str,
    grid: Grid,
    layout: Layout,
    parameters: Mapping[str, Any],
    model: str,
    sources: Sequence[Mapping[str, str]],
    license_name: str,
) -> dict[str, Any]:
    """Describe the embeddings of a cube as a STAC item.

    Parameters
    ----------
    cube
        Name of the cube.
    grid
        Where the embeddings lie.
    layout
        When they are, and how they are stored.
    parameters
        What the inference ran with: digests of model and config, context, features.
    model
        Address of the model's folder, relative to the item.
    sources
        ``href`` and ``title`` of each source.
    license_name
        Licence of the source data: a name, and perhaps an address after it.
    """
    west, south, east, north = grid.lonlat_bounds()
    times = [_utc(time) for time in layout.template["time"].values]
    coding = EMBEDDING_CODINGS[layout.dtype]
    terms = license_name.split()
    addresses = [term for term in terms if "://" in term]
    named = [term for term in terms if term not in addresses]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [*SHARED_EXTENSIONS, DATACUBE],
        "id": f"{cube}-embeddings",
        "geometry": {"type": "Polygon", "coordinates": [_corners(grid)]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": None,
            "start_datetime": times[0],
            "end_datetime": times[-1],
            "gsd": grid.resolution,
            "license": named[0] if len(named) == 1 else "other",
            "proj:code": f"EPSG:{grid.epsg}",
            "proj:shape": list(grid.shape),
            "proj:transform": [grid.resolution, 0.0, grid.left, 0.0, -grid.resolution, grid.top],
            "cube:dimensions": _dimensions(grid, times, layout),
            "cube:variables": _variables(layout),
            "processing:software": {"pipeline_lib": __version__},
            "emb:runtime_parameters": dict(parameters),
            "emb:quantization": _quantization(coding),
            "emb:uncertainty": {
                "method": "centre_reconstruction_error",
                "description": (
                    "Mean absolute error of the centre pixel decoded from its embedding; "
                    "layer reconstruction_error."
                ),
            },
        },
        "links": [
            {
                "rel": "emb:model",
                "href": f"{model}/model.json",
                "type": "application/json",
                "title": f"model {parameters['model_digest']}",
            },
            *({"rel": "emb:source-data", **source} for source in sources),
            *({"rel": "license", "href": href} for href in addresses),
        ],
        "assets": {
            "embeddings": {
                "href": "./embedding.zarr",
                "type": ZARR,
                "title": "embeddings and their quality",
                "roles": ["data"],
                "data_type": coding.dtype,
                "nodata": no_data(coding),
            },
            "uncertainty": {
                "href": "./embedding.zarr/reconstruction_error",
                "type": ZARR,
                "title": "reconstruction error of the centre pixel",
                "roles": ["uncertainty"],
            },
            "manifest": {
                "href": "./manifest.json",
                "type": "application/json",
                "title": "files of the store with their SHA-256",
                "roles": ["metadata"],
            },
        },
    }


def single_date_item(
    *,
    parent: Mapping[str, Any],
    product: Path,
    time: np.datetime64,
    scenes: Sequence[str],
    bands: Sequence[Mapping[str, Any]],
    dtype: str,
    geotiff: Path,
) -> dict[str, Any]:
    """Describe a GeoTIFF of one date as a STAC item: a single acquisition.

    Parameters
    ----------
    parent
        Item of all dates.
    product
        Folder in which that one lies.
    time
        Time of the acquisition, UTC.
    scenes
        Ids of its scenes; of the parent's links to scenes those are kept.
    bands
        Band objects of the file.
    dtype
        Type of the file's numbers.
    geotiff
        The file; the item is meant to lie beside it.
    """
    stamp = _utc(time)
    own = ("datetime", "start_datetime", "end_datetime", "cube:dimensions", "cube:variables")
    kept = {key: value for key, value in parent["properties"].items() if key not in own}
    links = [
        {**link, "href": _moved(link["href"], product, geotiff.parent)}
        for link in parent["links"]
        if link["rel"] in ("emb:model", "license")
        or (link["rel"] == "emb:source-data" and (link["title"] in scenes or _is_file(link)))
    ]
    return {
        **parent,
        "stac_extensions": [*SHARED_EXTENSIONS, RASTER],
        "id": f"{parent['id']}-{geotiff.stem}",
        "properties": {"datetime": stamp, **kept},
        "links": [
            {
                "rel": "derived_from",
                "href": _moved("item.json", product, geotiff.parent),
                "type": "application/geo+json",
                "title": parent["id"],
            },
            *links,
        ],
        "assets": {
            "embeddings": {
                "href": f"./{geotiff.name}",
                "type": GEOTIFF,
                "title": f"embeddings of {stamp} and their quality",
                "roles": ["data"],
                "data_type": dtype,
                "bands": [dict(band) for band in bands],
            }
        },
    }


def _dimensions(grid: Grid, times: list[str], layout: Layout) -> dict[str, Any]:
    west, south, east, north = grid.bounds
    half = grid.resolution / 2
    shared = {"type": "spatial", "unit": "m", "reference_system": grid.epsg}
    return {
        "time": {"type": "temporal", "extent": [times[0], times[-1]], "values": times},
        "feature": {"type": "other", "values": layout.template["feature"].values.tolist()},
        "y": shared
        | {"axis": "y", "extent": [south + half, north - half], "step": grid.resolution},
        "x": shared | {"axis": "x", "extent": [west + half, east - half], "step": grid.resolution},
    }


def _variables(layout: Layout) -> dict[str, Any]:
    codings = layout.codings()
    return {
        name: {
            "variable_type": "data",
            "description": attributes["long_name"],
            "dimensions": ["time", *(["feature"] if name == "embedding" else []), "y", "x"],
            "unit": attributes["units"],
            "data_type": codings[name].dtype,
            "nodata": no_data(codings[name]),
        }
        for name, attributes in layout.layers().items()
    }


def _quantization(coding: Coding) -> dict[str, Any]:
    types = {"original_dtype": "float32", "quantized_dtype": coding.dtype}
    if coding.step is not None:
        return {"method": "linear", **types, "scale": [coding.step], "offset": [0.0]}
    return {"method": "none" if coding.dtype == "float32" else "rounding", **types}


def no_data(coding: Coding) -> float | str:
    """The missing number as STAC writes it: JSON has no NaN."""
    return "nan" if np.isnan(coding.fill) else coding.fill


def _utc(time: np.datetime64) -> str:
    return f"{np.datetime_as_string(time, unit='s')}Z"


def _is_file(link: Mapping[str, str]) -> bool:
    return "://" not in link["href"]


def _moved(href: str, source: Path, target: Path) -> str:
    """A relative address as seen from another folder; others as they are."""
    if "://" in href:
        return href
    return Path(os.path.relpath(source / href, target)).as_posix()


def _corners(grid: Grid) -> list[list[float]]:
    """Closed ring of the grid's corners, counter-clockwise, longitude and latitude."""
    from pyproj import Transformer

    west, south, east, north = grid.bounds
    to_lonlat = Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return [list(to_lonlat.transform(*corner)) for corner in corners]
