"""Cloud-Optimised GeoTIFFs of single dates of a product."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import xarray as xr

from pipeline_lib.cubes import grid_of
from pipeline_lib.embed.item import no_data, single_date_item
from pipeline_lib.embed.manifest import find_date, read_manifest
from pipeline_lib.embed.store import (
    DAYS_CODING,
    EMBEDDING_CODINGS,
    ITEM,
    SHARE_CODING,
    Coding,
    read_embedding,
)
from pipeline_lib.files import read_json, scratch_folder, write_json

_INT16_LAST = 32767


@dataclass(frozen=True)
class _Band:
    """One band of a file: its values ``(y, x)``, NaN where missing, and how they are stored."""

    name: str
    values: xr.DataArray
    coding: Coding

    def describe(self) -> dict[str, Any]:
        """The band as STAC describes it."""
        return {
            "name": self.name,
            "description": self.values.attrs["long_name"],
            "unit": self.values.attrs["units"],
            "nodata": no_data(self.coding),
            "raster:sampling": "area",
            **({} if self.coding.step is None else {"raster:scale": self.coding.step}),
        }


def write_geotiff(folder: Path, date: datetime.date, output: Path) -> None:
    """Write one date of a product as a Cloud-Optimised GeoTIFF, and its STAC item beside it.

    Bands are the features and, after them, the quality layers; they have names, units and,
    where the product is int8, the factors that decode the int16 numbers of the file. Other
    products become float32. Overviews hold every n-th pixel: the mean of two embeddings is
    the embedding of neither.

    Parameters
    ----------
    folder
        Folder of the product.
    date
        Calendar day (UTC) of the acquisition.
    output
        The GeoTIFF; its item has the same name with the suffix ``.json``.

    Raises
    ------
    UserError
        If the product is unfinished or damaged, or has no embeddings of that date.
    """
    manifest, data = read_manifest(folder), read_embedding(folder, load=False)
    index = find_date(str(folder), manifest, date)
    shown = data.isel(time=index).load()
    time = pd.Timestamp(data["time"].values[index])
    bands, grid = _bands(shown, manifest["dtype"]), grid_of(shown)
    stored = bands[0].coding
    profile = {
        "driver": "COG",
        "height": grid.height,
        "width": grid.width,
        "count": len(bands),
        "dtype": stored.dtype,
        "nodata": stored.fill,
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
            file.update_tags(**_tags(data, time))
            file.descriptions = tuple(band.name for band in bands)
            file.units = tuple(band.values.attrs["units"] for band in bands)
            file.scales = tuple(band.coding.step or 1 for band in bands)
            for number, band in enumerate(bands, 1):
                file.update_tags(number, long_name=band.values.attrs["long_name"])
                file.write(band.coding.encode(band.values.values)[0], number)
        (scratch / output.name).replace(output)
    scenes = json.loads(data.attrs.get("source_items", "[]"))
    item = single_date_item(
        parent=read_json(folder / ITEM),
        product=folder,
        time=time,
        scenes=scenes[index] if scenes else [],
        bands=[band.describe() for band in bands],
        dtype=stored.dtype,
        geotiff=output,
    )
    write_json(output.with_suffix(".json"), item)


def _bands(date: xr.Dataset, dtype: str) -> list[_Band]:
    """Bands of a file; a GeoTIFF has one type and one no-data value for all of them."""
    features = [
        _Band(f"feature_{number}", values, _coding(values, dtype))
        for number, values in zip(date["feature"].values, date["embedding"], strict=True)
    ]
    layers = [str(name) for name in date if name != "embedding"]
    return features + [_Band(name, date[name], _coding(date[name], dtype)) for name in layers]


def _coding(values: xr.DataArray, dtype: str) -> Coding:
    name = str(values.name)
    step = EMBEDDING_CODINGS[dtype].step
    if step is None:
        return Coding("float32", np.nan)
    if name == "context_share":
        step = SHARE_CODING.step
    elif name.startswith("days_to_"):
        step = DAYS_CODING.step
    elif name != "embedding":
        # The finest decimal step with which the largest value fits.
        largest = np.nan_to_num(values).max()
        step = float(f"1e{np.ceil(np.log10(largest / _INT16_LAST)):.0f}") if largest > 0 else 1.0
    return Coding("int16", -_INT16_LAST - 1, step)


def _tags(data: xr.Dataset, time: pd.Timestamp) -> dict[str, str]:
    """Tags of the file."""
    kept = ("cube", "site", "land_cover", "license", "source", "model_digest", "config_digest")
    return {
        "TIFFTAG_DATETIME": f"{time:%Y:%m:%d %H:%M:%S}",
        "TIFFTAG_SOFTWARE": str(data.attrs.get("software", "")),
        **{key: str(data.attrs[key]) for key in kept if key in data.attrs},
    }
