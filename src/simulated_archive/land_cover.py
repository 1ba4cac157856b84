"""The land-cover map of the simulated region, and its item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Demo, Sites
from pipeline_lib.files import write_json
from pipeline_lib.seeds import generator
from simulated_archive.geotiff import write_geotiff
from simulated_archive.random_fields import smooth_field
from simulated_archive.stac_collections import collection

VERSION = "v2.1.1"

CLASSES: dict[int, tuple[float, float]] = {
    10: (0.17, 14),
    11: (0.09, 10),
    12: (0.01, 5),
    30: (0.09, 7),
    40: (0.04, 6),
    60: (0.13, 12),
    61: (0.03, 7),
    70: (0.18, 14),
    80: (0.01, 6),
    90: (0.05, 8),
    100: (0.02, 5),
    120: (0.02, 6),
    130: (0.12, 12),
    150: (0.005, 4),
    190: (0.045, 5),
    200: (0.005, 4),
    210: (0.015, 6),
}
"""LCCS code -> share of the region, and size of its patches in cells of 300 m."""


def draw_land_cover(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw a map of LCCS codes with patches of every class.

    Each class has a smooth field; a cell takes the class whose field, raised by an offset,
    is highest. The offsets are adjusted until the shares are right.

    Returns
    -------
    ``(y, x)``
    """
    codes = np.array(list(CLASSES), dtype=np.uint8)
    shares = np.array([share for share, _ in CLASSES.values()])
    shares /= shares.sum()
    fields = np.stack([smooth_field(rng, shape, size, 5.0) for _, size in CLASSES.values()])
    coarse = fields[:, ::4, ::4]
    offsets = np.log(shares)[:, None, None].astype(np.float32)
    for _ in range(40):
        found = np.bincount((coarse + offsets).argmax(axis=0).ravel(), minlength=len(codes))
        found = np.maximum(found / coarse[0].size, 1e-4)
        offsets += 0.25 * np.log(shares / found)[:, None, None].astype(np.float32)
    return codes[(fields + offsets).argmax(axis=0)]


def write_land_cover(*, sites: Sites, demo: Demo, seed: int, folder: Path) -> None:
    """Write the land-cover map, its item, and the collections of the archive.

    Parameters
    ----------
    sites
        Bounds and year of the map.
    demo
        Cells per degree.
    seed
        Seed of the run.
    folder
        The archive. ``assets/esa-cci-lc``, ``collections`` and, last,
        ``items/esa-cci-lc.json`` are written.
    """
    west, south, east, north = sites.bounds
    cells = demo.land_cover_cells_per_degree
    shape = (round((north - south) * cells), round((east - west) * cells))
    codes = draw_land_cover(generator(seed, "land cover"), shape)
    year = sites.land_cover.year
    identifier = f"C3S-LC-L4-LCCS-Map-300m-P1Y-{year}-{VERSION}-{_corner(west, north)}"
    href = f"assets/{sites.land_cover.collection}/{identifier}-lccs_class.tif"
    path = folder / href
    path.parent.mkdir(parents=True, exist_ok=True)
    write_geotiff(
        path, codes, epsg=4326, left=west, top=north, resolution=1 / cells, no_data=0, block=256
    )
    for name in ("sentinel-2-l2a", "sentinel-1-rtc", "landsat-c2-l2", "esa-cci-lc"):
        write_json(folder / "collections" / f"{name}.json", collection(name))
    item = _item(identifier, href, sites, shape, cells)
    write_json(
        folder / "items" / f"{sites.land_cover.collection}.json",
        {"type": "FeatureCollection", "features": [item]},
    )


def _corner(west: float, north: float) -> str:
    """Name of a tile by its upper left corner, such as ``N45E000``."""
    vertical = f"{'N' if north >= 0 else 'S'}{abs(int(np.ceil(north))):02d}"
    return f"{vertical}{'E' if west >= 0 else 'W'}{abs(int(np.floor(west))):03d}"


def _item(
    identifier: str, href: str, sites: Sites, shape: tuple[int, int], cells: int
) -> dict[str, Any]:
    west, south, east, north = sites.bounds
    year = sites.land_cover.year
    template = collection("esa-cci-lc")["item_assets"]["lccs_class"]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": identifier,
        "collection": sites.land_cover.collection,
        "bbox": [west, south, east, north],
        "geometry": {
            "type": "Polygon",
            "coordinates": [
                [[east, south], [east, north], [west, north], [west, south], [east, south]]
            ],
        },
        "properties": {
            "title": f"ESA CCI Land Cover Map for Year {year}, Tile {_corner(west, north)}",
            "datetime": None,
            "start_datetime": f"{year}-01-01T00:00:00Z",
            "end_datetime": f"{year}-12-31T23:59:59Z",
            "esa_cci_lc:version": VERSION,
            "esa_cci_lc:tile": _corner(west, north),
            "proj:epsg": 4326,
            "proj:shape": list(shape),
            "proj:transform": [1 / cells, 0.0, west, 0.0, -1 / cells, north],
        },
        "assets": {"lccs_class": template | {"href": href}},
        "links": [],
        "stac_extensions": [
            "https://stac-extensions.github.io/classification/v1.1.0/schema.json",
            "https://stac-extensions.github.io/projection/v1.0.0/schema.json",
            "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
        ],
    }
