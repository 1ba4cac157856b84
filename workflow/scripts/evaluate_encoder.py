"""Measure how well one sensor is reconstructed."""

from pathlib import Path

from pipeline_lib.evaluate.reconstruction import evaluate_encoder
from pipeline_lib.scripting import job

with job(snakemake):
    evaluate_encoder(
        model=Path(snakemake.input.model[0]).parent,
        cubes=[Path(path) for path in snakemake.input.cubes],
        split_table=Path(snakemake.input.split),
        seed=snakemake.params.seed,
        max_samples=snakemake.params.samples,
        output=Path(snakemake.output[0]),
    )
