"""The STAC item of a cube's embeddings.

STAC 1.1 with the projection and processing extensions and the proposed embedding
extension (https://github.com/geo-embeddings/embeddings-stac-specification, v0.0.1), whose
fields may change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib import __version__
from pipeline_lib.cubes import Grid

EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json",
)
ZARR = "application/vnd+zarr; version=3"


def embedding_item(
    *,
    cube: str,
    grid: Grid,
    times: NDArray[np.datetime64],
    dtype: str,
    parameters: Mapping[str, Any],
    model: str,
    sources: Sequence[Mapping[str, str]],
    license_name: str,
) -> dict[str, Any]:
    """Describe the embeddings of a cube as a STAC item.

    Parameters
    ----------
    cube
        Name of the cube, the item's id.
    grid, times, dtype
        Where, when and how the embeddings are stored.
    parameters
        What the inference ran with: digests of model and config, context, features.
    model
        Address of the model, relative to the item.
    sources
        ``href`` and ``title`` of each source.
    license_name
        Licence of the source data.
    """
    west, south, east, north = grid.lonlat_bounds()
    ring = _corners(grid)
    first, last = (f"{np.datetime_as_string(t, unit='s')}Z" for t in (times[0], times[-1]))
    transform = [grid.resolution, 0.0, grid.left, 0.0, -grid.resolution, grid.top]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": f"{cube}-embeddings",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": None,
            "start_datetime": first,
            "end_datetime": last,
            "gsd": grid.resolution,
            "license": license_name,
            "proj:code": f"EPSG:{grid.epsg}",
            "proj:shape": list(grid.shape),
            "proj:transform": transform,
            "processing:software": {"pipeline_lib": __version__},
            "emb:runtime_parameters": dict(parameters),
            "emb:quantization": {
                "method": "none",
                "original_dtype": "float32",
                "quantized_dtype": dtype,
            },
            "emb:uncertainty": {
                "method": "centre_reconstruction_error",
                "description": (
                    "Mean absolute error of the centre pixel decoded from its embedding; "
                    "array reconstruction_error of the store."
                ),
            },
        },
        "links": [
            {"rel": "emb:model", "href": model, "title": "the model's folder"},
            *({"rel": "emb:source-data", **source} for source in sources),
        ],
        "assets": {
            "embeddings": {
                "href": "./embedding.zarr",
                "type": ZARR,
                "title": "embeddings and their quality",
                "roles": ["data"],
                "data_type": dtype,
            },
            "manifest": {
                "href": "./manifest.json",
                "type": "application/json",
                "title": "files of the store with their SHA-256",
                "roles": ["metadata"],
            },
        },
    }


def _corners(grid: Grid) -> list[list[float]]:
    """Closed ring of the grid's corners, counter-clockwise, longitude and latitude."""
    from pyproj import Transformer

    west, south, east, north = grid.bounds
    to_lonlat = Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return [list(to_lonlat.transform(*corner)) for corner in corners]
