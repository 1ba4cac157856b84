"""Cubes read tile by tile, and tiles on their way from the cube to the store.

Reading, computing and writing overlap, and only a few tiles are held at a time, so that memory
follows from the size of a tile and not from that of a cube.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.cubes import clear_counts, decode, read_cube
from pipeline_lib.dataset import Normalisation, valid_pixels
from pipeline_lib.embed.arrays import Crop, Tile, days_of, padded, reach

Read = TypeVar("Read")
Computed = TypeVar("Computed")


@dataclass(frozen=True)
class CubeFrames:
    """One sensor's frames in the file of a cube: a `Source`.

    Attributes
    ----------
    cube
        Opened, not read.
    normalisation
        Scaling of its values.
    usable
        ``(time,)``, indices of the frames that have a clear pixel.
    """

    cube: xr.Dataset
    normalisation: Normalisation
    usable: NDArray[np.intp]

    @classmethod
    def open(cls, path: Path, normalisation: Normalisation) -> Self:
        """Open a cube and look through its mask.

        Raises
        ------
        UserError
            If the cube is unreadable or damaged, or has other bands than the normalisation.
        """
        cube = read_cube(path, load=False)
        normalisation.check_bands([str(band) for band in cube["band"].values], str(path))
        return cls(cube, normalisation, np.flatnonzero(clear_counts(cube, path)))

    @property
    def times(self) -> NDArray[np.datetime64]:
        """``(time,)``, of the usable frames."""
        return self.cube["time"].values[self.usable]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the cube."""
        return self.cube.sizes["y"], self.cube.sizes["x"]

    def crop(self, tile: Tile, margin: int) -> Crop:
        """Frames of a tile, as of a `Source`."""
        (rows, columns), beyond = reach(self.shape, tile, margin)
        quantity = self.cube.attrs["quantity"]
        # All frames lie in the same few chunks: to read some is no faster.
        part = decode(self.cube[[quantity, "mask"]].isel(y=rows, x=columns))
        valid = valid_pixels(part)[self.usable]
        values = self.normalisation.apply(part[quantity].values[self.usable])
        values[~np.broadcast_to(valid[:, None], values.shape)] = 0
        return padded(values, valid, beyond, days_of(self.times), margin)


def streamed(
    tiles: Iterable[Tile],
    *,
    read: Callable[[Tile], Read],
    compute: Callable[[Read], Computed],
    write: Callable[[Tile, Computed], None],
    workers: int,
) -> Iterator[Tile]:
    """Read, compute and write tiles side by side; each is yielded once it is written.

    One thread reads and one writes, both in the order of the tiles. At most two tiles more than
    there are workers are held at once.

    Parameters
    ----------
    tiles
        What to work through.
    read, compute, write
        The three steps of a tile.
    workers
        Tiles that are computed side by side.

    Raises
    ------
    Exception
        Whatever one of the steps raises. Tiles before that one are written.
    """
    under_way: deque[tuple[Tile, Future[None]]] = deque()
    with (
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(workers) as computers,
        ThreadPoolExecutor(1) as writer,
    ):
        for tile in tiles:
            given = reader.submit(read, tile)
            made = computers.submit(_then, given, compute)
            under_way.append((tile, writer.submit(_finish, made, tile, write)))
            del given, made
            if len(under_way) > workers + 1:
                first, written = under_way.popleft()
                written.result()
                yield first
        for first, written in under_way:
            written.result()
            yield first


def _then(given: Future[Read], compute: Callable[[Read], Computed]) -> Computed:
    return compute(given.result())


def _finish(made: Future[Computed], tile: Tile, write: Callable[[Tile, Computed], None]) -> None:
    write(tile, made.result())
