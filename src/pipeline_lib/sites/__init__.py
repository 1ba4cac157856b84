"""Stratified sampling of sites with a minimum distance, and their years."""

from pipeline_lib.sites.sampling import LandCoverMap, counts_of, draw_periods, draw_sites
from pipeline_lib.sites.table import distribution, write_site_table
