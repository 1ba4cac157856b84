import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from pipeline_lib.config import Windowing
from pipeline_lib.errors import UserError
from pipeline_lib.gpp.series import day_numbers
from pipeline_lib.gpp.windows import cut_windows, gather, hold_out, runs

DAYS = pd.date_range("2017-01-01", "2020-12-31", name="date")
NUMBERS = day_numbers(DAYS)


def days_of(site="A", *, seed=0, every=5, context=0):
    rng = np.random.default_rng(seed)
    seen = np.arange(3, len(DAYS), every)
    seen = seen[rng.random(len(seen)) < 0.7]
    place = np.arange(len(DAYS))
    left = seen[np.maximum(np.searchsorted(seen, place, side="right") - 1, 0)]
    right = seen[np.minimum(np.searchsorted(seen, place), len(seen) - 1)]
    values = np.where((place >= seen[0]) & (place <= seen[-1]), rng.normal(size=len(DAYS)), np.nan)
    return pd.DataFrame(
        {
            "site": site,
            "vegetation": "GRA",
            "date": DAYS,
            "gpp": rng.random(len(DAYS)),
            "kept": rng.random(len(DAYS)) < 0.8,
            "embedding:e0": values,
            "from_day": np.minimum(NUMBERS[left], NUMBERS),
            "to_day": np.maximum(NUMBERS[right], NUMBERS),
            "from_image": np.minimum(NUMBERS[left], NUMBERS) - context,
            "to_image": np.maximum(NUMBERS[right], NUMBERS) + context,
        }
    )


def cut(table, window=90, stride=10, validation=(2020,)):
    return cut_windows(table, Windowing(stride_days=stride, validation_years=validation), window)


def test_windows_hold_the_days_up_to_their_last_and_those_of_one_site():
    table = pd.concat([days_of("A"), days_of("B", seed=1)], ignore_index=True)
    windows = cut(table)
    values = table[["embedding:e0"]].to_numpy(np.float32)
    gathered = gather(values, windows.index, 90)
    assert gathered.shape == (len(windows), 90, 1)
    assert np.isfinite(gathered).all()
    for index in (0, 700, -1):
        last = windows.index[index]
        np.testing.assert_array_equal(gathered[index], values[last - 89 : last + 1])
    for site, own in windows.groupby("site"):
        assert (np.diff(own.index) == 1).all()
        assert set(table["site"].to_numpy()[own.index - 89]) == {site}


def test_those_on_the_stride_whose_last_day_is_kept_may_be_trained_on():
    table = days_of()
    windows = cut(table)
    on_stride = (windows.index - 89) % 10 == 0
    assert (windows["trainable"] == on_stride & table["kept"].to_numpy()[windows.index]).all()


def test_only_whole_windows_are_cut():
    table = days_of()
    table.loc[200, "embedding:e0"] = np.nan
    last = set(cut(table).index)
    assert not last & set(range(200, 290))
    assert {199, 290} <= last


def test_a_period_shorter_than_a_window_has_none():
    with pytest.raises(UserError, match="no window of 90 days"):
        cut(days_of().iloc[-89:])


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10_000),
    st.integers(2, 120),
    st.integers(0, 60),
    st.sets(st.sampled_from([2017, 2018, 2019, 2020]), min_size=1, max_size=3),
)
def test_no_window_touches_both_parts(seed, window, context, validation):
    """What a part is made from changes nothing in the other, whatever the windows."""
    table = days_of(seed=seed, context=context)
    try:
        windows = cut(table, window=window, validation=tuple(validation))
    except UserError:
        reject()
    of_year = {year: (table["date"].dt.year == year).to_numpy() for year in range(2017, 2021)}
    in_validation = np.any([of_year[year] for year in validation], axis=0)
    offset = NUMBERS[0]
    for last, part in windows["part"].items():
        rows = table.iloc[last - window + 1 : last + 1]
        first, final = rows["from_day"].min() - offset, rows["to_day"].max() - offset
        days = in_validation[first : final + 1]
        first, final = rows["from_image"].min() - offset, rows["to_image"].max() - offset
        images = in_validation[max(first, 0) : final + 1]
        if part == "training":
            assert not images.any()
        elif part == "validation":
            assert days.all()
        else:
            assert images.any() and not days.all()


def test_images_of_the_validation_year_end_the_training():
    before, after = (cut(days_of(context=context)) for context in (0, 40))
    ends = [w.loc[w["part"] == "training", "date"].max() for w in (before, after)]
    assert ends[0] > pd.Timestamp("2019-12-10")
    assert ends[1] <= pd.Timestamp("2019-11-21")
    # Whoever predicts a new year has the old year's images: nothing is lost there.
    validated = [w.index[w["part"] == "validation"] for w in (before, after)]
    np.testing.assert_array_equal(*validated)


def test_runs_of_neighbours_are_held_out_together():
    table = pd.concat([days_of(s, seed=i) for i, s in enumerate("ABC")], ignore_index=True)
    windows = cut(table)
    windows = windows[windows["trainable"]]
    site = windows["site"].to_numpy(str)
    run = runs(windows, 90, 10)
    assert run[0] == 0 and (np.diff(run) >= 0).all()
    assert np.bincount(run).max() == 9
    assert all(len(set(site[run == one])) == 1 for one in range(run.max() + 1))
    held = hold_out(run, fraction=0.15, generator=np.random.default_rng(1))
    again = hold_out(run, fraction=0.15, generator=np.random.default_rng(1))
    np.testing.assert_array_equal(held, again)
    assert 0.08 < held.mean() < 0.25
    assert all(len(set(held[run == one])) == 1 for one in range(run.max() + 1))
    few = hold_out(run[:10], fraction=0.01, generator=np.random.default_rng(1))
    assert few.sum() in (1, 9)
    with pytest.raises(ValueError, match="fewer than two"):
        hold_out(run[:9], fraction=0.5, generator=np.random.default_rng(1))
