"""Draw four dates of one cube: true colour, and embeddings as colours."""

from pathlib import Path

from pipeline_lib.report.pca import plot_pca_dates
from pipeline_lib.scripting import job

with job(snakemake):
    folders = [Path(path).parent for path in snakemake.input.manifests]
    plot_pca_dates(
        embeddings={folder.name: folder for folder in folders},
        cubes={
            folder.name: Path(p) for folder, p in zip(folders, snakemake.input.cubes, strict=True)
        },
        rgb=tuple(snakemake.params.rgb),
        output=Path(snakemake.output[0]),
    )
