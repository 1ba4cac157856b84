"""The land-cover map of the simulated region, and its item."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Demo, Sites
from pipeline_lib.cubes import Grid
from pipeline_lib.files import write_json
from pipeline_lib.seeds import generator
from simulated_archive.arrays import classes_by_share, smooth_field
from simulated_archive.geotiff import write_geotiff
from simulated_archive.stac import EXTENSIONS, LAND_COVER, collection

VERSION = "v2.1.1"


def draw_land_cover(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Map ``(y, x)`` of LCCS codes with patches of every class.

    Each class has a smooth field; a cell takes the class whose field, raised by an offset, is
    highest.
    """
    codes = np.array(list(LAND_COVER), dtype=np.uint8)
    shares = np.array([share for _, _, share, _ in LAND_COVER.values()])
    shares /= shares.sum()
    fields = np.stack([smooth_field(rng, shape, size, 5.0) for *_, size in LAND_COVER.values()])
    return codes[classes_by_share(fields, shares, steps=40, rate=0.25, least=1e-4, stride=4)]


def write_land_cover(*, sites: Sites, demo: Demo, seed: int, folder: Path) -> None:
    """Write the land-cover map, its item, and the collections of the archive.

    The map has the bounds and year of ``sites``. Written are ``assets/esa-cci-lc``, ``collections``
    and, last, ``items/esa-cci-lc.json``.
    """
    west, south, east, north = sites.bounds
    cells = demo.land_cover_cells_per_degree
    shape = (round((north - south) * cells), round((east - west) * cells))
    codes = draw_land_cover(generator(seed, "land cover"), shape)
    year = sites.land_cover.year
    vertical = f"{'N' if north >= 0 else 'S'}{abs(math.ceil(north)):02d}"
    corner = f"{vertical}{'E' if west >= 0 else 'W'}{abs(math.floor(west)):03d}"
    identifier = f"C3S-LC-L4-LCCS-Map-300m-P1Y-{year}-{VERSION}-{corner}"
    href = f"assets/{sites.land_cover.collection}/{identifier}-lccs_class.tif"
    path = folder / href
    path.parent.mkdir(parents=True, exist_ok=True)
    write_geotiff(path, codes, Grid(4326, west, north, 1 / cells, *shape), block=256)
    for name in ("sentinel-2-l2a", "sentinel-1-rtc", "landsat-c2-l2", "esa-cci-lc"):
        write_json(folder / "collections" / f"{name}.json", collection(name))
    ring = [[east, south], [east, north], [west, north], [west, south]]
    template = collection("esa-cci-lc")["item_assets"]["lccs_class"]
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": identifier,
        "collection": sites.land_cover.collection,
        "bbox": [west, south, east, north],
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": {
            "title": f"ESA CCI Land Cover Map for Year {year}, Tile {corner}",
            "datetime": None,
            "start_datetime": f"{year}-01-01T00:00:00Z",
            "end_datetime": f"{year}-12-31T23:59:59Z",
            "esa_cci_lc:version": VERSION,
            "esa_cci_lc:tile": corner,
            "proj:epsg": 4326,
            "proj:shape": list(shape),
            "proj:transform": [1 / cells, 0.0, west, 0.0, -1 / cells, north],
        },
        "assets": {"lccs_class": template | {"href": href}},
        "links": [],
        "stac_extensions": [
            f"{EXTENSIONS}/{name}/schema.json"
            for name in ("classification/v1.1.0", "projection/v1.0.0", "raster/v1.1.0")
        ],
    }
    content = {"type": "FeatureCollection", "features": [item]}
    write_json(folder / "items" / f"{sites.land_cover.collection}.json", content)
