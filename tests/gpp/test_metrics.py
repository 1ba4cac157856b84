import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from pipeline_lib.gpp.baselines import climatology
from pipeline_lib.gpp.metrics import agreement, rmse_difference
from pipeline_lib.gpp.scores import score_groups


@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_metrics_equal_those_of_scikit_learn(seed, count):
    rng = np.random.default_rng(seed)
    observed = rng.gamma(2, 3, count)
    predicted = observed + rng.normal(0.3, 1, count)
    scores = agreement(observed, predicted)
    rmse = reference.root_mean_squared_error(observed, predicted)
    assert scores["n"] == count
    assert scores["rmse"] == pytest.approx(rmse)
    assert scores["nrmse"] == pytest.approx(rmse / np.ptp(observed))
    assert scores["mae"] == pytest.approx(reference.mean_absolute_error(observed, predicted))
    assert scores["r2"] == pytest.approx(reference.r2_score(observed, predicted))
    assert scores["bias"] == pytest.approx(predicted.mean() - observed.mean())


def test_what_is_undefined_is_none():
    undefined = dict.fromkeys(["rmse", "nrmse", "mae", "r2", "bias"])
    assert agreement([], []) == {"n": 0, **undefined}
    flat = agreement([2.0, 2.0], [1.0, 3.0])
    assert flat["r2"] is None and flat["nrmse"] is None and flat["rmse"] == 1
    with pytest.raises(ValueError, match="shapes differ"):
        agreement([1.0], [1.0, 2.0])


def test_groups_are_scored_apart():
    days = pd.DataFrame({"gpp": [1.0, 2, 3, 4], "site": [*"aabc"], "vegetation": ["GRA"] * 4})
    days.loc[3, "vegetation"] = "DBF"
    days["date"] = pd.date_range("2020-01-01", periods=4)
    fits = np.array([[1.0, 2, 4, 6], [1.0, 2, 6, 6]]).T
    rows = {(row["by"], row["group"]): row for row in score_groups(days, fits)}
    assert rows["site", "a"]["rmse"] == 0
    assert rows["site", "b"]["bias"] == 2
    assert rows["vegetation", "GRA"]["n"] == 3
    assert rows["all", ""]["bias"] == 1 and rows["fit", "1"]["bias"] == 1.25
    assert (rows["site", "a"]["first"], rows["all", ""]["last"]) == ("2020-01-01", "2020-01-04")


def test_tails_are_the_days_of_lowest_and_highest_gpp():
    gpp = np.r_[np.zeros(8), np.linspace(1, 20, 92)]
    days = pd.DataFrame({"gpp": gpp, "site": ["a"] * 96 + ["b"] * 4, "vegetation": "GRA"})
    days["date"] = pd.date_range("2020-01-01", periods=100)
    rows = score_groups(days, np.full((100, 2), 10.0))
    low, high = (row for row in rows if row["by"] == "tail")
    # More than a twentieth where the lowest are equal.
    assert (low["group"], low["n"], low["bias"], low["rmse"]) == ("low", 8, 10, 10)
    assert (high["group"], high["n"], high["sites"]) == ("high", 5, 2)
    assert high["bias"] == pytest.approx(10 - gpp[-5:].mean())
    assert not [row for row in score_groups(days[:0], np.zeros((0, 1))) if row["n"]]


def test_climatology_is_the_season_without_its_noise():
    rng = np.random.default_rng(0)
    day = np.tile(np.arange(1, 366), 6)

    def season(days):
        return 5 - 4 * np.cos(2 * np.pi * days / 365.25)

    noisy = season(day) + rng.normal(0, 1, len(day))
    usual = climatology(fitted_day=day, fitted_gpp=noisy, day=np.arange(1, 367))
    np.testing.assert_allclose(usual, season(np.arange(1, 367)), atol=0.5)
    # 31 December and 1 January are neighbours.
    assert abs(usual[0] - usual[-1]) < 0.05
    two = {"fitted_day": np.array([365, 180]), "fitted_gpp": np.array([1.0, 9.0])}
    np.testing.assert_allclose(climatology(**two, day=np.array([1, 179])), [1, 9], atol=1e-6)


def difference(observed, one, other, block, seed=0):
    return rmse_difference(
        observed, one, other, block=block, resamples=400, rng=np.random.default_rng(seed)
    )


def test_a_difference_beyond_chance_is_distinguished_from_chance():
    rng = np.random.default_rng(0)
    block = np.repeat([f"site {month}" for month in range(60)], 20)
    observed = rng.normal(size=1200)
    near, far = (observed[:, None] + rng.normal(0, sd, (1200, 3)) for sd in (0.5, 1.0))
    interval = difference(observed, near, far, block)
    errors = [np.sqrt(np.mean((fits.mean(1) - observed) ** 2)) for fits in (near, far)]
    assert interval["rmse"] == pytest.approx(errors[0] - errors[1])
    assert interval["low"] < interval["rmse"] < interval["high"] < 0
    alike = difference(observed, near, observed[:, None] + rng.normal(0, 0.5, (1200, 3)), block)
    assert alike["low"] < 0 < alike["high"]


def test_days_of_a_block_are_not_independent():
    """An error that lasts a month is one independent sample, not twenty."""
    rng = np.random.default_rng(1)
    observed = np.zeros(1200)
    days = np.array([f"day {day}" for day in range(1200)])
    months = np.repeat([f"month {month}" for month in range(60)], 20)
    one, other = (np.repeat(rng.normal(size=60), 20)[:, None] for _ in range(2))
    width = {}
    for name, block in (("days", days), ("months", months)):
        interval = difference(observed, one, other, block)
        width[name] = interval["high"] - interval["low"]
    assert width["months"] > 3 * width["days"]


def test_fits_that_disagree_widen_what_chance_may_do():
    rng = np.random.default_rng(2)
    observed = rng.normal(size=600)
    block = np.repeat([str(month) for month in range(30)], 20)
    same = observed[:, None] + rng.normal(0, 0.5, (600, 1)).repeat(3, axis=1)
    biased = same + np.array([-0.6, 0.0, 0.6])
    calm, wild = (difference(observed, fits, same, block) for fits in (same, biased))
    assert calm["low"] == calm["high"] == 0
    assert wild["high"] - wild["low"] > 0.05
