"""The spectral bands of Sentinel-2's instrument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Band:
    """A band: its number, pixel size, wavelengths and labels as the catalog gives them."""

    number: int
    resolution_m: int
    centre_nm: float
    width_nm: float
    title: str
    common_name: str | None


BANDS: dict[str, Band] = {
    "B01": Band(0, 60, 443, 27, "Coastal aerosol", "coastal"),
    "B02": Band(1, 10, 490, 98, "Blue", "blue"),
    "B03": Band(2, 10, 560, 45, "Green", "green"),
    "B04": Band(3, 10, 665, 38, "Red", "red"),
    "B05": Band(4, 20, 704, 19, "Vegetation red edge 1", "rededge"),
    "B06": Band(5, 20, 740, 18, "Vegetation red edge 2", "rededge"),
    "B07": Band(6, 20, 783, 28, "Vegetation red edge 3", "rededge"),
    "B08": Band(7, 10, 842, 145, "NIR", "nir"),
    "B8A": Band(8, 20, 865, 33, "Vegetation red edge 4", "rededge"),
    "B09": Band(9, 60, 945, 26, "Water vapor", None),
    "B11": Band(11, 20, 1610, 143, "SWIR (1.6)", "swir16"),
    "B12": Band(12, 20, 2190, 242, "SWIR (2.2)", "swir22"),
}
"""Bands of the surface-reflectance product (B10 sees no surface), as the catalog lists them."""
