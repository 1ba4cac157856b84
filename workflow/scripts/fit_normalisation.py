"""Fit the scaling of one sensor on its training cubes."""

from pathlib import Path

from pipeline_lib.config import Context, Sequence
from pipeline_lib.dataset import fit_normalisation
from pipeline_lib.scripting import job

with job(snakemake):
    fit_normalisation(
        cubes=[Path(path) for path in snakemake.input.cubes],
        split_table=Path(snakemake.input.split),
        bands=snakemake.params.bands,
        scale=snakemake.params.scale,
        quantiles=tuple(snakemake.params.quantiles),
        output=Path(snakemake.output[0]),
        learning=(Sequence(**snakemake.params.sequence), Context(**snakemake.params.context)),
    )
