"""Draw GPP by day and site."""

from pathlib import Path

from pipeline_lib.config import Gpp
from pipeline_lib.gpp.figures import plot_days
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    plot_days(
        predictions=Path(snakemake.input.predictions),
        targets=paths_of(snakemake.params.targets),
        gpp=Gpp.model_validate(snakemake.params.gpp),
        output=Path(snakemake.output[0]),
    )
