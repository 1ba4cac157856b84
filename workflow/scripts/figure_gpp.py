"""Draw GPP by day and site."""

from pathlib import Path

from pipeline_lib.config import Gpp
from pipeline_lib.gpp.figures import plot_days
from pipeline_lib.scripting import job

with job(snakemake):
    plot_days(
        predictions=Path(snakemake.input.predictions),
        targets={tower: Path(path) for tower, path in snakemake.params.targets.items()},
        gpp=Gpp.model_validate(snakemake.params.gpp),
        output=Path(snakemake.output[0]),
    )
