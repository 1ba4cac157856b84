"""Draw the embeddings around the towers."""

from pathlib import Path

from pipeline_lib.gpp.figures import plot_series
from pipeline_lib.scripting import job

with job(snakemake):
    plot_series(folder=Path(snakemake.params.folder), output=Path(snakemake.output[0]))
