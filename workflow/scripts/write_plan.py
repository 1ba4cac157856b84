"""Tell what a run takes."""

from pathlib import Path

from pipeline_lib.config import Config
from pipeline_lib.plan import write_plan
from pipeline_lib.scripting import job

with job(snakemake):
    write_plan(
        config=Config.model_validate(snakemake.params.config),
        memory_mb=snakemake.params.memory_mb,
        json=Path(snakemake.output.json),
        page=Path(snakemake.output.page),
        figure=Path(snakemake.output.figure),
    )
