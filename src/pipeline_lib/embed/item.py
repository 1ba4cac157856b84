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
from pipeline_lib.cubes import Grid
from pipeline_lib.embed.store import EMBEDDING_CODINGS, Coding, Layout

# Those for which pystac has no version of STAC 1.1.
_HOME = "https://stac-extensions.github.io"
PROCESSING = f"{_HOME}/processing/v1.2.0/schema.json"
EMBEDDINGS = f"{_HOME}/embeddings/v0.0.1/schema.json"
DATACUBE = f"{_HOME}/datacube/v2.3.0/schema.json"
RASTER = f"{_HOME}/raster/v2.0.0/schema.json"
ZARR = "application/vnd+zarr; version=3"


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
    """The STAC item of a cube's embeddings.

    ``parameters`` are those of the inference: digests of model and config, context, dimensions.
    The address of the ``model``'s folder is relative to the item. ``sources`` have ``href`` and
    ``title``. The licence of the source data is a name, and perhaps an address after it.
    """
    times = pd.DatetimeIndex(layout.template["time"].values)
    coding = EMBEDDING_CODINGS[layout.dtype]
    addresses = [term for term in license_name.split() if "://" in term]
    named = [term for term in license_name.split() if term not in addresses]
    item = pystac.Item(
        id=f"{cube}-embeddings",
        geometry={"type": "Polygon", "coordinates": [_corners(grid)]},
        bbox=list(grid.lonlat_bounds()),
        datetime=None,
        start_datetime=times[0].floor("s").to_pydatetime(),
        end_datetime=times[-1].floor("s").to_pydatetime(),
        properties={
            "gsd": grid.resolution,
            "license": named[0] if len(named) == 1 else "other",
            "cube:dimensions": _dimensions(grid, layout),
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
        stac_extensions=[PROCESSING, EMBEDDINGS, DATACUBE],
    )
    ProjectionExtension.ext(item, add_if_missing=True).apply(
        code=f"EPSG:{grid.epsg}",
        shape=list(grid.shape),
        transform=[grid.resolution, 0.0, grid.left, 0.0, -grid.resolution, grid.top],
    )
    title = f"model {parameters['model_digest']}"
    item.add_link(pystac.Link("emb:model", f"{model}/model.json", pystac.MediaType.JSON, title))
    item.add_links(
        [pystac.Link("emb:source-data", link["href"], title=link["title"]) for link in sources]
    )
    item.add_links([pystac.Link("license", address) for address in addresses])
    stored = {"data_type": coding.dtype, "nodata": no_data(coding)}
    title, store = "embeddings and their quality", "./embedding.zarr"
    item.add_asset("embeddings", pystac.Asset(store, title, None, ZARR, ["data"], stored))
    title, layer = "reconstruction error of the centre pixel", f"{store}/reconstruction_error"
    item.add_asset("uncertainty", pystac.Asset(layer, title, None, ZARR, ["uncertainty"]))
    title, media_type = "embeddings of each date, digests, files", pystac.MediaType.JSON
    manifest = pystac.Asset("./manifest.json", title, None, media_type, ["metadata"])
    item.add_asset("manifest", manifest)
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def single_date_item(
    *,
    parent: Mapping[str, Any],
    product: Path,
    time: pd.Timestamp,
    scenes: Sequence[str],
    bands: Sequence[Mapping[str, Any]],
    dtype: str,
    geotiff: Path,
) -> dict[str, Any]:
    """The STAC item of a GeoTIFF of one date, a single acquisition, to lie beside the file.

    ``parent`` is the item of all dates, in the folder ``product``; of its links to scenes those
    to ``scenes`` are kept. ``bands`` are the file's band objects, ``dtype`` is their type.
    """
    item = pystac.Item.from_dict(dict(parent), preserve_dict=True)
    stamp = time.floor("s")
    item.id = f"{parent['id']}-{geotiff.stem}"
    item.datetime = stamp.to_pydatetime()
    for key in ("start_datetime", "end_datetime", "cube:dimensions", "cube:variables"):
        del item.properties[key]
    item.stac_extensions = [RASTER if name == DATACUBE else name for name in item.stac_extensions]
    links = [pystac.Link("derived_from", "item.json", pystac.MediaType.GEOJSON, parent["id"])]
    for link in item.links:
        is_scene = link.rel == "emb:source-data" and "://" in str(link.target)
        if not is_scene or link.title in scenes:
            links.append(link)
    for link in links:
        link.target = _moved(str(link.target), product, geotiff.parent)
    item.links = links
    asset = pystac.Asset(
        f"./{geotiff.name}",
        f"embeddings of {stamp:%Y-%m-%dT%H:%M:%SZ} and their quality",
        None,
        pystac.MediaType.COG,
        ["data"],
        {"data_type": dtype, "bands": [dict(band) for band in bands]},
    )
    item.assets = {"embeddings": asset}
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def _dimensions(grid: Grid, layout: Layout) -> dict[str, Any]:
    west, south, east, north = grid.bounds
    half = grid.resolution / 2
    stamps = np.datetime_as_string(layout.template["time"].values, unit="s")
    times = [f"{stamp}Z" for stamp in stamps]
    shared = {
        "type": "spatial",
        "unit": "m",
        "reference_system": grid.epsg,
        "step": grid.resolution,
    }
    return {
        "time": {"type": "temporal", "extent": [times[0], times[-1]], "values": times},
        "feature": {"type": "other", "values": layout.template["feature"].values.tolist()},
        "y": shared | {"axis": "y", "extent": [south + half, north - half]},
        "x": shared | {"axis": "x", "extent": [west + half, east - half]},
    }


def _variables(layout: Layout) -> dict[str, Any]:
    return {
        name: {
            "variable_type": "data",
            "description": layer.long_name,
            "dimensions": ["time", *(["feature"] if name == "embedding" else []), "y", "x"],
            "unit": layer.units,
            "data_type": layer.coding.dtype,
            "nodata": no_data(layer.coding),
        }
        for name, layer in layout.layers().items()
    }


def _quantization(coding: Coding) -> dict[str, Any]:
    types = {"original_dtype": "float32", "quantized_dtype": coding.dtype}
    if coding.step is not None:
        return {"method": "linear", **types, "scale": [coding.step], "offset": [0.0]}
    return {"method": "none" if coding.dtype == "float32" else "rounding", **types}


def no_data(coding: Coding) -> float | str:
    """The no-data value as STAC writes it: JSON has no NaN."""
    return "nan" if np.isnan(coding.fill) else coding.fill


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
