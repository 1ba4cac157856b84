"""Small scenes in the layout of Planetary Computer, written by the tests themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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


OPTICAL = SensorSource(
    collection="sentinel-2-l2a",
    loader="sentinel-2-l2a",
    quantity="reflectance",
    bands=("B02", "B04", "B8A"),
    brdf=True,
    clouds="scl",
)

RADAR = SensorSource(
    collection="sentinel-1-rtc",
    loader="sentinel-1-rtc",
    quantity="backscatter",
    bands=("vv", "vh"),
)

Rows = Sequence[Sequence[float]] | np.ndarray


def textured(count: int, step: int) -> np.ndarray:
    """Digital numbers that vary from pixel to pixel, the same at every call."""
    generator = np.random.default_rng([count, step])
    return generator.integers(1200, 4000, (count, count)).astype(np.uint16)


def granule_xml(
    sun: tuple[Rows, Rows],
    views: Mapping[tuple[int, int], tuple[Rows, Rows]],
    *,
    epsg: int = 32632,
    left: float = 600000,
    top: float = 5100000,
) -> bytes:
    """Metadata of a granule; angles are zeniths and azimuths, ``views`` by band and detector."""

    def grid(tag: str, angles: tuple[Rows, Rows], more: str = "") -> str:
        text = ""
        for name, rows in zip(("Zenith", "Azimuth"), angles, strict=True):
            lines = (" ".join(f"{value:.17g}" for value in row) for row in rows if len(row))
            values = "".join(f"<VALUES>{line}</VALUES>" for line in lines)
            steps = "<COL_STEP>5000</COL_STEP><ROW_STEP>5000</ROW_STEP>"
            text += f"<{name}>{steps}<Values_List>{values}</Values_List></{name}>"
        return f"<{tag}{more}>{text}</{tag}>"

    seen = "".join(
        grid("Viewing_Incidence_Angles_Grids", look, f' bandId="{band}" detectorId="{detector}"')
        for (band, detector), look in views.items()
    )
    return (
        '<?xml version="1.0"?><n1:Level-2A_Tile_ID xmlns:n1="urn:test"><n1:Geometric_Info>'
        f"<Tile_Geocoding><HORIZONTAL_CS_CODE>EPSG:{epsg}</HORIZONTAL_CS_CODE>"
        f'<Geoposition resolution="10"><ULX>{left}</ULX><ULY>{top}</ULY></Geoposition>'
        f"</Tile_Geocoding><Tile_Angles>{grid('Sun_Angles_Grid', sun)}{seen}</Tile_Angles>"
        "</n1:Geometric_Info></n1:Level-2A_Tile_ID>"
    ).encode()


def granule_metadata(
    *,
    sun: tuple[float, float] = (40.0, 150.0),
    view: tuple[float, float] = (8.0, 105.0),
    slope: float = 0.1,
    **place: Any,
) -> bytes:
    """Metadata of a granule whose zeniths rise linearly to the east; two detectors per band."""
    east = np.broadcast_to(np.arange(4) * slope, (4, 4))
    ones = np.ones((4, 4))
    strips = {6: np.arange(4) < 3, 7: np.arange(4) >= 2}
    looks = np.stack([view[0] + east, view[1] * ones])
    views = {
        (number, detector): tuple(np.where(seen, looks, np.nan))
        for number, band in enumerate(BANDS)
        for detector, seen in strips.items()
        if band != "B10"
    }
    return granule_xml((sun[0] + east, sun[1] * ones), views, **place)


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
        xml: bytes | None = None,
    ) -> dict[str, Any]:
        """Add a Sentinel-2 item; ``numbers`` is a value, or a function per band of (rows, cols)."""
        grid = self.grid.padded(margin_px)
        name = f"2A_{time[:19].replace(':', '')}_{tile}_{baseline}"
        assets = {}
        for band in [*(band for band in BANDS if band != "B10"), "SCL"]:
            step = NATIVE.get(band, 20)
            count = -(-grid.width * 10 // step)
            value = numbers if isinstance(numbers, int) else numbers.get(band, 2000)
            value = scl if band == "SCL" else value
            values = value(count, step) if callable(value) else value
            values = np.broadcast_to(np.uint16(values), (count, count))
            place = grid.epsg, grid.left, grid.top, step
            assets[band] = self._image(name, band, values, *place, nodata)
        href = f"assets/{name}/MTD_TL.xml"
        xml = xml or granule_metadata(epsg=grid.epsg, left=grid.left, top=grid.top)
        (self.folder / href).write_bytes(xml)
        assets["granule-metadata"] = {"href": href}
        properties = {
            "datetime": time,
            "platform": "Sentinel-2A",
            "proj:code": f"EPSG:{grid.epsg}",
            "sat:relative_orbit": 65,
            "sat:orbit_state": "descending",
            "s2:mgrs_tile": tile,
            "s2:processing_baseline": baseline,
            "s2:generation_time": "2021",
        }
        return self._add(name, "sentinel-2-l2a", properties, assets)

    def radar(
        self,
        time: str,
        vv: np.ndarray | float,
        vh: np.ndarray | float,
        *,
        orbit: int = 1000,
        name: str = "",
    ) -> dict[str, Any]:
        """Add a Sentinel-1 item that covers the cube and no more."""
        grid = self.grid
        name = name or f"S1_{time[:19].replace(':', '')}"
        assets = {}
        for key, value in {"vv": vv, "vh": vh}.items():
            values = np.broadcast_to(np.float32(value), grid.shape)
            place = grid.epsg, grid.left, grid.top, 10
            assets[key] = self._image(name, key, values, *place, -32768)
        properties = {
            "datetime": time,
            "platform": "SENTINEL-1A",
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
            values = np.asarray(value(x, y) if callable(value) else value).astype(np.uint16)
            values = np.broadcast_to(values, x.shape)
            nodata = 1 if band == "qa_pixel" else 0
            if band != without:
                assets[band] = self._image(name, band, values, epsg, left, top, 30, nodata)
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

    def _image(
        self, name: str, band: str, values: np.ndarray, epsg: int, *place: Any
    ) -> dict[str, Any]:
        href = f"assets/{name}/{band}.tif"
        write_raster(self.folder / href, values, epsg, *place)
        return {"href": href}

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
        self.save()
        return item

    def save(self) -> None:
        """Write the items as they are now."""
        (self.folder / "items").mkdir(exist_ok=True)
        content = {"type": "FeatureCollection", "features": self.items}
        (self.folder / "items" / "all.json").write_text(json.dumps(content))
