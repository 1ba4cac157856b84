"""Pin the scenes of one cube."""

from pathlib import Path

from pipeline_lib.acquire import pin_items
from pipeline_lib.config import Catalog, CubeGrid, SensorSource
from pipeline_lib.cubes import CubeRequest
from pipeline_lib.scripting import job

with job(snakemake):
    pin_items(
        request=CubeRequest.from_row(snakemake.params.request),
        sensor=SensorSource.model_validate(snakemake.params.sensor),
        cube=CubeGrid.model_validate(snakemake.params.cube),
        catalog=Catalog.model_validate(snakemake.config["catalog"] | snakemake.params.catalog),
        output=Path(snakemake.output[0]),
    )
