"""A land-cover map in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LandCoverMap:
    """LCCS codes on a regular grid of longitude and latitude.

    Attributes
    ----------
    codes
        ``(rows, cols)``, LCCS codes of the ESA CCI map; 0 is no data.
    lon
        ``(cols,)``, centres of the columns, degrees, strictly increasing.
    lat
        ``(rows,)``, centres of the rows, degrees, strictly decreasing or increasing.
    """

    codes: NDArray[np.uint8]
    lon: NDArray[np.float64]
    lat: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.codes.shape != (len(self.lat), len(self.lon)):
            raise ValueError(
                f"codes {self.codes.shape} do not fit {len(self.lat)} rows, {len(self.lon)} columns"
            )
