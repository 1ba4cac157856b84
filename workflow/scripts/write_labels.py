"""Put the classes that the user knows of a cube's land onto its pixels."""

from pathlib import Path

from pipeline_lib.config import Labels, OwnCube
from pipeline_lib.cubes.labels import write_labels
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    write_labels(
        own=OwnCube.model_validate(params.own),
        labels=Labels.model_validate(params.labels),
        resolution_m=params.resolution_m,
        output=Path(snakemake.output[0]),
    )
