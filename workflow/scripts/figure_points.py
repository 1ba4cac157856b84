"""Draw predicted against observed GPP."""

from pathlib import Path

from pipeline_lib.gpp.figures import plot_points
from pipeline_lib.scripting import job

with job(snakemake):
    plot_points(folder=Path(snakemake.params.folder), output=Path(snakemake.output[0]))
