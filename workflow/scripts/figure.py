"""Draw one figure: params name the function, its files and its options."""

from importlib import import_module
from pathlib import Path

from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    module, _, name = snakemake.params.draw.rpartition(".")
    draw = getattr(import_module(module), name)
    files = paths_of(snakemake.params.files)
    draw(**files, **snakemake.params.options, output=Path(snakemake.output[0]))
