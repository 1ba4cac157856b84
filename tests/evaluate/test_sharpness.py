"""How smooth features are within fields, and how sharp at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from made_cubes import CONTEXT

from pipeline_lib.config import Sequence
from pipeline_lib.dataset import CubeArrays, SampleIndex, SequenceIndex
from pipeline_lib.evaluate.probe_features import Pixels
from pipeline_lib.evaluate.sharpness import MIN_PAIRS, pairs, sharpness
from pipeline_lib.training.data import SensorDataset

SIZE = 32


def test_pairs_are_valid_inside_the_border_and_within_a_field_or_at_its_edge() -> None:
    fields = np.repeat([0, 1, -1], [8, 6, 4])[None].repeat(12, 0)
    valid = np.ones((12, 18), bool)
    valid[5, 7] = False
    within, edge = pairs(valid, fields, 2)
    expected = np.zeros((12, 18), bool)
    expected[2:10, 2:7] = expected[2:10, 8:13] = True
    expected[5, 6] = False
    np.testing.assert_array_equal(within, expected)
    rows, columns = np.nonzero(edge)
    assert set(columns) == {7} and sorted(rows) == [2, 3, 4, 6, 7, 8, 9]


def test_an_average_is_smoother_within_fields_and_edges_of_a_map_of_fields_stand_out() -> None:
    rng = np.random.default_rng(0)
    fields = (np.arange(SIZE) // 8 % 2)[None].repeat(SIZE, 0)
    noisy = fields + rng.standard_normal((SIZE, SIZE))
    averaged = np.stack([np.roll(noisy, shift, axis=0) for shift in range(9)]).mean(axis=0)
    valid = np.ones((3, SIZE, SIZE), bool)
    cube = CubeArrays("a", np.zeros((3, 1, SIZE, SIZE), np.uint16), valid, np.array([0, 9, 18]))
    sequence = Sequence(frames=3, stride_time=1, stride_space=1)
    dataset = SensorDataset("radar", SequenceIndex([cube], sequence=sequence, context=CONTEXT))
    drawn = dataset.draw(rng, 400, "test")
    half = CONTEXT.patch_px // 2

    def features(moved: SampleIndex, pixels: Pixels) -> dict[str, np.ndarray]:
        np.testing.assert_array_equal(moved.top + half, pixels.y)
        np.testing.assert_array_equal(moved.left + half, pixels.x)
        maps = {"bands": noisy, "mean": averaged}
        return {name: one[pixels.y, pixels.x, None] for name, one in maps.items()}

    fit = {name: np.array([[-1.0], [1.0]]) for name in ("bands", "mean")}
    found = sharpness(dataset, drawn, {"a": fields}, features, fit, rng)
    assert found is not None and found["pairs"] == 400
    bands, mean = found["sets"]["bands"], found["sets"]["mean"]
    assert bands["step_within_field"] == pytest.approx(np.sqrt(2), rel=0.15)
    assert mean["step_within_field"] == pytest.approx(np.sqrt(2) / 3, rel=0.25)
    # A step of 1 beside noise: the root of (2 + 1) / 2, and of (2 / 9 + 1) / (2 / 9).
    assert bands["contrast"] == pytest.approx(1.22, abs=0.2)
    assert mean["contrast"] == pytest.approx(2.35, abs=0.5)
    few = drawn.take(np.arange(MIN_PAIRS - 1))
    assert sharpness(dataset, few, {"a": fields}, features, fit, rng) is None
    alone = sharpness(dataset, drawn, {"a": np.zeros_like(fields)}, features, fit, rng)
    assert alone is None, "one field has no edge"
