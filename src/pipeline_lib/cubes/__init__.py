"""The grid, the schema and the files of cubes."""

from pipeline_lib.cubes.grid import CubeRequest, Grid, grid_at, grid_over, utm_epsg
from pipeline_lib.cubes.ingest import ingest_cube, merge_days
from pipeline_lib.cubes.rolling import rolling_mean
from pipeline_lib.cubes.schema import (
    CLEAR,
    CLOUD_SHADOW,
    NO_DATA,
    THICK_CLOUD,
    THIN_CLOUD,
    clear_counts,
    decode,
    frames_per_part,
    grid_of,
    make_cube,
    read_cube,
    write_cube,
    write_parts,
)
