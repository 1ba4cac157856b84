"""The table of sites, drawn from a land-cover map."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.catalog import Item, is_url, search
from pipeline_lib.acquire.patience import Busy, Lost, patiently
from pipeline_lib.acquire.signing import signer_of
from pipeline_lib.config import Catalog, Sites
from pipeline_lib.errors import UserError
from pipeline_lib.files import write_csv
from pipeline_lib.sites import LandCoverMap, draw_sites

NETCDF_VARIABLE = "lccs_class"


def draw_site_table(*, sites: Sites, catalog: Catalog, seed: int, output: Path) -> None:
    """Draw the sites and their periods and write ``sites.csv``, one row per cube.

    Parameters
    ----------
    sites
        Block of the drawing; names the map.
    catalog
        Where the map's items come from, unless ``sites`` names a file.
    seed
        The same seed gives the same table.
    output
        The table: ``cube, site, land_cover, lcc_code, lon, lat, start, end``.

    Raises
    ------
    UserError
        If the map cannot be read, or a stratum cannot be filled.
    """
    write_csv(output, draw_sites(read_land_cover(sites, catalog), sites, seed))


def read_land_cover(sites: Sites, catalog: Catalog) -> LandCoverMap:
    """Read the land-cover map within the bounds of the drawing, and nothing beyond.

    Raises
    ------
    UserError
        If the file or the collection holds no map of the bounds.
    """
    block = sites.land_cover
    if block.file is not None:
        sources = [str(block.file)]
        if block.file.suffix in (".nc", ".nc4"):
            return _read_netcdf(block.file, sites.bounds)
    else:
        year = date(block.year, 1, 1), date(block.year, 12, 31)
        items = search(catalog, block.collection, sites.bounds, *year)
        sources = [_href(item, block.asset) for item in items]
    parts = [part for href in sources if (part := _read_raster(href, sites.bounds, catalog))]
    if not parts:
        raise UserError(
            f"{block.file or catalog.source}: no land-cover map of {block.year} within "
            f"{sites.bounds}; check sites.land_cover and sites.bounds"
        )
    return _joined(parts)


def _href(item: Item, asset: str) -> str:
    if asset not in item["assets"]:
        raise UserError(
            f"item {item['id']} has no asset {asset!r}; it has {', '.join(sorted(item['assets']))};"
            " check sites.land_cover.asset"
        )
    return str(item["assets"][asset]["href"])


@dataclass(frozen=True)
class _Part:
    codes: NDArray[np.uint8]
    west: float
    north: float
    step: float


def _read_raster(
    href: str, bounds: tuple[float, float, float, float], catalog: Catalog
) -> _Part | None:
    import math

    import rasterio
    from rasterio.errors import RasterioIOError
    from rasterio.windows import Window

    signer = signer_of(catalog)
    west, south, east, north = bounds
    timeout = math.ceil(catalog.timeout_s)

    def read() -> _Part | None:
        try:
            with (
                rasterio.Env(
                    GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
                    GDAL_HTTP_CONNECTTIMEOUT=timeout,
                    GDAL_HTTP_LOW_SPEED_TIME=timeout,
                    GDAL_HTTP_LOW_SPEED_LIMIT=1000,
                    CPL_VSIL_CURL_NON_CACHED="/vsicurl/",
                ),
                rasterio.open(signer.sign(href)) as file,
            ):
                if file.crs is not None and not file.crs.is_geographic:
                    raise UserError(
                        f"{href}: the land-cover map must be in degrees; warp it to EPSG:4326"
                    )
                left, top, step = file.transform.c, file.transform.f, file.transform.a
                # Whole cells whose centres lie within the bounds.
                first_col = max(0, math.ceil((west - left) / step - 0.5))
                first_row = max(0, math.ceil((top - north) / step - 0.5))
                end_col = min(file.width, math.floor((east - left) / step - 0.5) + 1)
                end_row = min(file.height, math.floor((top - south) / step - 0.5) + 1)
                if first_col >= end_col or first_row >= end_row:
                    return None
                window = Window.from_slices((first_row, end_row), (first_col, end_col))
                codes = file.read(1, window=window)
        except RasterioIOError as error:
            if is_url(href):
                raise Busy(type(error).__name__) from error
            raise Lost(str(error)) from error
        return _Part(_codes(codes, href), left + first_col * step, top - first_row * step, step)

    try:
        return patiently(
            read,
            what=f"land-cover map {href}",
            retries=catalog.retries,
            refresh=lambda: signer.forget(href),
        )
    except Lost as error:
        raise UserError(f"land-cover map {href}: {error}; mend sites.land_cover") from error


def _codes(values: NDArray[Any], where: object) -> NDArray[np.uint8]:
    if values.dtype.kind not in "iu":
        raise UserError(f"{where}: holds {values.dtype}, not LCCS codes (whole numbers 0..255)")
    # Old NetCDF files of the map have signed bytes: 210 reads as -46.
    return values.astype(np.uint8)


def _joined(parts: Sequence[_Part]) -> LandCoverMap:
    step = parts[0].step
    west = min(part.west for part in parts)
    north = max(part.north for part in parts)
    offsets = [(round((north - p.north) / step), round((p.west - west) / step)) for p in parts]
    rows = max(top + part.codes.shape[0] for (top, _), part in zip(offsets, parts, strict=True))
    cols = max(left + part.codes.shape[1] for (_, left), part in zip(offsets, parts, strict=True))
    codes = np.zeros((rows, cols), dtype=np.uint8)
    for (top, left), part in zip(offsets, parts, strict=True):
        height, width = part.codes.shape
        codes[top : top + height, left : left + width] = part.codes
    return LandCoverMap(
        codes,
        west + (np.arange(cols) + 0.5) * step,
        north - (np.arange(rows) + 0.5) * step,
    )


def _read_netcdf(file: Path, bounds: tuple[float, float, float, float]) -> LandCoverMap:
    import xarray as xr

    west, south, east, north = bounds
    try:
        with warnings.catch_warnings(), xr.open_dataset(file, mask_and_scale=False) as content:
            warnings.simplefilter("ignore")
            variable = content[NETCDF_VARIABLE]
            if "time" in variable.dims:
                variable = variable.isel(time=0)
            lon, lat = variable["lon"].values, variable["lat"].values
            columns = np.flatnonzero((lon >= west) & (lon <= east))
            rows = np.flatnonzero((lat >= south) & (lat <= north))
            part = variable.transpose("lat", "lon").isel(
                lat=slice(*_span(rows)), lon=slice(*_span(columns))
            )
            codes = part.values
    except (KeyError, OSError, ValueError) as error:
        raise UserError(
            f"{file}: not a land-cover map with {NETCDF_VARIABLE}(lat, lon) ({error})"
        ) from error
    if codes.size == 0:
        raise UserError(f"{file}: no cell within {bounds}; check sites.bounds")
    lon, lat = part["lon"].values.astype(np.float64), part["lat"].values.astype(np.float64)
    return LandCoverMap(_codes(codes, file), lon, lat)


def _span(index: NDArray[np.intp]) -> tuple[int, int]:
    return (int(index[0]), int(index[-1]) + 1) if len(index) else (0, 0)
