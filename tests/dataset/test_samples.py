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
)

CONTEXT = Context(patch_px=7, frames=5)


def cube(name="a", count=20, size=11, share=0.6, gap=5, seed=0):
    rng = np.random.default_rng(seed)
    valid = rng.random((count, size, size)) < share
    values = rng.integers(1, 65536, (count, 2, size, size), dtype=np.uint16)
    return CubeArrays(name, values * valid[:, None], valid, np.arange(count) * gap)


def index(*cubes, frames=12, stride_time=5, stride_space=2, span=195):
    block = Sequence(
        frames=frames, stride_time=stride_time, stride_space=stride_space, max_span_days=span
    )
    return SequenceIndex(cubes, sequence=block, context=CONTEXT)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100), st.floats(0.05, 1), st.integers(5, 25), st.integers(20, 200))
def test_every_sample_keeps_its_promises(seed, share, count, span):
    stack = cube(count=count, share=share, seed=seed)
    sequences = index(stack, span=span)
    drawn = sequences.draw(np.random.default_rng(seed))
    samples = sequences.cut(drawn)
    assert np.all(np.diff(drawn.frames, axis=1) > 0), "in order, none twice"
    assert drawn.frames.max(initial=0) < count
    assert np.all(samples.valid[:, 2, 3, 3]), "the centre is valid"
    assert np.all(samples.days[:, -1] - samples.days[:, 0] <= span)
    assert np.all(samples.days[:, 2] == 0)
    assert np.all(samples.values[~samples.valid.repeat(2, 1).reshape(len(drawn), 5, 2, 7, 7)] == 0)
    for row in range(len(drawn)):
        y, x = drawn.top[row], drawn.left[row]
        assert y + 7 <= 11 and x + 7 <= 11, "whole patches only"
        part = stack.values[drawn.frames[row], :, y : y + 7, x : x + 7]
        expected = part * samples.valid[row][:, None]
        np.testing.assert_array_equal(samples.values[row], expected)


def test_sequences_follow_the_strides():
    drawn = index(cube(share=1.0)).draw(np.random.default_rng(0))
    starts = {(int(y), int(x)) for y, x in zip(drawn.top, drawn.left, strict=True)}
    assert starts == {(y, x) for y in (0, 2, 4) for x in (0, 2, 4)}
    assert len(drawn) == 9 * 2, "frames 0-11 and 5-16 of 20"


def test_choices_of_frames_are_equally_likely_whatever_is_cloudy():
    """Against the enumeration of all choices whose middle frame is valid."""
    from itertools import combinations

    stack = cube(count=8, size=7, share=1.0)
    stack.valid[[2, 4]] = False
    sequences = index(stack, frames=8)
    allowed = [c for c in combinations(range(8), 5) if c[2] not in (2, 4)]
    counts = dict.fromkeys(allowed, 0)
    for seed in range(4000):
        (frames,) = sequences.draw(np.random.default_rng(seed)).frames
        counts[tuple(int(f) for f in frames)] += 1
    expected = 4000 / len(allowed)
    chi_square = sum((n - expected) ** 2 / expected for n in counts.values())
    assert chi_square < len(allowed) + 5 * np.sqrt(2 * len(allowed))


def test_sparse_records_are_drawn_from_near_the_centre_not_dropped():
    """Random draws from two years would nearly always span too much."""
    sparse = index(cube(count=40, gap=18, share=1.0), frames=40, span=80)
    drawn = sparse.draw(np.random.default_rng(0))
    assert len(drawn) == 9
    hopeless = index(cube(count=40, gap=30, share=1.0), frames=40, span=80)
    assert len(hopeless.draw(np.random.default_rng(0))) == 0


def test_short_records_make_one_sequence_and_too_short_ones_none():
    assert len(index(cube(count=7, share=1.0))) == 9
    assert len(index(cube(count=4, share=1.0))) == 0
    assert len(index(cube(size=6, share=1.0))) == 0


def test_same_generator_same_samples_and_a_cap():
    sequences = index(cube("a"), cube("b", seed=1))
    first = sequences.draw(np.random.default_rng(5), 10)
    second = sequences.draw(np.random.default_rng(5), 10)
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
)
def test_windows_hold_the_frames_around_their_centre_and_none_beyond_half_the_span(
    days, data, frames, span
):
    centre, half = data.draw(st.integers(0, len(days) - 1)), frames // 2
    indices, present = window_frames(days, centre, frames, span)
    assert indices[half] == centre and present[half]
    assert np.all(np.diff(indices[present]) > 0)
    assert np.all(np.abs(days[indices] - days[centre]) <= span / 2)
    near = np.flatnonzero(np.abs(days - days[centre]) <= span / 2)
    for side, shown, inside in (
        (indices[:half], present[:half], near[near < centre]),
        (indices[half + 1 :], present[half + 1 :], near[near > centre]),
    ):
        assert shown.sum() == min(half, len(inside))
        if shown.any():
            farthest = inside[np.abs(inside - centre).argmax()]
            assert farthest in side[shown]


@pytest.mark.parametrize("every", [2, 5, 10, 17, 40])
def test_windows_of_the_product_span_no_more_than_samples_of_training(every):
    stack = cube(count=60, share=1.0, gap=every)
    drawn = index(stack, frames=20).draw(np.random.default_rng(0))
    trained = np.ptp(stack.days[drawn.frames], axis=1).max(initial=0)
    windows = [window_frames(stack.days, centre, 5, 195)[0] for centre in range(60)]
    exported = max(np.ptp(stack.days[window]) for window in windows)
    assert exported <= 195
    if every in (10, 17):
        assert exported <= trained


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
