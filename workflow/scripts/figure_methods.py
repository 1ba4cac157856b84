"""Draw the error of every method."""

from pathlib import Path

from pipeline_lib.gpp.figures import plot_methods
from pipeline_lib.scripting import job

with job(snakemake):
    plot_methods(metrics=Path(snakemake.input[0]), output=Path(snakemake.output[0]))
