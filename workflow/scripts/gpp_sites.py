"""Write which towers GPP is compared at."""

from pathlib import Path

from pipeline_lib.config import Gpp
from pipeline_lib.gpp.targets import write_site_table
from pipeline_lib.scripting import job

with job(snakemake):
    write_site_table(
        gpp=Gpp.model_validate(snakemake.params.gpp),
        targets={tower: Path(path) for tower, path in snakemake.params.targets.items()},
        output=Path(snakemake.output[0]),
    )
