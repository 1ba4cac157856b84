"""Probe what the fused embeddings hold beside the bands."""

from pathlib import Path

from pipeline_lib.evaluate.probes import probe_fusion
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    params = snakemake.params
    probe_fusion(
        fusion=Path(snakemake.input.fusion[0]).parent,
        encoders={name: Path(folder) for name, folder in params.encoders.items()},
        cubes={name: [Path(path) for path in paths] for name, paths in params.cubes.items()},
        split_table=Path(snakemake.input.split),
        truth=paths_of(params.truth),
        labels=paths_of(params.labels),
        seed=params.seed,
        max_samples=params.samples,
        output=Path(snakemake.output[0]),
    )
