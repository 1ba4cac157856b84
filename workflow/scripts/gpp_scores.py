"""Score the predictions of GPP."""

from pathlib import Path

from pipeline_lib.config import Windowing
from pipeline_lib.gpp.scores import score_gpp
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    scores = score_gpp(
        folder=Path(params.folder),
        sensors=params.sensors,
        tables=params.tables,
        windowing=Windowing.model_validate(params.windows),
        seed=params.seed,
    )
    print(scores)
