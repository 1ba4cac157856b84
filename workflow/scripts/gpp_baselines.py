"""Predict GPP by the baselines."""

from pathlib import Path

from pipeline_lib.config import Gpp
from pipeline_lib.gpp.evaluation import predict_baselines
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    params = snakemake.params
    predict_baselines(
        gpp=Gpp.model_validate(params.gpp),
        seed=params.seed,
        targets=paths_of(params.targets),
        series=paths_of(params.series),
        folder=Path(params.folder),
    )
