"""Dated, context-aware 10 m embeddings from several sensors: the targets."""

from pathlib import Path

from snakemake.logging import logger
from snakemake.utils import min_version

min_version("9.0")


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/demo.smk"
include: "workflow/rules/cubes.smk"
include: "workflow/rules/embed.smk"


# A run that uses trained models draws no sites, trains nothing and compares nothing.
if not C.models:

    # A comparison of tables of features with GPP needs no sites and no models.
    if not TABLES_ALONE:

        include: "workflow/rules/sites.smk"
        include: "workflow/rules/dataset.smk"
        include: "workflow/rules/models.smk"

        rule models:
            input:
                fusion_files(),

    include: "workflow/rules/gpp.smk"
    include: "workflow/rules/figures.smk"

    if not TABLES_ALONE:

        include: "workflow/rules/report.smk"


if not TABLES_ALONE:

    include: "workflow/rules/plan.smk"


rule all:
    default_target: True
    input:
        final_products(),
        out("gpp/sites.csv") if TOWERS else [],
        embeddings(),
        geotiffs,


rule cubes:
    input:
        trained_models,
        [cube_file(sensor, cube) for sensor in C.sensors for cube in cubes_of(sensor)],


rule embed:
    input:
        embeddings(),
        geotiffs,


onstart:
    global RUN_LOCK
    try:
        RUN_LOCK = start(RUN, RUN_LOCK)
    except UserError as error:
        raise WorkflowError(str(error)) from None
    if too_large := job_too_large():
        logger.warning(too_large)
    if C.models:
        logger.info(f"Nothing is trained: the models are those of {MODELS}")
