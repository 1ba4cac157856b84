"""Read a table of features at the towers, day by day."""

from pathlib import Path

from pipeline_lib.config import DailySeries, FeatureTable, Period, Tower
from pipeline_lib.gpp.tables import write_features
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    told = write_features(
        name=snakemake.wildcards.table,
        table=FeatureTable.model_validate(params.table),
        towers=[Tower.model_validate(block) for block in params.towers],
        period=Period.model_validate(params.period),
        series=DailySeries.model_validate(params.series),
        folder=Path(params.folder),
    )
    print(told)
