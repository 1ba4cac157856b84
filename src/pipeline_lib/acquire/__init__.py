"""Sites, items and cubes from a catalog. The only package that touches the network."""

from pipeline_lib.acquire.build import build_cube
from pipeline_lib.acquire.catalog import pin_items, search
from pipeline_lib.acquire.site_table import draw_site_table, read_land_cover
