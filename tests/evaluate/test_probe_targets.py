"""What probes predict: values computed by hand at the target pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from made_cubes import CONTEXT, write_made_cube, write_truth

from pipeline_lib.config import SENTINEL_1, SENTINEL_2, Sensor
from pipeline_lib.cubes import THICK_CLOUD
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.probe_features import Pixels
from pipeline_lib.evaluate.probe_targets import (
    FieldLabels,
    Targets,
    Truth,
    context_targets,
    neighbourhood,
    next_valid,
)

DAYS = np.array([0, 5, 10, 15, 20, 60])
OPTICAL = SENTINEL_2.model_copy(update={"bands": ("B03", "B04", "B08"), "rgb": None})


@dataclass
class Made:
    """A cube of six dates from day 18000 on, written when targets are asked for."""

    folder: Path
    values: np.ndarray
    mask: np.ndarray

    def targets(
        self,
        frame: int,
        y: int,
        x: int,
        truth: Mapping[str, Truth] | None = None,
        labels: Mapping[str, FieldLabels] | None = None,
        sensor: Sensor = OPTICAL,
    ) -> Targets:
        """Targets of one sample."""
        path = self.folder / "a.zarr.zip"
        path.unlink(missing_ok=True)
        bands = self.values[:, : len(sensor.bands)]
        write_made_cube(path, bands, self.mask, sensor, start="2019-04-14", days=DAYS)
        pixels = Pixels(
            np.array(["a"]), 18000 + DAYS[[frame]], *(np.array([place]) for place in (y, x))
        )
        return context_targets(
            [path],
            pixels,
            bands=sensor.bands,
            patch_px=CONTEXT.patch_px,
            land_cover={"a": "crops"},
            truth=truth or {},
            labels=labels or {},
        )


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


@pytest.fixture
def cube(tmp_path: Path) -> Made:
    rng = np.random.default_rng(5)
    return Made(
        tmp_path, rng.uniform(0.1, 0.9, (6, 3, 9, 9)).round(4), np.zeros((6, 9, 9), np.uint8)
    )


def test_changes_are_taken_at_the_pixel_and_its_next_clear_date(cube: Made) -> None:
    cube.mask[2, 4, 5] = THICK_CLOUD
    found = cube.targets(1, 4, 5)
    now, then = (cube.values[frame, :, 4, 5] for frame in (1, 3))
    np.testing.assert_allclose(found["next_change"], [then - now], atol=1e-6)
    index = [(value[2] - value[1]) / (value[2] + value[1]) for value in (now, then)]
    np.testing.assert_allclose(found["ndvi_change"], [[index[1] - index[0]]], atol=1e-6)
    assert list(found["land_cover"]) == ["crops"]
    assert "leaf_area" not in found
    last = cube.targets(4, 4, 5)
    assert np.isnan(last["next_change"]).all() and np.isfinite(last["neighbourhood_mean"]).all()


def test_backscatter_is_in_decibel(cube: Made) -> None:
    found = cube.targets(1, 4, 5, sensor=SENTINEL_1)
    power = cube.values[1:3, :2, 4, 5]
    np.testing.assert_allclose(
        found["next_change"], [10 * np.log10(power[1] / power[0])], rtol=1e-4
    )
    assert "ndvi_change" not in found


def truth_of(cube: Made, days: list[int]) -> Truth:
    """Leaf area 10 * (number of the date) + y + x / 100, soil moisture a tenth of it; as many
    classes as pixels."""
    y, x = np.indices(cube.mask.shape[1:])
    area = 10 * np.arange(len(days))[:, None, None] + y + x / 100
    states = np.stack([area, area / 10], axis=1).astype(np.float32)
    return Truth(18000 + np.array(days), states, 100 * y + x)


def test_the_truth_is_read_at_the_pixel_and_the_date(cube: Made) -> None:
    cube.mask[2] = THICK_CLOUD
    # More dates than the cube has, as where a scene was too cloudy to keep.
    truth = {"a": truth_of(cube, [0, 3, 5, 8, 10, 15, 20, 60])}
    found = cube.targets(1, 4, 5, truth)
    np.testing.assert_allclose(found["leaf_area"], [[20 + 4.05]], rtol=1e-6)
    np.testing.assert_allclose(found["soil_moisture"], [[2 + 0.405]], rtol=1e-6)
    np.testing.assert_allclose(found["leaf_area_change"], [[30.0]], rtol=1e-5)
    assert list(found["land_cover"]) == ["405"]


def test_states_are_interpolated_between_close_dates_of_the_truth(cube: Made) -> None:
    truth = truth_of(cube, [0, 4, 8, 40])
    area = [truth.at(18000 + day, 1, 2)[0] for day in (4, 5, 20, 40, 41, -1)]
    np.testing.assert_allclose(area[:2], [10 + 1.02, 12.5 + 1.02], rtol=1e-6)
    assert np.isnan(area[2]), "32 days between its neighbours"
    assert area[3] == pytest.approx(30 + 1.02) and np.isnan(area[4:]).all()
    moisture = [truth.at(18000 + day, 1, 2)[1] for day in (4, 5, 6, 7)]
    np.testing.assert_allclose(moisture, [1.102, 1.352, np.nan, 1.852], rtol=1e-6)


def test_labels_are_read_at_the_pixel(cube: Made, tmp_path: Path) -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[4, 5] = 2
    np.savez(tmp_path / "a.npz", labels=labels, names=["wheat", "maize"])
    fields = FieldLabels.read(tmp_path / "a.npz")
    assert list(cube.targets(1, 4, 5, labels={"a": fields})["label"]) == ["maize"]
    assert list(cube.targets(1, 4, 4, labels={"a": fields})["label"]) == [""]
    assert "label" not in cube.targets(1, 4, 5)
    np.savez(tmp_path / "b.npz", labels=labels, names=["wheat"])
    for name, reason in (("b", "beyond its 1 names"), ("none", "not the labels")):
        with pytest.raises(UserError, match=rf"{name}\.npz: .*{reason}"):
            FieldLabels.read(tmp_path / f"{name}.npz")


def test_truth_and_labels_of_another_grid_are_an_error(cube: Made) -> None:
    truth = truth_of(cube, [0, 5])
    with pytest.raises(UserError, match=r"cube a: .* another grid"):
        cube.targets(1, 4, 4, {"a": replace(truth, cover=truth.cover[:-1])})
    with pytest.raises(UserError, match=r"cube a: .* another grid"):
        cube.targets(1, 4, 4, labels={"a": FieldLabels(np.zeros((9, 8), np.int64), ())})


def test_the_truth_of_a_site_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "site.npz"
    area = np.arange(8).reshape(2, 2, 2)
    times = ["2019-01-09T10:10:31.024000+00:00", "2019-01-19T10:10:31.024000+00:00"]
    truth = Truth.read(write_truth(path, np.eye(2), area, times))
    assert truth.days[0] == np.datetime64("2019-01-09").astype(int)
    np.testing.assert_allclose(truth.at(int(truth.days[1]), 1, 0), [6.0, 0.6], rtol=1e-3)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"site\.npz: not the truth"):
        Truth.read(path)
    with pytest.raises(UserError, match=r"none\.npz: not the truth"):
        Truth.read(tmp_path / "none.npz")
