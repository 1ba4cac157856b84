"""Cubes read tile by tile, and tiles on their way from the cube to the store.

Reading, computing and writing overlap, and only a few tiles are held at a time, so that memory
follows from the size of a tile and not from that of a cube.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from typing import TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline_lib.cubes import clear_counts, decode, read_cube
from pipeline_lib.dataset import Normalisation, valid_pixels
from pipeline_lib.embed.arrays import Frames, Tile

Read = TypeVar("Read")
Computed = TypeVar("Computed")


def open_frames(path: Path, normalisation: Normalisation) -> tuple[xr.Dataset, Frames]:
    """The opened cube, of its frames those with a clear pixel, and these frames themselves.

    Raises UserError if the cube is unreadable or damaged, or has other bands than the
    normalisation.
    """
    cube = read_cube(path, load=False)
    normalisation.check_bands(cube["band"].values, path)
    usable = np.flatnonzero(clear_counts(cube, path))
    quantity = cube.attrs["quantity"]

    def read(rows: slice, columns: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        # All frames lie in the same few chunks: to read some is no faster.
        part = decode(cube[[quantity, "mask"]].isel(y=rows, x=columns))
        return normalisation.unclipped(part[quantity].values[usable]), valid_pixels(part)[usable]

    frames = Frames(cube["time"].values[usable], (cube.sizes["y"], cube.sizes["x"]), read)
    return cube.isel(time=usable), frames


def streamed(
    tiles: Iterable[Tile],
    *,
    read: Callable[[Tile], Read],
    compute: Callable[[Read], Computed],
    write: Callable[[Tile, Computed], None],
    workers: int,
) -> Iterator[Tile]:
    """Read, compute and write tiles side by side; each is yielded once it is written.

    One thread reads, ``workers`` threads compute, and the caller's writes, in the order of the
    tiles. At most two tiles more than there are workers are held at once. Raises whatever one of
    the steps raises; tiles before that one are written.
    """
    under_way: deque[tuple[Tile, Future[Computed]]] = deque()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(workers) as computers:
        for tile in chain(tiles, repeat(None, workers + 1)):
            if tile is not None:
                read_ahead = reader.submit(read, tile)
                computed = computers.submit(lambda crop: compute(crop.result()), read_ahead)
                under_way.append((tile, computed))
                del read_ahead, computed
            if under_way and (tile is None or len(under_way) > workers + 1):
                first, computed = under_way.popleft()
                write(first, computed.result())
                del computed
                yield first
