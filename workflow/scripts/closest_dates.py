"""Find the acquisition closest to each date that the config names, cube by cube."""

from datetime import date
from pathlib import Path

from pipeline_lib.embed.manifest import write_closest_dates
from pipeline_lib.scripting import job

with job(snakemake):
    folders = [Path(manifest).parent for manifest in snakemake.input]
    write_closest_dates(
        products={folder.name: folder for folder in folders},
        dates=[date.fromisoformat(text) for text in snakemake.params.geotiff_dates],
        tolerance_days=snakemake.params.geotiff_tolerance_days,
        output=Path(snakemake.output[0]),
    )
