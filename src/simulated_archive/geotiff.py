"""Cloud-optimised GeoTIFFs of small images."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import Grid


@lru_cache(maxsize=8)
def _crs(epsg: int) -> Any:
    from rasterio.crs import CRS

    return CRS.from_epsg(epsg)


def write_geotiff(
    path: Path,
    values: NDArray[Any],
    grid: Grid,
    *,
    resolution: float | None = None,
    no_data: float = 0,
    block: int | None = None,
) -> None:
    """Write one band ``(y, x)`` over a grid's area as a tiled, deflated GeoTIFF.

    Pixels have the grid's size, or ``resolution``. Without ``block`` one block holds the image; it
    needs no overviews and its header lies before its data, which makes it cloud-optimised. With a
    ``block`` side, a multiple of 16, GDAL's COG driver writes it.
    """
    from rasterio.io import MemoryFile
    from rasterio.transform import from_origin

    height, width = values.shape
    size = resolution or grid.resolution
    profile: dict[str, Any] = {
        "height": height,
        "width": width,
        "count": 1,
        "dtype": values.dtype,
        "crs": _crs(grid.epsg),
        "transform": from_origin(grid.left, grid.top, size, size),
        "nodata": no_data,
        "compress": "deflate",
        "predictor": 3 if values.dtype.kind == "f" else 2,
    }
    if block is None:
        sides = {"blockysize": -(-height // 16) * 16, "blockxsize": -(-width // 16) * 16}
        profile |= {"driver": "GTiff", "tiled": True} | sides
    else:
        profile |= {"driver": "COG", "blocksize": block, "overview_resampling": "mode"}
    # In memory: on disk, half of the time goes into looking for side files.
    with MemoryFile() as memory:
        with memory.open(**profile) as target:
            target.write(np.ascontiguousarray(values), 1)
        path.write_bytes(memory.getbuffer())
