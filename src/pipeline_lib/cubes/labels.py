"""Classes that the user knows of a cube's land, put onto its pixels."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Labels, OwnCube, OwnCubeFile
from pipeline_lib.cubes.grid import Grid
from pipeline_lib.cubes.ingest import grid_of_cube
from pipeline_lib.cubes.own_file import read_classes
from pipeline_lib.cubes.resampling import nearest
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.files import atomic_path

log = logging.getLogger(__name__)


def write_labels(*, own: OwnCube, labels: Labels, resolution_m: float, output: Path) -> None:
    """Write the labels of a cube as NPZ: ``labels`` ``(y, x)``, 0 where there is none, and the
    ``names`` of the numbers from 1 on.

    A pixel of the cube gets the class of the pixel of the file that it lies in; where several
    pixels of the file make up one of the cube, it gets a class if all of them have it.

    Raises UserError if the file is unreadable, has another CRS than the cube, does not cover it,
    has pixels that do not nest with the cube's, or has no label within it.
    """
    grid = grid_of_cube(own, resolution_m)
    block = OwnCubeFile(
        file=labels.file, bands={"labels": labels.variable}, x=labels.x, y=labels.y, crs=labels.crs
    )
    source, stored, missing = read_classes(block)
    codes = np.where(missing, labels.none, stored).astype(np.int64)
    if not missing.all() and (codes != stored)[~missing].any():
        raise UserError(f"{labels.file}: {labels.variable!r} holds no classes, but decimals")
    _check_nested(source, grid, labels.file)
    found = {int(code) for code in np.unique(codes)} - {labels.none}
    by_code = labels.names
    if by_code is None:
        by_code = {code: str(code) for code in sorted(found)}
    names = list(dict.fromkeys(by_code.values()))
    numbers = np.zeros(codes.shape, np.int64)
    for code, name in by_code.items():
        if code != labels.none:
            numbers[codes == code] = names.index(name) + 1
    placed = _on_grid(numbers, source, grid)
    counts = np.bincount(placed.ravel(), minlength=len(names) + 1)
    for name, count in zip(names, counts[1:], strict=True):
        log.info("%s: %d of %d pixels", name, count, placed.size)
    if not placed.any():
        raise UserError(
            f"{labels.file}: no label within the cube; its classes are "
            f"{in_a_line(', '.join(map(str, sorted(found))))}; check variable, names and window"
        )
    with atomic_path(output) as partial, partial.open("wb") as handle:
        np.savez_compressed(handle, labels=placed, names=np.array(names, dtype=np.str_))


def _check_nested(source: Grid, grid: Grid, file: Path) -> None:
    """Raise UserError unless each pixel of one grid consists of whole pixels of the other."""
    if source.epsg != grid.epsg:
        raise UserError(f"{file}: is in EPSG:{source.epsg}, and the cube in EPSG:{grid.epsg}; warp")
    fine, coarse = sorted((source.resolution, grid.resolution))
    edges = np.array([source.left - grid.left, source.top - grid.top, coarse]) / fine
    if np.abs(edges - np.round(edges)).max() > 0.1:
        raise UserError(
            f"{file}: its pixels of {source.resolution:g} m at {source.left:.10g}, "
            f"{source.top:.10g} do not nest with those of the cube, {grid.resolution:g} m at "
            f"{grid.left:.10g}, {grid.top:.10g}; resample the labels"
        )
    west, south, east, north = source.bounds
    inner = grid.bounds
    if max(west - inner[0], south - inner[1], inner[2] - east, inner[3] - north) > 0.1 * fine:
        raise UserError(f"{file}: does not cover the cube {inner}, but {source.bounds}; give all")


def _on_grid(numbers: NDArray[np.int64], source: Grid, grid: Grid) -> NDArray[np.int64]:
    """Numbers on a grid that nests with theirs; 0 where a pixel has several."""
    parts = max(1, round(grid.resolution / source.resolution))
    height, width = grid.shape
    size = grid.resolution / parts
    finer = Grid(grid.epsg, grid.left, grid.top, size, height * parts, width * parts)
    blocks = nearest(numbers, source, finer).reshape(height, parts, width, parts)
    least, most = blocks.min(axis=(1, 3)), blocks.max(axis=(1, 3))
    return np.where(least == most, most, 0)
