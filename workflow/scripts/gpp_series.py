"""Average the embeddings around one tower, day by day."""

from pathlib import Path

from pipeline_lib.config import Context, DailySeries, Period, Sensor, Tower
from pipeline_lib.gpp.series import write_series
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    params = snakemake.params
    write_series(
        tower=Tower.model_validate(params.tower),
        period=Period.model_validate(params.period),
        series=DailySeries.model_validate(params.series),
        embedding=Path(params.embedding),
        reference=params.reference,
        cubes=paths_of(params.cubes),
        sensors={name: Sensor.model_validate(block) for name, block in params.sensors.items()},
        context=Context.model_validate(params.context),
        output=Path(snakemake.output[0]),
    )
