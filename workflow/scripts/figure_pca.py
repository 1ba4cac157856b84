"""Draw PCA maps of embeddings beside true colour."""

from pathlib import Path

from pipeline_lib.report.pca import plot_pca_maps
from pipeline_lib.scripting import job

with job(snakemake):
    folders = [Path(path).parent for path in snakemake.input.manifests]
    plot_pca_maps(
        embeddings={folder.name: folder for folder in folders},
        cubes={
            folder.name: Path(p) for folder, p in zip(folders, snakemake.input.cubes, strict=True)
        },
        split_table=Path(snakemake.input.split),
        rgb=tuple(snakemake.params.rgb),
        seed=snakemake.params.seed,
        output=Path(snakemake.output[0]),
    )
