"""Size of the simulated archive."""

from __future__ import annotations

from pydantic import Field

from pipeline_lib.config.base import Block, Count


class Demo(Block):
    """The simulated archive that stands in for the catalog."""

    tile_px: int = Field(
        96, ge=48, multiple_of=6, description="Side of the simulated scenes, pixels of 10 m"
    )
    radar_tile_px: int = Field(
        60, ge=24, multiple_of=6, description="Side of the simulated radar scenes, pixels"
    )
    optical_revisit_days: Count = Field(
        10, description="Days between optical passes of one orbit; two orbits see each site"
    )
    radar_revisit_days: Count = Field(
        12, description="Days between radar passes of one orbit; two orbits see each site"
    )
    land_cover_cells_per_degree: Count = Field(
        360, description="Cells of the land-cover map per degree"
    )
