"""The simulated archive that the embedded default runs on: physical, seeded, offline."""

from pipeline_lib.demo.archive import simulate_site
from pipeline_lib.demo.canopy import write_canopy_table
from pipeline_lib.demo.land_cover import write_land_cover
from pipeline_lib.demo.tower import write_tower_file

__all__ = ["simulate_site", "write_canopy_table", "write_land_cover", "write_tower_file"]
