"""Scores of probes on constructed data whose answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from pipeline_lib.evaluate.probe_scores import (
    CLASS_PENALTIES,
    MAX_GROUPS,
    MIN_SAMPLES,
    BalancedNeighbours,
    MeanLossLogistic,
    MeanLossRidge,
    Origin,
    left_out_scores,
    target_scores,
)

Samples = tuple[np.ndarray, np.ndarray]


def scores(fit: Samples, origin: Origin, held_out: Samples) -> dict[str, Any]:
    """What is said of a target ``(features, target)`` with one set of features."""
    features, truth = held_out
    second = fit[1].ndim == 1 or fit[1].shape[1] == 1
    found = target_scores(
        {"x": fit[0]}, fit[1], origin, {"test": ({"x": features}, truth)}, second=second
    )["test"]
    kinds = {"linear": "scores", "nearest": "nearest", "boosting": "boosting"}
    return found | {name: found[kind]["x"] for name, kind in kinds.items() if kind in found}


def origin_of(site: np.ndarray, cube: np.ndarray | None = None) -> Origin:
    names = site.astype(np.str_)
    position = np.arange(len(site))[::-1, None] // np.array([10, 1])
    return Origin(names, names if cube is None else cube.astype(np.str_), position)


def mixed(count: int) -> Origin:
    """Samples of five sites that are all alike."""
    return origin_of(np.arange(count) % 5)


def test_folds_hold_whole_sites_and_many_sites_are_pooled() -> None:
    for count, groups in ((3, 3), (25, MAX_GROUPS)):
        site = np.repeat(np.arange(count), 8)
        folds = origin_of(site, np.arange(len(site))).folds()
        assert len(folds) == groups
        assert sorted(np.concatenate([held for _, held in folds])) == list(range(len(site)))
        for rows, held in folds:
            assert not set(site[rows]) & set(site[held])
            assert len(rows) + len(held) == len(site)


def test_folds_of_one_site_hold_its_cubes_else_blocks_of_the_cube() -> None:
    one = np.zeros(120)
    cube = np.arange(120) % 2
    held_out = [cube[held] for _, held in origin_of(one, cube).folds()]
    assert sorted(np.unique(held).tolist() for held in held_out) == [[0], [1]]
    folds = origin_of(one).folds()
    assert len(folds) == MAX_GROUPS
    for _, held in folds:
        assert np.ptp(held) == len(held) - 1 == 120 // MAX_GROUPS - 1


def test_penalties_mean_the_same_for_fits_of_any_size() -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((60, 3))
    y = rng.standard_normal((60, 2)) + x[:, :1]
    for penalty in (1e-3, 0.1, 10.0):
        expected = Ridge(penalty * 60).fit(x, y).predict(x)
        for repeats in (1, 5):
            model = MeanLossRidge(penalty).fit(np.tile(x, (repeats, 1)), np.tile(y, (repeats, 1)))
            np.testing.assert_allclose(model.predict(x), expected, atol=1e-9)
    labels = np.where(y[:, 0] > 0.5, "a", "b")
    one, five = (
        MeanLossLogistic(C=10, tol=1e-8).fit(np.tile(x, (n, 1)), np.tile(labels, n)) for n in (1, 5)
    )
    np.testing.assert_allclose(one.predict_proba(x), five.predict_proba(x), atol=1e-5)


def fingerprints(
    rng: np.random.Generator, sites: int, features: int
) -> tuple[np.ndarray, np.ndarray]:
    """Site of each sample, and features that identify the site and nothing else."""
    site = np.repeat(np.arange(sites), 40)
    centres = rng.standard_normal((sites, features))
    return site, centres[site] + 0.05 * rng.standard_normal((len(site), features))


def test_features_that_help_within_sites_and_mislead_between_them_are_shrunk() -> None:
    """Folds hold whole sites, or samples; the median of several worlds, as some mislead both."""
    by_site, memorised = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        (site, x), (site_new, x_new) = fingerprints(rng, 20, 18), fingerprints(rng, 60, 18)
        y = rng.standard_normal((20, 1))[site] + 0.2 * rng.standard_normal((len(site), 1))
        held_out = x_new, rng.standard_normal((60, 1))[site_new]
        by_site.append(scores((x, y), origin_of(site), held_out))
        memorised.append(scores((x, y), origin_of(np.arange(len(site))), held_out))

    def median(found: list[dict[str, Any]], kind: str) -> float:
        return float(np.median([one[kind] for one in found]))

    assert median(memorised, "linear") < -2 and -0.2 < median(by_site, "linear") < 0.05


def test_penalties_are_chosen_column_by_column() -> None:
    rng = np.random.default_rng(9)
    (site, x), (site_new, x_new) = fingerprints(rng, 20, 6), fingerprints(rng, 60, 6)
    law, law_new = x[:, :1], x_new[:, :1]
    y, y_new = rng.standard_normal((20, 1))[site], rng.standard_normal((60, 1))[site_new]
    alone = [
        scores((x, one), origin_of(site), (x_new, new))["linear"]
        for one, new in ((law, law_new), (y, y_new))
    ]
    both = np.concatenate([law, y], axis=1), np.concatenate([law_new, y_new], axis=1)
    together = scores((x, both[0]), origin_of(site), (x_new, both[1]))["linear"]
    assert alone[0] > 0.99 and together == pytest.approx(np.mean(alone), abs=1e-9)


def test_a_class_probe_does_not_memorise_sites() -> None:
    gains = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        parts = []
        for sites in (8, 60):
            site, x = fingerprints(rng, sites, 6)
            labels = np.array(["a", "b"])[np.arange(sites) % 2][site]
            signal = 2 * (labels == "a") + rng.standard_normal(len(site))
            parts.append((site, (np.concatenate([x, signal[:, None]], axis=1), labels)))
        (site, fit), (_, held_out) = parts
        memorised = scores(fit, origin_of(np.arange(len(site))), held_out)["linear"]
        gains.append(scores(fit, origin_of(site), held_out)["linear"] - memorised)
    assert np.mean(gains) > 0.05


def test_classes_of_one_site_each_take_the_strongest_penalty() -> None:
    rng = np.random.default_rng(11)
    site = np.repeat([0, 1, 2], 40)
    x, labels = rng.standard_normal((120, 4)) + site[:, None], site.astype(np.str_)
    found = scores((x, labels), origin_of(site), (x, labels))
    scaled = StandardScaler().fit_transform(x)
    model = MeanLossLogistic(C=1 / CLASS_PENALTIES[0], class_weight="balanced").fit(scaled, labels)
    guess = model.predict(scaled)
    recall = np.mean([(guess[labels == one] == one).mean() for one in "012"])
    assert found["classes"] == 3 and found["linear"] == pytest.approx(recall)
    assert found["nearest"] > 0.5


def test_a_ridge_probe_finds_a_linear_law_and_no_other() -> None:
    rng = np.random.default_rng(1)
    x, x_new = rng.standard_normal((400, 3)), rng.standard_normal((300, 3))
    weights = rng.standard_normal((3, 2))

    def linear(factor: float, fit: np.ndarray, truth: np.ndarray) -> float:
        return scores((factor * x, fit), mixed(400), (factor * x_new, truth))["linear"]

    assert linear(1.0, x @ weights + 7, x_new @ weights + 7) > 0.999
    assert linear(1e-6, x @ weights, x_new @ weights) > 0.999, "features of any size"
    noise, noise_new = rng.standard_normal((400, 2)), rng.standard_normal((300, 2))
    assert -0.1 < linear(1.0, noise, noise_new) < 0.02


def test_columns_weigh_the_same_and_constant_ones_nothing() -> None:
    rng = np.random.default_rng(2)
    x, x_new = rng.standard_normal((200, 1)), rng.standard_normal((200, 1))
    y, new = (
        np.concatenate([1000 * each, rng.standard_normal((200, 1)), np.ones((200, 1))], axis=1)
        for each in (x, x_new)
    )
    assert scores((x, y), mixed(200), (x_new, new))["linear"] == pytest.approx(0.5, abs=0.05)
    constant = scores((x, y[:, 2:]), mixed(200), (x_new, new[:, 2:]))
    assert constant["linear"] is None and "does not vary" in constant["reason"]


def test_samples_without_a_target_are_skipped_and_too_few_give_no_score() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((80, 2))
    y = x[:, :1].copy()
    y[: 80 - MIN_SAMPLES] = np.nan
    found = scores((x, x[:, :1]), mixed(80), (x, y))
    assert found["linear"] > 0.99 and found["boosting"] > 0.5 and found["samples"] == MIN_SAMPLES
    y[80 - MIN_SAMPLES] = np.nan
    for fit, held_out, reason in (
        (x[:, :1], y, "49 samples to score, fewer than 50"),
        (y, x[:, :1], "49 samples to fit on, fewer than 50"),
    ):
        found = scores((x, fit), mixed(80), (x, held_out))
        assert found["linear"] is found["boosting"] is None and found["reason"] == reason


def test_class_probes_weigh_classes_and_skip_unseen_ones() -> None:
    rng = np.random.default_rng(4)

    def world(counts: dict[str, int]) -> Samples:
        labels = np.repeat(list(counts), list(counts.values()))
        centres = {"a": 0.0, "b": 5.0, "c": 10.0, "": 50.0}
        x = np.array([[centres[name], 0.0] for name in labels])
        return x + 0.5 * rng.standard_normal(x.shape), labels

    fit = world({"a": 200, "b": 30, "": 20})
    found = scores(fit, mixed(250), world({"a": 150, "b": 10, "c": 40, "": 5}))
    assert found["linear"] == pytest.approx(1.0, abs=0.01) == found["nearest"]
    assert (found["classes"], found["unseen_classes"]) == (2, 1)
    assert (found["fit_samples"], found["samples"]) == (230, 160)
    assert "one class" in scores(fit, mixed(250), world({"a": 200}))["reason"]
    assert "40 samples" in scores(fit, mixed(250), world({"a": 20, "b": 20}))["reason"]


def test_a_rare_class_weighs_as_much_as_a_frequent_one() -> None:
    """Two Gaussians two deviations apart: the middle between them parts both at 84 %."""
    rng = np.random.default_rng(5)
    labels = np.repeat(["a", "b"], [2000, 200])
    fit, held_out = (
        (rng.normal(np.where(labels == "b", 2.0, 0.0))[:, None], labels) for _ in range(2)
    )
    found = scores(fit, mixed(2200), held_out)
    assert found["linear"] == pytest.approx(0.84, abs=0.04)
    assert found["nearest"] == pytest.approx(0.84, abs=0.05)
    votes = BalancedNeighbours(4).fit(np.array([[0], [1], [2], [3]]), ["a", "a", "a", "b"])
    np.testing.assert_allclose(votes.predict_proba([[1]]), [[0.5, 0.5]])


def test_the_second_probe_finds_what_is_local_and_on_no_line() -> None:
    rng = np.random.default_rng(20)
    x, x_new = rng.uniform(-2, 2, (600, 2)), rng.uniform(-2, 2, (300, 2))
    bowl, bowl_new = ((each**2).sum(axis=1, keepdims=True) for each in (x, x_new))
    found = scores((x, bowl), mixed(600), (x_new, bowl_new))
    assert found["linear"] < 0.05 and found["boosting"] > 0.9
    inside, inside_new = (np.where(one[:, 0] < 2.5, "in", "out") for one in (bowl, bowl_new))
    found = scores((x, inside), mixed(600), (x_new, inside_new))
    assert found["linear"] < 0.6 and found["nearest"] > 0.9


def test_a_fold_with_fewer_samples_than_neighbours_is_no_obstacle() -> None:
    rng = np.random.default_rng(21)
    site = np.repeat([0, 1], [50, 3])
    x, y = rng.standard_normal((53, 2)), np.where(rng.random(53) < 0.5, "a", "b")
    assert scores((x, y), origin_of(site), (x, y))["nearest"] is not None


def left_out(x: np.ndarray, target: np.ndarray, site: np.ndarray) -> dict[str, Any]:
    """What is said of a target with one set of features, each site left out in turn."""
    rows = [(np.flatnonzero(site != one), np.flatnonzero(site == one)) for one in np.unique(site)]
    parts = [(fit, held, {"x": x[fit]}, {"x": x[held]}) for fit, held in rows]
    return left_out_scores(parts, target, site)


def test_sites_left_out_are_predicted_by_the_others_and_weigh_the_same() -> None:
    rng = np.random.default_rng(22)
    site = np.repeat(["a", "b", "c"], [200, 100, 60])
    x = rng.standard_normal((360, 2))
    law = x[:, :1] + 0.1 * rng.standard_normal((360, 1))
    found = left_out(x, law, site)
    assert found["scores"]["x"] > 0.97 and found["boosting"]["x"] > 0.8
    assert (found["samples"], found["sites"]) == (360, 3)
    # What identifies a site says nothing about another one.
    own = (site[:, None] == np.unique(site)).astype(float)
    level = own @ np.array([[0.0], [5.0], [1.0]]) + 0.1 * rng.standard_normal((360, 1))
    assert left_out(own, level, site)["scores"]["x"] < 0
    # One site of 60 is predicted by nothing: an error of a third of the weight, not of a sixth.
    broken = np.where(site[:, None] == "c", rng.standard_normal((360, 1)), law)
    weights = np.array([1 / 200] * 200 + [1 / 100] * 100 + [1 / 60] * 60)
    mean = np.average(broken[:, 0], weights=weights)
    guess = np.concatenate(
        [
            Ridge().fit(x[site != one], broken[site != one, 0]).predict(x[site == one])
            for one in "abc"
        ]
    )
    rest = np.average((broken[:, 0] - guess) ** 2, weights=weights)
    expected = 1 - rest / np.average((broken[:, 0] - mean) ** 2, weights=weights)
    assert left_out(x, broken, site)["scores"]["x"] == pytest.approx(expected, abs=0.01)


def test_sites_left_out_need_the_target_at_several_sites_and_known_classes() -> None:
    rng = np.random.default_rng(23)
    site = np.repeat(["a", "b", "c"], 100)
    x = rng.standard_normal((300, 2))
    y = np.where(site[:, None] == "a", x[:, :1], np.nan)
    found = left_out(x, y, site)
    assert found["scores"]["x"] is found["boosting"]["x"] is None and found["reason"]
    labels = np.where(x[:, 0] > 0, "wheat", "maize")
    labels[:7], labels[290:], x[290:, 1] = "", "rice", 9.0
    found = left_out(x, labels, site)
    assert found["scores"]["x"] > 0.9 and found["nearest"]["x"] > 0.8 and found["classes"] == 2
    assert found["samples"] == 300 - 7 - 10, "rice is at one site only"
