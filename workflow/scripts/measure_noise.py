"""Measure the noise of one sensor on its training cubes."""

from pathlib import Path

from pipeline_lib.dataset import measure_noise
from pipeline_lib.scripting import job

with job(snakemake):
    measure_noise(
        cubes=[Path(path) for path in snakemake.input.cubes],
        split_table=Path(snakemake.input.split),
        normalisation=Path(snakemake.input.normalisation),
        reach=snakemake.params.reach,
        seed=snakemake.params.seed,
        output=Path(snakemake.output[0]),
    )
