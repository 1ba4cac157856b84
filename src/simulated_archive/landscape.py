"""The ground around a site: fields, stands, buildings and water, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from simulated_archive.arrays import Float32, classes_by_share, smooth_field


class Cover(IntEnum):
    """What grows or stands on a parcel."""

    NEEDLE_LEAVED = 0
    BROAD_LEAVED = 1
    GRASSLAND = 2
    CROPLAND = 3
    SHRUB = 4
    BUILT = 5
    WATER = 6
    BARE = 7


_N, _B, _G, _F, _S, _U, _W, _BARE = Cover

MIXTURES: dict[Cover, dict[Cover, float]] = {
    _N: {_N: 0.66, _B: 0.14, _G: 0.10, _F: 0.08, _U: 0.02},
    _B: {_B: 0.64, _N: 0.12, _G: 0.10, _F: 0.11, _U: 0.03},
    _G: {_G: 0.64, _F: 0.14, _B: 0.10, _N: 0.05, _U: 0.05, _W: 0.02},
    _F: {_F: 0.70, _G: 0.12, _B: 0.08, _N: 0.04, _U: 0.05, _W: 0.01},
    _S: {_S: 0.50, _G: 0.22, _B: 0.12, _F: 0.10, _BARE: 0.06},
    _U: {_U: 0.66, _G: 0.16, _B: 0.08, _F: 0.08, _W: 0.02},
}
"""Dominant cover of a site -> share of each cover around it."""

DOMINANT: dict[str, Cover] = {
    **{"needle-leaved": _N, "broad-leaved": _B, "grassland": _G, "urban": _U},
    **{"ENF": _N, "DBF": _B, "GRA": _G, "CRO": _F},
}
"""Land-cover stratum of a site, or vegetation type of a tower -> dominant cover."""

MEAN_SOIL = 0.72
"""Mean brightness of soils, as a factor of the spectra of PROSAIL."""


@dataclass(frozen=True)
class Landscape:
    """Parcels and what does not change in a pixel.

    ``parcel``: number of the parcel, ``(y, x)``; ``cover``: cover of each parcel,
    ``(parcel,)``; the textures are ``(y, x)``: ``vigour`` and ``soil`` factors about 1,
    ``wetness`` in m3/m3 about 0, ``sealed`` the share of roofs and roads, ``walls`` that of
    buildings alone, ``roof`` the brightness of sealed ground, ``slope`` the tilt towards the
    east, degrees.
    """

    parcel: NDArray[np.int32]
    cover: NDArray[np.int8]
    vigour: Float32
    soil: Float32
    wetness: Float32
    sealed: Float32
    walls: Float32
    roof: Float32
    slope: Float32

    @property
    def cover_map(self) -> NDArray[np.int8]:
        """Cover of each pixel, ``(y, x)``."""
        return self.cover[self.parcel]

    @property
    def ground_map(self) -> NDArray[np.int8]:
        """Cover as a surveyor would class it, ``(y, x)``: mostly sealed pixels are built."""
        return np.where(self.sealed > 0.5, np.int8(Cover.BUILT), self.cover_map)


def dominant_cover(land_cover: str, rng: np.random.Generator) -> Cover:
    """Cover that dominates a site of a stratum; the rest of the land is mostly cropland."""
    if land_cover in DOMINANT:
        return DOMINANT[land_cover]
    return Cover(rng.choice([Cover.CROPLAND, Cover.SHRUB], p=[0.85, 0.15]))


def draw_landscape(rng: np.random.Generator, size: int, dominant: Cover) -> Landscape:
    """The ground around a site, a square of ``size`` pixels of 10 m.

    Land is cut into rectangles, which take a cover; forests, lakes and settlements have smooth
    edges that cut through them. The middle belongs to the dominant cover, as a site is drawn from
    the cell of the land-cover map that it lies in.
    """
    blocks = _rectangles(rng, size, smallest=6, largest=260)
    plots = _rectangles(rng, size, smallest=3, largest=24)
    cover = _assign(rng, size, dominant, blocks)
    fine = np.isin(cover, [Cover.BUILT])
    key = np.where(fine, plots + blocks.max() + 1, blocks) * len(Cover) + cover
    unique, parcel = np.unique(key, return_inverse=True)
    built = cover == Cover.BUILT
    sealed = np.where(built, rng.beta(2.0, 1.1, plots.max() + 1)[plots], 0.0)
    walls = sealed.copy()
    paved = built | (rng.random(blocks.max() + 1)[blocks] < 0.35)
    paved &= ~np.isin(cover, [Cover.WATER, Cover.NEEDLE_LEAVED, Cover.BROAD_LEAVED])
    road = _edges(blocks) & paved
    sealed[road], walls[road] = 0.75, 0.0
    roof = np.clip(rng.lognormal(0, 0.28, plots.max() + 1)[plots], 0.5, 2.2)
    roof[road] = 0.85

    def texture(length: float, spread: float) -> Float32:
        return spread * smooth_field(rng, (size, size), length, 3.0)

    parcel_soil = 0.14 * rng.standard_normal(len(unique))[parcel].reshape(size, size)
    soil = MEAN_SOIL * np.exp(texture(9, 0.10) + parcel_soil)
    return Landscape(
        parcel=parcel.reshape(size, size).astype(np.int32),
        cover=(unique % len(Cover)).astype(np.int8),
        vigour=np.exp(texture(4, 0.10) + texture(0.7, 0.05)).astype(np.float32),
        soil=soil.astype(np.float32),
        wetness=texture(12, 0.025),
        sealed=sealed.astype(np.float32),
        walls=walls.astype(np.float32),
        roof=roof.astype(np.float32),
        slope=texture(30, 3.0),
    )


def _rectangles(
    rng: np.random.Generator, size: int, *, smallest: int, largest: int
) -> NDArray[np.int32]:
    """Number of the parcel at each pixel: a turned square, split at random again and again."""
    angle = rng.uniform(0, np.pi / 2)
    row, column = np.mgrid[:size, :size] - (size - 1) / 2
    across = np.cos(angle) * column + np.sin(angle) * row
    along = np.cos(angle) * row - np.sin(angle) * column
    reach = size * 0.75
    number = np.zeros((size, size), dtype=np.int32)
    open_boxes = [(-reach, reach, -reach, reach)]
    count = 0
    while open_boxes:
        left, right, low, high = open_boxes.pop()
        width, height = right - left, high - low
        share = rng.uniform(0.32, 0.68)
        done = width * height < largest * rng.uniform(0.5, 1.6)
        if done or max(width, height) < 2 * smallest:
            inside = (across >= left) & (across < right) & (along >= low) & (along < high)
            number[inside] = count
            count += 1
        elif width * rng.uniform(0.7, 1.6) > height:
            cut = left + share * width
            open_boxes += [(left, cut, low, high), (cut, right, low, high)]
        else:
            cut = low + share * height
            open_boxes += [(left, right, low, cut), (left, right, cut, high)]
    return np.unique(number, return_inverse=True)[1].reshape(size, size).astype(np.int32)


def _edges(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    edges = np.zeros(labels.shape, dtype=bool)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edges[1:] |= labels[1:] != labels[:-1]
    return edges


def _assign(
    rng: np.random.Generator, size: int, dominant: Cover, blocks: NDArray[np.int32]
) -> NDArray[np.int8]:
    mixture = MIXTURES[dominant]
    covers = list(mixture)
    shares = np.array([mixture[cover] for cover in covers])
    row, column = np.mgrid[:size, :size] - (size - 1) / 2
    centre = 2.2 * np.exp(-(row**2 + column**2) / (2 * (size / 9) ** 2))
    counts = np.bincount(blocks.ravel())
    scores = []
    for cover in covers:
        length = 5.0 if cover in (Cover.WATER, Cover.BUILT) else 9.0
        score = smooth_field(rng, (size, size), length, 4.5).astype(np.float64)
        if cover in (Cover.GRASSLAND, Cover.CROPLAND, Cover.SHRUB, Cover.BARE):
            of_block = np.bincount(blocks.ravel(), score.ravel()) / counts
            score = of_block[blocks] * 1.6
        scores.append(score + (centre if cover == dominant else 0))
    drawn = classes_by_share(np.stack(scores), shares, steps=60, rate=0.2, least=2e-3)
    return np.array(covers, dtype=np.int8)[drawn]
