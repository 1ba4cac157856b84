"""Draw the scores of one sensor's probes."""

from pathlib import Path

from pipeline_lib.report.probes import plot_probes
from pipeline_lib.scripting import job

with job(snakemake):
    plot_probes(evaluation=Path(snakemake.input[0]), output=Path(snakemake.output[0]))
