"""Fit the fusion of the frozen encoders."""

from pathlib import Path

from pipeline_lib.config import Context, Fusion
from pipeline_lib.files import digest_of
from pipeline_lib.scripting import job
from pipeline_lib.training import train_fusion

with job(snakemake, "training"):
    params = snakemake.params
    train_fusion(
        fusion=Fusion.model_validate(params.fusion),
        context=Context.model_validate(params.context),
        seed=params.seed,
        cubes={name: [Path(path) for path in paths] for name, paths in params.cubes.items()},
        split_table=Path(snakemake.input.split),
        encoders={name: Path(folder) for name, folder in params.encoders.items()},
        state=Path(params.state),
        output=Path(snakemake.output[0]).parent,
        config_digest=digest_of([params.fusion, params.context, params.seed]),
        threads=params.threads,
    )
