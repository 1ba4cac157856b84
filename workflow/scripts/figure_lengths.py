"""Draw the error by window length."""

from pathlib import Path

from pipeline_lib.gpp.figures import plot_lengths
from pipeline_lib.scripting import job

with job(snakemake):
    plot_lengths(folder=Path(snakemake.params.folder), output=Path(snakemake.output[0]))
