import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.gpp.series import interpolate_daily
from pipeline_lib.gpp.windows import Windows, cut_windows, hold_out, part_of

DAYS = pd.date_range("2017-01-01", "2020-12-31", name="date")


def tables(observed_every=5, seed=0):
    rng = np.random.default_rng(seed)
    seen = np.arange(3, len(DAYS), observed_every)
    seen = seen[rng.random(len(seen)) < 0.7]
    daily = interpolate_daily(
        observed_days=seen,
        values=rng.normal(size=(len(seen), 2)),
        days=np.arange(len(DAYS)),
        max_gap=60,
    )
    series = pd.DataFrame(daily, index=DAYS, columns=["e0", "e1"])
    series["observed"] = np.isin(np.arange(len(DAYS)), seen)
    targets = pd.DataFrame(
        {"gpp": rng.random(len(DAYS)), "kept": rng.random(len(DAYS)) < 0.8}, index=DAYS
    )
    return series, targets


def cut(series, targets, site="A", window=90, stride=10):
    return cut_windows(
        site=site, series=series, targets=targets, window_days=window, stride_days=stride
    )


def test_windows_hold_the_days_before_their_target():
    series, targets = tables()
    windows = cut(series, targets)
    assert 80 < len(windows) < 138
    for index in (0, 7, -1):
        end = pd.Timestamp(windows.end[index])
        span = series.loc[end - pd.Timedelta(days=89) : end, ["e0", "e1"]]
        np.testing.assert_array_equal(windows.inputs[index], span.to_numpy(np.float32))
        assert windows.target[index] == np.float32(targets.loc[end, "gpp"])
        assert targets.loc[end, "kept"]
    assert np.isfinite(windows.inputs).all()
    steps = np.diff(windows.end).astype(int)
    assert (steps % 10 == 0).all() and (steps > 0).all()


def test_only_whole_windows_are_cut():
    series, targets = tables()
    targets["kept"] = True
    series.iloc[200, 0] = np.nan
    ends = cut(series, targets, stride=1).end
    holds = {200 + offset for offset in range(90)}
    positions = set(np.searchsorted(DAYS.to_numpy(), ends))
    assert not positions & holds
    assert {199, 290} <= positions


def test_unequal_days_are_refused():
    series, targets = tables()
    with pytest.raises(ValueError, match="different days"):
        cut(series.iloc[1:], targets)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10_000),
    st.integers(2, 120),
    st.integers(1, 20),
    st.sets(st.sampled_from([2017, 2018, 2019, 2020]), min_size=1, max_size=3),
)
def test_no_window_touches_both_parts(seed, window, stride, validation):
    """What a part is made from changes nothing in the other, whatever the windows."""
    series, targets = tables(seed=seed)
    windows = cut(series, targets, window=window, stride=stride)
    part = part_of(windows, tuple(validation))
    in_validation = np.isin(DAYS.year, sorted(validation))
    seen = series["observed"].to_numpy()
    last_seen = pd.Series(np.where(seen, np.arange(len(DAYS)), np.nan)).ffill()
    next_seen = pd.Series(np.where(seen, np.arange(len(DAYS)), np.nan)).bfill()
    for end, name in zip(windows.end, part, strict=True):
        position = DAYS.get_loc(pd.Timestamp(end))
        first, last = int(last_seen[position - window + 1]), int(next_seen[position])
        touched = in_validation[first : last + 1]
        assert name == (
            "validation" if touched.all() else "spanning" if touched.any() else "training"
        )


def test_validation_years_changed_change_no_training_window():
    series, targets = tables()
    seen = np.flatnonzero(series["observed"])
    rng = np.random.default_rng(3)
    late = DAYS[seen].year == 2020
    values = series[["e0", "e1"]].to_numpy()[seen]
    values[late] = rng.normal(size=(late.sum(), 2)) * 50
    changed = series.copy()
    changed[["e0", "e1"]] = interpolate_daily(
        observed_days=seen, values=values, days=np.arange(len(DAYS)), max_gap=60
    )
    changed_targets = targets.copy()
    changed_targets.loc["2020":, "gpp"] = 77.0
    parts = []
    for one, other in ((series, targets), (changed, changed_targets)):
        windows = cut(one, other)
        parts.append(windows.take(part_of(windows, (2020,)) == "training"))
    np.testing.assert_array_equal(parts[0].end, parts[1].end)
    np.testing.assert_array_equal(parts[0].inputs, parts[1].inputs)
    np.testing.assert_array_equal(parts[0].target, parts[1].target)


def test_runs_of_neighbours_are_held_out_together():
    windows = Windows.join([cut(*tables(seed=i), site=name) for i, name in enumerate("ABC")])
    held = hold_out(windows, run=9, share=0.15, generator=np.random.default_rng(1))
    again = hold_out(windows, run=9, share=0.15, generator=np.random.default_rng(1))
    np.testing.assert_array_equal(held, again)
    assert 0.08 < held.mean() < 0.25
    for site in "ABC":
        own = held[windows.site == site]
        changes = np.flatnonzero(np.diff(own.astype(int))) + 1
        assert (changes % 9 == 0).all()
    few = windows.take(np.arange(len(windows)) < 10)
    assert hold_out(few, run=9, share=0.01, generator=np.random.default_rng(1)).sum() in (1, 9)
    with pytest.raises(ValueError, match="fewer than two"):
        hold_out(few, run=10, share=0.5, generator=np.random.default_rng(1))
