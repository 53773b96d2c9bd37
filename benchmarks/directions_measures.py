"""What ``directions.py`` measures of a clip that is partly given: are things kept, does motion go on, do borders show?

Nothing here knows a model: videos against rendered videos, moments against borders between what is given and what is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mova.lab.read.attributes import follow_balls
from mova.lab.sync.pairing import match
from mova.lab.sync.scores import ClipTimes
from mova.media.clip import Clip
from mova.sampling.denoise import plan_windows
from mova.timeline import Timeline

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Numbers = dict[str, float]

FAR = 40
"""Colours that differ by more than this, of 255, in a channel are not the same."""
REACH = 5
"""Pixels that a thing may move in a frame and still be found."""
STILL_THERE = 0.9
"""The share of the things' pixels that must be found again; of a scene with one small ball, the ball is more than the rest."""


def holds(frames: Pixels, truth: Pixels) -> bool:
    """Whether the frame after the given one shows the same things, as far as the true video's does.

    Every pixel of a thing (what stands out of the commonest colour by more than 40 of 255) must have one of its colour within
    5 pixels in the other frame, both ways: so colour, size and place are kept, and a thing that moves a little is too.
    """
    return alike(frames[0], frames[1]) >= alike(truth[0], truth[1]) - 0.05


def still_there(video: Pixels, truth: Pixels, *, num_frames: int) -> Numbers:
    """Whether the things of frame 0 are in all frames after it, of a video and of the true one by the same measure.

    As :func:`holds`, but one way only (what appears is no fault), and as far away as a thing can have moved by then.

    Args:
        video: Its frame 0 is given.
        truth: The rendered video.
        num_frames: How many frames after it are looked at.
    """

    def share(frames: Pixels) -> float:
        return min(found(frames[0], frames[later], reach=REACH * later) for later in range(1, num_frames + 1))

    return {"still there": share(video) >= STILL_THERE, "truth still there": share(truth) >= STILL_THERE}


def alike(first: Pixels, second: Pixels) -> float:
    """The share of the things' pixels, of both pictures, that are found in the other."""
    return min(found(first, second), found(second, first))


def found(one: Pixels, other: Pixels, *, reach: int = REACH) -> float:
    """The share of the pixels of one picture's things that have one of their colour within reach in the other."""
    coarse = one.reshape(-1, 3) // 16
    _, index, counts = np.unique(coarse, axis=0, return_index=True, return_counts=True)
    here, there = one.astype(np.int16), other.astype(np.int16)
    thing = np.abs(here - here.reshape(-1, 3)[index[counts.argmax()]]).max(axis=-1) > FAR
    moved = thing & (np.abs(there - here).max(axis=-1) > FAR)  # most are where they were
    padded = np.pad(there, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    around = sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1), axis=(0, 1))[moved]
    nearest = np.abs(around - here[moved][:, :, None, None]).max(axis=1).min(axis=(1, 2))
    return 1.0 - float((nearest > FAR).sum()) / max(int(thing.sum()), 1)


def continuity(frames: Pixels, seams: Sequence[int], truth: Pixels) -> Numbers:
    """Whether a video goes on over its seams, pixel by pixel, and whether the true video does by the same measure.

    Args:
        frames: The video.
        seams: Each the frame before a border of given and made.
        truth: The rendered video.
    """
    return _with_truth("continuous", jumps, frames, seams, truth)


def position_continuity(frames: Pixels, seams: Sequence[int], truth: Pixels) -> Numbers:
    """The same of the place of the balls in a video, followed between pixels: no jump of place nor of velocity.

    Args:
        frames: The video.
        seams: Each the frame before a border of given and made.
        truth: The rendered video.
    """
    return _with_truth("position continues", strides, frames, seams, truth)


def _with_truth(
    name: str, change: Callable[[Pixels, int], Floats], frames: Pixels, seams: Sequence[int], truth: Pixels
) -> Numbers:
    """Whether a kind of change goes on over the seams of a video, and of the true one."""
    changes, usual = ([change(video, order) for order in (1, 2)] for video in (frames, truth))
    return {name: goes_on(changes, seams, usual), f"truth {name}": goes_on(usual, seams, usual)}


def goes_on(changes: Sequence[Floats], seams: Sequence[int], usual: Sequence[Floats]) -> bool:
    """Whether the change over the seams, and the change of that change, is within the 95th percentile of those inside, of the
    video or of the true one.

    Args:
        changes: Of orders 1, 2, ... along time; nan where there is nothing to be followed, which over a seam is a jump.
        seams: Each the frame before a border.
        usual: The same of the true video.
    """
    for order, (change, known) in enumerate(zip(changes, usual, strict=True), start=1):
        over = sorted({index for seam in seams for index in range(seam - order + 1, seam + 1)})
        limit = max(most(np.delete(change, over)), most(known))
        if not (change[over] <= limit).all():
            return False
    return True


def most(change: Floats) -> float:
    """The 95th percentile, of what is known."""
    known = change[np.isfinite(change)]
    return float(np.quantile(known, 0.95)) if known.size else 0.0


def jumps(video: Pixels, order: int) -> Floats:
    """Mean absolute difference of an order along time."""
    difference = np.diff(video.astype(np.int16), n=order, axis=0)
    mean: Floats = np.abs(difference).mean(axis=(1, 2, 3))
    return mean


def strides(video: Pixels, order: int) -> Floats:
    """How far the balls of a video go, or how much their velocity changes, from frame to frame: that of the ball with most."""
    ways = [np.diff(path, n=order, axis=0) for path in follow_balls(video).values()]
    if not ways:
        return np.full(len(video) - order, np.nan)
    farthest: Floats = np.linalg.norm(ways, axis=-1).max(axis=0)
    return farthest


def events_in(events: ClipTimes, span_s: tuple[float, float], *, within_ms: float = 45.0) -> ClipTimes:
    """The events whose audio belongs into a span: what is heard in it, what is seen in it, and what either is paired with.

    Args:
        events: Of the whole clip.
        span_s: On the audio's clock: what is seen is meant to be heard its scene's lag later.
        within_ms: As far apart as a pair may be.
    """

    def inside(times_s: Floats) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return (times_s >= span_s[0]) & (times_s < span_s[1])

    seen, heard = inside(np.asarray(events.video_s) + events.lag_s), inside(np.asarray(events.audio_s))
    for first, second in match(events.video_s, np.asarray(events.audio_s) - events.lag_s, low_ms=-within_ms, high_ms=within_ms):
        seen[first] = heard[second] = seen[first] or heard[second]
    return replace(
        events,
        video_s=tuple(time_s for time_s, kept in zip(events.video_s, seen, strict=True) if kept),
        audio_s=tuple(time_s for time_s, kept in zip(events.audio_s, heard, strict=True) if kept),
    )


def seams_inside(clip: Clip, timeline: Timeline, *, max_frames: int) -> Numbers:
    """The share of the windows' borders over which picture and level change no more than at 95 % of the moments inside.

    Args:
        clip: Made in several windows.
        timeline: The model's clock.
        max_frames: The longest clip that it makes in one.
    """
    num_video = timeline.video_latents(timeline.next_legal_frames(len(clip.frames)))
    num_audio = timeline.audio_latents(timeline.frames_of_latents(num_video))
    longest = timeline.video_latents(max_frames)
    windows = plan_windows(num_video, num_audio, timeline=timeline, max_video=longest)[:-1]
    videos = [timeline.frames_of_latents(window.video[1]) - 1 for window in windows]
    sounds = [window.audio[1] - 1 for window in windows]
    power = np.square(clip.waveform[0, : len(clip.waveform[0]) // timeline.audio_hop * timeline.audio_hop])
    level = 10.0 * np.log10(power.reshape(-1, timeline.audio_hop).mean(axis=1) + 1e-8)
    return {
        "picture seams inside": within(jumps(clip.frames, 1), videos),
        "level seams inside": within(np.abs(np.diff(level)), sounds),
    }


def within(change: Floats, seams: Sequence[int]) -> float:
    """The share of seams whose change is within the 95th percentile of the others."""
    return float((change[list(seams)] <= np.quantile(np.delete(change, seams), 0.95)).mean())
