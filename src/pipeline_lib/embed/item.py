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
import pandas as pd
import pystac
from pystac.extensions.projection import ProjectionExtension

from pipeline_lib import __version__
from pipeline_lib.cubes import Grid, grid_of
from pipeline_lib.embed.store import Coding, Layout

# Those for which pystac has no version of STAC 1.1.
_HOME = "https://stac-extensions.github.io"
PROCESSING = f"{_HOME}/processing/v1.2.0/schema.json"
EMBEDDINGS = f"{_HOME}/embeddings/v0.0.1/schema.json"
DATACUBE = f"{_HOME}/datacube/v2.3.0/schema.json"
RASTER = f"{_HOME}/raster/v2.0.0/schema.json"
ZARR = "application/vnd+zarr; version=3"


def embedding_item(
    layout: Layout,
    *,
    parameters: Mapping[str, Any],
    model: str,
    sources: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """The STAC item of a cube's embeddings.

    ``parameters`` are those of the inference: digests of model and config, context, dimensions.
    The address of the ``model``'s folder is relative to the item. ``sources`` have ``href`` and
    ``title``. The licence of the source data is a name, and perhaps an address after it.
    """
    about, grid = layout.template.attrs, grid_of(layout.template)
    times = pd.DatetimeIndex(layout.template["time"].values)
    coding = layout.layers["embedding"].coding
    licence = str(about.get("license", "other")).split()
    addresses = [term for term in licence if "://" in term]
    named = [term for term in licence if term not in addresses]
    item = pystac.Item(
        id=f"{about['cube']}-embeddings",
        geometry=footprint_of(grid),
        bbox=list(grid.lonlat_bounds()),
        datetime=None,
        start_datetime=times[0].floor("s").to_pydatetime(),
        end_datetime=times[-1].floor("s").to_pydatetime(),
        properties={
            "gsd": grid.resolution,
            "license": named[0] if len(named) == 1 else "other",
            "cube:dimensions": _dimensions(grid, layout),
            "cube:variables": {
                name: {
                    "variable_type": "data",
                    "description": layer.long_name,
                    "dimensions": list(layer.dims),
                    "unit": layer.units,
                    "data_type": layer.coding.dtype,
                    "nodata": no_data(layer.coding),
                }
                for name, layer in layout.layers.items()
            },
            "processing:software": {"pipeline_lib": __version__},
            "emb:runtime_parameters": dict(parameters),
            "emb:quantization": _quantization(coding),
            "emb:uncertainty": {
                "method": "centre_reconstruction_error",
                "description": layout.layers["reconstruction_error"].long_name,
            },
        },
        stac_extensions=[PROCESSING, EMBEDDINGS, DATACUBE],
    )
    ProjectionExtension.ext(item, add_if_missing=True).apply(
        code=f"EPSG:{grid.epsg}",
        shape=list(grid.shape),
        transform=[grid.resolution, 0.0, grid.left, 0.0, -grid.resolution, grid.top],
    )
    title, json = f"model {about['model_digest']}", pystac.MediaType.JSON
    item.add_link(pystac.Link("emb:model", f"{model}/model.json", json, title))
    for source in sources:
        item.add_link(pystac.Link("emb:source-data", source["href"], title=source["title"]))
    item.add_links([pystac.Link("license", address) for address in addresses])
    store, stored = "./embedding.zarr", {"data_type": coding.dtype, "nodata": no_data(coding)}
    error, title = f"{store}/reconstruction_error", "reconstruction error of the centre pixel"
    item.assets = {
        "embeddings": _asset("data", store, ZARR, "embeddings and their quality", stored),
        "uncertainty": _asset("uncertainty", error, ZARR, title),
        "manifest": _asset("metadata", "./manifest.json", json, "dates, digests, sizes of files"),
    }
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def single_date_item(
    parent: Mapping[str, Any],
    product: Path,
    geotiff: Path,
    *,
    time: pd.Timestamp,
    scenes: Sequence[str],
    stored: Mapping[str, Any],
) -> dict[str, Any]:
    """The STAC item of a GeoTIFF of one date, a single acquisition, to lie beside the file.

    ``parent`` is the item of all dates, in the folder ``product``; of its links to scenes those
    to ``scenes`` are kept. ``stored`` are the fields of the file's asset: its type and bands.
    """
    item = pystac.Item.from_dict(dict(parent), preserve_dict=True)
    stamp = time.floor("s")
    # The file holds decoded values: no scale factor is left to apply.
    exact = parent["properties"]["emb:quantization"]["method"] == "none"
    item.properties["emb:quantization"] = {
        "method": "none" if exact else "rounding",
        "original_dtype": "float32",
        "quantized_dtype": "float32",
    }
    item.id = f"{parent['id']}-{geotiff.stem}"
    item.datetime = stamp.to_pydatetime()
    for key in ("start_datetime", "end_datetime", "cube:dimensions", "cube:variables"):
        del item.properties[key]
    item.stac_extensions = [RASTER if name == DATACUBE else name for name in item.stac_extensions]
    own = pystac.Link("derived_from", "item.json", pystac.MediaType.GEOJSON, parent["id"])
    links, item.links = [own, *item.links], []
    for link in links:
        if "://" not in str(link.target):
            moved = os.path.relpath(product / str(link.target), geotiff.parent)
            link.target = Path(moved).as_posix()
        elif link.rel == "emb:source-data" and link.title not in scenes:
            continue
        item.links.append(link)
    title = f"embeddings of {stamp:%Y-%m-%dT%H:%M:%SZ} and their quality"
    asset = _asset("data", f"./{geotiff.name}", pystac.MediaType.COG, title, stored)
    item.assets = {"embeddings": asset}
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def _asset(
    role: str, href: str, media_type: str, title: str, fields: Mapping[str, Any] | None = None
) -> pystac.Asset:
    return pystac.Asset(href, title, None, media_type, [role], dict(fields or {}))


def _dimensions(grid: Grid, layout: Layout) -> dict[str, Any]:
    west, south, east, north = grid.bounds
    half, step = grid.resolution / 2, grid.resolution
    stamps = np.datetime_as_string(layout.template["time"].values, unit="s")
    times = [f"{stamp}Z" for stamp in stamps]
    shared = {"type": "spatial", "unit": "m", "reference_system": grid.epsg, "step": step}
    return {
        "time": {"type": "temporal", "extent": [times[0], times[-1]], "values": times},
        "feature": {"type": "other", "values": layout.template["feature"].values.tolist()},
        "y": shared | {"axis": "y", "extent": [south + half, north - half]},
        "x": shared | {"axis": "x", "extent": [west + half, east - half]},
    }


def _quantization(coding: Coding) -> dict[str, Any]:
    types = {"original_dtype": "float32", "quantized_dtype": coding.dtype}
    if coding.step is not None:
        return {"method": "linear", **types, "scale": [coding.step], "offset": [0.0]}
    return {"method": "none" if coding.exact else "rounding", **types}


def no_data(coding: Coding) -> float | str:
    """The no-data value as STAC writes it: JSON has no NaN."""
    return "nan" if np.isnan(coding.fill) else coding.fill


def footprint_of(grid: Grid) -> dict[str, Any]:
    """GeoJSON of a grid, longitude and latitude; cut at 180 degrees, as RFC 7946 asks for."""
    ring = _corners(grid)
    west, _, east, _ = grid.lonlat_bounds()
    if west < east:
        return {"type": "Polygon", "coordinates": [ring]}
    import shapely

    around = shapely.Polygon([(x % 360, y) for x, y in ring])
    halves = (around & shapely.box(left, -90, left + 180, 90) for left in (0, 180))
    rings = [shapely.orient_polygons(half).exterior.coords for half in halves]
    turned = [[[x - 360 * number, y] for x, y in ring] for number, ring in enumerate(rings)]
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in turned]}


def _corners(grid: Grid) -> list[list[float]]:
    """Closed ring of the grid's corners, counter-clockwise, longitude and latitude."""
    from pyproj import Transformer

    west, south, east, north = grid.bounds
    to_lonlat = Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return [list(to_lonlat.transform(*corner)) for corner in corners]
