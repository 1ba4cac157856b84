"""Simulate the scenes around one site of the archive."""

from pathlib import Path

from pipeline_lib.config import CubeGrid, Demo, Tower
from pipeline_lib.cubes import CubeRequest
from pipeline_lib.scripting import job
from simulated_archive import simulate_site

with job(snakemake):
    tower = snakemake.params.tower
    simulate_site(
        requests=[CubeRequest.from_row(row) for row in snakemake.params.requests],
        tower=Tower.model_validate(tower) if tower else None,
        cube=CubeGrid.model_validate(snakemake.params.cube),
        demo=Demo.model_validate(snakemake.params.demo),
        seed=snakemake.params.seed,
        canopy_table=Path(snakemake.input.canopy),
        folder=Path(snakemake.params.folder),
        truth=Path(snakemake.params.truth),
    )
