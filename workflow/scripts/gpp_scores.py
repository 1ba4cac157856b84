"""Score the predictions of GPP."""

from pathlib import Path

from pipeline_lib.config import Windowing
from pipeline_lib.gpp.scores import score_gpp
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    score_gpp(
        folder=Path(params.folder),
        sensors=params.sensors,
        windowing=Windowing.model_validate(params.windows),
        seed=params.seed,
    )
