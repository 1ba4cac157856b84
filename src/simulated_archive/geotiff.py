"""Cloud-optimised GeoTIFFs of small images."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=8)
def _crs(epsg: int) -> Any:
    from rasterio.crs import CRS

    return CRS.from_epsg(epsg)


def write_geotiff(
    path: Path,
    values: NDArray[Any],
    *,
    epsg: int,
    left: float,
    top: float,
    resolution: float,
    no_data: float,
    block: int | None = None,
) -> None:
    """Write one band as a tiled, deflated GeoTIFF.

    An image of one block needs no overviews; its header lies before its data, which is
    all that a cloud-optimised GeoTIFF of this size is. Larger ones go through GDAL's COG driver.

    Parameters
    ----------
    path
        File to write; its folder exists.
    values
        ``(y, x)``.
    epsg, left, top, resolution
        Reference system, upper left corner and pixel size, in its units.
    no_data
        Value without data.
    block
        Side of the blocks, a multiple of 16; none: one block holds the image.
    """
    from rasterio.io import MemoryFile
    from rasterio.transform import from_origin

    height, width = values.shape
    profile: dict[str, Any] = {
        "height": height,
        "width": width,
        "count": 1,
        "dtype": values.dtype,
        "crs": _crs(epsg),
        "transform": from_origin(left, top, resolution, resolution),
        "nodata": no_data,
        "compress": "deflate",
        "predictor": 3 if values.dtype.kind == "f" else 2,
    }
    if block is None:
        sides = {"blockysize": -(-height // 16) * 16, "blockxsize": -(-width // 16) * 16}
        profile |= {"driver": "GTiff", "tiled": True} | sides
    else:
        profile |= {"driver": "COG", "blocksize": block, "overview_resampling": "mode"}
    # Through memory: GDAL looks for side files beside a file on disk, which takes half the time.
    with MemoryFile() as memory:
        with memory.open(**profile) as target:
            target.write(np.ascontiguousarray(values), 1)
        path.write_bytes(memory.getbuffer())
