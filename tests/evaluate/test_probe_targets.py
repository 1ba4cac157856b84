"""What probes predict: values computed by hand at the target pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_cubes import CONTEXT, write_truth

from pipeline_lib.dataset import CubeArrays, Normalisation, SampleIndex
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.probe_targets import (
    Targets,
    Truth,
    context_targets,
    neighbourhood,
    next_valid,
)

BANDS = ("B03", "B04", "B08")
UNIT = Normalisation(BANDS, np.zeros(3, np.float32), np.ones(3, np.float32))


def test_the_neighbourhood_excludes_the_target_pixel_and_invalid_ones() -> None:
    values = np.full((2, 3, 3), 0.5)
    values[0, 0, 0], values[1, 2, 2] = 0.9, 0.1
    values[:, 1, 1] = 1000.0
    valid = np.ones((3, 3), bool)
    valid[0, 1] = False
    values[:, 0, 1] = -1000.0
    mean, spread = neighbourhood(values, valid)  # type: ignore[misc]
    others = np.array([0.9, *[0.5] * 6])
    np.testing.assert_allclose(mean, [others.mean(), (0.5 * 6 + 0.1) / 7])
    np.testing.assert_allclose(spread, [others.std()] * 2)
    valid[0] = valid[1] = False
    assert neighbourhood(values, valid) is None
    valid[0] = True
    assert neighbourhood(values, valid) is not None, "whatever the centre is"


def test_the_next_date_is_the_first_valid_one_within_thirty_days() -> None:
    days = np.array([0, 10, 20, 31, 40, 71])
    valid = np.array([True, False, True, True, True, True])
    assert next_valid(valid, days, 0) == 2
    assert next_valid(valid, days, 2) == 3
    assert next_valid(valid, days, 4) is None, "31 days on"
    assert next_valid(valid, days, 5) is None, "the last one"
    assert next_valid(np.array([True, False, False]), np.array([0, 10, 20]), 0) is None
    assert next_valid(np.array([True, True]), np.array([0, 30]), 0) == 1


def one_cube() -> CubeArrays:
    rng = np.random.default_rng(5)
    values = rng.integers(6554, 60000, (6, 3, 9, 9)).astype(np.uint16)
    valid = np.ones((6, 9, 9), bool)
    return CubeArrays("a", values, valid, 18000 + np.array([0, 5, 10, 15, 20, 60]))


def draw(frame: int, top: int, left: int) -> SampleIndex:
    """One sample whose middle frame is `frame`."""
    frames = np.array([[frame - 1, frame, frame + 1]])
    return SampleIndex(
        np.zeros(1, int), frames, np.ones((1, 3), bool), np.array([top]), np.array([left])
    )


def targets_of(
    cube: CubeArrays,
    drawn: SampleIndex,
    truth: dict[str, Truth] | None = None,
    normalisation: Normalisation = UNIT,
) -> Targets:
    return context_targets(
        [cube],
        drawn,
        context=CONTEXT,
        normalisation=normalisation,
        land_cover={"a": "crops"},
        truth=truth or {},
    )


def test_changes_are_taken_at_the_pixel_and_its_next_clear_date() -> None:
    cube = one_cube()
    cube.valid[2, 3 + 1, 3 + 2] = False
    found = targets_of(cube, draw(1, 1, 2))
    now, then = (cube.values[frame, :, 4, 5] / 65535 for frame in (1, 3))
    np.testing.assert_allclose(found["next_change"], [then - now], atol=1e-6)
    index = [(value[2] - value[1]) / (value[2] + value[1]) for value in (now, then)]
    np.testing.assert_allclose(found["ndvi_change"], [[index[1] - index[0]]], atol=1e-6)
    assert list(found["land_cover"]) == ["crops"]
    assert "leaf_area" not in found
    last = targets_of(cube, draw(4, 1, 2))
    assert np.isnan(last["next_change"]).all() and np.isfinite(last["neighbourhood_mean"]).all()


def test_a_change_of_ndvi_is_computed_from_reflectance_not_from_scaled_bands() -> None:
    cube, drawn = one_cube(), draw(1, 0, 0)
    lower, upper = np.array([0.1, 0.02, 0.1], np.float32), np.array([0.3, 0.2, 0.9], np.float32)
    scaling = Normalisation(BANDS, lower, upper, "square-root")
    found = targets_of(cube, drawn, normalisation=scaling)
    spectra = (lower + cube.values[1:3, :, 3, 3] / 65535 * (upper - lower)) ** 2
    red, near = spectra[:, 1], spectra[:, 2]
    index = (near - red) / (near + red)
    np.testing.assert_allclose(found["ndvi_change"], [[index[1] - index[0]]], atol=1e-6)


def truth_of(cube: CubeArrays, days: list[int]) -> Truth:
    """Leaf area 10 * (number of the date) + y + x / 100; as many classes as pixels."""
    y, x = np.indices(cube.valid.shape[1:])
    area = 10 * np.arange(len(days))[:, None, None] + y + x / 100
    return Truth(18000 + np.array(days), area.astype(np.float32), 100 * y + x)


def test_the_truth_is_read_at_the_pixel_and_the_date() -> None:
    cube = one_cube()
    cube.valid[2] = False
    # More dates than the cube has, as where a scene was too cloudy to keep.
    truth = {"a": truth_of(cube, [0, 3, 5, 8, 10, 15, 20, 60])}
    found = targets_of(cube, draw(1, 1, 2), truth)
    np.testing.assert_allclose(found["leaf_area"], [[20 + 4.05]], rtol=1e-6)
    np.testing.assert_allclose(found["leaf_area_change"], [[30.0]], rtol=1e-5)
    assert list(found["land_cover"]) == ["405"]


def test_leaf_area_is_interpolated_between_close_dates_of_the_truth() -> None:
    truth = truth_of(one_cube(), [0, 4, 8, 40])
    assert truth.leaf_area_at(18002, 0, 0) == pytest.approx(5.0)
    assert truth.leaf_area_at(18005, 1, 2) == pytest.approx(12.5 + 1.02)
    assert np.isnan(truth.leaf_area_at(18020, 0, 0)), "32 days between its neighbours"
    assert truth.leaf_area_at(18040, 0, 0) == pytest.approx(30.0)
    assert np.isnan(truth.leaf_area_at(18041, 0, 0)) and np.isnan(truth.leaf_area_at(17999, 0, 0))


def test_truth_of_another_grid_is_an_error() -> None:
    cube = one_cube()
    truth = truth_of(cube, [0, 5])
    with pytest.raises(UserError, match=r"cube a: .* another grid"):
        targets_of(cube, draw(1, 0, 0), {"a": replace(truth, cover=truth.cover[:-1])})


def test_the_truth_of_a_site_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "site.npz"
    area = np.arange(8).reshape(2, 2, 2)
    times = ["2019-01-09T10:10:31.024000+00:00", "2019-01-19T10:10:31.024000+00:00"]
    truth = Truth.read(write_truth(path, np.eye(2), area, times))
    assert truth.days[0] == np.datetime64("2019-01-09").astype(int)
    assert truth.leaf_area_at(int(truth.days[1]), 1, 0) == 6.0
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"site\.npz: not the truth"):
        Truth.read(path)
    with pytest.raises(UserError, match=r"none\.npz: not the truth"):
        Truth.read(tmp_path / "none.npz")
