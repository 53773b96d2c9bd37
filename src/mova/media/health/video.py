"""Detect faults of video without a reference: frozen, duplicated and black frames, a colour shift, a grid of tiles.

A level alone does not tell a fault from a quiet scene: an unlit lamp does not move, lightning changes all colours, and
night is dark. The detectors therefore look for what such scenes do not do:

* a *frozen* video stops in the middle of a movement, at full speed; a scene that comes to rest slows down, or returns
  to a position in which it has rested before;
* a *colour shift* is permanent, and changes hue more than brightness; a flash passes;
* *tiles* leave straight lines from edge to edge, in both directions; the edges of objects end within the frame.

Everything is measured on frames pooled to about 100 pixels, in levels of 0 to 255.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from einops import rearrange, reduce

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Finding:
    """One fault, without its message.

    Args:
        kind: Kind of fault.
        at_s: Start of the fault in seconds.
        value: Measured value.
        limit: Largest allowed value.
        detail: Quantity and unit of ``value``.
        is_whole: Whether it concerns all of the video or audio, and is none if other parts are without it.
    """

    kind: str
    at_s: float
    value: float
    limit: float
    detail: str
    is_whole: bool = False


@dataclass(frozen=True)
class VideoLimits:
    """Limits of the video detectors, in levels of 0 to 255 unless stated otherwise.

    Args:
        moving: Maximum cell difference to the frame before above which a frame shows movement.
        hitch: Maximum cell difference that is required before and after a repeated frame for it to count as duplicated.
        rest: Maximum cell difference to a still frame below which a frame counts as at rest: codecs are not exact to the
            level.
        same: Mean difference below which two frames are the same.
        black: Value of the brightest hundredth of the pixels below which a frame is black.
        colour: Largest lasting change of R - G or B - G, in the median cell, times 64 / (brightness + 32).
        seam: Step above which a segment of a line may be part of a seam; a slow 8-bit gradient has steps of 1.
    """

    moving: float = 2.5
    hitch: float = 2.5
    rest: float = 3.0
    same: float = 0.03
    black: float = 12.0
    colour: float = 3.0
    seam: float = 1.2


@dataclass(frozen=True, eq=False)
class PooledVideo:
    """A video pooled for the detectors.

    Args:
        colour: ``[T, h, w, 3]`` float32 in 0 to 255, about 100 pixels on the short side.
        grey: ``[T, h, w]`` luma of ``colour``.
        mean_grey: ``[H, W]`` mean luma over time at full size, for seams.
        fps: Frames per second.
    """

    colour: Floats
    grey: Floats
    mean_grey: Floats
    fps: float

    @cached_property
    def activity(self) -> Floats:
        """``[T - 1]`` maximum cell difference of each frame to the next."""
        return _max_cell_difference(np.abs(np.diff(self.grey, axis=0)))

    @cached_property
    def change(self) -> Floats:
        """``[T - 1]`` mean difference of each frame to the next."""
        return np.asarray(np.abs(np.diff(self.grey, axis=0)).mean((1, 2)))


def pool_video(
    frames: Iterable[npt.NDArray[np.uint8] | npt.NDArray[np.floating]], fps: float, *, num_frames: int
) -> PooledVideo:
    """Pool a video once for all checks.

    Args:
        frames: Arrays ``[H, W, 3]``, uint8 or floating in [0, 1], finite; one is held at a time.
        fps: Frames per second.
        num_frames: Number of frames.
    """
    step = max(1, num_frames // _SEAM_FRAMES)
    colour = mean = np.zeros(0, np.float32)
    scale = np.float32(1.0)
    for index, frame in enumerate(frames):
        if index == 0:
            pool, height, width = measure_pool(frame.shape)
            scale = np.float32(1.0 if frame.dtype == np.uint8 else 255.0)
            colour = np.empty((num_frames, height, width, 3), np.float32)
            mean = np.zeros(frame.shape[:2], np.float32)
        colour[index] = _pool(frame[: height * pool, : width * pool], pool) if pool > 1 else frame
        if index % step == 0:
            mean += frame.astype(np.float32) @ _LUMA
    colour *= scale
    return PooledVideo(colour, colour @ _LUMA, mean * (scale / -(-num_frames // step)), fps)


def _pool(frame: npt.NDArray[Any], pool: int) -> npt.NDArray[Any]:
    """Return the means over squares of pixels; row by row first, which is ten times faster than both at once."""
    kind = np.uint32 if frame.dtype == np.uint8 else np.float32
    split = rearrange(np.ascontiguousarray(frame), "(h a) w c -> h a (w c)", a=pool)
    rows = split.sum(axis=1, dtype=kind).astype(np.float32)
    sums = reduce(rows, "h (w b c) -> h w c", "sum", b=pool, c=frame.shape[2])
    return np.asarray(sums / np.float32(pool * pool))


def measure_pool(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return how many pixels of a side are pooled into one, and the height and width that result."""
    pool = max(1, min(shape[:2]) // _SHORT_SIDE)
    return pool, shape[0] // pool, shape[1] // pool


def find_duplicated_frames(video: PooledVideo, limits: VideoLimits) -> list[Finding]:
    """Find frames that repeat the one before during movement: ``frozen`` (three or more in a row) or ``duplicated``."""
    num_frames = len(video.grey)
    if num_frames < _FEWEST_FRAMES:
        return []
    still = _max_cell_difference(np.abs(video.grey - video.grey[:1]))
    if still.max() < limits.moving:
        detail = "largest change of the video in the whole clip, in levels"
        return [Finding("frozen", 0.0, float(still.max()), limits.moving, detail, is_whole=True)]
    # a codec decodes repeated frames slightly differently
    same = (video.change < limits.same) & (video.activity < 0.6)
    stills = np.flatnonzero(np.r_[True, same] | np.r_[same, True])  # the first and the last frame may be at rest too
    runs = [run for run in _runs(same) if _is_frozen_run(video, run, stills, limits)]
    long = [run for run in runs if run[1] - run[0] >= _FROZEN_RUN]
    short = [run for run in runs if run[1] - run[0] < _FROZEN_RUN]
    found = []
    if long:
        seconds = max(last - first for first, last in long) / video.fps
        found.append(
            Finding("frozen", (long[0][0] + 1) / video.fps, seconds, _FROZEN_RUN / video.fps, "seconds without movement")
        )
    if short:
        count = sum(last - first for first, last in short)
        found.append(Finding("duplicated", (short[0][0] + 1) / video.fps, float(count), 0.0, "frames repeated during movement"))
    return found


def find_black_frames(video: PooledVideo, limits: VideoLimits) -> list[Finding]:
    """Find black frames, unless a fade precedes and follows them."""
    pixels = rearrange(video.grey, "t h w -> t (h w)")
    rank = min(pixels.shape[1] - 1, int(0.99 * pixels.shape[1]))
    bright = np.partition(pixels, rank, axis=1)[:, rank]
    dark = bright < limits.black
    if not dark.any():
        return []
    usual = float(np.median(bright[~dark])) if not dark.all() else 0.0
    for first, last in _runs(dark):
        beside = [float(bright[index]) for index in (first - 1, last) if 0 <= index < len(bright)]
        if not beside or max(beside) > _FADE * usual:
            detail = "black frames"
            return [Finding("black", first / video.fps, float(dark.sum()), 0.0, detail, is_whole=not beside)]
    return []


def find_colour_shift(video: PooledVideo, limits: VideoLimits) -> list[Finding]:
    """Find permanent changes of the colour of the whole frame, sudden or gradual."""
    stride = max(1, len(video.colour) // _COLOUR_FRAMES)
    cells = _pool_to_grid(video.colour[::stride])
    num = len(cells)
    least = max(5, round(_LASTING_S * video.fps / stride))
    if num < 2 * least:
        return []
    tint = np.stack((cells[..., 0] - cells[..., 1], cells[..., 2] - cells[..., 1]), axis=-1)
    light = cells @ _LUMA
    apart, brighter = _pairwise_distances(tint), _pairwise_distances(light[..., None])
    # a shift by gains is smaller in dark frames, but just as visible
    weighed = _pairwise_distances(tint * (64.0 / (light[..., None] + 32.0)))
    # lightning changes the hue of everything too, but brightness more: such pairs are left out
    hue = np.where((brighter < _AS_BRIGHT) | (apart > 0.5 * brighter), weighed, np.nan)

    best, at = 0.0, 0
    for split in range(least, num - least + 1):
        nearest = np.fmin.reduce(hue[:split, split:], axis=0)
        nearest = nearest[np.isfinite(nearest)]
        if nearest.size < least:
            continue
        lasting = float(nearest.min())
        if lasting > best and lasting > 0.6 * float(np.median(nearest)):
            best, at = lasting, split
    third = num // 3
    parts = [np.arange(third), np.arange(third, num - third), np.arange(num - third, num)]
    drift = min(_lower_quarter(hue[np.ix_(parts[one], parts[two])]) for one, two in ((0, 1), (1, 2), (0, 2)))
    within = max(_lower_quarter(hue[np.ix_(part, part)]) for part in parts)
    if drift > max(best, 3.0 * within):
        best, at = drift, third
    if best <= limits.colour:
        return []
    return [
        Finding(
            "colour_shift",
            at * stride / video.fps,
            best,
            limits.colour,
            "lasting change of hue, in levels weighted by darkness",
        )
    ]


def find_tile_grid(video: PooledVideo, limits: VideoLimits) -> list[Finding]:
    """Find straight seams through the whole frame in both directions, at the borders of square tiles.

    Tiles are a multiple of 8 pixels wide. Each line is divided into eight segments, and those with a step above the limit
    are counted. Objects that fill most of the frame (a keyboard, pads) have lines too, but these end within the frame or
    are elsewhere.
    """
    height, width = video.mean_grey.shape
    if min(height, width) < 4 * _SEGMENTS:
        return []
    ways = (_steps(video.mean_grey), _steps(video.mean_grey.T))
    usual = max(float((steps > limits.seam).mean()) for steps in ways)
    best, found = 0.0, 0
    for side in range(_TILE_STEP, min(height, width) // 2 + 1, _TILE_STEP):
        lines = [steps[:, np.arange(side, steps.shape[1], side)] for steps in ways]
        hits = [part > limits.seam for part in lines]
        share = float(np.concatenate([part.ravel() for part in hits]).mean())
        ends = float(np.concatenate([part[[0, -1]].ravel() for part in hits]).mean())
        fewer = min(float(part.mean()) for part in hits)
        whole = share >= _WHOLE and ends >= _WHOLE and fewer >= 0.5 and share > 1.3 * usual
        # with few large tiles one border in three may be invisible: enough, if there are hardly any other lines
        half = share >= _HALF and ends >= _HALF and fewer >= 0.4 and share > 2.5 * usual
        if whole or half:
            step = float(np.median(np.concatenate([part[hit] for part, hit in zip(lines, hits, strict=True)])))
            if step > best:
                best, found = step, side
    if not found:
        return []
    return [Finding("tile_grid", 0.0, best, limits.seam, f"step in levels at the seams of tiles of {found} pixels")]


_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
_SHORT_SIDE = 96
_SEAM_FRAMES = 24
_COLOUR_FRAMES = 48
_FEWEST_FRAMES = 3
_WARM_UP = 2  # codecs correct their first frame in the second
_FROZEN_RUN = 3
_REST, _TURNED = 0.05, 0.35
_AS_BRIGHT = 4.0
_LASTING_S = 0.4  # duration on either side of a change of colour: longer than a flash that ends with the video
_FADE = 0.3
_CELL = 8
_SEGMENTS = 8
_TILE_STEP = 8
_WHOLE = 0.65
_HALF = 0.5


def _pool_to_cells(pictures: Floats) -> Floats:
    """Return ``[T, h', w', C]`` means over cells of 8 x 8 pixels; incomplete cells at the edges are left out."""
    height, width = (max(1, size // _CELL) * min(_CELL, size) for size in pictures.shape[1:3])
    side = [min(_CELL, size) for size in pictures.shape[1:3]]
    return reduce(pictures[:, :height, :width], "t (h a) (w b) c -> t h w c", "mean", a=side[0], b=side[1])


def _pool_to_grid(pictures: Floats) -> Floats:
    """Return ``[T, cells, C]`` means over a grid of about 8 x 8 cells."""
    cells = _pool_to_cells(pictures)
    pool = [max(1, size // 6) for size in cells.shape[1:3]]
    height, width = (size // by * by for size, by in zip(cells.shape[1:3], pool, strict=True))
    return reduce(cells[:, :height, :width], "t (h a) (w b) c -> t (h w) c", "mean", a=pool[0], b=pool[1])


def _max_cell_difference(difference: Floats) -> Floats:
    """Return ``[T]``: the largest mean over a cell, of ``[T, h, w]``."""
    return np.asarray(_pool_to_cells(difference[..., None]).max((1, 2, 3)))


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return ``(first, last + 1)`` of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _is_frozen_run(video: PooledVideo, run: tuple[int, int], stills: npt.NDArray[np.intp], limits: VideoLimits) -> bool:
    """Return whether frames ``first`` to ``last`` are one frame that interrupts a movement and is not at rest.

    ``stills`` are all frames in which nothing moves.
    """
    first, last = run
    if first < _WARM_UP:
        return False
    # a light may be equally bright in two frames, to a level, between coming on and fading; earlier movement is not affected
    came = video.activity[first - 1 : first] if video.change[first:last].max() == 0.0 else video.activity[first - 2 : first]
    if came.min() < limits.hitch:
        return False
    if last < len(video.activity):
        goes = video.activity[last]
        turned = _max_cell_difference(np.abs(video.grey[last + 1 : last + 2] - video.grey[first - 1]))[0]
        # at a turning point the movement reverses: the frames on both sides are alike, and so are their neighbours
        if goes < limits.hitch or (last == first + 1 and turned < _TURNED * min(goes, came[-1])):
            return False
    others = stills[(stills < first) | (stills > last)]
    if not others.size:
        return True
    nearest = float(_max_cell_difference(np.abs(video.grey[others] - video.grey[first])).min())
    return nearest > max(limits.rest, _REST * float(came[-1]))


def _pairwise_distances(values: Floats) -> Floats:
    """Return ``[T, T]``: the distance of each pair of frames in the median cell of ``[T, cells, C]``."""
    # channel by channel: a maximum over a last axis of two is ten times slower
    channels = [np.abs(channel[:, None] - channel[None]) for channel in np.moveaxis(values, -1, 0)]
    apart = np.maximum.reduce(channels)
    middle = values.shape[1] // 2
    return np.asarray(np.partition(apart, middle, axis=-1)[..., middle])


def _lower_quarter(hue: Floats) -> float:
    known = hue[np.isfinite(hue)]
    return float(np.quantile(known, 0.25)) if known.size else 0.0


def _steps(image: Floats) -> Floats:
    """Return ``[8, W]``: the step before each column, in the median of each eighth of its height, in levels.

    The step is the difference of two columns minus the mean slope on both sides: 0 in a gradient, full at a sharp edge.
    """
    slope = np.diff(image, axis=1)
    step = slope[:, 1:-1] - 0.5 * (slope[:, :-2] + slope[:, 2:])
    height = image.shape[0] // _SEGMENTS * _SEGMENTS
    pieces = np.abs(np.median(rearrange(step[:height], "(s y) x -> s y x", s=_SEGMENTS), axis=1))
    return np.pad(pieces, ((0, 0), (2, 1)))
