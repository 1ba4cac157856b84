"""Tell what a run takes."""

from pathlib import Path

from pipeline_lib.config import Config
from pipeline_lib.plan import Job, Machine, write_plan
from pipeline_lib.scripting import job

with job(snakemake):
    write_plan(
        config=Config.model_validate(snakemake.params.config),
        largest={rule: Job(*job) for rule, job in snakemake.params.largest.items()},
        machine=Machine(
            cores=snakemake.params.cores,
            memory_mb=snakemake.resources.mem_mb,
            gpus=snakemake.resources.get("gpu", 0),
        ),
        json=Path(snakemake.output.json),
        page=Path(snakemake.output.page),
        figure=Path(snakemake.output.figure),
    )
