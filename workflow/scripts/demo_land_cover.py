"""Simulate the land-cover map of the archive."""

from pathlib import Path

from pipeline_lib.config import Demo, Sites
from pipeline_lib.scripting import job
from simulated_archive import write_land_cover

with job(snakemake):
    write_land_cover(
        sites=Sites.model_validate(snakemake.params.sites),
        demo=Demo.model_validate(snakemake.params.demo),
        seed=snakemake.params.seed,
        folder=Path(snakemake.params.folder),
    )
