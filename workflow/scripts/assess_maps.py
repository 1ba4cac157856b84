"""Measure how smooth and how sharp the maps are."""

from pathlib import Path

from pipeline_lib.evaluate.maps import assess_maps
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    assess_maps(
        embeddings={
            Path(path).parent.name: Path(path).parent for path in snakemake.input.manifests
        },
        cubes={
            sensor: {cube: Path(path) for cube, path in files.items()}
            for sensor, files in params.cubes.items()
        },
        split_table=Path(snakemake.input.split),
        truth={cube: Path(path) for cube, path in params.truth.items()},
        seed=params.seed,
        output=Path(snakemake.output[0]),
    )
