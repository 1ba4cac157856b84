"""Average the bands of one sensor around every tower, day by day."""

from pathlib import Path

from pipeline_lib.config import DailySeries, Period, Tower
from pipeline_lib.gpp.observed import write_bands
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    params = snakemake.params
    write_bands(
        towers=[Tower.model_validate(block) for block in params.towers],
        period=Period.model_validate(params.period),
        series=DailySeries.model_validate(params.series),
        cubes=paths_of(params.cubes),
        rolling_mean=params.rolling_mean,
        folder=Path(params.folder),
    )
