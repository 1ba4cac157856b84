"""Windows of frames around a date."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RANDOM = 0.5
"""Share of the augmented windows that take random frames within reach, not evenly spread ones."""
THINNED = 0.25
"""Share of the augmented windows that lose side frames."""


def window_frames(
    days: NDArray[np.integer],
    centre: int | NDArray[np.integer],
    frames: int,
    span_days: float,
    *,
    rolling_mean: int = 1,
    rng: np.random.Generator | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Indices of the frames of the window around a frame of a record, and which are present.

    The record's ``days`` ``(time,)`` increase; it holds the frames with a clear pixel anywhere in
    the cube. Which of them a window takes depends on days alone and not on the clouds over one
    pixel, so that all pixels of a date share one window and the features of a frame are computed
    once. Where a frame is cloudy over a pixel's whole patch, the encoder masks it.

    The window has an odd number of ``frames``, with ``centre`` in its middle. Each side holds
    frames at most half of ``span_days`` away: where there are more than the window takes, evenly
    spread ones up to the farthest. Frames that were averaged over ``rolling_mean`` frames share
    images, and so speckle, with their neighbours: only those a multiple of it away from the centre
    are taken. Where there are fewer, ``present`` is False and the index is the centre's, so that it
    can be read all the same. Both are ``(frames,)``, of several centres ``(centre, frames)``.

    With ``rng`` windows are augmented, for training: a share `RANDOM` of them takes random frames
    within reach, and a share `THINNED` loses each side frame with a probability that is drawn for
    the window, so that any number of frames occurs, down to the centre alone.
    """
    half, centres = frames // 2, np.atleast_1d(centre)
    shape = (len(centres), frames)
    indices, present = np.repeat(centres[:, None], frames, axis=1), np.zeros(shape, bool)
    present[:, half] = True
    here, reach = days[centres], span_days / 2
    before = centres - np.searchsorted(days, here - reach, side="left")
    after = np.searchsorted(days, here + reach, side="right") - 1 - centres
    if rng is not None:
        random = rng.random(len(centres)) < RANDOM
    for sign, near in ((-1, before), (1, after)):
        count = near // rolling_mean
        step, there = _evenly_spread(count, half)
        if rng is not None:
            step = np.where(random[:, None], _at_random(count, half, rng), step)
        slots = half + sign * np.arange(1, half + 1)
        indices[:, slots] += np.where(there, sign * rolling_mean * step, 0)
        present[:, slots] = there
    if rng is not None:
        lost = rng.random(len(centres)) * (rng.random(len(centres)) < THINNED)
        present &= (rng.random(shape) >= lost[:, None]) | (np.arange(frames) == half)
        indices = np.where(present, indices, centres[:, None])
    whole = (*np.shape(centre), frames)
    return indices.reshape(whole).astype(np.int64), present.reshape(whole)


def _evenly_spread(
    count: NDArray[np.integer], most: int
) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
    """Which of ``count`` frames are taken, from 1, and which slots hold one, ``(centre, most)``."""
    slot, taken = np.arange(1, most + 1), np.minimum(count, most)[:, None]
    return slot * count[:, None] // np.maximum(taken, 1), slot <= taken


def _at_random(
    count: NDArray[np.integer], most: int, rng: np.random.Generator
) -> NDArray[np.integer]:
    """As many random ones as `_evenly_spread` takes, in increasing order."""
    widest = max(most, int(count.max(initial=0)))
    beyond = np.arange(widest) >= count[:, None]
    keys = np.where(beyond, 2.0, rng.random((len(count), widest)))
    # Frames out of reach sort behind all others.
    return np.sort(np.argsort(keys, axis=1, kind="stable")[:, :most], axis=1) + 1


def window_spans(
    days: NDArray[np.integer],
    frames: int,
    span_days: float,
    *,
    rolling_mean: int = 1,
    rng: np.random.Generator | None = None,
) -> NDArray[np.int64]:
    """Days from the first to the last frame of the window around each frame, ``(time,)``."""
    every = np.arange(len(days))
    windows, _ = window_frames(days, every, frames, span_days, rolling_mean=rolling_mean, rng=rng)
    return np.ptp(days[windows], axis=1).astype(np.int64)


def closest_frames(
    days: NDArray[np.integer], day: int, valid: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """For each pixel the valid frame closest in time to a day, the earlier of two equally close.

    Days ``(time,)`` and validity ``(time, pixel)`` of the frames give the index of the frame and
    whether there is a valid one, ``(pixel,)`` each. Where there is none, the index is the closest
    frame's.
    """
    order = np.argsort(np.abs(np.asarray(days, dtype=np.int64) - day), kind="stable")
    first = valid[order].argmax(axis=0)
    frame = order[first]
    return frame, np.take_along_axis(valid, frame[None], axis=0)[0]
