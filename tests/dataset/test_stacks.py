"""Cubes mapped from files are those in memory, written once and whole."""

import pickle

import numpy as np
import pytest

from pipeline_lib.cubes import CLEAR, Grid, make_cube, write_cube
from pipeline_lib.dataset import Normalisation, load_stack, stacks
from pipeline_lib.errors import UserError

SCALING = Normalisation(("vv", "vh"), np.float32([0, 0]), np.float32([1, 3]))
ARRAYS = ("values", "valid", "days")


@pytest.fixture
def paths(tmp_path):
    """Two cubes of different sizes."""
    rng = np.random.default_rng(0)
    found = []
    for name, count, size in (("a", 3, 5), ("b", 2, 8)):
        found.append(tmp_path / f"{name}.zarr.zip")
        cube = make_cube(
            values=rng.random((count, 2, size, size), np.float32),
            mask=np.where(rng.random((count, size, size)) < 0.8, CLEAR, 4).astype(np.uint8),
            times=np.datetime64("2020-01-01") + 6 * np.arange(count).astype("timedelta64[D]"),
            bands=SCALING.bands,
            grid=Grid(32631, 600000, 5600000, 10, size, size),
            quantity="backscatter",
            frames={},
            attributes={},
        )
        write_cube(cube, found[-1])
    return found


def assert_same(found, expected):
    assert [cube.name for cube in found] == [cube.name for cube in expected]
    for one, other in zip(found, expected, strict=True):
        for name in ARRAYS:
            array = getattr(one, name)
            assert array.dtype == getattr(other, name).dtype
            np.testing.assert_array_equal(array, getattr(other, name))


def test_mapped_cubes_are_those_in_memory_also_in_another_process(paths, tmp_path):
    expected = load_stack(paths, SCALING)
    mapped = load_stack(paths, SCALING, tmp_path / "stack")
    assert_same(mapped, expected)
    sent = pickle.dumps(mapped)
    assert len(sent) < mapped[0].values.nbytes, "the place is sent, not the numbers"
    assert_same(pickle.loads(sent), expected)
    assert_same(pickle.loads(pickle.dumps(expected)), expected)
    assert load_stack([], SCALING, tmp_path / "none") == []


def test_mapped_cubes_are_written_once_for_the_same_cubes_and_scaling(paths, tmp_path, monkeypatch):
    folder = tmp_path / "stack"
    load_stack(paths, SCALING, folder)
    with monkeypatch.context() as patch:
        patch.setattr(stacks, "_pack", None)
        load_stack(paths, SCALING, folder)
    other = Normalisation(SCALING.bands, SCALING.lower, 2 * SCALING.upper)
    for chosen, scaling in ((paths, other), (paths[::-1], other), (paths[:1], SCALING)):
        assert_same(load_stack(chosen, scaling, folder), load_stack(chosen, scaling))
    paths[0].write_bytes(paths[1].read_bytes())
    assert_same(load_stack(paths, SCALING, folder), load_stack(paths, SCALING))


def test_killed_while_writing_leaves_nothing(paths, tmp_path, monkeypatch):
    folder = tmp_path / "stack"
    original = stacks._pack

    def killed(path, normalisation):
        if path == paths[1]:
            raise KeyboardInterrupt
        return original(path, normalisation)

    monkeypatch.setattr(stacks, "_pack", killed)
    with pytest.raises(KeyboardInterrupt):
        load_stack(paths, SCALING, folder)
    assert not folder.exists()
    monkeypatch.undo()
    assert_same(load_stack(paths, SCALING, folder), load_stack(paths, SCALING))


@pytest.mark.parametrize("folder", [None, "stack"])
def test_a_cube_that_is_not_there_is_named(tmp_path, folder):
    with pytest.raises(UserError, match=r"absent\.zarr\.zip: no such cube"):
        load_stack([tmp_path / "absent.zarr.zip"], SCALING, folder and tmp_path / folder)
