"""Draw the error of every method."""

from pathlib import Path

from pipeline_lib.gpp.figures import plot_methods
from pipeline_lib.scripting import job

with job(snakemake):
    plot_methods(folder=Path(snakemake.params.folder), output=Path(snakemake.output[0]))
