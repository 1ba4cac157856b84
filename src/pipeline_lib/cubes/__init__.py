"""The grid, the schema and the files of cubes."""

from pipeline_lib.cubes.grid import CubeRequest, Grid, grid_at, utm_epsg
from pipeline_lib.cubes.schema import (
    CLEAR,
    CLOUD_SHADOW,
    NO_DATA,
    THICK_CLOUD,
    THIN_CLOUD,
    grid_of,
    make_cube,
    read_cube,
    write_cube,
)

__all__ = [
    "CLEAR",
    "CLOUD_SHADOW",
    "NO_DATA",
    "THICK_CLOUD",
    "THIN_CLOUD",
    "CubeRequest",
    "Grid",
    "grid_at",
    "grid_of",
    "make_cube",
    "read_cube",
    "utm_epsg",
    "write_cube",
]
