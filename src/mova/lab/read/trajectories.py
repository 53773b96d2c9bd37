"""When something that moves meets something else, to a small part of a frame: kinks of its path.

A frame is the mean over its exposure. The mean place of something that moves steadily is its place in the middle of the
exposure, so paths before and after a contact are fitted on whole frames and intersected. That is exact but for the noise of
the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mova.lab.read.events import Detection

Floats = npt.NDArray[np.float64]
_REACH = 8


def find_impacts(heights: Floats, fps: float, *, shutter: float) -> list[Detection]:
    """Find when something that falls and rises freely meets the floor.

    Args:
        heights: ``[T]`` mean height in each frame, upward, in picture heights.
        fps: Frames per second.
        shutter: Share of a frame that is exposed.

    Returns:
        In order of time; strength is the jump of the speed in picture heights per second.
    """
    bend = np.diff(heights, n=2) * fps**2
    falling = bend[bend < -1.0]
    gravity = float(np.median(-falling)) if falling.size else 0.0
    lowest = [
        frame
        for frame in range(1, heights.size - 1)
        if heights[frame] < heights[frame - 1] and heights[frame] <= heights[frame + 1]
        if bend[frame - 1] > max(0.5 * gravity, 1.0)
    ]
    found = [_intersect(heights, frame, fps, shutter, gravity) for frame in lowest]
    met = [one for one in found if one is not None and one[1] > 0.3]
    if not met:
        return []
    floor, span = min(level for *_, level in met), float(np.ptp(heights))
    return [Detection(time_s, "", jump) for time_s, jump, level in met if level < floor + max(0.04, 0.2 * span)]


def fit_gravities(heights: Floats, fps: float, impacts_s: Sequence[float], *, shutter: float) -> Floats:
    """Fit the strength of gravity to each flight between two impacts on one floor.

    A flight from ``a`` to ``b`` is ``floor + g (t - a) (b - t) / 2``; a frame is its mean over the exposure. That is linear in
    the floor, which all flights share, and in the ``g`` of each: least squares over the frames that hold no impact.

    Args:
        heights: ``[T]`` mean height in each frame, upward, in picture heights; nan where it is not known.
        fps: Frames per second.
        impacts_s: Times of the impacts, in order.
        shutter: Share of a frame that is exposed.

    Returns:
        In picture heights per second squared; flights of fewer than 2 frames are left out.
    """
    open_s = shutter / fps
    first_s = np.arange(heights.size) / fps
    middle_s = first_s + 0.5 * open_s
    shapes = []
    for start_s, end_s in pairwise(impacts_s):
        is_flying = np.isfinite(heights) & (first_s >= start_s) & (first_s + open_s <= end_s)
        if is_flying.sum() >= 2:
            mean_s2 = (middle_s - start_s) * (end_s - middle_s) - open_s**2 / 12.0
            shapes.append(np.where(is_flying, 0.5 * mean_s2, 0.0))
    if not shapes:
        return np.zeros(0)
    table = np.stack((np.ones(heights.size), *shapes), axis=1)
    is_used = np.any(table[:, 1:] != 0.0, axis=1)
    return np.asarray(np.linalg.lstsq(table[is_used], heights[is_used], rcond=None)[0][1:])


def find_turns(values: Floats, fps: float, *, shutter: float) -> list[Detection]:
    """Find when a path of straight pieces turns back, in either direction.

    Args:
        values: ``[T]`` mean place in each frame, in lengths of the picture.
        fps: Frames per second.
        shutter: Share of a frame that is exposed.

    Returns:
        In order of time; strength is the jump of the speed in lengths per second.
    """
    found = []
    for way in (values, -values):
        for frame in range(1, way.size - 1):
            if way[frame] < way[frame - 1] - 5e-4 and way[frame] <= way[frame + 1] - 5e-4:
                met = _intersect(way, frame, fps, shutter, 0.0)
                if met is not None and met[1] > 0.15:
                    found.append(Detection(met[0], "", met[1]))
    return sorted(found, key=lambda one: one.time_s)


def find_strokes(places: Floats, fps: float, *, shutter: float) -> list[Detection]:
    """Find when something that is moved in strokes is fastest: the centre of each stroke's speed.

    Args:
        places: ``[T]`` mean place in each frame, in lengths of the picture.
        fps: Frames per second.
        shutter: Share of a frame that is exposed.

    Returns:
        In order of time; strength is the length of the stroke.
    """
    speed = np.abs(np.diff(places))
    if not speed.size or speed.max() < 2e-3:
        return []
    moving = speed > max(0.06 * float(speed.max()), 8e-4)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], moving.astype(np.int8), [0]))))
    found = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        span = np.arange(max(0, first - 1), min(speed.size, last + 1))
        length = float(speed[span].sum())
        if last - first >= 2 and length > 0.02:
            middle = float(span @ speed[span]) / length
            found.append(Detection((middle + 0.5 + 0.5 * shutter) / fps, "", length))
    return found


def _intersect(way: Floats, frame: int, fps: float, shutter: float, gravity: float) -> tuple[float, float, float] | None:
    """Time, jump of the speed and level at which the paths on both sides of a lowest frame meet.

    Frames that hold the meeting itself are left out, which is known only after a first estimate.
    """
    before, after = np.arange(frame - _REACH, frame), np.arange(frame + 1, frame + 1 + _REACH)
    since = 0.0
    jump, level = 0.0, 0.0
    for _ in range(3):
        first = _line(way, before[before >= 0][::-1], frame, fps, gravity)
        second = _line(way, after[after < way.size], frame, fps, gravity)
        if first is None or second is None:
            return None
        jump = second[1] - first[1]
        if jump <= 1e-6:
            return None
        since = float(np.clip((first[0] - second[0]) / jump, -1.5 / fps, 1.5 / fps))
        level = first[0] + first[1] * since
        meets = frame + 0.5 * shutter + since * fps
        before = np.arange(frame - _REACH, int(np.floor(meets - shutter + 0.03)) + 1)
        after = np.arange(int(np.ceil(meets - 0.03)), frame + 1 + _REACH)
    return (frame + 0.5 * shutter) / fps + since, jump, level


def _line(way: Floats, frames: npt.NDArray[np.int64], frame: int, fps: float, gravity: float) -> tuple[float, float] | None:
    """Level and slope at ``frame`` of the straight line through as many ``frames``, nearest first, as lie on one."""
    best = None
    for count in range(2, frames.size + 1):
        since = (frames[:count] - frame) / fps
        straight = way[frames[:count]] + 0.5 * gravity * since**2
        slope, level = np.polyfit(since, straight, 1)
        if count > 3 and np.abs(straight - level - slope * since).max() > 0.003:
            break
        best = float(level), float(slope)
    return best
