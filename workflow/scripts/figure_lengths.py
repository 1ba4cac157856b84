"""Draw the error by length of the window."""

from pathlib import Path

from pipeline_lib.gpp.figures import plot_lengths
from pipeline_lib.scripting import job

with job(snakemake):
    plot_lengths(metrics=Path(snakemake.input[0]), output=Path(snakemake.output[0]))
