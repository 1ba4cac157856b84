"""Predict GPP by the baselines."""

from pathlib import Path

from pipeline_lib.config import Windowing
from pipeline_lib.gpp.baselines import predict_baselines
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    predict_baselines(
        folder=Path(params.folder),
        sensors=params.sensors,
        tables=params.tables,
        windowing=Windowing.model_validate(params.windows),
        fits=params.fits,
        seed=params.seed,
    )
