"""Regress GPP on the embeddings."""

from pathlib import Path

from pipeline_lib.config import Gpp
from pipeline_lib.gpp import evaluate_gpp
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    evaluate_gpp(
        gpp=Gpp.model_validate(params.gpp),
        seed=params.seed,
        targets={tower: Path(path) for tower, path in params.targets.items()},
        series={tower: Path(path) for tower, path in params.series.items()},
        metrics=Path(snakemake.output.metrics),
        predictions=Path(snakemake.output.predictions),
    )
