import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.config import Context, Sequence
from pipeline_lib.dataset import (
    CubeArrays,
    SequenceIndex,
    closest_frames,
    window_frames,
    window_spans,
)

CONTEXT = Context(patch_px=7, frames=5)


def cube(name="a", count=20, size=11, share=0.6, gap=5, seed=0):
    rng = np.random.default_rng(seed)
    valid = rng.random((count, size, size)) < share
    values = rng.integers(1, 65536, (count, 2, size, size), dtype=np.uint16)
    return CubeArrays(name, values * valid[:, None], valid, np.arange(count) * gap)


def index(*cubes, frames=12, stride_time=5, stride_space=2, span=195, rolling_mean=1):
    block = Sequence(
        frames=frames, stride_time=stride_time, stride_space=stride_space, max_span_days=span
    )
    return SequenceIndex(cubes, sequence=block, context=CONTEXT, rolling_mean=rolling_mean)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 100),
    share=st.floats(0.05, 1),
    count=st.integers(1, 25),
    span=st.integers(20, 200),
    apart=st.sampled_from([1, 3]),
    augment=st.booleans(),
)
def test_every_sample_keeps_its_promises(seed, share, count, span, apart, augment):
    stack = cube(count=count, share=share, seed=seed)
    sequences = index(stack, span=span, rolling_mean=apart)
    drawn = sequences.draw(np.random.default_rng(seed), augment=augment)
    samples = sequences.cut(drawn)
    assert len(drawn) == len(sequences)
    assert np.all(samples.valid[:, 2, 3, 3]), "the centre is valid"
    assert np.all(np.abs(samples.days) <= span / 2)
    assert np.all(samples.days[:, 2] == 0)
    assert not samples.valid[~drawn.present].any() and not samples.days[~drawn.present].any()
    for row in range(len(drawn)):
        frames = drawn.frames[row, drawn.present[row]]
        assert np.all(np.diff(frames) >= apart) and np.all(
            (frames - drawn.centre[row]) % apart == 0
        )
        y, x = drawn.top[row], drawn.left[row]
        assert y + 7 <= 11 and x + 7 <= 11, "whole patches only"
        part = stack.values[drawn.frames[row], :, y : y + 7, x : x + 7]
        expected = part * samples.valid[row][:, None]
        np.testing.assert_array_equal(samples.values[row], expected)
        shown = stack.valid[frames, y : y + 7, x : x + 7]
        np.testing.assert_array_equal(samples.valid[row, drawn.present[row]], shown)


def test_sequences_follow_the_strides():
    drawn = index(cube(share=1.0)).draw(np.random.default_rng(0))
    starts = {(int(y), int(x)) for y, x in zip(drawn.top, drawn.left, strict=True)}
    assert starts == {(y, x) for y in (0, 2, 4) for x in (0, 2, 4)}
    assert len(drawn) == 9 * 2, "frames 0-11 and 5-16 of 20"


def test_centre_frames_are_the_clear_ones_of_a_sequence_equally_likely():
    """The record's first and last frame too; of a sequence, not of the whole record."""
    stack = cube(count=12, size=7, share=1.0)
    stack.valid[[2, 4]] = False
    sequences = index(stack, frames=8, stride_time=8)
    rng = np.random.default_rng(0)
    centres = [int(sequences.draw(rng).centre[0]) for _ in range(3000)]
    counts = np.bincount(centres, minlength=12)
    clear = [0, 1, 3, 5, 6, 7]
    assert counts.sum() == counts[clear].sum()
    assert np.all(np.abs(counts[clear] - 500) < 5 * np.sqrt(500))


def test_samples_see_the_record_beyond_their_sequence_as_exported_windows_do():
    stack = cube(count=30, share=1.0, gap=7)
    drawn = index(stack, frames=4).draw(np.random.default_rng(0))
    for centre, frames, present in zip(drawn.centre, drawn.frames, drawn.present, strict=True):
        window, there = window_frames(stack.days, int(centre), 5, 195)
        np.testing.assert_array_equal(frames, window)
        np.testing.assert_array_equal(present, there)
    assert (np.ptp(stack.days[drawn.frames], axis=1) > 4 * 7).all()


def test_short_and_sparse_records_have_samples_and_small_ones_none():
    assert len(index(cube(count=7, share=1.0))) == 9
    for lone in (cube(count=1, share=1.0), cube(count=9, share=1.0, gap=200)):
        drawn = index(lone).draw(np.random.default_rng(0))
        assert len(drawn) == 9
        assert np.array_equal(drawn.present.sum(axis=1), np.ones(9)) and drawn.present[:, 2].all()
    assert len(index(cube(size=6, share=1.0))) == 0
    assert len(index(cube(share=0.0))) == 0
    assert len(index(cube(count=0))) == 0


def test_augmented_windows_choose_among_the_frames_in_reach_and_lose_some():
    days, reach = np.arange(100) * 10, 9
    centres = np.full(20_000, 50)
    spread, _ = window_frames(days, 50, 5, 195)
    frames, present = window_frames(days, centres, 5, 195, rng=np.random.default_rng(0))
    whole = present.all(axis=1)
    even = (frames == spread).all(axis=1)
    # A random choice of two of nine on each side hits the even one in one of 36 * 36.
    assert even[whole].mean() == pytest.approx(0.5, abs=0.02)
    chosen = frames[whole & ~even]
    assert np.all(np.diff(chosen, axis=1) > 0) and np.abs(chosen - 50).max() == reach
    counts = np.bincount(chosen[:, [0, 1, 3, 4]].ravel(), minlength=100)
    sides = counts[[*range(50 - reach, 50), *range(51, 51 + reach)]] / len(chosen)
    np.testing.assert_allclose(sides, 2 / reach, atol=0.02)
    # Of four side frames with a uniform probability p each: all stay in 1/5, none does in 1/5.
    assert whole.mean() == pytest.approx(0.75 + 0.25 / 5, abs=0.02)
    assert (present.sum(axis=1) == 1).mean() == pytest.approx(0.25 / 5, abs=0.01)
    assert present[:, 2].all()


def test_spans_are_those_of_the_windows():
    days = np.array([0, 10, 20, 200, 205])
    assert window_spans(days, 5, 40).tolist() == [20, 20, 20, 5, 5]
    assert window_spans(days, 5, 40, rolling_mean=2).tolist() == [20, 0, 20, 0, 0]


def test_same_generator_same_samples_and_a_cap():
    sequences = index(cube("a"), cube("b", seed=1))
    first, second = (sequences.draw(np.random.default_rng(5), 10, augment=True) for _ in range(2))
    np.testing.assert_array_equal(first.present, second.present)
    np.testing.assert_array_equal(first.frames, second.frames)
    assert len(first) == 10 and set(first.cube) == {0, 1}
    other = sequences.draw(np.random.default_rng(6), 10)
    assert not np.array_equal(first.frames, other.frames)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=80).map(sorted).map(np.array),
    st.data(),
    st.sampled_from([1, 5, 11]),
    st.integers(0, 400),
    st.sampled_from([1, 3]),
)
def test_windows_hold_the_frames_around_their_centre_and_none_beyond_half_the_span(
    days, data, frames, span, apart
):
    centre, half = data.draw(st.integers(0, len(days) - 1)), frames // 2
    indices, present = window_frames(days, centre, frames, span, rolling_mean=apart)
    assert indices[half] == centre and present[half]
    assert np.all(np.diff(indices[present]) > 0)
    assert np.all(np.abs(days[indices] - days[centre]) <= span / 2)
    near = np.flatnonzero(np.abs(days - days[centre]) <= span / 2)
    near = near[(near - centre) % apart == 0]
    for side, shown, inside in (
        (indices[:half], present[:half], near[near < centre]),
        (indices[half + 1 :], present[half + 1 :], near[near > centre]),
    ):
        assert shown.sum() == min(half, len(inside)) and np.isin(side[shown], inside).all()
        if shown.any():
            farthest = inside[np.abs(inside - centre).argmax()]
            assert farthest in side[shown]


def test_each_pixel_is_paired_with_its_closest_valid_frame_the_earlier_of_two():
    days = np.array([0, 10, 20])
    everywhere = np.ones((3, 1), bool)
    found = [closest_frames(days, day, everywhere)[0][0] for day in (-9, 4, 5, 6, 99)]
    assert found == [0, 0, 0, 1, 2]
    valid = np.array([[True, False, False], [False, False, True], [True, True, False]]).T
    frame, there = closest_frames(days, 12, valid)
    assert frame.tolist() == [0, 2, 1] and there.all()
    frame, there = closest_frames(days, 12, np.zeros((3, 2), bool))
    assert frame.tolist() == [1, 1] and not there.any()
