"""Nothing of what is held out reaches a fit, and a killed job goes on."""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_towers import SENSORS, WEATHER, edit, gpp_of, regress, write_towers

from pipeline_lib.gpp.baselines import predict_climatology
from pipeline_lib.gpp.crossval import predict
from pipeline_lib.gpp.days import read_days
from pipeline_lib.gpp.methods import CLIMATOLOGY, SCHEMES, experiments
from pipeline_lib.gpp.windows import cut_windows


def learned(folder, gpp):
    """Whatever each fit of each method is given, by method and scheme, and the climatology."""
    table = read_days(folder, sensors=SENSORS, validation_years=gpp.windows.validation_years)
    windows = cut_windows(table, gpp.windows, gpp.windows.length_days)
    climatology = predict_climatology(table, windows, validation_years=[2020])
    fits = {}
    for experiment in experiments(gpp.windows, weather=True, indices=True):
        if experiment.regressor == CLIMATOLOGY or experiment.schemes != SCHEMES:
            continue
        given = []

        def record(examples, asked, rng, given=given):
            given.append((examples.inputs, examples.target, examples.run, rng.random()))
            return np.zeros(len(asked))

        predict(table, windows, experiment, record, fits=1, stride_days=10, seed=1)
        fits[experiment.method] = given
    return fits, climatology


def reversed_numbers(table, rows, factor):
    names = table.select_dtypes("float").columns.difference(["quality"])
    table.loc[rows, names] = table.loc[rows, names].to_numpy()[::-1] * factor + 1
    return table


@pytest.fixture
def towers(tmp_path):
    """Two folders of the same towers, the second of which may be changed."""
    gpp = gpp_of(**WEATHER)
    write_towers(tmp_path / "before", gpp, Enf=0.6)
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    return gpp, tmp_path / "before", tmp_path / "after"


def test_validation_years_change_nothing_that_is_learned(towers):
    """GPP, embeddings, bands and weather of 2020 are others; the fits are given the same."""
    gpp, before, after = towers
    for path in after.rglob("*/*.csv"):
        # Interpolation carries the change into December, as the sources of a series say.
        edit(path, lambda table: reversed_numbers(table, table["date"].dt.year == 2020, 3))
    (one, climatology), (other, changed) = learned(before, gpp), learned(after, gpp)
    assert len(one) == 5 + 14
    for method, fits in one.items():
        # The first fit is that of the temporal holdout.
        for mine, yours in zip(fits[0], other[method][0], strict=True):
            np.testing.assert_array_equal(mine, yours, err_msg=method)
        assert not np.array_equal(fits[1][1], other[method][1][1])
    pd.testing.assert_series_equal(climatology["temporal_holdout_0"], changed["temporal_holdout_0"])


def test_a_left_out_site_changes_nothing_that_is_learned_for_it(towers):
    gpp, before, after = towers
    for path in after.rglob("*/XX-Dbf.csv"):
        edit(path, lambda table: reversed_numbers(table, table["date"].notna(), 100))
    (one, climatology), (other, changed) = learned(before, gpp), learned(after, gpp)
    for method, fits in one.items():
        # Temporal holdout, without XX-Dbf, without XX-Gra: the conifers are not used.
        assert len(fits) == 3
        for mine, yours in zip(fits[1], other[method][1], strict=True):
            np.testing.assert_array_equal(mine, yours, err_msg=method)
        assert not np.array_equal(fits[2][1], other[method][2][1])
    scheme = "leave_one_site_out_0"
    own = climatology["site"] == "XX-Dbf"
    pd.testing.assert_series_equal(climatology.loc[own, scheme], changed.loc[own, scheme])


@pytest.fixture
def fits(monkeypatch):
    """Fits that are quick and counted; a number of them may be set after which they are killed."""
    made = SimpleNamespace(count=0, limit=None)

    def fit(*, inputs, target, held_out, block, seed):
        if made.count == made.limit:
            raise KeyboardInterrupt
        made.count += 1
        return SimpleNamespace(predict=lambda asked: asked[:, -1, 0] * seed + target[held_out][0])

    monkeypatch.setattr("pipeline_lib.gpp.transformer.fit_regressor", fit)
    return made


def predictions(folder):
    return {path.name: path.read_bytes() for path in (folder / "transformer").iterdir()}


def test_a_killed_regression_goes_on_and_ends_as_if_it_had_not_been(towers, fits):
    gpp, one, other = towers
    regress(one, gpp)
    # Five inputs, two seeds: the temporal holdout, and without either of the two sites.
    assert fits.count == 5 * 2 * 3
    fits.count, fits.limit = 0, 7
    with pytest.raises(KeyboardInterrupt):
        regress(other, gpp)
    assert not (other / "transformer" / "weather-30.csv").exists()
    fits.limit = None
    regress(other, gpp)
    assert fits.count == 30
    assert predictions(one) == predictions(other)


def test_only_new_fits_are_made_and_others_are_forgotten(towers, fits):
    _, folder, _ = towers
    regress(folder, gpp_of(**WEATHER))
    assert len(list((folder / "state").iterdir())) == fits.count == 30
    regress(folder, gpp_of(windows={"other_lengths_days": (60,)}, **WEATHER))
    assert fits.count == 30 + 2 * 2
    regress(folder, gpp_of(regressor={"learning_rate": 1e-4}, **WEATHER))
    assert len(list((folder / "state").iterdir())) == 30
    assert fits.count == 34 + 30


def test_fits_side_by_side_are_those_of_one_process(towers, fits):
    gpp, one, other = towers
    regress(one, gpp)
    fits.count, fits.limit = 0, 0
    state = other / "state"
    with pytest.raises(KeyboardInterrupt):
        regress(other, gpp, state=state)
    fits.limit = None
    regress(other, gpp, state=state, processes=3)
    # The other processes made all of them.
    assert fits.count == 0
    assert predictions(one) == predictions(other)
