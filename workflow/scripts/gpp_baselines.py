"""Predict GPP by the baselines."""

from pathlib import Path

from pipeline_lib.config import Windowing
from pipeline_lib.gpp.evaluation import predict_baselines
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    params = snakemake.params
    predict_baselines(
        windowing=Windowing.model_validate(params.windows),
        seeds=params.seeds,
        seed=params.seed,
        sites=Path(snakemake.input.sites),
        targets=paths_of(params.targets),
        series=paths_of(params.series),
        folder=Path(params.folder),
    )
