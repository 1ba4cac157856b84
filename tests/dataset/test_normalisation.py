import json

import numpy as np
import pytest

from pipeline_lib.config import SENTINEL_1
from pipeline_lib.cubes import CLEAR, THICK_CLOUD, Grid, make_cube, write_cube
from pipeline_lib.dataset import Normalisation, fit_normalisation, load_stack, write_split
from pipeline_lib.errors import UserError

SENSOR = SENTINEL_1.model_copy(update={"quantiles": (0.1, 0.9)})


def write(path, values, mask, bands=("vv", "vh")):
    count, _, height, width = values.shape
    cube = make_cube(
        values=values.astype(np.float32),
        mask=mask,
        times=np.datetime64("2021-03-01") + 6 * np.arange(count),
        bands=bands,
        grid=Grid(32632, 600000, 5600000, 10, height, width),
        quantity="backscatter",
        frames={},
        attributes={},
    )
    write_cube(cube, path)
    return path


@pytest.fixture
def cubes(tmp_path):
    """One training and one test cube; invalid pixels and the test cube hold absurd values."""
    rng = np.random.default_rng(0)
    values = rng.random((4, 2, 12, 12)) * [[[[1.0]], [[3.0]]]]
    mask = np.full((4, 12, 12), CLEAR, np.uint8)
    mask[:, :4] = THICK_CLOUD
    values[:, :, :4] = 1e6
    values[:, 1, 4] = np.nan
    paths = [
        write(tmp_path / "a.zarr.zip", values, mask),
        write(tmp_path / "b.zarr.zip", values * 100, mask),
    ]
    rows = [
        {"cube": name, "site": name, "land_cover": "x", "split": split}
        for name, split in (("a", "training"), ("b", "test"))
    ]
    from pipeline_lib.config import Split

    table = tmp_path / "split.csv"
    write_split(sites=None, own=rows, split=Split(), seed=0, output=table)
    return paths, table, values[:, :, 5:]


def test_bounds_are_quantiles_of_valid_training_pixels(cubes, tmp_path):
    paths, table, valid = cubes
    output = tmp_path / "normalisation.json"
    fit_normalisation(
        cubes=paths,
        split_table=table,
        bands=SENSOR.bands,
        quantiles=SENSOR.quantiles,
        output=output,
    )
    fitted = Normalisation.read(output)
    lower, upper = np.quantile(valid, (0.1, 0.9), axis=(0, 2, 3))
    np.testing.assert_allclose(fitted.lower, lower, rtol=1e-5)
    np.testing.assert_allclose(fitted.upper, upper, rtol=1e-5)


def test_scaling_is_clipped_and_undone():
    scaling = Normalisation(("a", "b"), np.float32([0.0, 1.0]), np.float32([2.0, 5.0]))
    values = np.float32([[-1, 0, 1, 2, 9], [1, 2, 3, 5, np.nan]])[:, None]
    scaled = scaling.apply(values)[:, 0]
    np.testing.assert_allclose(scaled, [[0, 0, 0.5, 1, 1], [0, 0.25, 0.5, 1, np.nan]])
    np.testing.assert_allclose(scaling.invert(scaled[:, None])[0, 0], [0, 0, 1, 2, 2])
    again = Normalisation.from_json(json.loads(json.dumps(scaling.to_json())))
    assert again.bands == scaling.bands and np.array_equal(again.upper, scaling.upper)


def test_stack_holds_scaled_values_and_zero_where_invalid(cubes):
    paths, _, valid = cubes
    scaling = Normalisation(("vv", "vh"), np.float32([0, 0]), np.float32([1, 3]))
    (cube,) = load_stack(paths[:1], scaling)
    assert not cube.valid[:, :5].any() and cube.valid[:, 5:].all()
    assert not cube.values[:, :, :5].any()
    found = scaling.invert(cube.values[:, :, 5:] / np.float32(65535))
    np.testing.assert_allclose(found, valid, atol=3e-5)
    assert cube.name == "a" and np.array_equal(np.diff(cube.days), [6, 6, 6])


def test_permuted_bands_constant_bands_and_no_training_cube_are_refused(cubes, tmp_path):
    paths, table, _ = cubes
    scaling = Normalisation(("vh", "vv"), np.float32([0, 0]), np.float32([1, 3]))
    with pytest.raises(UserError, match=r"vv vh, but vh vv"):
        load_stack(paths, scaling)
    with pytest.raises(UserError, match="no training cube"):
        fit_normalisation(
            cubes=paths[1:],
            split_table=table,
            bands=SENSOR.bands,
            quantiles=SENSOR.quantiles,
            output=tmp_path / "n.json",
        )
    values = np.zeros((1, 2, 8, 8))
    write(paths[0], values, np.full((1, 8, 8), CLEAR, np.uint8))
    with pytest.raises(UserError, match="vv, vh has one value"):
        fit_normalisation(
            cubes=paths,
            split_table=table,
            bands=SENSOR.bands,
            quantiles=SENSOR.quantiles,
            output=tmp_path / "n.json",
        )
    assert not (tmp_path / "n.json").exists()


@pytest.mark.parametrize("text", ["{}", "[1]", '{"bands": ["a"], "lower": [1], "upper": [0]}'])
def test_broken_file_is_refused_by_name(tmp_path, text):
    path = tmp_path / "normalisation.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"normalisation\.json"):
        Normalisation.read(path)
