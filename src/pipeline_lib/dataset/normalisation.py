"""A sensor's bands on a scale on which their noise is even, and robustly scaled to 0..1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.config import Context, Scale
from pipeline_lib.config import Sequence as SampleSequence
from pipeline_lib.cubes import CLEAR, read_cube
from pipeline_lib.dataset.domain import Domain
from pipeline_lib.dataset.split import NEEDED, read_split
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.files import read_json, write_json

PIXEL_BUDGET = 4_000_000
"""Pixels that quantiles are taken from, over all cubes: 160 MB for ten bands, and 4000 of them
beyond a quantile of 0.001."""
DOMAIN_PIXELS = 200_000
"""Training pixels, at most, that the domain is fitted on: 200 of them lie outside."""
LEAST_REFLECTANCE, LEAST_POWER = 1e-3, 1e-5
"""What roots and logarithms are taken of at least: below it there is noise alone."""


def to_scale(values: NDArray[np.floating], scale: Scale) -> NDArray[np.floating]:
    """Values of a sensor's quantity on a scale; NaN stays NaN.

    The noise of a reflectance grows with it, and speckle is a factor: the square root and the
    decibel make both about the same everywhere (Bartlett 1947, "The use of transformations").
    """
    if scale == "square-root":
        return np.sqrt(np.maximum(values, values.dtype.type(LEAST_REFLECTANCE)))
    if scale == "decibel":
        return 10 * np.log10(np.maximum(values, values.dtype.type(LEAST_POWER)))
    return values


def from_scale(values: Any, scale: Scale) -> Any:
    """The inverse of `to_scale`, of a NumPy array or a torch tensor.

    Below 0, where a decoder may reach, a square keeps the sign, so that it still has a slope.
    """
    if scale == "square-root":
        return values * abs(values)
    if scale == "decibel":
        return 10 ** (values / 10)
    return values


@dataclass(frozen=True)
class Normalisation:
    """Scaling per band: ``lower`` becomes 0, ``upper`` becomes 1, both are clipped at.

    The bounds ``(band,)`` are on the ``scale`` of the sensor's quantity, in the order of a cube's
    bands. ``domain`` is where the training pixels lie; None of earlier versions.
    """

    bands: tuple[str, ...]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    scale: Scale = "linear"
    domain: Domain | None = None

    def unclipped(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scale ``(..., band, y, x)``; NaN stays NaN."""
        lower, upper = self.lower[:, None, None], self.upper[:, None, None]
        scaled = (to_scale(values, self.scale) - lower) / (upper - lower)
        return scaled.astype(np.float32, copy=False)

    def apply(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scale ``(..., band, y, x)`` and clip to 0..1; NaN stays NaN."""
        scaled = self.unclipped(values)
        return np.clip(scaled, 0.0, 1.0, out=scaled)

    def domain_distance(self, unclipped: NDArray[np.float32]) -> NDArray[np.float32]:
        """`Domain.distance` of scaled pixels ``(time, band, pixel)``; NaN without a domain."""
        if self.domain is None:
            return np.full_like(unclipped[:, 0], np.nan)
        lower, upper = self.lower[:, None], self.upper[:, None]
        values = lower + unclipped * (upper - lower)
        # A root would bring what is too bright closer.
        linear = from_scale(values, self.scale) if self.scale == "square-root" else values
        return self.domain.distance(linear)

    def physical(self, scaled: NDArray[np.floating]) -> NDArray[np.floating]:
        """Scaled spectra ``(..., band)`` in the sensor's own quantity again."""
        values: NDArray[np.floating]
        values = from_scale(self.lower + scaled * (self.upper - self.lower), self.scale)
        return values

    def check_bands(self, bands: Iterable[Any], where: str | Path) -> None:
        """Raise UserError, naming both lists, if bands have other names, number or order."""
        check_bands(bands, self.bands, where)

    def to_json(self) -> dict[str, Any]:
        """Plain lists, exact."""
        return {
            "bands": list(self.bands),
            "lower": [float(value) for value in self.lower],
            "upper": [float(value) for value in self.upper],
            "scale": self.scale,
            **({"domain": self.domain.to_json()} if self.domain else {}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], where: str = "normalisation") -> Self:
        """Normalisation from the content of `to_json`; raises UserError if it is not such."""
        try:
            bands = tuple(str(band) for band in content["bands"])
            lower = np.asarray(content["lower"], dtype=np.float32)
            upper = np.asarray(content["upper"], dtype=np.float32)
            scale: Scale = content.get("scale", "linear")  # all there was in earlier versions
            stored = content.get("domain")
            domain = None if stored is None else Domain.from_json(stored, len(bands))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{where}: not a normalisation; delete it and run again") from error
        whole = lower.shape == upper.shape == (len(bands),) and bool(np.all(lower < upper))
        if not whole or not np.isfinite([lower, upper]).all():
            raise UserError(f"{where}: bounds do not fit the bands; delete it and run again")
        if scale not in get_args(Scale):
            raise UserError(f"{where}: unknown scale {in_a_line(scale)}; delete it and run again")
        return cls(bands, lower, upper, scale, domain)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Normalisation from the file of `fit_normalisation`."""
        return cls.from_json(read_json(path), str(path))


def check_bands(bands: Iterable[Any], wanted: Sequence[str], where: str | Path) -> None:
    """Raise UserError, naming both lists, if bands are not the wanted ones in their order."""
    own = [str(band) for band in bands]
    if own != list(wanted):
        raise UserError(
            f"{where}: has the bands {in_a_line(' '.join(own))}, but {' '.join(wanted)} are "
            "needed, in this order"
        )


def valid_pixels(cube: xr.Dataset) -> NDArray[np.bool_]:
    """``(time, y, x)``: clear, with a finite value in every band."""
    values = cube[cube.attrs["quantity"]].values
    return (cube["mask"].values == CLEAR) & np.isfinite(values).all(axis=1)


def fit_normalisation(
    *,
    cubes: Sequence[Path],
    split_table: Path,
    bands: Sequence[str],
    quantiles: tuple[float, float],
    output: Path,
    scale: Scale = "linear",
    learning: tuple[SampleSequence, Context] | None = None,
) -> None:
    """Fit per-band quantiles over the valid pixels of the training cubes, and write them as JSON.

    They are taken on the ``scale`` of the sensor; the two quantiles become 0 and 1, and the domain
    is that of the same pixels. ``cubes`` are files of one sensor, of every split. With
    ``learning``, what samples are made of, some sample must be there to train and to validate with.

    Raises UserError if there is nothing to fit on, a band is constant, or a sample is missing.
    """
    from pipeline_lib.dataset.samples import check_samples  # which needs this module

    chosen = cubes_of(cubes, split_table, "training")
    if not chosen:
        raise UserError(f"{split_table}: no training cube; nothing to fit the normalisation on")
    if learning:
        for split in NEEDED:
            where = f"{chosen[0].parent}, {split}"
            check_samples(cubes_of(cubes, split_table, split), where, *learning)
    budget = max(1, PIXEL_BUDGET // len(chosen))
    pools = []
    for path in chosen:
        cube = read_cube(path)
        check_bands(cube["band"].values, bands, path)
        values = np.moveaxis(cube[cube.attrs["quantity"]].values, 1, -1)[valid_pixels(cube)]
        # Evenly thinned, so that the result depends on no draw.
        pools.append(values[np.linspace(0, len(values) - 1, min(budget, len(values)), dtype=int)])
    pool = np.concatenate(pools)
    if len(pool) == 0:
        raise UserError(f"{chosen[0].parent}: the training cubes have no valid pixel")
    lower, upper = np.quantile(to_scale(pool, scale).astype(np.float64), quantiles, axis=0)
    constant = [band for band, a, b in zip(bands, lower, upper, strict=True) if a >= b]
    if constant:
        raise UserError(
            f"{chosen[0].parent}: {', '.join(constant)} has one value only in the training "
            "cubes; check the band's scale and no-data values"
        )
    bounds = lower.astype(np.float32), upper.astype(np.float32)
    fitted = Normalisation(tuple(bands), *bounds, scale)
    some = pool[:: len(pool) // DOMAIN_PIXELS + 1]
    domain = Domain.fit(some if scale == "square-root" else to_scale(some, scale))
    write_json(output, replace(fitted, domain=domain).to_json())


def cube_name(path: str | Path) -> str:
    """Name of the cube in a file ``<name>.zarr.zip``."""
    return Path(path).name.removesuffix(".zarr.zip")


def cubes_of(cubes: Sequence[Path], split_table: Path, split: str) -> list[Path]:
    """Files of the cubes that a split holds, sorted by name."""
    table = read_split(split_table)
    chosen = [Path(path) for path in cubes if table.get(cube_name(path)) == split]
    return sorted(chosen, key=cube_name)
