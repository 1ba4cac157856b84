"""Measure how smooth and how sharp the maps are."""

from pathlib import Path

from pipeline_lib.evaluate.maps import assess_maps
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    params = snakemake.params
    assess_maps(
        embeddings=paths_of(params.embeddings),
        cubes=paths_of(params.cubes),
        split_table=Path(snakemake.input.split),
        truth=paths_of(params.truth),
        seed=params.seed,
        output=Path(snakemake.output[0]),
    )
