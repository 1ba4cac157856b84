"""Embed every pixel and date of one cube."""

from pathlib import Path

from pipeline_lib.config import Embed
from pipeline_lib.embed import embed_cube
from pipeline_lib.files import digest_of
from pipeline_lib.scripting import job, paths_of

with job(snakemake, "embed"):
    params = snakemake.params
    embed_cube(
        cube=snakemake.wildcards.cube,
        cubes=paths_of(params.cubes),
        encoders={name: Path(folder) for name, folder in params.encoders.items()},
        fusion=Path(snakemake.input.fusion[0]).parent,
        embed=Embed.model_validate(params.embed),
        state=Path(params.state),
        output=Path(snakemake.output[0]).parent,
        config_digest=digest_of(params.embed),
        workers=snakemake.threads,
    )
