"""Draw GPP by day and site."""

from pathlib import Path

from pipeline_lib.gpp.figures import plot_days
from pipeline_lib.scripting import job

with job(snakemake):
    plot_days(folder=Path(snakemake.params.folder), output=Path(snakemake.output[0]))
