"""Read the fluxes of every tower, and choose the towers that are used."""

from pathlib import Path

from pipeline_lib.config import FluxTowers
from pipeline_lib.gpp.targets import write_all_targets
from pipeline_lib.scripting import job

with job(snakemake):
    table = write_all_targets(
        gpp=FluxTowers.model_validate(snakemake.params.gpp),
        folder=Path(snakemake.params.folder),
    )
    print(table)
