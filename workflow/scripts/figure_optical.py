"""Draw dates of an optical cube."""

from pathlib import Path

from pipeline_lib.report.optical import plot_optical_strip
from pipeline_lib.scripting import job

with job(snakemake):
    plot_optical_strip(
        cube=Path(snakemake.input[0]),
        rgb=tuple(snakemake.params.rgb),
        output=Path(snakemake.output[0]),
    )
