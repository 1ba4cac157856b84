"""Tabulate the canopy reflectance of the archive."""

from pathlib import Path

from pipeline_lib.scripting import job
from simulated_archive import write_canopy_table

with job(snakemake):
    write_canopy_table(Path(snakemake.output[0]))
