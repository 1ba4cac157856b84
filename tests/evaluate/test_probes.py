"""Probes: what they predict, that they are fair, and what they find in made-up landscapes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from untrained import save_untrained, scaled_by

from pipeline_lib.config import SENTINEL_1, SENTINEL_2, Context, Encoder, Sensor, Sequence
from pipeline_lib.cubes import CLEAR, THICK_CLOUD, Grid, make_cube, write_cube
from pipeline_lib.dataset import CubeArrays, Draw, Normalisation
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.nearest import (
    NEAREST_TARGETS,
    NEIGHBOURS,
    nearest,
    nearest_class_score,
    nearest_number_score,
)
from pipeline_lib.evaluate.probe_scores import (
    CLASS_STRENGTHS,
    MAX_GROUPS,
    MIN_SAMPLES,
    RIDGE_STRENGTHS,
    Origin,
    class_probabilities,
    class_score,
    ridge_guesses,
    ridge_score,
)
from pipeline_lib.evaluate.probe_targets import (
    Targets,
    Truth,
    context_targets,
    neighbourhood,
    next_valid,
)
from pipeline_lib.evaluate.probes import ROUNDS, probe, probe_encoder, probed_samples
from pipeline_lib.files import write_csv, write_json
from pipeline_lib.models import Autoencoder, TrainedEncoder
from pipeline_lib.report.probes import plot_probes, probe_tables, shown_split
from pipeline_lib.seeds import generator

CONTEXT = Context(patch_px=7, frames=3)
SIZE = 21
FRAMES = 14
SENSOR = SENTINEL_2.model_copy(
    update={
        "bands": ("B03", "B04", "B08"),
        "rgb": None,
        "latent_dim": 2,
        "sequence": Sequence(frames=6, stride_time=4, stride_space=2),
        "encoder": Encoder(width=8, head_width=16, heads=2, head_layers=1, decoder_width=8),
    }
)
UNIT = Normalisation(SENSOR.bands, np.zeros(3, np.float32), np.ones(3, np.float32))
SITES = {name: name for name in "abcd"}
LAND_COVER = {"a": "crops", "b": "forest", "c": "crops", "d": "forest"}


class Surroundings(nn.Module):
    """Stands for an encoder that holds the neighbourhood' mean and spread, and nothing else."""

    def forward(self, values: Tensor, valid: Tensor, days: Tensor) -> Tensor:
        frame, middle = values.shape[1] // 2, values.shape[-1] // 2
        around = valid[:, frame].clone()
        around[:, middle, middle] = False
        weight = around[:, None] / around.sum(dim=(1, 2))[:, None, None, None]
        mean = (values[:, frame] * weight).sum(dim=(2, 3))
        square = (values[:, frame] ** 2 * weight).sum(dim=(2, 3))
        return torch.cat([mean, (square - mean**2).clamp(0).sqrt()], dim=1)


class Frames(nn.Module):
    """Stands for an encoder that holds all frames of the centre pixel, and their dates."""

    def forward(self, values: Tensor, valid: Tensor, days: Tensor) -> Tensor:
        middle = values.shape[-1] // 2
        return torch.cat([values[..., middle, middle].flatten(1), days], dim=1)


def trained_with(encoder: nn.Module, sensor: Sensor = SENSOR, name: str = "made") -> TrainedEncoder:
    autoencoder = Autoencoder(sensor, CONTEXT).eval()
    autoencoder.encoder = encoder  # type: ignore[assignment]
    bands = len(sensor.bands)
    scaling = Normalisation(sensor.bands, np.zeros(bands, np.float32), np.ones(bands, np.float32))
    return TrainedEncoder(name, sensor, CONTEXT, autoencoder, scaling, "0" * 64, {})


def write(path: Path, values: np.ndarray, mask: np.ndarray, sensor: Sensor = SENSOR) -> Path:
    days = np.arange(len(values)) * 6
    cube = make_cube(
        values=values.astype(np.float32),
        mask=mask,
        times=np.datetime64("2021-01-01") + days.astype("timedelta64[D]"),
        bands=sensor.bands,
        grid=Grid(32631, 600000, 5600000, 10, *values.shape[2:]),
        quantity=sensor.quantity,
        frames={},
        attributes={"cube": path.name.split(".")[0]},
    )
    write_cube(cube, path)
    return path


def unrelated(number: int, bands: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel is drawn alone, from a mean and a spread of its quarter and date."""
    rng = np.random.default_rng(number)
    shape = (FRAMES, bands, 3, 3)
    mean, spread = rng.uniform(0.3, 0.7, shape), rng.uniform(0.0, 0.15, shape)
    mean, spread = (part.repeat(7, 2).repeat(7, 3) for part in (mean, spread))
    values = mean + spread * rng.uniform(-1, 1, mean.shape)
    # The middle of each patch that lies on one quarter tells nothing of the quarter.
    values[:, :, 3::7, 3::7] = rng.uniform(0.3, 0.7, shape)
    mask = np.full((FRAMES, SIZE, SIZE), CLEAR, np.uint8)
    mask[rng.random(mask.shape) < 0.1] = THICK_CLOUD
    return values, mask


@pytest.fixture(scope="module")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Cubes whose centres are unrelated to what surrounds them: patches of 7 on quarters of 7."""
    folder = tmp_path_factory.mktemp("scattered")
    paths = [write(folder / f"{name}.zarr.zip", *unrelated(n)) for n, name in enumerate("abcd")]
    return {"training": paths[:2], "validation": paths[2:3], "test": paths[3:]}


APART = SENSOR.model_copy(update={"sequence": Sequence(frames=6, stride_time=4, stride_space=7)})


def run(trained: TrainedEncoder, cubes: dict[str, list[Path]], **changes: Any) -> dict[str, Any]:
    settings = {
        "seed": 3,
        "max_samples": 400,
        "sites": SITES,
        "land_cover": LAND_COVER,
        "truth": {},
    }
    return probe(trained, cubes, **settings | changes)


def test_what_the_centre_cannot_know_is_found_in_the_embedding_alone(
    scattered: dict[str, list[Path]],
) -> None:
    targets = run(trained_with(Surroundings(), APART), scattered)["splits"]["test"]["targets"]
    for name in ("surroundings_mean", "surroundings_spread"):
        scores = targets[name]["scores"]
        assert scores["embedding"] > 0.99 and scores["spectrum+embedding"] > 0.99
        assert abs(scores["spectrum"]) < 0.15
    # What follows is drawn anew: the change is foretold by half, from what is now.
    change = targets["next_change"]["scores"]
    assert change["spectrum"] == pytest.approx(0.5, abs=0.1) and change["embedding"] < 0.1


def test_where_the_centre_is_like_its_surroundings_its_spectrum_tells_them(tmp_path: Path) -> None:
    paths = []
    for number, name in enumerate("ab"):
        rng = np.random.default_rng(number)
        even = rng.uniform(0.2, 0.8, (FRAMES, 3, 1, 1)) * np.ones((SIZE, SIZE))
        values = even + 0.01 * rng.standard_normal(even.shape)
        mask = np.full((FRAMES, SIZE, SIZE), CLEAR, np.uint8)
        paths.append(write(tmp_path / f"{name}.zarr.zip", values, mask))
    found = run(trained_with(Surroundings()), {"training": paths[:1], "test": paths[1:]})
    targets = found["splits"]["test"]["targets"]
    assert targets["surroundings_mean"]["scores"]["spectrum"] > 0.95


def test_a_change_is_found_where_the_next_frames_are_known(
    scattered: dict[str, list[Path]],
) -> None:
    targets = run(trained_with(Frames(), APART), scattered)["splits"]["test"]["targets"]
    scores = targets["next_change"]["scores"]
    assert scores["embedding"] > scores["spectrum"] + 0.05


def test_the_surroundings_leave_out_the_centre_and_what_is_invalid() -> None:
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


def one_cube(name: str = "a") -> CubeArrays:
    rng = np.random.default_rng(5)
    values = rng.integers(6554, 60000, (6, 3, 9, 9)).astype(np.uint16)
    valid = np.ones((6, 9, 9), bool)
    return CubeArrays(name, values, valid, 18000 + np.array([0, 5, 10, 15, 20, 60]))


def draw(frame: int, top: int, left: int) -> Draw:
    """One sample whose middle frame is `frame`."""
    frames = np.array([[frame - 1, frame, frame + 1]])
    return Draw(np.zeros(1, int), frames, np.ones((1, 3), bool), np.array([top]), np.array([left]))


def targets_of(cube: CubeArrays, drawn: Draw, truth: dict[str, Truth] | None = None) -> Targets:
    return context_targets(
        [cube],
        drawn,
        context=CONTEXT,
        normalisation=UNIT,
        land_cover={"a": "crops"},
        truth=truth or {},
    )


def test_changes_are_taken_at_the_pixel_and_its_next_clear_date() -> None:
    cube = one_cube()
    cube.valid[2, 3 + 1, 3 + 2] = False
    found = targets_of(cube, draw(1, 1, 2))
    now, then = (cube.values[frame, :, 4, 5] / 65535 for frame in (1, 3))
    np.testing.assert_allclose(found.numbers["next_change"], [then - now], atol=1e-6)
    index = [(value[2] - value[1]) / (value[2] + value[1]) for value in (now, then)]
    np.testing.assert_allclose(found.numbers["ndvi_change"], [[index[1] - index[0]]], atol=1e-6)
    assert list(found.classes["land_cover"]) == ["crops"]
    assert "leaf_area" not in found.numbers
    last = targets_of(cube, draw(4, 1, 2)).numbers
    assert np.isnan(last["next_change"]).all() and np.isfinite(last["surroundings_mean"]).all()


def test_a_change_of_ndvi_is_one_of_reflectance_not_of_scaled_bands() -> None:
    cube, drawn = one_cube(), draw(1, 0, 0)
    lower, upper = np.array([0.1, 0.02, 0.1], np.float32), np.array([0.3, 0.2, 0.9], np.float32)
    found = context_targets(
        [cube],
        drawn,
        context=CONTEXT,
        normalisation=Normalisation(SENSOR.bands, lower, upper),
        land_cover={},
        truth={},
    )
    spectra = lower + cube.values[1:3, :, 3, 3] / 65535 * (upper - lower)
    red, near = spectra[:, 1], spectra[:, 2]
    index = (near - red) / (near + red)
    np.testing.assert_allclose(found.numbers["ndvi_change"], [[index[1] - index[0]]], atol=1e-6)
    assert list(found.classes["land_cover"]) == [""]


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
    np.testing.assert_allclose(found.numbers["leaf_area"], [[20 + 4.05]], rtol=1e-6)
    np.testing.assert_allclose(found.numbers["leaf_area_change"], [[30.0]], rtol=1e-5)
    assert list(found.classes["land_cover"]) == ["405"]


def test_leaf_area_between_two_dates_of_the_truth_is_interpolated_unless_they_are_far_apart() -> (
    None
):
    cube = one_cube()
    truth = truth_of(cube, [0, 4, 8, 40])
    assert truth.leaf_area_at(18002, 0, 0) == pytest.approx(5.0)
    assert truth.leaf_area_at(18005, 1, 2) == pytest.approx(12.5 + 1.02)
    assert np.isnan(truth.leaf_area_at(18020, 0, 0)), "32 days between its neighbours"
    assert truth.leaf_area_at(18040, 0, 0) == pytest.approx(30.0)
    assert np.isnan(truth.leaf_area_at(18041, 0, 0)) and np.isnan(truth.leaf_area_at(17999, 0, 0))


def test_truth_of_another_grid_is_refused() -> None:
    cube = one_cube()
    truth = truth_of(cube, [0, 5])
    with pytest.raises(UserError, match=r"cube a: .* another grid"):
        targets_of(cube, draw(1, 0, 0), {"a": replace(truth, cover=truth.cover[:-1])})


def test_the_truth_of_a_site_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "site.npz"
    area = np.arange(8, dtype=np.float16).reshape(2, 2, 2)
    times = ["2019-01-09T10:10:31.024000+00:00", "2019-01-19T10:10:31.024000+00:00"]
    np.savez_compressed(path, time=times, leaf_area=area, cover=np.eye(2, dtype=np.int8))
    truth = Truth.read(path)
    assert truth.days[0] == np.datetime64("2019-01-09").astype(int)
    assert truth.leaf_area_at(int(truth.days[1]), 1, 0) == 6.0
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"site\.npz: not the truth"):
        Truth.read(path)
    with pytest.raises(UserError, match=r"none\.npz: no such file"):
        Truth.read(tmp_path / "none.npz")


def test_samples_have_distinct_centres_and_their_own_features(
    scattered: dict[str, list[Path]],
) -> None:
    trained = trained_with(Surroundings(), APART)

    def samples(most: int, seed: int = 1) -> Any:
        return probed_samples(
            trained,
            scattered["training"],
            rng=generator(seed, "test"),
            max_samples=most,
            sites=SITES,
            land_cover=LAND_COVER,
            truth={},
        )

    many = samples(400)
    sequences = 2 * 9 * 3
    assert sequences < len(many) <= ROUNDS * sequences
    assert len(np.unique(many.spectrum, axis=0)) == len(many)
    np.testing.assert_allclose(
        many.embedding,
        np.concatenate(
            [many.targets.numbers[f"surroundings_{what}"] for what in ("mean", "spread")], axis=1
        ),
        atol=1e-4,
    )
    assert list(many.origin.site) == list(many.origin.cube) and set(many.origin.cube) == {"a", "b"}
    assert len(np.unique(many.origin.position, axis=0)) > len(many) / 2
    assert len(samples(30)) == 30
    assert np.array_equal(samples(400).spectrum, many.spectrum)
    assert not np.array_equal(samples(30, seed=2).spectrum, samples(30).spectrum)


def origin_of(site: np.ndarray, cube: np.ndarray | None = None) -> Origin:
    names = site.astype(np.str_)
    position = np.arange(len(site))[::-1, None] // np.array([10, 1])
    return Origin(names, names if cube is None else cube.astype(np.str_), position)


def mixed(count: int) -> Origin:
    """Samples of five sites that are all alike."""
    return origin_of(np.arange(count) % 5)


def test_the_site_of_a_cube_is_that_of_the_split_table(tmp_path: Path) -> None:
    from pipeline_lib.evaluate.probes import _sites_of

    rows = [
        {"cube": f"site-000-{period}", "site": "site-000", "land_cover": "x", "split": "training"}
        for period in "ab"
    ]
    write_csv(tmp_path / "split.csv", rows)
    assert _sites_of(tmp_path / "split.csv") == {"site-000-a": "site-000", "site-000-b": "site-000"}


def test_sites_are_left_out_whole_and_many_are_pooled() -> None:
    for count, groups in ((3, 3), (25, MAX_GROUPS)):
        site = np.repeat(np.arange(count), 8)
        origin = origin_of(site, np.arange(len(site)))
        folds = origin.left_out()
        assert len(folds) == groups
        assert sorted(np.concatenate([judged for _, judged in folds])) == list(range(len(site)))
        for rows, judged in folds:
            assert not set(site[rows]) & set(site[judged])
            assert len(rows) + len(judged) == len(site)


def test_where_there_is_one_site_its_cubes_are_left_out_else_blocks_of_the_cube() -> None:
    one = np.zeros(120)
    cube = np.arange(120) % 2
    assert [set(cube[judged]) for _, judged in origin_of(one, cube).left_out()] in (
        [{0}, {1}],
        [{1}, {0}],
    )
    folds = origin_of(one).left_out()
    assert len(folds) == MAX_GROUPS
    for _, judged in folds:
        assert np.ptp(judged) == len(judged) - 1 == 120 // MAX_GROUPS - 1


def test_the_penalties_go_from_none_to_the_mean() -> None:
    rng = np.random.default_rng(7)
    x = 100 + 10 * rng.standard_normal((300, 2))
    y = x @ [[1.0, 0.0], [2.0, 5.0]]
    guesses = ridge_guesses(x, y, x)
    assert guesses.shape == (len(RIDGE_STRENGTHS), 300, 2)
    np.testing.assert_allclose(guesses[0], np.tile(y.mean(axis=0), (300, 1)), atol=0.02)
    np.testing.assert_allclose(guesses[-1], y, atol=1e-3)
    labels = np.where(x[:, 0] > 110, "a", "b")
    strongest, *_, weakest = class_probabilities(x, labels, x, CLASS_STRENGTHS)
    np.testing.assert_allclose(strongest, 0.5, atol=0.05)
    share = weakest[np.arange(300), (labels == "b").astype(int)]
    assert np.median(share) > 0.99


def test_a_ridge_equals_the_one_of_the_library_also_on_collinear_features() -> None:
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(8)
    x = rng.standard_normal((60, 3)) * [1, 20, 0.1] + 4
    x = np.concatenate([x, x[:, :1] - x[:, 1:2], np.ones((60, 1))], axis=1)
    y = rng.standard_normal((60, 2)) + x[:, :1]
    scaler = StandardScaler().fit(x[:40])
    guesses = ridge_guesses(x[:40], y[:40], x[40:])
    for strength, guess in zip(RIDGE_STRENGTHS, guesses, strict=True):
        other = Ridge(strength * 40).fit(scaler.transform(x[:40]), y[:40])
        np.testing.assert_allclose(guess, other.predict(scaler.transform(x[40:])), atol=1e-6)


def fingerprints(
    rng: np.random.Generator, sites: int, features: int
) -> tuple[np.ndarray, np.ndarray]:
    """Site of each sample, and features that tell the site and nothing else."""
    site = np.repeat(np.arange(sites), 40)
    centres = rng.standard_normal((sites, features))
    return site, centres[site] + 0.05 * rng.standard_normal((len(site), features))


def test_features_that_help_within_sites_and_mislead_between_them_are_shrunk() -> None:
    """Sites are left out, or samples; the middle of several worlds, since some mislead both."""
    by_site, by_heart = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        (site, x), (site_new, x_new) = fingerprints(rng, 20, 18), fingerprints(rng, 60, 18)
        y = rng.standard_normal((20, 1))[site] + 0.2 * rng.standard_normal((len(site), 1))
        held_out = x_new, rng.standard_normal((60, 1))[site_new]
        by_site.append(ridge_score((x, y), origin_of(site), held_out))
        by_heart.append(ridge_score((x, y), origin_of(np.arange(len(site))), held_out))
    assert np.median(by_heart) < -2 and -0.2 < np.median(by_site) < 0.05


def test_strengths_are_chosen_column_by_column() -> None:
    rng = np.random.default_rng(9)
    (site, x), (site_new, x_new) = fingerprints(rng, 20, 6), fingerprints(rng, 60, 6)
    law, law_new = x[:, :1], x_new[:, :1]
    y, y_new = rng.standard_normal((20, 1))[site], rng.standard_normal((60, 1))[site_new]
    alone = [
        ridge_score((x, one), origin_of(site), (x_new, new))
        for one, new in ((law, law_new), (y, y_new))
    ]
    both = np.concatenate([law, y], axis=1), np.concatenate([law_new, y_new], axis=1)
    together = ridge_score((x, both[0]), origin_of(site), (x_new, both[1]))
    assert alone[0] > 0.99 and together == pytest.approx(np.mean(alone), abs=1e-9)


def test_a_class_probe_does_not_know_sites_by_heart() -> None:
    gains = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        parts = []
        for sites in (8, 60):
            site, x = fingerprints(rng, sites, 6)
            labels = np.array(["a", "b"])[np.arange(sites) % 2][site]
            told = 2 * (labels == "a") + rng.standard_normal(len(site))
            parts.append((site, (np.concatenate([x, told[:, None]], axis=1), labels)))
        (site, fit), (_, held_out) = parts
        by_heart = class_score(fit, origin_of(np.arange(len(site))), held_out)[0]
        gains.append(class_score(fit, origin_of(site), held_out)[0] - by_heart)
    assert np.mean(gains) > 0.05


def test_classes_of_one_site_each_take_the_strongest_penalty() -> None:
    rng = np.random.default_rng(11)
    site = np.repeat([0, 1, 2], 40)
    x, labels = rng.standard_normal((120, 4)) + site[:, None], site.astype(np.str_)
    score, classes, _ = class_score((x, labels), origin_of(site), (x, labels))
    (shares,) = class_probabilities(x, labels, x, CLASS_STRENGTHS[:1])
    guess = np.array(["0", "1", "2"])[shares.argmax(axis=1)]
    recall = np.mean([(guess[labels == one] == one).mean() for one in "012"])
    assert classes == 3 and score == pytest.approx(recall)


def test_a_ridge_probe_finds_a_linear_law_and_no_other() -> None:
    rng = np.random.default_rng(1)
    x, x_new = rng.standard_normal((400, 3)), rng.standard_normal((300, 3))
    weights = rng.standard_normal((3, 2))
    assert ridge_score((x, x @ weights + 7), mixed(400), (x_new, x_new @ weights + 7)) > 0.999
    noise, noise_new = rng.standard_normal((400, 2)), rng.standard_normal((300, 2))
    assert -0.1 < ridge_score((x, noise), mixed(400), (x_new, noise_new)) < 0.02
    scaled = ridge_score((x * 1e-6, x @ weights), mixed(400), (x_new * 1e-6, x_new @ weights))
    assert scaled > 0.999, "features of any size"


def test_columns_weigh_the_same_and_constant_ones_nothing() -> None:
    rng = np.random.default_rng(2)
    x, x_new = rng.standard_normal((200, 1)), rng.standard_normal((200, 1))
    y = np.concatenate([1000 * x, rng.standard_normal((200, 1)), np.ones((200, 1))], axis=1)
    new = np.concatenate([1000 * x_new, rng.standard_normal((200, 1)), np.ones((200, 1))], axis=1)
    assert ridge_score((x, y), mixed(200), (x_new, new)) == pytest.approx(0.5, abs=0.05)
    assert ridge_score((x, y[:, 2:]), mixed(200), (x_new, new[:, 2:])) is None


def test_samples_without_a_target_are_left_out_and_too_few_give_no_score() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((80, 2))
    y = x[:, :1].copy()
    y[: 80 - MIN_SAMPLES] = np.nan
    assert ridge_score((x, x[:, :1]), mixed(80), (x, y)) > 0.99
    y[80 - MIN_SAMPLES] = np.nan
    assert ridge_score((x, x[:, :1]), mixed(80), (x, y)) is None
    assert ridge_score((x, y), mixed(80), (x, x[:, :1])) is None


def test_a_class_probe_weighs_classes_and_leaves_unseen_ones_out() -> None:
    rng = np.random.default_rng(4)

    def world(counts: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(list(counts), list(counts.values()))
        centres = {"a": 0.0, "b": 5.0, "c": 10.0, "": 50.0}
        x = np.array([[centres[name], 0.0] for name in labels])
        return x + 0.5 * rng.standard_normal(x.shape), labels

    fit = world({"a": 200, "b": 30, "": 20})
    held_out = world({"a": 150, "b": 10, "c": 40, "": 5})
    score, classes, unseen = class_score(fit, mixed(250), held_out)
    assert score == pytest.approx(1.0, abs=0.01) and (classes, unseen) == (2, 1)
    assert class_score(fit, mixed(250), world({"a": 200}))[0] is None
    assert class_score(fit, mixed(250), world({"a": 20, "b": 20}))[0] is None


def test_a_rare_class_weighs_as_much_as_a_frequent_one() -> None:
    """Two Gaussians two deviations apart: the middle between them parts both at 84 %."""
    rng = np.random.default_rng(5)
    labels = np.repeat(["a", "b"], [2000, 100])
    fit, held_out = ((rng.normal(np.where(labels == "b", 2.0, 0.0))[:, None], labels),) * 2
    score, *_ = class_score(fit, mixed(2100), held_out)
    assert score == pytest.approx(0.84, abs=0.04)


def test_neighbours_find_what_is_local_and_on_no_line() -> None:
    rng = np.random.default_rng(20)
    x, x_new = rng.uniform(-2, 2, (600, 2)), rng.uniform(-2, 2, (300, 2))

    def bowl(x: np.ndarray) -> np.ndarray:
        return (x**2).sum(axis=1, keepdims=True)

    fit, held_out = (x, bowl(x)), (x_new, bowl(x_new))
    assert ridge_score(fit, mixed(600), held_out) < 0.05
    assert nearest_number_score(fit, mixed(600), held_out) > 0.9
    inside, inside_new = (np.where(bowl(each)[:, 0] < 2.5, "in", "out") for each in (x, x_new))
    fit, held_out = (x, inside), (x_new, inside_new)
    assert class_score(fit, mixed(600), held_out)[0] < 0.6
    assert nearest_class_score(fit, mixed(600), held_out) > 0.9


def test_more_neighbours_are_taken_where_the_nearest_know_their_site_by_heart() -> None:
    """Sites are left out, or samples; the middle of several worlds, since some mislead both."""
    gains, class_gains = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        (site, x), (site_new, x_new) = fingerprints(rng, 20, 3), fingerprints(rng, 60, 3)
        y, y_new = (
            own[at] + 0.2 * rng.standard_normal((len(at), 1))
            for own, at in ((rng.standard_normal((20, 1)), site), (np.zeros((60, 1)), site_new))
        )
        y_new = y_new + rng.standard_normal((60, 1))[site_new]
        by_heart = origin_of(np.arange(len(site)))
        for score, fit, held_out, found in (
            (nearest_number_score, (x, y), (x_new, y_new), gains),
            (
                nearest_class_score,
                (x, np.where(y[:, 0] > 0, "a", "b")),
                (x_new, np.where(y_new[:, 0] > 0, "a", "b")),
                class_gains,
            ),
        ):
            found.append(score(fit, origin_of(site), held_out) - score(fit, by_heart, held_out))
    assert np.median(gains) > 0.02 and min(gains) >= 0
    assert np.mean(class_gains) > -0.02


def test_neighbours_are_never_more_than_the_samples() -> None:
    rng = np.random.default_rng(21)
    x, x_new = rng.standard_normal((20, 2)), rng.standard_normal((7, 2))
    rows = nearest(x * [1, 1000], x_new * [1, 1000])
    assert rows.shape == (7, 20) and max(NEIGHBOURS) > 20
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(20), (7, 1)))
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    apart = (x_new - x.mean(axis=0)) / x.std(axis=0)
    distance = np.linalg.norm(apart[:, None] - standard, axis=2)
    np.testing.assert_array_equal(rows, distance.argsort(axis=1))
    # Two sites of 50 and 3 samples: one of the fits has three.
    site, y = np.repeat([0, 1], [50, 3]), rng.standard_normal((53, 1))
    x = rng.standard_normal((53, 2))
    assert nearest_number_score((x, y), origin_of(site), (x, y)) is not None


def test_votes_of_a_rare_class_weigh_as_much_as_those_of_a_frequent_one() -> None:
    """Two Gaussians two deviations apart: the middle between them parts both at 84 %."""
    rng = np.random.default_rng(22)
    labels = np.repeat(["a", "b"], [2000, 200])
    fit, held_out = (
        (rng.normal(np.where(labels == "b", 2.0, 0.0))[:, None], labels) for _ in range(2)
    )
    assert nearest_class_score(fit, mixed(2200), held_out) == pytest.approx(0.84, abs=0.05)


def test_neighbours_are_scored_where_the_linear_probes_are() -> None:
    rng = np.random.default_rng(23)
    x = rng.standard_normal((80, 2))
    y = x[:, :1].copy()
    y[: 80 - MIN_SAMPLES] = np.nan
    assert nearest_number_score((x, x[:, :1]), mixed(80), (x, y)) > 0.5
    y[80 - MIN_SAMPLES] = np.nan
    assert nearest_number_score((x, x[:, :1]), mixed(80), (x, y)) is None
    labels = np.where(x[:, 0] > 0, "a", "b")
    assert nearest_class_score((x, labels), mixed(80), (x, np.full(80, "a"))) is None
    unseen = np.where(x[:, 1] > 1, "c", labels)
    unseen[:2] = ""
    assert nearest_class_score((x, labels), mixed(80), (x, unseen)) > 0.8
    site = np.repeat([0, 1], 40)
    of_one_site_each = np.array(["a", "b"])[site]
    fit = x + 5 * site[:, None], of_one_site_each
    assert nearest_class_score(fit, origin_of(site), fit) > 0.9


def test_scores_of_a_split_depend_on_it_and_the_training_cubes_alone(
    scattered: dict[str, list[Path]],
) -> None:
    trained = trained_with(Surroundings(), APART)
    whole = run(trained, scattered)["splits"]
    alone = run(trained, {"training": scattered["training"], "test": scattered["test"]})["splits"]
    assert list(whole) == ["validation", "test"] and list(alone) == ["test"]
    assert whole["test"] == alone["test"]
    other = run(trained, scattered | {"training": scattered["validation"], "validation": []})
    assert other["splits"]["test"] != alone["test"]
    assert other["left_out"] == {"validation": "it has no cube"}


def test_components_are_those_of_the_training_samples() -> None:
    """Training spectra differ in the first band, held-out ones in the second."""
    from pipeline_lib.evaluate.probes import Probed, _features

    rng = np.random.default_rng(6)

    def samples(*spread: float) -> Probed:
        spectrum = rng.standard_normal((60, 3)) * spread
        return Probed(spectrum, np.zeros((60, 1)), Targets({}, {}), mixed(60))

    fit, held_out = samples(1, 0.01, 0.01), samples(0.01, 1, 0.01)
    component = _features(fit, held_out)["pca_1"]
    assert component.std() < 0.1, "the held-out samples' own component would have 1"


def test_held_out_samples_are_of_held_out_cubes(
    scattered: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline_lib.evaluate import probes

    asked: list[list[str]] = []
    original = probes.probed_samples

    def watched(trained: TrainedEncoder, cubes: Any, **settings: Any) -> Any:
        asked.append([path.name[0] for path in cubes])
        return original(trained, cubes, **settings)

    monkeypatch.setattr(probes, "probed_samples", watched)
    run(trained_with(Surroundings(), APART), scattered)
    assert asked == [["a", "b"], ["c"], ["d"]]


def test_a_cube_both_fitted_and_scored_on_is_refused(scattered: dict[str, list[Path]]) -> None:
    with pytest.raises(ValueError, match="a"):
        run(trained_with(Surroundings()), scattered | {"test": scattered["training"][:1]})


def test_scores_repeat_and_depend_on_the_seed(scattered: dict[str, list[Path]]) -> None:
    trained = trained_with(Surroundings(), APART)
    assert run(trained, scattered) == run(trained, scattered)
    assert run(trained, scattered) != run(trained, scattered, seed=4)


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Scores of a random encoder, with and without truth, written by the workflow's call."""
    root = tmp_path_factory.mktemp("probed")
    torch.manual_seed(1)
    radar = SENTINEL_1.model_copy(
        update={"latent_dim": 1, "sequence": SENSOR.sequence, "encoder": SENSOR.encoder}
    )
    sites = {"a": "training", "b": "training", "c": "validation", "d": "test"}
    write_csv(
        root / "split.csv",
        [
            {"cube": name, "site": name, "land_cover": "others", "split": split}
            for name, split in sites.items()
        ],
    )
    truth = {}
    for name in sites:
        rng = np.random.default_rng(ord(name))
        truth[name] = root / f"{name}.npz"
        np.savez_compressed(
            truth[name],
            time=[f"{day}T10:10:00+00:00" for day in np.datetime64("2021-01-01") + np.arange(90)],
            leaf_area=rng.random((90, SIZE, SIZE)).astype(np.float16),
            cover=rng.integers(0, 3, (SIZE, SIZE)).astype(np.int8),
        )
    outputs = {}
    for sensor_name, sensor, known in (("optical", SENSOR, truth), ("radar", radar, {})):
        bands = len(sensor.bands)
        folder = root / sensor_name
        save_untrained(folder / "model", sensor_name, sensor, CONTEXT, scaled_by(0, 1)(sensor))
        cubes = [
            write(folder / f"{name}.zarr.zip", *unrelated(number, bands), sensor)
            for number, name in enumerate(sites)
            if (name, sensor_name) != ("d", "radar")
        ]
        outputs[sensor_name] = root / f"probes-{sensor_name}.json"
        probe_encoder(
            model=folder / "model",
            cubes=cubes,
            split_table=root / "split.csv",
            truth=known,
            seed=1,
            max_samples=120,
            output=outputs[sensor_name],
        )
    return outputs


def test_truth_adds_targets_and_without_it_there_are_none(probed: dict[str, Path]) -> None:
    found = json.loads(probed["optical"].read_text())
    assert found["features"] == {
        "spectrum": 3,
        "pca_2": 2,
        "embedding": 2,
        "spectrum+embedding": 5,
    }
    assert list(found["splits"]) == ["validation", "test"] and found["left_out"] == {}
    targets = found["splits"]["test"]["targets"]
    assert {"ndvi_change", "leaf_area", "leaf_area_change"} <= set(targets)
    assert all(targets[name]["reason"] is None for name in targets)
    assert targets["land_cover"]["classes"] == 3
    assert 0.2 < targets["land_cover"]["scores"]["spectrum"] < 0.5
    assert targets["leaf_area"]["scores"]["embedding"] < 0.1
    assert {name for name, one in targets.items() if "nearest" in one} == set(NEAREST_TARGETS)
    for name in NEAREST_TARGETS:
        assert set(targets[name]["nearest"]) == set(found["features"])
    assert targets["leaf_area"]["nearest"]["embedding"] < 0.1
    assert 0.2 < targets["land_cover"]["nearest"]["spectrum"] < 0.5
    found = json.loads(probed["radar"].read_text())
    targets = found["splits"]["validation"]["targets"]
    assert set(targets) == {"surroundings_mean", "surroundings_spread", "next_change", "land_cover"}
    assert found["left_out"] == {"test": "it has no cube"}
    assert targets["land_cover"]["scores"]["spectrum"] is None
    assert targets["land_cover"]["nearest"]["spectrum"] is None
    assert "one class" in targets["land_cover"]["reason"]


def test_tables_show_the_test_split_else_validation(probed: dict[str, Path]) -> None:
    optical, radar = (json.loads(probed[name].read_text()) for name in ("optical", "radar"))
    assert shown_split(optical) == "test" and shown_split(radar) == "validation"
    test, validation, unscored = probe_tables("optical", optical)
    assert not test.folded and validation.folded and unscored.rows == ()
    named = [row[0] for row in test.rows]
    assert named[-2:] == ["land cover, linear", "land cover, k nearest"] and len(named) == 9
    assert {"leaf area, linear", "leaf area, k nearest"} < set(named)
    scores = optical["splits"]["test"]["targets"]["leaf_area"]["nearest"]
    row = test.rows[named.index("leaf area, k nearest")]
    assert row[2:6] == tuple(f"{score:.3f}" for score in scores.values())
    assert "embedding (2)" in test.columns and "2 principal components (2)" in test.columns
    assert all(len(row) == len(test.columns) for row in test.rows)
    assert test.rows[-1][-3] == "0.333", "chance among three classes"
    test, validation, unscored = probe_tables("radar", radar)
    assert test.rows == () and len(validation.rows) == 3 and not validation.folded
    assert ("test", "everything", "it has no cube") in unscored.rows
    assert [row[1] for row in unscored.rows] == ["everything", "land cover"]
    optical["splits"]["test"]["targets"]["land_cover"]["unseen_classes"] = 2
    left_out = probe_tables("optical", optical)[-1]
    assert left_out.rows == (("test", "land cover", "2 classes that the fit has not seen"),)


@pytest.mark.parametrize("name", ["optical", "radar"])
def test_figures_are_drawn_the_same_each_time(
    probed: dict[str, Path], tmp_path: Path, name: str
) -> None:
    for number in range(2):
        plot_probes(evaluation=probed[name], output=tmp_path / f"{number}.png")
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()


def test_a_run_too_small_for_any_score_still_has_table_and_figure(
    probed: dict[str, Path], tmp_path: Path
) -> None:
    content = json.loads(probed["radar"].read_text()) | {"splits": {}}
    write_json(tmp_path / "probes.json", content)
    plot_probes(evaluation=tmp_path / "probes.json", output=tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert shown_split(content) is None
    assert all(table.rows == () for table in probe_tables("radar", content)[:2])
