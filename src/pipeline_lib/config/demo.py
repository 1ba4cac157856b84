"""Size of the simulated archive."""

from __future__ import annotations

import math

from pydantic import Field

from pipeline_lib.config.base import Block, Count

STEP_PX = 6
"""Scenes have pixels of 10, 20 and 30 m; sides are whole in each of them."""


class Demo(Block):
    """The simulated archive that replaces the catalog."""

    tile_px: int = Field(
        96, ge=48, multiple_of=STEP_PX, description="Side of the simulated scenes, pixels of 10 m"
    )
    radar_tile_px: int = Field(
        60, ge=24, multiple_of=STEP_PX, description="Side of the simulated radar scenes, pixels"
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

    def too_small(self, size_px: int, context_px: int) -> list[str]:
        """Mistakes: scenes smaller than a cube with the cloud context on each side of it."""
        sizes = {
            "tile_px": (self.tile_px, size_px + 2 * context_px),
            "radar_tile_px": (self.radar_tile_px, size_px),
        }
        return [
            f"demo.{key}: {px} pixels are too few for a cube of {size_px} and its cloud context "
            f"of {context_px}; use {math.ceil(needed / STEP_PX) * STEP_PX} or more"
            for key, (px, needed) in sizes.items()
            if px < needed
        ]
