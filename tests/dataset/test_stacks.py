"""Scaling of cubes; cubes mapped from files are those in memory, written once and whole."""

import json
import pickle

import numpy as np
import pytest
import torch
from made_cubes import write_made_cube, write_split

from pipeline_lib.config import SENTINEL_1, Context, Sequence
from pipeline_lib.cubes import CLEAR, THICK_CLOUD
from pipeline_lib.dataset import (
    Normalisation,
    fit_normalisation,
    from_scale,
    load_stack,
    stacks,
)
from pipeline_lib.embed import arrays
from pipeline_lib.embed.streaming import open_frames
from pipeline_lib.errors import UserError

SCALING = Normalisation(("vv", "vh"), np.float32([0, 0]), np.float32([1, 3]))


@pytest.fixture
def cubes(tmp_path):
    """One training and one test cube; invalid pixels and the test cube hold absurd values."""
    rng = np.random.default_rng(0)
    values = rng.random((4, 2, 12, 12)) * [[[[1.0]], [[3.0]]]]
    mask = np.full((4, 12, 12), CLEAR)
    mask[:, :4] = THICK_CLOUD
    values[:, :, :4] = 1e6
    values[:, 1, 4] = np.nan
    paths = [
        write_made_cube(tmp_path / "a.zarr.zip", values, mask, SENTINEL_1),
        write_made_cube(tmp_path / "b.zarr.zip", values[:3] * 100, mask[:3], SENTINEL_1),
    ]
    table = write_split(tmp_path / "split.csv", {"a": "training", "b": "test"}, "x")

    def fit(chosen=paths):
        output = tmp_path / "normalisation.json"
        fit_normalisation(
            cubes=chosen,
            split_table=table,
            bands=("vv", "vh"),
            quantiles=(0.1, 0.9),
            output=output,
        )
        return Normalisation.read(output)

    return paths, fit, values[:, :, 5:]


CONTEXT = Context(patch_px=7, frames=5)
SEQUENCE = Sequence(frames=8, max_span_days=60)


@pytest.mark.parametrize(
    ("spoilt", "changes", "counts", "advice"),
    [
        ("validation", {"size": 6}, "2 cube(s) (v0, v1: 2 smaller than 7 px)", "larger cubes"),
        ("training", {"clear": 0.0}, "(t0, t1: 2 without a clear target pixel)", "longer periods"),
        ("validation", {"split": "test"}, "from no cube", "add a site, or preset its split"),
    ],
)
def test_before_a_training_it_is_counted_what_no_sample_can_be_drawn_from(
    tmp_path, spoilt, changes, counts, advice
):
    rng, splits, paths = np.random.default_rng(0), {}, []
    for split in ("training", "validation"):
        own = {"size": 9, "clear": 0.8, "split": split}
        own |= changes if split == spoilt else {}
        for number in range(2):
            shape = (12, own["size"], own["size"])
            mask = np.where(rng.random(shape) < own["clear"], CLEAR, THICK_CLOUD)
            path = tmp_path / "radar" / f"{split[0]}{number}.zarr.zip"
            values = rng.random((shape[0], 2, *shape[1:]))
            paths.append(write_made_cube(path, values, mask, SENTINEL_1, days=5))
            splits[path.name.partition(".")[0]] = own["split"]
    settings = {
        "cubes": paths,
        "split_table": write_split(tmp_path / "split.csv", splits, "x"),
        "bands": ("vv", "vh"),
        "quantiles": (0.1, 0.9),
        "output": tmp_path / "normalisation.json",
    }
    with pytest.raises(UserError) as caught:
        fit_normalisation(**settings, learning=(SEQUENCE, CONTEXT))
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'radar'}, {spoilt}: no sample can be drawn from ")
    assert counts in text and advice in text and "\n" not in text
    assert not settings["output"].exists()


def test_bounds_are_quantiles_of_valid_training_pixels(cubes):
    _, fit, valid = cubes
    lower, upper = np.quantile(valid, (0.1, 0.9), axis=(0, 2, 3))
    np.testing.assert_allclose(fit().lower, lower, rtol=1e-5)
    np.testing.assert_allclose(fit().upper, upper, rtol=1e-5)


def test_scaling_is_linear_and_clipped_and_kept_exactly():
    scaling = Normalisation(("a", "b"), np.float32([0.0, 1.0]), np.float32([2.0, 5.0]))
    values = np.float32([[-1, 0, 1, 2, 9], [1, 2, 3, 5, np.nan]])[:, None]
    scaled = scaling.apply(values)[:, 0]
    np.testing.assert_allclose(scaled, [[0, 0, 0.5, 1, 1], [0, 0.25, 0.5, 1, np.nan]])
    again = Normalisation.from_json(json.loads(json.dumps(scaling.to_json())))
    assert again.bands == scaling.bands and np.array_equal(again.upper, scaling.upper)


@pytest.mark.parametrize(
    ("scale", "values", "scaled"),
    [
        ("square-root", [[-0.1, 0.04, 0.09, 0.5]], [[0.0632456, 0.4, 0.6, 1]]),
        ("decibel", [[0, 0.001, 0.1, 2.0]], [[0, 0.4, 0.8, 1]]),
    ],
)
def test_a_scale_is_left_again_for_physical_units(scale, values, scaled):
    lower, upper = (-50.0, 0.0) if scale == "decibel" else (0.0, 0.5)
    scaling = Normalisation(("a",), np.float32([lower]), np.float32([upper]), scale)
    again = Normalisation.from_json(json.loads(json.dumps(scaling.to_json())))
    values = np.float32(values)[..., None, None, None].swapaxes(0, 1)[:, 0]
    found = again.apply(values)[:, :, 0, 0]
    np.testing.assert_allclose(found.T, scaled, rtol=1e-5)
    np.testing.assert_allclose(again.physical(found)[1:3, 0], values[1:3, 0, 0, 0], rtol=1e-5)
    tensor = from_scale(torch.from_numpy(found) * (upper - lower) + lower, scale)
    np.testing.assert_allclose(tensor.numpy(), again.physical(found), rtol=1e-5)


def test_models_without_a_scale_are_linear():
    content = Normalisation(("a",), np.float32([0]), np.float32([1])).to_json()
    del content["scale"]
    assert Normalisation.from_json(content).scale == "linear"
    with pytest.raises(UserError, match="unknown scale"):
        Normalisation.from_json(content | {"scale": "cube"})


def test_stack_holds_scaled_values_and_zero_where_invalid(cubes):
    paths, _, valid = cubes
    (cube,) = load_stack(paths[:1], SCALING)
    assert not cube.valid[:, :5].any() and cube.valid[:, 5:].all()
    assert not cube.values[:, :, :5].any()
    bounds = np.array([1, 3])[:, None, None]
    np.testing.assert_allclose(cube.values[:, :, 5:] / 65535 * bounds, valid, atol=3e-5)
    assert cube.name == "a" and np.array_equal(np.diff(cube.days), [6, 6, 6])


def test_a_stack_holds_the_frames_with_a_clear_pixel_as_the_export_does(tmp_path):
    mask = np.full((5, 8, 8), THICK_CLOUD)
    mask[[0, 3, 4], 2, 2] = CLEAR
    dark = write_made_cube(tmp_path / "a.zarr.zip", np.ones((5, 2, 8, 8)), mask, SENTINEL_1)
    (cube,) = load_stack([dark], SCALING)
    _, frames = open_frames(dark, SCALING)
    np.testing.assert_array_equal(cube.days, arrays.days_of(frames.times))
    assert cube.valid.sum() == 3 and len(cube.values) == 3
    for clear in (mask[:1], mask[1:2]):
        write_made_cube(dark, np.ones((1, 2, 8, 8)), clear, SENTINEL_1)
        assert_same(load_stack([dark], SCALING, tmp_path / "stack"), load_stack([dark], SCALING))
    assert len(load_stack([dark], SCALING)[0].days) == 0


def test_permuted_bands_constant_bands_and_no_training_cube_are_rejected(cubes, tmp_path):
    paths, fit, _ = cubes
    permuted = Normalisation(("vh", "vv"), SCALING.lower, SCALING.upper)
    with pytest.raises(UserError, match=r"vv vh, but vh vv"):
        load_stack(paths, permuted)
    with pytest.raises(UserError, match="no training cube"):
        fit(paths[1:])
    write_made_cube(paths[0], np.zeros((1, 2, 8, 8)), np.full((1, 8, 8), CLEAR), SENTINEL_1)
    with pytest.raises(UserError, match="vv, vh has one value"):
        fit()
    assert not (tmp_path / "normalisation.json").exists()


@pytest.mark.parametrize("text", ["{}", "[1]", '{"bands": ["a"], "lower": [1], "upper": [0]}'])
def test_broken_file_is_rejected_by_name(tmp_path, text):
    path = tmp_path / "normalisation.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"normalisation\.json"):
        Normalisation.read(path)


def assert_same(mapped, expected):
    assert [cube.name for cube in mapped] == [cube.name for cube in expected]
    for one, other in zip(mapped, expected, strict=True):
        for name in ("values", "valid", "days"):
            array = getattr(one, name)
            assert array.dtype == getattr(other, name).dtype
            np.testing.assert_array_equal(array, getattr(other, name))


def test_mapped_cubes_are_those_in_memory_also_in_another_process(cubes, tmp_path):
    expected = load_stack(cubes[0], SCALING)
    mapped = load_stack(cubes[0], SCALING, tmp_path / "stack")
    assert_same(mapped, expected)
    sent = pickle.dumps(mapped)
    assert len(sent) < mapped[0].values.nbytes, "the place is sent, not the arrays"
    assert_same(pickle.loads(sent), expected)
    assert_same(pickle.loads(pickle.dumps(expected)), expected)
    assert load_stack([], SCALING, tmp_path / "none") == []


def test_mapped_cubes_are_written_once_for_the_same_cubes_and_scaling(cubes, tmp_path, monkeypatch):
    paths, folder = cubes[0], tmp_path / "stack"
    load_stack(paths, SCALING, folder)
    with monkeypatch.context() as patch:
        patch.setattr(stacks, "_pack", None)
        load_stack(paths, SCALING, folder)
    other = Normalisation(SCALING.bands, SCALING.lower, 2 * SCALING.upper)
    for chosen, scaling in ((paths, other), (paths[::-1], other), (paths[:1], SCALING)):
        assert_same(load_stack(chosen, scaling, folder), load_stack(chosen, scaling))
    paths[0].write_bytes(paths[1].read_bytes())
    assert_same(load_stack(paths, SCALING, folder), load_stack(paths, SCALING))


def test_killed_while_writing_leaves_nothing(cubes, tmp_path, monkeypatch):
    paths, folder = cubes[0], tmp_path / "stack"
    original = stacks._pack

    def killed(path, normalisation):
        if path == paths[1]:
            raise KeyboardInterrupt
        return original(path, normalisation)

    with monkeypatch.context() as patch:
        patch.setattr(stacks, "_pack", killed)
        with pytest.raises(KeyboardInterrupt):
            load_stack(paths, SCALING, folder)
    assert not folder.exists()
    assert_same(load_stack(paths, SCALING, folder), load_stack(paths, SCALING))
