"""Average the bands of one sensor around one tower, day by day."""

from pathlib import Path

from pipeline_lib.config import Gpp, Tower
from pipeline_lib.gpp.series import write_bands
from pipeline_lib.scripting import job

with job(snakemake):
    write_bands(
        tower=Tower.model_validate(snakemake.params.tower),
        gpp=Gpp.model_validate(snakemake.params.gpp),
        cube=Path(snakemake.input[0]),
        rolling_mean=snakemake.params.rolling_mean,
        output=Path(snakemake.output[0]),
    )
