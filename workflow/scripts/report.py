"""Write the report of the run."""

from pathlib import Path

from pipeline_lib.config import Config
from pipeline_lib.report.page import write_report
from pipeline_lib.scripting import job, paths_of

with job(snakemake):
    config = Config.model_validate(snakemake.params.config)
    given = snakemake.input
    write_report(
        config=config,
        captions=snakemake.params.captions,
        figures=paths_of(snakemake.params.figures),
        split=Path(given.split),
        cubes=[Path(path) for path in given.cubes],
        encoder_evaluations={Path(path).stem: Path(path) for path in given.encoders},
        fusion_evaluation=Path(given.fusion),
        probes={Path(path).stem.removeprefix("probes-"): Path(path) for path in given.probes},
        maps=Path(given.maps),
        embeddings=[Path(path) for path in given.embeddings],
        gpp_metrics=Path(given.gpp) if given.gpp else None,
        output=Path(snakemake.output[0]),
    )
