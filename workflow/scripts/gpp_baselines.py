"""Predict GPP by the baselines."""

from pathlib import Path

from pipeline_lib.config import Gpp
from pipeline_lib.gpp.evaluation import predict_baselines
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    predict_baselines(
        gpp=Gpp.model_validate(params.gpp),
        seed=params.seed,
        targets={tower: Path(path) for tower, path in params.targets.items()},
        series={
            source: {tower: Path(path) for tower, path in files.items()}
            for source, files in params.series.items()
        },
        folder=Path(params.folder),
    )
