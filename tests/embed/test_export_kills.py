"""An export killed at any moment ends, once resumed, with the bytes of an undisturbed one."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from products import contents

from pipeline_lib.config import Embed
from pipeline_lib.embed import embed_cube, read_embedding
from pipeline_lib.embed.store import TileStore
from pipeline_lib.errors import UserError

pytestmark = pytest.mark.slow

KILLS = 10
BLOCK = Embed(dtype="int8", tile_px=13, batch_size=1000)
CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}
"""Audit events before which a process may be killed: all that touch files."""


def export_and_die(at: int, seen: Path, arguments: dict[str, Any]) -> None:
    """Export, and be killed at the ``at``-th event that touches the product's files.

    Python tells of an event just before it happens: between two system calls.
    """
    root, count = str(arguments["output"].parent), 0

    def watch(event: str, details: tuple[Any, ...]) -> None:
        nonlocal count
        if event in CHANGES and str(details[0]).startswith(root):
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    embed_cube(**arguments)
    seen.write_text(str(count))


@pytest.fixture(scope="module")
def export() -> Callable[..., Any]:
    """Exports in a process, killed at an event; how the process ended."""
    context = multiprocessing.get_context("forkserver")
    # PyTorch and xarray import the last three when they first need them.
    context.set_forkserver_preload(
        [
            *("pipeline_lib.embed.cube", "pipeline_lib.embed.dense", "pipeline_lib.models"),
            *("torch._dynamo", "dask.array", "zarr"),
        ]
    )

    def run(*given: Any) -> int | None:
        process = context.Process(target=export_and_die, args=given)
        process.start()
        process.join()
        return process.exitcode

    return run


@pytest.fixture(scope="module")
def undisturbed(
    field: SimpleNamespace,
    export: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> SimpleNamespace:
    """Files of a product, and how many events its export has."""
    folder = tmp_path_factory.mktemp("undisturbed")
    arguments = field.arguments(folder / "product", embed=BLOCK)
    assert export(0, folder / "count", arguments) == 0
    events = int((folder / "count").read_text())
    return SimpleNamespace(files=contents(arguments["output"]), events=events)


# Eight moments of the whole export, and two of its end, when the store is moved into place.
@pytest.mark.parametrize(
    ("number", "earliest"), [*((n, 0.0) for n in range(8)), (8, 0.9), (9, 0.9)]
)
def test_a_killed_export_resumes_and_ends_alike(
    field: SimpleNamespace,
    export: Callable[..., Any],
    undisturbed: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    earliest: float,
) -> None:
    moment = np.random.default_rng([KILLS, number]).uniform(earliest, 1) * undisturbed.events
    arguments = field.arguments(tmp_path / "product", embed=BLOCK)
    assert export(1 + int(moment), tmp_path / "count", arguments) == -signal.SIGKILL

    output, state = arguments["output"], arguments["state"]
    if (output / "manifest.json").exists():
        read_embedding(output)
    else:
        with pytest.raises(UserError, match="no finished embeddings"):
            read_embedding(output)
    finished = {path.stem for path in (state / "tiles").glob("[0-9]*.json")}

    write, again = TileStore.write, set()

    def counts(self: TileStore, tile: Any, part: Any) -> None:
        again.add(f"{tile.row}-{tile.column}")
        write(self, tile, part)

    monkeypatch.setattr(TileStore, "write", counts)
    embed_cube(**arguments)
    assert contents(output) == undisturbed.files
    assert not state.exists()
    assert not finished & again
