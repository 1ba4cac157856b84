"""Write one date of a product as a GeoTIFF."""

from datetime import date
from pathlib import Path

from pipeline_lib.embed.geotiff import write_geotiff
from pipeline_lib.scripting import job

with job(snakemake):
    write_geotiff(
        Path(snakemake.input[0]).parent,
        date.fromisoformat(snakemake.wildcards.date),
        Path(snakemake.output.geotiff),
    )
