"""Drawing of the paper's sites from a land-cover map of Europe.

The map is simulated: patches of the classes of the demo's map, a third of it sea, towns rare
and scattered as single cells. It is written as GeoTIFF, compressed and in blocks as the real
tiles are, before the clock starts. Inside the clock: imports, reading the map, drawing sites
and periods. Distances are then measured between all pairs by pyproj's geodesic, which the
drawing itself does not use.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from measure import measured, one_thread, show

SEED = 42
COARSE = 4
"""The patches are drawn on cells of so many cells of the map."""
SEA_SHARE, TOWN_SHARE = 0.33, 0.1
SEA, TOWN, FIELDS = 210, 190, 10
SEA_DEGREES = 1.5


def write_map(path: Path, block: dict[str, Any], cells_per_degree: int) -> dict[int, float]:
    """Write the simulated map; share of the cells of each code."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    from simulated_archive.arrays import smooth_field
    from simulated_archive.land_cover import draw_land_cover

    west, south, east, north = block["bounds"]
    shape = round((north - south) * cells_per_degree), round((east - west) * cells_per_degree)
    coarse = -(-shape[0] // COARSE), -(-shape[1] // COARSE)
    generator = np.random.default_rng(SEED)
    codes = draw_land_cover(generator, coarse)
    height = smooth_field(generator, coarse, SEA_DEGREES * cells_per_degree / COARSE)
    codes[height < np.quantile(height, SEA_SHARE)] = SEA
    codes = codes.repeat(COARSE, axis=0).repeat(COARSE, axis=1)[: shape[0], : shape[1]]
    # Of what the demo's map has as town, one cell in ten is.
    towns = codes == TOWN
    codes[towns] = np.where(
        generator.random(np.count_nonzero(towns), dtype=np.float32) < TOWN_SHARE, TOWN, FIELDS
    )
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=shape[0],
        width=shape[1],
        count=1,
        dtype="uint8",
        nodata=0,
        crs="EPSG:4326",
        transform=from_origin(west, north, 1 / cells_per_degree, 1 / cells_per_degree),
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
    ) as file:
        file.write(codes, 1)
    counts = np.bincount(codes.ravel(), minlength=256)
    return {int(code): float(counts[code] / codes.size) for code in np.flatnonzero(counts)}


def draw(path: Path, count: int) -> tuple[list[dict[str, Any]], float, float]:
    """Rows of the table, seconds of reading the map, seconds of drawing."""
    from pipeline_lib.acquire import read_land_cover
    from pipeline_lib.config import Catalog, LandCover, Sites
    from pipeline_lib.sites import draw_sites

    sites = Sites(count=count, land_cover=LandCover(file=path))
    start = time.perf_counter()
    area = read_land_cover(sites, Catalog(source="unused", signing="none"))
    read = time.perf_counter()
    rows = draw_sites(area, sites, SEED)
    return rows, read - start, time.perf_counter() - read


def smallest_distance_km(places: list[tuple[float, float]]) -> float:
    """Least geodesic on the ellipsoid over all pairs of (longitude, latitude)."""
    from itertools import combinations

    from pyproj import Geod

    pairs = list(combinations(places, 2))
    starts, ends = zip(*pairs, strict=True)
    ellipsoid = Geod(ellps="WGS84")
    _, _, metres = ellipsoid.inv(*zip(*starts, strict=True), *zip(*ends, strict=True))
    return float(min(metres)) / 1000


def main() -> None:
    """Make the map in one process, draw in another, check the result in this one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--cells-per-degree", type=int, default=360)
    parser.add_argument("--sites", type=int, default=250)
    options = parser.parse_args()
    one_thread()
    from pipeline_lib.config import Sites
    from pipeline_lib.sites import counts_of

    block = Sites(count=options.sites)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.tif"
        shares = measured(
            write_map, path, block.model_dump(mode="json"), options.cells_per_degree
        ).result
        job = measured(draw, path, options.sites)
    rows, read_seconds, draw_seconds = job.result
    places = {row["site"]: row for row in rows}.values()
    drawn = Counter(place["land_cover"] for place in places)
    others = {code for code in shares if code not in block.land_cover.excluded}
    strata = [
        {
            "stratum": stratum.name,
            "share_of_map": round(sum(shares.get(c, 0.0) for c in stratum.codes or others), 4),
            "share_wanted": stratum.fraction,
            "share_drawn": round(drawn[stratum.name] / len(places), 4),
            "sites_wanted": wanted,
            "sites_drawn": drawn[stratum.name],
        }
        for stratum, wanted in zip(block.strata, counts_of(block.strata, block.count), strict=True)
    ]
    west, south, east, north = block.bounds
    show(
        {
            "map": "simulated",
            "columns": round((east - west) * options.cells_per_degree),
            "rows": round((north - south) * options.cells_per_degree),
            "sites": len(places),
            "threads": 1,
            "seconds": round(job.seconds, 2),
            "read_seconds": round(read_seconds, 2),
            "draw_seconds": round(draw_seconds, 2),
            "peak_gb": round(job.peak_gb, 3),
            "least_distance_wanted_km": block.min_distance_km,
            "smallest_distance_km": round(
                smallest_distance_km([(place["lon"], place["lat"]) for place in places]), 3
            ),
            "strata": strata,
            "periods_per_year": dict(sorted(Counter(row["start"][:4] for row in rows).items())),
        },
        options.json,
    )


if __name__ == "__main__":
    main()
