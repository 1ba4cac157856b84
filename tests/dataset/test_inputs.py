"""What a model was trained on is compared with the cubes that it is given."""

import numpy as np
import pytest
from made_cubes import write_made_cube

from pipeline_lib.config import SENTINEL_2
from pipeline_lib.cubes import read_cube
from pipeline_lib.dataset import check_inputs, inputs_of
from pipeline_lib.errors import UserError

OPTICAL = SENTINEL_2.model_copy(update={"bands": ("B04", "B08")})
SHAPE = (3, 2, 8, 8)


def written(path, *, smoothed=False, nadir=False):
    values = np.full(SHAPE, 0.2, np.float32)
    more = {"unfiltered": values} if smoothed else {}
    mask = np.zeros((3, 8, 8))
    return write_made_cube(path, values, mask, OPTICAL, c_factor=0.9 if nadir else None, **more)


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
    ("smoothed", "changes", "message"),
    [
        (False, {}, None),
        (False, {"resolution_m": [20.0, 60.0]}, "has pixels of 10 m, .* trained on 20 or 60 m"),
        (False, {"resolution_m": [9.999]}, None),
        (False, {"quantity": ["backscatter"]}, "holds reflectance, and the model needs backscat"),
        (False, {"rolling_mean": [True]}, "has no rolling mean over time, .* trained with one"),
        (False, {"rolling_mean": [False, True]}, None),
        (True, {"rolling_mean": [False]}, "has a rolling mean over time, .* trained without"),
    ],
)
def test_a_cube_of_another_kind_is_rejected_in_one_line(tmp_path, smoothed, changes, message):
    path = written(tmp_path / "a.zarr.zip", smoothed=smoothed)
    cube, trained = read_cube(path, load=False), inputs_of([path]) | changes
    check_inputs(cube, {}, path)
    if message is None:
        check_inputs(cube, trained, path)
        return
    with pytest.raises(UserError, match=f"a.zarr.zip: {message}"):
        check_inputs(cube, trained, path)


def test_another_view_is_noticed(tmp_path, caplog):
    trained = inputs_of([written(tmp_path / "a.zarr.zip", nadir=True)])
    other = written(tmp_path / "b.zarr.zip")
    check_inputs(read_cube(other, load=False), trained, other)
    assert "WARNING" in caplog.text and "not known to be corrected to nadir view" in caplog.text
