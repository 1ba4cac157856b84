"""Average the embeddings around every tower, day by day."""

from pathlib import Path

from pipeline_lib.config import Context, DailySeries, Period, Sensor, Tower
from pipeline_lib.gpp.observed import write_series
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    params = snakemake.params
    write_series(
        towers=[Tower.model_validate(block) for block in params.towers],
        period=Period.model_validate(params.period),
        series=DailySeries.model_validate(params.series),
        embeddings=paths_of(params.embeddings),
        reference=params.reference,
        cubes=paths_of(params.cubes),
        sensors={name: Sensor.model_validate(block) for name, block in params.sensors.items()},
        context=Context.model_validate(params.context),
        folder=Path(params.folder),
    )
