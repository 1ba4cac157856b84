"""Draw the training sites."""

from pathlib import Path

from pipeline_lib.acquire import draw_site_table
from pipeline_lib.config import Catalog, Sites
from pipeline_lib.scripting import job

with job(snakemake):
    draw_site_table(
        sites=Sites.model_validate(snakemake.params.sites),
        catalog=Catalog.model_validate(snakemake.config["catalog"] | snakemake.params.catalog),
        seed=snakemake.params.seed,
        output=Path(snakemake.output[0]),
    )
