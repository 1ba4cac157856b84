"""The simulated archive that the embedded default runs on: physical, seeded, offline."""

from simulated_archive.archive import simulate_site
from simulated_archive.canopy import write_canopy_table
from simulated_archive.land_cover import write_land_cover
from simulated_archive.tower import write_tower_file
