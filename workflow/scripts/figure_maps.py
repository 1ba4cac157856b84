"""Draw how smooth and how sharp the maps are."""

from pathlib import Path

from pipeline_lib.report.maps import plot_maps
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    params = snakemake.params
    plot_maps(
        evaluation=Path(snakemake.input.evaluation),
        embeddings={
            Path(path).parent.name: Path(path).parent for path in snakemake.input.manifests
        },
        cubes=paths_of(params.cubes),
        truth=paths_of(params.truth),
        rgb=tuple(params.rgb),
        output=Path(snakemake.output[0]),
    )
