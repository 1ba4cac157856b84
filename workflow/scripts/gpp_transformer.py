"""Predict GPP by the transformer, from all inputs and window lengths."""

from pathlib import Path

from pipeline_lib.config import Regressor, Windowing
from pipeline_lib.gpp.fits import predict_transformers
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    predict_transformers(
        folder=Path(params.folder),
        sensors=params.sensors,
        tables=params.tables,
        windowing=Windowing.model_validate(params.windows),
        regressor=Regressor.model_validate(params.regressor),
        seed=params.seed,
        state=Path(params.state),
        processes=snakemake.threads,
    )
