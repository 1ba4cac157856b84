"""Probe what one sensor's embeddings tell beyond the centre's spectrum."""

from pathlib import Path

from pipeline_lib.evaluate.probes import probe_encoder
from pipeline_lib.scripting import job

with job(snakemake):
    probe_encoder(
        model=Path(snakemake.input.model[0]).parent,
        cubes=[Path(path) for path in snakemake.input.cubes],
        split_table=Path(snakemake.input.split),
        truth={cube: Path(path) for cube, path in snakemake.params.truth.items()},
        seed=snakemake.params.seed,
        max_samples=snakemake.params.samples,
        output=Path(snakemake.output[0]),
    )
