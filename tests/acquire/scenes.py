"""Small scenes in the layout of Planetary Computer, written by the tests themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pipeline_lib.acquire import build_cube, pin_items
from pipeline_lib.acquire.angles import BANDS
from pipeline_lib.config import Catalog, CubeGrid, SensorSource
from pipeline_lib.cubes import CubeRequest, grid_at, read_cube

LON, LAT = 11.02, 46.01
NATIVE = {"B01": 60, "B09": 60, "B02": 10, "B03": 10, "B04": 10, "B08": 10}


def grid_xml(name: str, values: np.ndarray, attributes: str = "") -> str:
    def block(tag: str, field: np.ndarray) -> str:
        rows = "".join(f"<VALUES>{' '.join(f'{v:.6g}' for v in row)}</VALUES>" for row in field)
        return (
            f'<{tag}><COL_STEP unit="m">5000</COL_STEP><ROW_STEP unit="m">5000</ROW_STEP>'
            f"<Values_List>{rows}</Values_List></{tag}>"
        )

    zenith, azimuth = values
    return f"<{name}{attributes}>{block('Zenith', zenith)}{block('Azimuth', azimuth)}</{name}>"


def granule_metadata(
    epsg: int,
    left: float,
    top: float,
    *,
    sun: tuple[float, float] = (40.0, 150.0),
    view: tuple[float, float] = (8.0, 105.0),
    slope: float = 0.1,
    nodes: int = 4,
) -> bytes:
    """Metadata of a granule whose angles rise linearly to the east; two detectors per band."""
    east = np.broadcast_to(np.arange(nodes) * slope, (nodes, nodes))
    ones = np.ones((nodes, nodes))
    sun_grid = grid_xml("Sun_Angles_Grid", np.stack([sun[0] + east, sun[1] * ones]))
    views = ""
    for number, band in enumerate(BANDS):
        if band == "B10":
            continue
        for detector in (6, 7):
            seen = np.arange(nodes) < nodes // 2 + (detector == 6)
            seen = seen if detector == 6 else ~seen | (np.arange(nodes) == nodes // 2)
            zenith = np.where(seen, view[0] + east, np.nan)
            azimuth = np.where(seen, view[1] * ones, np.nan)
            views += grid_xml(
                "Viewing_Incidence_Angles_Grids",
                np.stack([zenith, azimuth]),
                f' bandId="{number}" detectorId="{detector}"',
            )
    text = (
        '<?xml version="1.0"?><n1:Level-2A_Tile_ID xmlns:n1="urn:test"><n1:Geometric_Info>'
        f"<Tile_Geocoding><HORIZONTAL_CS_CODE>EPSG:{epsg}</HORIZONTAL_CS_CODE>"
        f'<Geoposition resolution="10"><ULX>{left}</ULX><ULY>{top}</ULY></Geoposition>'
        f"</Tile_Geocoding><Tile_Angles>{sun_grid}{views}</Tile_Angles>"
        "</n1:Geometric_Info></n1:Level-2A_Tile_ID>"
    )
    return text.encode()


def write_raster(
    path: Path, values: np.ndarray, epsg: int, left: float, top: float, step: float, nodata: Any
) -> None:
    import rasterio
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"height": values.shape[0], "width": values.shape[1], "count": 1, "nodata": nodata}
    profile |= {"dtype": values.dtype, "crs": f"EPSG:{epsg}"}
    profile["transform"] = from_origin(left, top, step, step)
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(values, 1)


@dataclass
class Archive:
    """A folder catalog around one site, filled scene by scene."""

    folder: Path
    cube: CubeGrid = field(default_factory=lambda: CubeGrid(size_px=24, cloud_context_px=6))
    items: list[dict[str, Any]] = field(default_factory=list)

    @property
    def grid(self) -> Any:
        return grid_at(LON, LAT, self.cube)

    @property
    def catalog(self) -> Catalog:
        return Catalog(source=str(self.folder), signing="none", requests=2)

    def request(self, start: str = "2021-01-01", end: str = "2021-12-31") -> CubeRequest:
        days = date.fromisoformat(start), date.fromisoformat(end)
        return CubeRequest("site-000-a", "site-000", "grassland", LON, LAT, *days)

    def pin(self, sensor: SensorSource, output: Path, **catalog: Any) -> Path:
        """The file of the items pinned for the site's cube."""
        pin_items(
            request=self.request(),
            sensor=sensor,
            cube=self.cube,
            catalog=self.catalog.model_copy(update=catalog),
            output=output,
        )
        return output

    def build(
        self, sensor: SensorSource, folder: Path, *, items: Path | None = None, **catalog: Any
    ) -> xr.Dataset:
        """The site's cube, built in ``folder`` of its pinned items or of others."""
        output = folder / "cube.zarr.zip"
        build_cube(
            sensor_name="some-sensor",
            sensor=sensor,
            catalog=self.catalog.model_copy(update=catalog),
            cube=self.cube,
            items=items or self.pin(sensor, folder / "pins.json"),
            config_digest="digest",
            output=output,
        )
        return read_cube(output)

    def optical(
        self,
        time: str,
        numbers: Mapping[str, Any] | int = 2000,
        *,
        tile: str = "32TPS",
        baseline: str = "05.09",
        scl: int = 4,
        margin_px: int = 36,
        nodata: int | None = 0,
        generated: str = "",
        xml: bytes | None = None,
        platform: str = "Sentinel-2A",
        shift: tuple[int, int] = (0, 0),
    ) -> dict[str, Any]:
        """Add a Sentinel-2 item; ``numbers`` is a value, or a function per band of (rows, cols)."""
        grid = self.grid
        left = grid.left - margin_px * 10 + shift[0]
        top = grid.top + margin_px * 10 + shift[1]
        size = grid.width + 2 * margin_px
        name = f"{platform[-2:]}_{time[:19].replace(':', '')}_{tile}_{baseline}{generated}"
        assets = {}
        for band in [*BANDS, "SCL"]:
            if band == "B10":
                continue
            step = NATIVE.get(band, 20)
            count = -(-size * 10 // step)
            value = numbers if isinstance(numbers, int) else numbers.get(band, 2000)
            if band == "SCL":
                value = scl
            values = np.zeros((count, count), np.uint16)
            values[:] = value(count, step) if callable(value) else value
            path = self.folder / "assets" / name / f"{band}.tif"
            write_raster(path, values, grid.epsg, left, top, step, nodata)
            assets[band] = {"href": str(path.relative_to(self.folder)), "gsd": step}
        metadata = self.folder / "assets" / name / "MTD_TL.xml"
        metadata.write_bytes(xml if xml is not None else granule_metadata(grid.epsg, left, top))
        assets["granule-metadata"] = {"href": str(metadata.relative_to(self.folder))}
        properties = {
            "datetime": time,
            "platform": platform,
            "proj:code": f"EPSG:{grid.epsg}",
            "sat:relative_orbit": 65,
            "sat:orbit_state": "descending",
            "s2:mgrs_tile": tile,
            "s2:processing_baseline": baseline,
            "s2:generation_time": generated or "2021",
        }
        return self._add(name, "sentinel-2-l2a", properties, assets)

    def radar(
        self,
        time: str,
        vv: np.ndarray | float,
        vh: np.ndarray | float,
        *,
        orbit: int = 1000,
        platform: str = "SENTINEL-1A",
        name: str = "",
    ) -> dict[str, Any]:
        """Add a Sentinel-1 item that covers the cube and no more."""
        grid = self.grid
        name = name or f"S1_{time[:19].replace(':', '')}"
        assets = {}
        for key, value in {"vv": vv, "vh": vh}.items():
            values = np.broadcast_to(np.float32(value), grid.shape).copy()
            path = self.folder / "assets" / name / f"{key}.tif"
            write_raster(path, values, grid.epsg, grid.left, grid.top, 10, -32768)
            assets[key] = {"href": str(path.relative_to(self.folder))}
        properties = {
            "datetime": time,
            "platform": platform,
            "proj:epsg": grid.epsg,
            "sat:absolute_orbit": orbit,
            "sat:relative_orbit": orbit % 175,
            "sat:orbit_state": "ascending",
        }
        return self._add(name, "sentinel-1-rtc", properties, assets)

    def landsat(
        self,
        time: str,
        numbers: Mapping[str, Any] | Any = 14000,
        *,
        quality: Any = 21824,
        path: str = "193",
        row: str = "026",
        platform: str = "landsat-8",
        epsg: int | None = None,
        without: str = "",
    ) -> dict[str, Any]:
        """Add a Landsat item around the cube.

        ``numbers`` and ``quality``: a value, or a function of the coordinates of the pixels.
        """
        from pyproj import Transformer

        grid = self.grid
        epsg = epsg or grid.epsg
        change = Transformer.from_crs(grid.epsg, epsg, always_xy=True)
        east, north = change.transform(grid.left + 120, grid.top - 120)
        left, top = east // 30 * 30 - 225, north // 30 * 30 + 225
        x, y = np.meshgrid(left + 30 * np.arange(15) + 15, top - 30 * np.arange(15) - 15)
        name = f"LC{platform[-1:].zfill(2)}_L2SP_{path}{row}_{time[:10].replace('-', '')}_02_T1"
        assets = {}
        for band in ("coastal", "blue", "green", "red", "nir08", "swir16", "swir22", "qa_pixel"):
            value = numbers.get(band, 14000) if isinstance(numbers, Mapping) else numbers
            value = quality if band == "qa_pixel" else value
            values = np.zeros(x.shape, np.uint16)
            values[:] = value(x, y) if callable(value) else value
            file = self.folder / "assets" / name / f"{band}.tif"
            write_raster(file, values, epsg, left, top, 30, 1 if band == "qa_pixel" else 0)
            if band != without:
                assets[band] = {"href": str(file.relative_to(self.folder))}
        properties = {
            "datetime": time,
            "platform": platform,
            "proj:epsg": epsg,
            "proj:transform": [30.0, 0.0, left, 0.0, -30.0, top],
            "landsat:wrs_path": path,
            "landsat:wrs_row": row,
            "view:sun_elevation": 50.0,
            "view:sun_azimuth": -30.0,
        }
        return self._add(name, "landsat-c2-l2", properties, assets)

    def _add(
        self, name: str, collection: str, properties: dict[str, Any], assets: dict[str, Any]
    ) -> dict[str, Any]:
        item = {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": name,
            "collection": collection,
            "bbox": [LON - 0.02, LAT - 0.02, LON + 0.02, LAT + 0.02],
            "geometry": None,
            "properties": properties,
            "assets": assets,
            "links": [],
        }
        self.items.append(item)
        (self.folder / "items").mkdir(exist_ok=True)
        content = {"type": "FeatureCollection", "features": self.items}
        (self.folder / "items" / "all.json").write_text(json.dumps(content))
        return item
