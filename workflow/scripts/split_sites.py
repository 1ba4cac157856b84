"""Split the sites into training, validation and test."""

from pathlib import Path

from pipeline_lib.config import Split
from pipeline_lib.dataset import write_split
from pipeline_lib.scripting import job

with job(snakemake):
    write_split(
        sites=Path(snakemake.input.sites) if snakemake.input.sites else None,
        own=snakemake.params.own,
        split=Split.model_validate(snakemake.params.split),
        seed=snakemake.params.seed,
        output=Path(snakemake.output[0]),
    )
