"""Draw the map of the sites."""

from pathlib import Path

from pipeline_lib.config import Sites, Tower
from pipeline_lib.report.site_map import plot_sites
from pipeline_lib.scripting import job

with job(snakemake):
    sites = Sites.model_validate(snakemake.params.sites)
    plot_sites(
        sites=Path(snakemake.input[0]),
        strata=sites.strata,
        bounds=sites.bounds,
        towers=[Tower.model_validate(tower) for tower in snakemake.params.towers],
        output=Path(snakemake.output[0]),
    )
