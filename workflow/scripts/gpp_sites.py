"""Write which towers GPP is compared at."""

from pathlib import Path

from pipeline_lib.config import Gpp
from pipeline_lib.gpp.targets import write_site_table
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    table = write_site_table(
        gpp=Gpp.model_validate(snakemake.params.gpp),
        targets=paths_of(snakemake.params.targets),
        output=Path(snakemake.output[0]),
    )
print(table)
