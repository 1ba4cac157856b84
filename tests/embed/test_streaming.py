"""Cubes read tile by tile, and tiles on their way from the cube to the store."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from products import contents

from pipeline_lib.cubes import CLEAR, read_cube
from pipeline_lib.embed.arrays import Tile, tiles
from pipeline_lib.embed.streaming import open_frames, streamed
from pipeline_lib.errors import UserError
from pipeline_lib.models import load_encoder

LINE = tiles(1, 40, 2)


@pytest.mark.parametrize("name", ["optical", "radar"])
@pytest.mark.parametrize("tile", [Tile(0, 0, 21, 26), Tile(0, 9, 5, 6), Tile(16, 20, 5, 6)])
def test_a_crop_of_a_file_is_that_of_the_whole_cube(
    field: SimpleNamespace, name: str, tile: Tile
) -> None:
    scaling = load_encoder(field.models[name]).normalisation
    usable, source = open_frames(field.cubes[name], scaling)
    cube = read_cube(field.cubes[name])
    clear = cube["mask"].values == CLEAR
    used = clear.any(axis=(1, 2))
    np.testing.assert_array_equal(source.times, cube["time"].values[used])
    np.testing.assert_array_equal(source.times, usable["time"])
    assert not used.all()
    found = source.crop(tile, 3)
    values = scaling.apply(cube[cube.attrs["quantity"]].values[used])
    values = np.where(clear[used][:, None], values, 0)
    rows = slice(tile.row, tile.row + tile.height + 6)
    around = (rows, slice(tile.column, tile.column + tile.width + 6))
    sides = ((3, 3), (3, 3))
    wanted = np.pad(values, ((0, 0), (0, 0), *sides))[(..., *around)]
    np.testing.assert_array_equal(found.values, wanted)
    shown = np.pad(clear[used], ((0, 0), *sides))[(..., *around)]
    np.testing.assert_array_equal(found.valid, shown)
    assert found.shape == (tile.height, tile.width)
    own = clear[used][:, tile.rows, tile.columns].reshape(used.sum(), -1)
    np.testing.assert_array_equal(found.target_valid, own)


@pytest.mark.parametrize("workers", [1, 3])
def test_tiles_are_written_in_order_and_few_are_held(workers: int) -> None:
    held, most, written = 0, 0, []
    lock = threading.Lock()

    def read(tile: Tile) -> Tile:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return tile

    def write(tile: Tile, made: int) -> None:
        nonlocal held
        assert made == tile.column
        written.append(tile)
        with lock:
            held -= 1

    found = streamed(
        LINE, read=read, compute=lambda tile: tile.column, write=write, workers=workers
    )
    assert list(found) == LINE == written
    assert most <= workers + 2


@pytest.mark.parametrize("step", ["read", "compute", "write"])
def test_an_error_ends_the_work_after_the_tiles_before_it(step: str) -> None:
    written = []

    def done(here: str, tile: Tile) -> Tile:
        if here == step and tile.column == 10:
            raise UserError("the disk is full")
        if here == "write":
            written.append(tile)
        return tile

    steps = {
        "read": lambda tile: done("read", tile),
        "compute": lambda tile: done("compute", tile),
        "write": lambda tile, made: done("write", made),
    }
    with pytest.raises(UserError, match="disk"):
        list(streamed(LINE, workers=2, **steps))
    assert LINE[:5] == written[:5] and LINE[5] not in written


def test_workers_leave_no_trace(field: SimpleNamespace, tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("three", 3)):
        field.embed(tmp_path / name, workers=workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
