"""Draw the embeddings around the towers."""

from pathlib import Path

from pipeline_lib.gpp.figures import plot_series
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    plot_series(
        series=paths_of(snakemake.params.series),
        targets=paths_of(snakemake.params.targets),
        output=Path(snakemake.output[0]),
    )
