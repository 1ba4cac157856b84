"""Build one cube from its pinned scenes."""

from pathlib import Path

from pipeline_lib.acquire import build_cube
from pipeline_lib.config import Catalog, CubeGrid, SensorSource
from pipeline_lib.files import digest_of
from pipeline_lib.scripting import job

with job(snakemake, "clouds"):
    params = snakemake.params
    build_cube(
        sensor_name=snakemake.wildcards.sensor,
        sensor=SensorSource.model_validate(params.sensor),
        catalog=Catalog.model_validate(snakemake.config["catalog"] | params.catalog),
        cube=CubeGrid.model_validate(params.cube),
        items=Path(snakemake.input.pinned),
        config_digest=digest_of([params.sensor, params.cube, params.catalog]),
        output=Path(snakemake.output[0]),
    )
