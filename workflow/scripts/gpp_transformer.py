"""Regress GPP on one kind of input, by windows of one length."""

from pathlib import Path

from pipeline_lib.config import Gpp
from pipeline_lib.gpp.evaluation import regress_gpp
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    params = snakemake.params
    regress_gpp(
        gpp=Gpp.model_validate(params.gpp),
        seed=params.seed,
        targets=paths_of(params.targets),
        series=paths_of(params.series),
        inputs=snakemake.wildcards.inputs,
        days=int(snakemake.wildcards.days),
        state=Path(params.state),
        output=Path(snakemake.output[0]),
    )
