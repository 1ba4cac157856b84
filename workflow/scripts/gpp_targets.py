"""Read the fluxes of one tower."""

from pathlib import Path

from pipeline_lib.config import Gpp, Tower
from pipeline_lib.gpp.targets import write_targets
from pipeline_lib.scripting import job

with job(snakemake):
    write_targets(
        tower=Tower.model_validate(snakemake.params.tower),
        gpp=Gpp.model_validate(snakemake.params.gpp),
        fluxnet=Path(snakemake.params.fluxnet),
        output=Path(snakemake.output[0]),
    )
