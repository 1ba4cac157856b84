"""Cloud-Optimised GeoTIFFs of single dates of a product."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import rasterio.shutil
import xarray as xr
from numpy.typing import NDArray
from rasterio.windows import Window

from pipeline_lib.cubes import grid_of
from pipeline_lib.embed.item import no_data, single_date_item
from pipeline_lib.embed.store import (
    DAYS_CODING,
    EMBEDDING_CODINGS,
    ITEM,
    SHARE_CODING,
    Coding,
    read_embedding,
    read_manifest,
)
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, read_json, scratch_folder, write_csv, write_json

BLOCK_PX = 512
_INT16_LAST = 32767

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Band:
    """One band of a file: its layer, the place within ``embedding``, and how it is stored."""

    name: str
    layer: str
    feature: int | None
    coding: Coding

    def of(self, date: xr.Dataset) -> NDArray[Any]:
        """Stored numbers of this band, ``(y, x)``."""
        values = date[self.layer].values
        return self.coding.encode(values if self.feature is None else values[self.feature])[0]


def write_geotiff(folder: Path, date: datetime.date, output: Path) -> None:
    """Write one date of a product as a Cloud-Optimised GeoTIFF, and its STAC item beside it.

    Bands are the features and, after them, the quality layers; they bear names, units and,
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
    time = data["time"].values[index]
    shown = data.isel(time=index)
    bands = _bands(shown, manifest["dtype"])
    with scratch_folder(output) as scratch, atomic_path(output) as partial:
        _write_plain(scratch / "plain.tif", shown, bands, _tags(data, time))
        rasterio.shutil.copy(
            scratch / "plain.tif",
            partial,
            driver="COG",
            compress="deflate",
            predictor="yes",
            blocksize=BLOCK_PX,
            overview_resampling="nearest",
            bigtiff="if_safer",
        )
    scenes = json.loads(data.attrs.get("source_items", "[]"))
    item = single_date_item(
        parent=read_json(folder / ITEM),
        product=folder,
        time=time,
        scenes=scenes[index] if scenes else [],
        bands=[_described(band, shown) for band in bands],
        dtype=bands[0].coding.dtype,
        geotiff=output,
    )
    write_json(output.with_suffix(".json"), item)


def find_date(product: str, manifest: Mapping[str, Any], date: datetime.date) -> int:
    """Index of the acquisition of a calendar day; of several the one that shows most.

    Raises
    ------
    UserError
        If there is none; the dates before and after are named.
    """
    days = _days(manifest)
    found = np.flatnonzero(days == np.datetime64(date, "D"))
    if not len(found):
        raise UserError(f"{product}: no embeddings of {date}; {_neighbours(days, date)}")
    return int(max(found, key=lambda index: manifest["embeddings"][index]))


def write_closest_dates(
    *,
    products: Mapping[str, Path],
    dates: Sequence[datetime.date],
    tolerance_days: int,
    output: Path,
) -> None:
    """Find the acquisition closest to each date, product by product, and write a table of them.

    A product without a date that is close enough is told in one line of the log.

    Parameters
    ----------
    products
        Folder of each cube's product.
    dates
        Dates that are asked for.
    tolerance_days
        Most days between such a date and an acquisition.
    output
        Table with the columns ``cube``, ``asked``, ``closest`` (the earlier one of two) and
        ``close_enough``.

    Raises
    ------
    UserError
        If a product is unfinished.
    """
    rows = []
    for cube, folder in products.items():
        days = _days(read_manifest(folder))
        for asked in dates:
            gaps = np.abs(days - np.datetime64(asked, "D")).astype(int)
            close = bool(gaps.min() <= tolerance_days)
            if not close:
                log.warning(
                    "%s: no embeddings within %d days of %s; %s",
                    cube,
                    tolerance_days,
                    asked,
                    _neighbours(days, asked),
                )
            rows.append(
                {
                    "cube": cube,
                    "asked": asked,
                    "closest": days[gaps.argmin()],
                    "close_enough": close,
                }
            )
    write_csv(output, rows)


def _days(manifest: Mapping[str, Any]) -> NDArray[np.datetime64]:
    return np.array(manifest["times"], "datetime64[D]")


def _neighbours(days: NDArray[np.datetime64], date: datetime.date) -> str:
    """The last date before and the first one after a day that has none, in words."""
    place = int(np.searchsorted(days, np.datetime64(date, "D")))
    near = [str(day) for day in days[max(place - 1, 0) : place + 1]]
    return f"the nearest {'date is' if len(near) == 1 else 'dates are'} {' and '.join(near)}"


def _bands(date: xr.Dataset, dtype: str) -> list[_Band]:
    """Bands of a file; a GeoTIFF has one type and one missing number for all of them."""
    bands = []
    for layer in map(str, date.data_vars):
        coding = _coding(date, layer, dtype)
        if layer == "embedding":
            names = [f"feature_{number}" for number in date["feature"].values]
            bands += [_Band(name, layer, index, coding) for index, name in enumerate(names)]
        else:
            bands.append(_Band(layer, layer, None, coding))
    return bands


def _coding(date: xr.Dataset, layer: str, dtype: str) -> Coding:
    step = EMBEDDING_CODINGS[dtype].step
    if step is None:
        return Coding("float32", np.nan)
    if layer == "context_share":
        step = SHARE_CODING.step
    elif layer.startswith("days_to_"):
        step = DAYS_CODING.step
    elif layer != "embedding":
        # The finest decimal step with which the largest number fits.
        largest = max(np.nan_to_num(part[layer]).max() for part in _strips(date[[layer]]))
        step = float(f"1e{np.ceil(np.log10(largest / _INT16_LAST)):.0f}") if largest > 0 else 1.0
    return Coding("int16", -_INT16_LAST - 1, step)


def _write_plain(
    path: Path, date: xr.Dataset, bands: Sequence[_Band], tags: Mapping[str, str]
) -> None:
    """An ordinary tiled GeoTIFF, from which GDAL makes the cloud-optimised one."""
    grid = grid_of(date)
    profile = {
        "driver": "GTiff",
        "height": grid.height,
        "width": grid.width,
        "count": len(bands),
        "dtype": bands[0].coding.dtype,
        "nodata": bands[0].coding.fill,
        "crs": rasterio.CRS.from_epsg(grid.epsg),
        "transform": rasterio.transform.from_origin(
            grid.left, grid.top, grid.resolution, grid.resolution
        ),
        "tiled": True,
        "blockxsize": BLOCK_PX,
        "blockysize": BLOCK_PX,
        "bigtiff": "if_safer",
    }
    with rasterio.open(path, "w", **profile) as file:
        file.update_tags(**tags)
        file.descriptions = tuple(band.name for band in bands)
        file.units = tuple(date[band.layer].attrs["units"] for band in bands)
        file.scales = tuple(band.coding.step or 1 for band in bands)
        for number, band in enumerate(bands, 1):
            file.update_tags(number, long_name=date[band.layer].attrs["long_name"])
        row = 0
        for part in _strips(date):
            rows = part.sizes["y"]
            for number, band in enumerate(bands, 1):
                file.write(band.of(part), number, window=Window(0, row, grid.width, rows))
            row += rows


def _strips(date: xr.Dataset) -> Iterator[xr.Dataset]:
    """The rows of a date in portions that are read one after the other."""
    for start in range(0, date.sizes["y"], BLOCK_PX):
        yield date.isel(y=slice(start, start + BLOCK_PX)).load()


def _tags(data: xr.Dataset, time: np.datetime64) -> dict[str, str]:
    """What the file says of itself."""
    kept = ("cube", "site", "land_cover", "license", "source", "model_digest", "config_digest")
    return {
        "TIFFTAG_DATETIME": f"{pd.Timestamp(time):%Y:%m:%d %H:%M:%S}",
        "TIFFTAG_SOFTWARE": str(data.attrs.get("software", "")),
        **{key: str(data.attrs[key]) for key in kept if key in data.attrs},
    }


def _described(band: _Band, date: xr.Dataset) -> dict[str, Any]:
    """A band as STAC describes it."""
    coding, told = band.coding, date[band.layer].attrs
    return {
        "name": band.name,
        "description": told["long_name"],
        "unit": told["units"],
        "nodata": no_data(coding),
        "raster:sampling": "area",
        **({} if coding.step is None else {"raster:scale": coding.step}),
    }
