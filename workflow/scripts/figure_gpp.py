"""Draw GPP by day and site."""

from pathlib import Path

from pipeline_lib.gpp.figures import plot_days
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    plot_days(
        predictions=Path(snakemake.input.predictions),
        sites=Path(snakemake.input.sites),
        targets=paths_of(snakemake.params.targets),
        validation_years=snakemake.params.validation_years,
        output=Path(snakemake.output[0]),
    )
