import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from pipeline_lib.gpp.climatology import climatology
from pipeline_lib.gpp.metrics import agreement, agreement_by_group


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
    assert agreement([], []) == {
        "n": 0,
        "rmse": None,
        "nrmse": None,
        "mae": None,
        "r2": None,
        "bias": None,
    }
    flat = agreement([2.0, 2.0], [1.0, 3.0])
    assert flat["r2"] is None and flat["nrmse"] is None and flat["rmse"] == 1
    with pytest.raises(ValueError, match="shapes differ"):
        agreement([1.0], [1.0, 2.0])


def test_groups_are_scored_apart():
    observed, predicted = np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 5, 6])
    scores = agreement_by_group(
        observed,
        predicted,
        site=np.array(["a", "a", "b", "c"]),
        vegetation=np.array(["GRA", "GRA", "GRA", "DBF"]),
    )
    assert scores["per_site"]["a"]["rmse"] == 0
    assert scores["per_site"]["b"]["bias"] == 2
    assert scores["per_vegetation"]["GRA"]["n"] == 3
    assert scores["overall"] == agreement(observed, predicted)


def test_climatology_is_the_season_without_its_noise():
    rng = np.random.default_rng(0)
    day = np.tile(np.arange(1, 366), 6)

    def season(days):
        return 5 - 4 * np.cos(2 * np.pi * days / 365.25)

    usual = climatology(
        fitted_day=day,
        fitted_gpp=season(day) + rng.normal(0, 1, len(day)),
        day=np.arange(1, 367),
    )
    np.testing.assert_allclose(usual, season(np.arange(1, 367)), atol=0.5)
    assert abs(usual[0] - usual[-1]) < 0.05


def test_climatology_knows_new_year_and_needs_data():
    usual = climatology(
        fitted_day=np.array([365.0, 180.0]), fitted_gpp=np.array([1.0, 9.0]), day=np.array([1, 179])
    )
    np.testing.assert_allclose(usual, [1, 9], atol=1e-6)
    with pytest.raises(ValueError, match="at least one day"):
        climatology(fitted_day=np.zeros(0), fitted_gpp=np.zeros(0), day=np.ones(1))
