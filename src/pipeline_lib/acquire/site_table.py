"""The table of sites, drawn from a land-cover map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.catalog import Bounds, search
from pipeline_lib.acquire.items import is_url
from pipeline_lib.acquire.reading import AssetReader, address_of, gdal_options, meaning_of
from pipeline_lib.acquire.retries import Missing, Rejected
from pipeline_lib.config import Catalog, Sites
from pipeline_lib.config.sites import LCCS_CODES
from pipeline_lib.errors import UserError
from pipeline_lib.sites import LandCoverMap, distribution, draw_sites, write_site_table

NETCDF_VARIABLE = "lccs_class"
FINEST_STEP = 1 / 400
"""The cells of the map measure 1/360 of a degree."""


def draw_site_table(*, sites: Sites, catalog: Catalog, seed: int, output: Path) -> None:
    """Draw the sites and their years; write ``sites.csv`` and ``sites.gpkg``, one row per cube.

    The distribution of the sites is printed. Raises UserError if the map cannot be read, or a
    stratum cannot be filled.
    """
    rows = draw_sites(read_land_cover(sites, catalog), sites, seed)
    write_site_table(rows, output)
    print(distribution(rows, sites))


def read_land_cover(sites: Sites, catalog: Catalog) -> LandCoverMap:
    """The land-cover map within the bounds of the sampling.

    Raises UserError if it cannot be read or does not cover the bounds.
    """
    block = sites.land_cover
    if block.file is None:
        where = f"{catalog.source}, {block.collection} of {block.year}"
        year = date(block.year, 1, 1), date(block.year, 12, 31)
        items = search(catalog, block.collection, sites.bounds, *year)
        hrefs = []
        for item in items:
            try:
                hrefs.append(address_of(item, block.asset, catalog))
            except Missing as error:
                raise UserError(f"item {item['id']}: {error}; check sites.land_cover") from error
    else:
        where = str(block.file)
        netcdf = block.file.suffix in (".nc", ".nc4")
        hrefs = [f'NETCDF:"{block.file}":{NETCDF_VARIABLE}' if netcdf else where]
    # A tile that only touches the bounds is found too, and has no cell within them.
    parts = [part for href in hrefs for part in _read(href, sites.bounds, catalog)]
    if not parts:
        raise UserError(
            f"{where}: no land-cover map within {sites.bounds}; "
            "check sites.land_cover and sites.bounds"
        )
    return _joined(parts, sites.bounds, where)


@dataclass(frozen=True)
class _Part:
    codes: NDArray[np.uint8]
    west: float
    north: float
    step: float


def _read(href: str, bounds: Bounds, catalog: Catalog) -> list[_Part]:
    import rasterio
    from rasterio.errors import RasterioError

    def attempt(signed: dict[str, str]) -> list[_Part]:
        # Other formats than a GeoTIFF may name further files to be read.
        formats = {"driver": "GTiff"} if is_url(href) else {}
        try:
            with (
                rasterio.Env(**gdal_options(catalog)),
                rasterio.open(signed[href], **formats) as file,
            ):
                # Maps begin at 180 degrees, or at 0.
                found = (_part(file, bounds, href, turn) for turn in (0, 360, -360))
                return [part for part in found if part is not None]
        except RasterioError as error:
            raise meaning_of(error, href, signed[href], catalog.timeout_s) from error

    try:
        return AssetReader(catalog).with_retries(attempt, "land-cover map", {href: href})
    except Missing as error:
        raise UserError(f"land-cover map: {error}; check sites.land_cover") from error
    except Rejected as error:
        raise UserError(
            f"land-cover map: {error}; check catalog.signing and your access to it, and run again"
        ) from error


def _part(file: Any, bounds: Bounds, href: str, turn: int) -> _Part | None:
    """Whole cells whose centres lie within the bounds, in a file turned by so many degrees."""
    from rasterio.windows import Window

    if file.crs is not None and not file.crs.is_geographic:
        raise UserError(
            f"{href}: the land-cover map must be in degrees and have the LCCS codes of ESA CCI; "
            "if it has them, warp it to EPSG:4326"
        )
    if file.count > 1:
        raise UserError(
            f"{href}: has {file.count} bands, perhaps of as many years; give a file of the one year"
        )
    step, row_rotation, left, column_rotation, down, top = file.transform[:6]
    if row_rotation or column_rotation or abs(step + down) > 1e-6 * step:
        raise UserError(
            f"{href}: the land-cover map must have square cells and north on top; "
            "warp it to EPSG:4326"
        )
    west, south, east, north = bounds
    left -= turn
    first_col = max(0, math.ceil((west - left) / step - 0.5))
    first_row = max(0, math.ceil((top - north) / step - 0.5))
    end_col = min(file.width, math.floor((east - left) / step - 0.5) + 1)
    end_row = min(file.height, math.floor((top - south) / step - 0.5) + 1)
    if first_col >= end_col or first_row >= end_row:
        return None
    window = Window.from_slices((first_row, end_row), (first_col, end_col))
    # What the file declares as no data is 0, as in the map itself.
    values = file.read(1, window=window, masked=True).filled(0)
    # Old NetCDF files of the map have signed bytes: 210 reads as -46.
    codes = values.view(np.uint8) if values.dtype == np.int8 else values
    present = np.unique(codes)
    unknown = present[~np.isin(present, LCCS_CODES) | (codes.dtype.kind == "f")]
    if len(unknown):
        shown = ", ".join(f"{code:g}" for code in unknown[:4])
        raise UserError(
            f"{href}: contains {values.dtype}, not LCCS codes of ESA CCI as integers ({shown}); "
            "is it another map, such as CORINE?"
        )
    # The classes of ESA WorldCover and GlobeLand30 are 10 to 100, with other meanings.
    if step < FINEST_STEP and present.max() <= 100:
        raise UserError(
            f"{href}: has cells of {step:g} degrees and no code above 100, which LCCS codes of ESA "
            "CCI reach; is it ESA WorldCover or another map?"
        )
    codes = codes.astype(np.uint8)
    return _Part(codes, left + first_col * step, top - first_row * step, step)


def _joined(parts: Sequence[_Part], bounds: Bounds, where: str) -> LandCoverMap:
    """One map of all tiles; without holes, so that sites are not drawn from a part of the bounds.

    Only whole cells are taken: its edges may lie half a cell within the bounds.
    """
    step = parts[0].step
    west = min(part.west for part in parts)
    north = max(part.north for part in parts)
    offsets = [(round((north - p.north) / step), round((p.west - west) / step)) for p in parts]
    rows = max(top + part.codes.shape[0] for (top, _), part in zip(offsets, parts, strict=True))
    cols = max(left + part.codes.shape[1] for (_, left), part in zip(offsets, parts, strict=True))
    edges = west, north - rows * step, west + cols * step, north
    inwards = (np.array(edges) - np.array(bounds)) * np.array([1, 1, -1, -1])
    if (inwards > 0.51 * step).any():
        raise UserError(
            f"{where}: the land-cover map ends within sites.bounds {bounds}: it covers "
            f"{edges[0]:.2f} to {edges[2]:.2f} E, {edges[1]:.2f} to {edges[3]:.2f} N; "
            "give a map of all of sites.bounds, or narrow them"
        )
    codes = np.zeros((rows, cols), dtype=np.uint8)
    covered = np.zeros((rows, cols), dtype=bool)
    for (top, left), part in zip(offsets, parts, strict=True):
        place = np.s_[top : top + part.codes.shape[0], left : left + part.codes.shape[1]]
        codes[place], covered[place] = part.codes, True
    if not covered.all():
        raise UserError(
            f"{where}: the tiles of the land-cover map leave {(~covered).mean():.0%} of "
            "sites.bounds uncovered; complete the collection, or narrow sites.bounds"
        )
    lon, lat = west + (np.arange(cols) + 0.5) * step, north - (np.arange(rows) + 0.5) * step
    return LandCoverMap(codes, lon, lat)
