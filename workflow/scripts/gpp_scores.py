"""Score what GPP is predicted from."""

from pathlib import Path

from pipeline_lib.config import Windowing
from pipeline_lib.gpp.evaluation import score_gpp
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    params = snakemake.params
    score_gpp(
        windowing=Windowing.model_validate(params.windows),
        seed=params.seed,
        sites=Path(snakemake.input.sites),
        targets=paths_of(params.targets),
        series=paths_of(params.series),
        methods=paths_of(params.methods),
        lengths=paths_of(params.lengths),
        metrics=Path(snakemake.output.metrics),
        predictions=Path(snakemake.output.predictions),
    )
