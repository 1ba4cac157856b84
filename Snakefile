"""Dated, context-aware 10 m embeddings from several sensors: the targets."""

import logging

from snakemake.utils import min_version

min_version("9.0")

# A full disk does not take the lines of Snakemake's own log. That is told once, and not with a
# traceback for each line.
logging.raiseExceptions = False


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/demo.smk"
include: "workflow/rules/cubes.smk"
include: "workflow/rules/embed.smk"


# A run that uses trained models draws no sites, trains nothing and compares nothing.
if not C.models:

    include: "workflow/rules/sites.smk"
    include: "workflow/rules/dataset.smk"
    include: "workflow/rules/models.smk"
    include: "workflow/rules/gpp.smk"
    include: "workflow/rules/report.smk"

    rule models:
        input:
            fusion_files(),


include: "workflow/rules/plan.smk"


rule all:
    default_target: True
    input:
        [] if C.models else f"{RUN}/report.html",
        f"{RUN}/gpp/sites.csv" if TOWERS else [],
        embeddings(),
        geotiffs,


rule cubes:
    input:
        [cube_file(sensor, cube) for sensor in C.sensors for cube in cubes_of(sensor)],


rule embed:
    input:
        embeddings(),
        geotiffs,


onerror:
    for line in after_failure(map(Path, log), [Path(".snakemake"), Path(RUN)]):
        logger.error(line)
