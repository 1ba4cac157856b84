"""Write the user's table of sites as a CSV and for a GIS."""

from pathlib import Path

from pipeline_lib.config.sites import read_site_table
from pipeline_lib.scripting import job
from pipeline_lib.sites import write_site_table

with job(snakemake):
    write_site_table(read_site_table(Path(snakemake.input[0])), Path(snakemake.output[0]))
