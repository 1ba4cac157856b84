"""Dated, context-aware 10 m embeddings from several sensors: the targets."""

from snakemake.utils import min_version

min_version("9.0")


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/demo.smk"
include: "workflow/rules/sites.smk"
include: "workflow/rules/cubes.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/embed.smk"
include: "workflow/rules/gpp.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        f"{RUN}/report.html",
        embeddings(),


rule cubes:
    input:
        [cube_file(sensor, cube) for sensor in C.sensors for cube in cubes_of(sensor)],


rule models:
    input:
        fusion_files(),


rule embed:
    input:
        embeddings(),
