"""Draw the loss curves of every training."""

from pathlib import Path

from pipeline_lib.report.curves import plot_curves
from pipeline_lib.scripting import job

with job(snakemake):
    plot_curves(
        curves=dict(zip(snakemake.params.names, map(Path, snakemake.input), strict=True)),
        output=Path(snakemake.output[0]),
    )
