"""Tabulate the canopy reflectance of the archive."""

from pathlib import Path

from pipeline_lib.demo import write_canopy_table
from pipeline_lib.scripting import job

with job(snakemake):
    write_canopy_table(Path(snakemake.output[0]))
