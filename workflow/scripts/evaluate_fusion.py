"""Measure how well the fused embedding reconstructs every sensor."""

from pathlib import Path

from pipeline_lib.evaluate.reconstruction import evaluate_fusion
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    evaluate_fusion(
        fusion=Path(snakemake.input.fusion[0]).parent,
        encoders={name: Path(folder) for name, folder in params.encoders.items()},
        cubes={name: [Path(path) for path in paths] for name, paths in params.cubes.items()},
        split_table=Path(snakemake.input.split),
        seed=params.seed,
        max_samples=params.samples,
        output=Path(snakemake.output[0]),
    )
