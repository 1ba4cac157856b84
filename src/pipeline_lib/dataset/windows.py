"""Windows of frames around a date."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def window_frames(
    count: int, centre: int, frames: int, step: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Indices of the frames of the window around one frame of a record, and which are present.

    The record has ``count`` frames; the window has an odd number of ``frames``, ``step`` frames of
    the record apart, and ``centre`` in its middle. Where it reaches beyond the record, ``present``
    is False and the index is that of the record's nearest end, so that it can be read all the
    same. Both are ``(frames,)``.
    """
    wanted = centre + step * (np.arange(frames) - frames // 2)
    present = (wanted >= 0) & (wanted < count)
    return np.clip(wanted, 0, count - 1), present


def window_step(sequence_frames: int, frames: int) -> int:
    """Mean spacing, in frames, of a training sample's frames: the step of a window."""
    return max(1, round(sequence_frames / frames))


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
