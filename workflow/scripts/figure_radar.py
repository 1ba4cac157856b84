"""Draw dates of a radar cube."""

from pathlib import Path

from pipeline_lib.report.radar import plot_radar_strip
from pipeline_lib.scripting import job

with job(snakemake):
    plot_radar_strip(cube=Path(snakemake.input[0]), output=Path(snakemake.output[0]))
