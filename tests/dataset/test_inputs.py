"""What a model was trained on is compared with the cubes that it is given."""

import logging

import numpy as np
import pytest
from made_cubes import write_made_cube

from pipeline_lib.config import SENTINEL_1, SENTINEL_2
from pipeline_lib.cubes import read_cube
from pipeline_lib.dataset import check_inputs, inputs_of
from pipeline_lib.errors import UserError

OPTICAL = SENTINEL_2.model_copy(update={"bands": ("B04", "B08")})
SHAPE = (3, 2, 8, 8)


def written(path, sensor=OPTICAL, *, smoothed=False, nadir=False):
    values = np.full(SHAPE, 0.2, np.float32)
    more = {"unfiltered": values} if smoothed else {}
    mask = np.zeros((3, 8, 8))
    return write_made_cube(path, values, mask, sensor, c_factor=0.9 if nadir else None, **more)


def test_what_cubes_are_is_recorded(tmp_path):
    paths = [
        written(tmp_path / "a.zarr.zip", nadir=True),
        written(tmp_path / "b.zarr.zip", smoothed=True),
    ]
    assert inputs_of(paths) == {
        "quantity": ["reflectance"],
        "resolution_m": [10.0],
        "rolling_mean": [False, True],
        "nadir": [False, True],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"resolution_m": [20.0, 60.0]}, "has pixels of 10 m, .* trained on 20 or 60 m"),
        ({"resolution_m": [9.999]}, None),
        ({"quantity": ["backscatter"]}, "holds reflectance, and the model needs backscatter"),
        ({"rolling_mean": [True]}, "has no rolling mean over time, .* trained with one"),
        ({"rolling_mean": [False, True]}, None),
    ],
)
def test_a_cube_of_another_kind_is_rejected_in_one_line(tmp_path, changes, message):
    path = written(tmp_path / "a.zarr.zip")
    cube, trained = read_cube(path, load=False), inputs_of([path]) | changes
    check_inputs(cube, {}, path)
    if message is None:
        check_inputs(cube, trained, path)
        return
    with pytest.raises(UserError, match=f"a.zarr.zip: {message}"):
        check_inputs(cube, trained, path)


def test_a_cube_with_a_rolling_mean_and_another_view_is_noticed(tmp_path, caplog):
    trained = inputs_of([written(tmp_path / "a.zarr.zip", nadir=True)])
    other = written(tmp_path / "b.zarr.zip")
    check_inputs(read_cube(other, load=False), trained, other)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "is not known to be corrected to nadir view" in record.getMessage()
    smoothed = written(tmp_path / "c.zarr.zip", SENTINEL_1, smoothed=True)
    plain = inputs_of([written(tmp_path / "d.zarr.zip", SENTINEL_1)])
    with pytest.raises(UserError, match=r"has a rolling mean over time, .* trained without"):
        check_inputs(read_cube(smoothed, load=False), plain, smoothed)
