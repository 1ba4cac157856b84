"""Bring one file of the user into the contract of a cube."""

from pathlib import Path

from pipeline_lib.config import OwnCube, SensorSource
from pipeline_lib.cubes import ingest_cube
from pipeline_lib.files import digest_of
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    ingest_cube(
        name=snakemake.wildcards.cube,
        sensor_name=snakemake.wildcards.sensor,
        sensor=SensorSource.model_validate(params.sensor),
        own=OwnCube.model_validate(params.own),
        resolution_m=params.resolution_m,
        config_digest=digest_of([params.sensor, params.own, params.resolution_m]),
        output=Path(snakemake.output[0]),
    )
