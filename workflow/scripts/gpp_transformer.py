"""Regress GPP on one kind of input, by windows of one length."""

from pathlib import Path

from pipeline_lib.config import Gpp
from pipeline_lib.gpp.evaluation import regress_gpp
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    regress_gpp(
        gpp=Gpp.model_validate(params.gpp),
        seed=params.seed,
        targets={tower: Path(path) for tower, path in params.targets.items()},
        series={
            source: {tower: Path(path) for tower, path in files.items()}
            for source, files in params.series.items()
        },
        inputs=snakemake.wildcards.inputs,
        days=int(snakemake.wildcards.days),
        state=Path(params.state),
        output=Path(snakemake.output[0]),
    )
