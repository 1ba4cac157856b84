"""Cloud-Optimised GeoTIFFs of single dates of a product."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import xarray as xr

from pipeline_lib.cubes import grid_of
from pipeline_lib.embed.item import single_date_item
from pipeline_lib.embed.manifest import find_date, read_manifest
from pipeline_lib.embed.store import ITEM, read_embedding
from pipeline_lib.files import read_json, scratch_folder, write_json

TAGS = ("cube", "site", "land_cover", "license", "source", "model_digest", "config_digest")
"""Attributes of a product that become tags of the file."""


def write_geotiff(folder: Path, date: datetime.date, output: Path) -> None:
    """Write one date of a product as a Cloud-Optimised GeoTIFF, and its STAC item beside it.

    Bands are the features and, after them, the quality layers; they have names and units. All are
    float32, NaN where missing, whatever the type of the product: many readers of GeoTIFF ignore
    scale factors. Overviews hold every n-th pixel: the mean of two embeddings is the embedding of
    neither. ``folder`` is that of the product, ``date`` a day in UTC.

    Raises UserError if the product is unfinished or damaged, or has no embeddings of that date.
    """
    manifest, data = read_manifest(folder), read_embedding(folder, load=False)
    index = find_date(str(folder), manifest, date)
    shown, grid = data.isel(time=index).load(), grid_of(data)
    time = pd.Timestamp(data["time"].values[index])
    # Bands by name, each (y, x): the features, then the quality layers.
    numbered = zip(shown["feature"].values, shown["embedding"], strict=True)
    bands = {f"feature_{number}": values for number, values in numbered}
    bands |= {str(name): values for name, values in shown.items() if name != "embedding"}
    profile = {
        "driver": "COG",
        "height": grid.height,
        "width": grid.width,
        "count": len(bands),
        "dtype": "float32",
        "nodata": np.nan,
        "crs": rasterio.CRS.from_epsg(grid.epsg),
        "transform": rasterio.transform.from_origin(
            grid.left, grid.top, grid.resolution, grid.resolution
        ),
        "compress": "deflate",
        "predictor": "yes",
        "blocksize": 512,
        "overview_resampling": "nearest",
        "bigtiff": "if_safer",
    }
    with scratch_folder(output) as scratch:
        with rasterio.open(scratch / output.name, "w", **profile) as file:
            file.update_tags(
                TIFFTAG_DATETIME=f"{time:%Y:%m:%d %H:%M:%S}",
                TIFFTAG_SOFTWARE=data.attrs["software"],
                **{key: str(data.attrs[key]) for key in TAGS if key in data.attrs},
            )
            file.descriptions = tuple(bands)
            file.units = tuple(values.attrs["units"] for values in bands.values())
            for number, values in enumerate(bands.values(), 1):
                file.update_tags(number, long_name=values.attrs["long_name"])
                file.write(values.values, number)
        (scratch / output.name).replace(output)
    scenes = json.loads(data.attrs.get("source_items", "[]"))
    described = [_described(name, values) for name, values in bands.items()]
    item = single_date_item(
        read_json(folder / ITEM),
        folder,
        output,
        time=time,
        scenes=scenes[index] if scenes else [],
        stored={"data_type": "float32", "bands": described},
    )
    write_json(output.with_suffix(".json"), item)


def _described(name: str, values: xr.DataArray) -> dict[str, Any]:
    """A band as STAC describes it."""
    return {
        "name": name,
        "description": values.attrs["long_name"],
        "unit": values.attrs["units"],
        "nodata": "nan",
        "raster:sampling": "area",
    }
