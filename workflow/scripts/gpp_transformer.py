"""Regress GPP on one kind of input, by windows of one length."""

from pathlib import Path

from pipeline_lib.config import Regressor, Windowing
from pipeline_lib.gpp.evaluation import regress_gpp
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    params = snakemake.params
    regress_gpp(
        windowing=Windowing.model_validate(params.windows),
        regressor=Regressor.model_validate(params.regressor),
        seed=params.seed,
        sites=Path(snakemake.input.sites),
        targets=paths_of(params.targets),
        series=paths_of(params.series),
        inputs=snakemake.wildcards.inputs,
        days=int(snakemake.wildcards.days),
        state=Path(params.state),
        output=Path(snakemake.output[0]),
    )
