"""Draw the embeddings around the towers."""

from pathlib import Path

from pipeline_lib.gpp.figures import plot_series
from pipeline_lib.scripting import job

with job(snakemake):
    plot_series(
        series={tower: Path(path) for tower, path in snakemake.params.series.items()},
        targets={tower: Path(path) for tower, path in snakemake.params.targets.items()},
        output=Path(snakemake.output[0]),
    )
