"""Average the bands of one sensor around every tower, day by day."""

from pathlib import Path

from pipeline_lib.config import DailySeries, Period, Tower
from pipeline_lib.gpp.series import write_bands
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    for name, block in params.towers.items():
        write_bands(
            tower=Tower.model_validate(block),
            period=Period.model_validate(params.period),
            series=DailySeries.model_validate(params.series),
            cube=Path(params.cubes[name]),
            rolling_mean=params.rolling_mean,
            output=Path(params.outputs[name]),
        )
