"""Draw predicted against observed GPP."""

from pathlib import Path

from pipeline_lib.gpp.figures import plot_points
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    plot_points(
        methods=paths_of(snakemake.params.methods),
        predictions=Path(snakemake.input.predictions),
        output=Path(snakemake.output[0]),
    )
