"""Draw predicted against observed GPP."""

from pathlib import Path

from pipeline_lib.gpp.figures import plot_points
from pipeline_lib.scripting import job

with job(snakemake):
    plot_points(
        methods={method: Path(path) for method, path in snakemake.params.methods.items()},
        predictions=Path(snakemake.input.predictions),
        output=Path(snakemake.output[0]),
    )
