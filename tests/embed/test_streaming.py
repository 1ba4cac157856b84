"""Cubes read tile by tile, and tiles on their way from the cube to the store."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from products import contents

from pipeline_lib.embed.arrays import Tile, tiles
from pipeline_lib.embed.streaming import streamed
from pipeline_lib.errors import UserError

LINE = tiles(1, 40, 2)


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
