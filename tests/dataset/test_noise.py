"""Noise of a sensor: its covariance, and how far it reaches in space."""

import numpy as np
import pytest
from made_cubes import write_made_cube, write_split
from scipy.ndimage import uniform_filter

from pipeline_lib.config import SENTINEL_1
from pipeline_lib.dataset import Noise, Normalisation, measure_noise
from pipeline_lib.dataset.noise import (
    APART_PX,
    correlated_px,
    correlation_by_distance,
    residuals,
)
from pipeline_lib.dataset.stacks import CubeArrays
from pipeline_lib.errors import UserError
from pipeline_lib.files import write_json

COVARIANCE = 1e-4 * np.array([[4.0, 1.0], [1.0, 2.0]])


def noisy_cube(days: list[int], width: int = 1, size: int = 48) -> CubeArrays:
    """A field that changes linearly in time, with noise averaged over ``width`` pixels."""
    rng = np.random.default_rng(1)
    noise = rng.multivariate_normal([0, 0], COVARIANCE, (len(days), size, size)).transpose(
        0, 3, 1, 2
    )
    if width > 1:
        noise = uniform_filter(noise, (0, 0, width, width), mode="wrap") * width
    field = 0.3 + 0.2 * rng.random((2, size, size))
    trend = 0.002 * np.array(days)[:, None, None, None]
    values = np.rint(65535 * (field + trend + noise)).astype(np.uint16)
    return CubeArrays("a", values, np.ones((len(days), size, size), bool), np.array(days) + 18000)


def measured(tmp_path, cube: CubeArrays, reach: int = 1) -> Noise:
    path, table = (
        tmp_path / "a.zarr.zip",
        write_split(tmp_path / "split.csv", {"a": "training"}, "x"),
    )
    mask = np.where(cube.valid, 0, 3).astype(np.uint8)
    days = cube.days - 18000
    write_made_cube(path, cube.values / 65535, mask, SENTINEL_1, start="2019-04-14", days=days)
    unit = Normalisation(("vv", "vh"), np.zeros(2, np.float32), np.ones(2, np.float32))
    write_json(tmp_path / "normalisation.json", unit.to_json())
    measure_noise(
        cubes=[path],
        split_table=table,
        normalisation=tmp_path / "normalisation.json",
        reach=reach,
        seed=1,
        output=tmp_path / "noise.json",
    )
    return Noise.read(tmp_path / "noise.json")


def test_a_steady_trend_is_no_noise_whatever_the_spacing():
    cube = noisy_cube([0, 3, 14, 20])
    for middle in (1, 2):
        residual, valid = residuals(cube, middle, 1)
        assert valid.all()
        np.testing.assert_allclose(np.cov(residual.reshape(2, -1)), COVARIANCE, atol=3e-5)


@pytest.mark.parametrize(("width", "expected"), [(1, 0), (3, 2), (5, 3)])
def test_noise_is_measured_with_its_reach_in_space(tmp_path, width, expected):
    """Noise that is a mean over w pixels has the correlation 1 - d / w at the distance d."""
    found = measured(tmp_path, noisy_cube([0, 5, 10, 15, 20, 25], width))
    assert (found.triples, found.correlated_px) == (4, expected)
    distance = np.arange(9)
    np.testing.assert_allclose(found.correlation, (1 - distance / width).clip(0), atol=0.06)
    # The tenth that is longest may be cloud, and is left out, and what pixels share.
    own = 0.72 * (1 - max(0, 1 - APART_PX / width))
    np.testing.assert_allclose(np.diag(found.covariance / COVARIANCE), own, atol=0.12)
    assert found.covariance[0, 1] > 0


def test_light_that_changes_for_all_pixels_is_no_noise(tmp_path):
    """As haze and growth do: its covariance would hide the brightness of the land."""
    cube = noisy_cube([0, 5, 10, 15, 20, 25])
    light = np.array([0.0, 0.1, -0.1, 0.1, 0.0, -0.1])[:, None, None, None]
    changed = np.rint(cube.values + 65535 * light).clip(0, 65535).astype(np.uint16)
    found = measured(tmp_path, CubeArrays("a", changed, cube.valid, cube.days))
    np.testing.assert_allclose(np.diag(found.covariance / COVARIANCE), 0.72, atol=0.12)


def test_clouds_are_left_out_and_frames_that_share_measurements_far_enough_apart(tmp_path):
    cube = noisy_cube([0, 5, 10, 15, 20, 25])
    cube.valid[:, :20], cube.values[:, :, :20] = False, 65535
    found = measured(tmp_path, cube, reach=2)
    assert found.triples == 2 and found.covariance[0, 0] < 2 * COVARIANCE[0, 0]
    residual, valid = residuals(cube, 2, 2)
    assert np.isfinite(correlation_by_distance(residual, valid)).all()


def test_without_close_frames_the_noise_is_assumed(tmp_path, caplog):
    found = measured(tmp_path, noisy_cube([0, 30, 60]))
    assert (found.triples, found.correlated_px) == (0, 1)
    assert np.array_equal(found.covariance, np.eye(2)) and len(found.correlation) == 0
    assert "the noise is assumed" in caplog.text


def test_noise_is_shared_up_to_the_first_distance_where_it_is_not():
    assert correlated_px(np.array([1, 0.6, 0.3, 0.1, 0.3])) == 2
    assert correlated_px(np.array([1, 0.9, np.nan])) == 1
    assert correlated_px(np.ones(9)) == 8


def test_a_broken_file_is_rejected_by_name(tmp_path):
    write_json(tmp_path / "noise.json", {"bands": ["a"], "covariance": [[1, 2]]})
    with pytest.raises(UserError, match=r"noise\.json"):
        Noise.read(tmp_path / "noise.json")
