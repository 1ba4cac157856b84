"""Average the embeddings around one tower, day by day."""

from pathlib import Path

from pipeline_lib.config import Gpp, Tower
from pipeline_lib.gpp import write_series
from pipeline_lib.scripting import job

with job(snakemake):
    write_series(
        tower=Tower.model_validate(snakemake.params.tower),
        gpp=Gpp.model_validate(snakemake.params.gpp),
        embedding=Path(snakemake.params.embedding),
        output=Path(snakemake.output[0]),
    )
