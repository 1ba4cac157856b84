"""Probe what one sensor's embeddings hold beside its bands."""

from pathlib import Path

from pipeline_lib.evaluate.probes import probe_encoder
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    probe_encoder(
        model=Path(snakemake.input.model[0]).parent,
        cubes=[Path(path) for path in snakemake.input.cubes],
        split_table=Path(snakemake.input.split),
        truth=paths_of(snakemake.params.truth),
        labels=paths_of(snakemake.params.labels),
        seed=snakemake.params.seed,
        max_samples=snakemake.params.samples,
        output=Path(snakemake.output[0]),
    )
