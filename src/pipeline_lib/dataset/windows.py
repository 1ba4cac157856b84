"""Windows of frames around a date."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def window_frames(
    days: NDArray[np.integer], centre: int, frames: int, span_days: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Indices of the frames of the window around one frame of a record, and which are present.

    The record's ``days`` ``(time,)`` increase; the window has an odd number of ``frames``, with
    ``centre`` in its middle. Each side holds frames at most half of ``span_days`` away, as training
    samples span no more: where there are more than the window takes, evenly spread ones up to the
    farthest. Where there are fewer, ``present`` is False and the index is the centre's, so that it
    can be read all the same. Both are ``(frames,)``.
    """
    half = frames // 2
    near = np.abs(days - days[centre]) <= span_days / 2
    indices, present = np.full(frames, centre, np.int64), np.zeros(frames, bool)
    present[half] = True
    before, after = (
        np.flatnonzero(near[:centre])[::-1],
        centre + 1 + np.flatnonzero(near[centre + 1 :]),
    )
    for side, sign in ((before, -1), (after, 1)):
        steps = np.arange(1, min(half, len(side)) + 1)
        chosen = half + sign * steps
        indices[chosen] = side[steps * len(side) // max(1, len(steps)) - 1]
        present[chosen] = True
    return indices, present


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
