"""Score what GPP is predicted from."""

from pathlib import Path

from pipeline_lib.config import Gpp
from pipeline_lib.gpp.evaluation import score_gpp
from pipeline_lib.scripting import job

with job(snakemake):
    params = snakemake.params
    score_gpp(
        gpp=Gpp.model_validate(params.gpp),
        seed=params.seed,
        targets={tower: Path(path) for tower, path in params.targets.items()},
        series={
            source: {tower: Path(path) for tower, path in files.items()}
            for source, files in params.series.items()
        },
        methods={method: Path(path) for method, path in params.methods.items()},
        lengths={
            inputs: {int(days): Path(path) for days, path in files.items()}
            for inputs, files in params.lengths.items()
        },
        metrics=Path(snakemake.output.metrics),
        predictions=Path(snakemake.output.predictions),
    )
