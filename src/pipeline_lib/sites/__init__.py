"""Land-cover strata, seeded sampling of sites, and their periods."""

from pipeline_lib.sites.distribution import distribution
from pipeline_lib.sites.land_cover import LandCoverMap
from pipeline_lib.sites.periods import draw_periods
from pipeline_lib.sites.sampling import counts_of, draw_sites
from pipeline_lib.sites.table import write_site_table

__all__ = [
    "LandCoverMap",
    "counts_of",
    "distribution",
    "draw_periods",
    "draw_sites",
    "write_site_table",
]
