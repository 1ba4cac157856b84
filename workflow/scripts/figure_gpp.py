"""Draw GPP by site."""

from pathlib import Path

from pipeline_lib.config import Gpp
from pipeline_lib.gpp.figures import plot_gpp
from pipeline_lib.scripting import job

with job(snakemake):
    plot_gpp(
        predictions=Path(snakemake.input.predictions),
        targets={tower: Path(path) for tower, path in snakemake.params.targets.items()},
        gpp=Gpp.model_validate(snakemake.params.gpp),
        output=Path(snakemake.output[0]),
    )
