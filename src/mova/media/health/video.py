"""Faults of a picture that need no reference: frozen, doubled and black frames, a shift of colour, a grid of tiles.

What a fault looks like is told from what a quiet scene looks like, not from a level alone. A lamp that waits to be
struck stands still, lightning changes the colour of everything, night is dark; a fault does what none of these do:

* a video that *hangs* stops in the middle of a movement, at full speed; a scene that comes to rest slows down, or
  returns to where it has rested before;
* a colour that *shifts* never comes back, and changes more in hue than in brightness; a flash comes back;
* *tiles* leave straight lines from edge to edge, both ways; what is built or grown ends somewhere.

Everything is measured on pictures pooled to about 100 pixels, in levels of 0 to 255.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from einops import rearrange, reduce

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, before it is put in words.

    Args:
        kind: What.
        at_s: When it starts, in seconds.
        value: What was measured.
        limit: What is allowed at most.
        detail: How to read the value.
    """

    kind: str
    at_s: float
    value: float
    limit: float
    detail: str


@dataclass(frozen=True)
class PictureLimits:
    """What is allowed, in levels of 0 to 255 unless said otherwise.

    Args:
        moving: A frame that differs by more than this from the one before, in its liveliest cell, shows movement.
        hitch: A frame shown twice hangs only if the liveliest cell changed by more than this before it, and does after it.
        rest: A picture that differs by less than this, in the liveliest cell, from one in which nothing moves is a place of
            rest: a codec does not give it back to the level.
        same: Two frames that differ by less than this on average are one and the same.
        black: A frame whose brightest hundredth stays below this is black.
        colour: Largest lasting change of R - G or B - G, in the median cell, times 64 / (brightness + 32).
        seam: A piece of a line with a step above this may be part of a seam; a slow ramp in 8 bits has steps of 1.
    """

    moving: float = 2.5
    hitch: float = 2.5
    rest: float = 3.0
    same: float = 0.03
    black: float = 12.0
    colour: float = 3.0
    seam: float = 1.2


@dataclass(frozen=True, eq=False)
class Reduced:
    """A video pooled for looking at.

    Args:
        colour: ``[T, h, w, 3]`` float32 in 0 to 255, about 100 pixels on the short side.
        grey: ``[T, h, w]`` of it.
        mean_grey: ``[H, W]`` mean over time at full size, for seams.
        fps: Frames per second.
    """

    colour: Floats
    grey: Floats
    mean_grey: Floats
    fps: float

    @cached_property
    def activity(self) -> Floats:
        """``[T - 1]`` change from each frame to the next, in the liveliest cell."""
        return _max_cell_difference(np.abs(np.diff(self.grey, axis=0)))

    @cached_property
    def change(self) -> Floats:
        """``[T - 1]`` change from each frame to the next, mean over the picture."""
        return np.asarray(np.abs(np.diff(self.grey, axis=0)).mean((1, 2)))


def reduced(frames: npt.NDArray[np.uint8] | npt.NDArray[np.floating], fps: float) -> Reduced:
    """Pool a video once for all checks.

    Args:
        frames: ``[T, H, W, 3]``, uint8 or floating in [0, 1], finite.
        fps: Frames per second.
    """
    scale = np.float32(1.0 if frames.dtype == np.uint8 else 255.0)
    pool = max(1, min(frames.shape[1:3]) // _SHORT_SIDE)
    height, width = (size // pool * pool for size in frames.shape[1:3])
    colour = np.empty((len(frames), height // pool, width // pool, 3), np.float32)
    for index, frame in enumerate(frames):
        whole = frame[:height, :width]
        colour[index] = (
            reduce(whole.astype(np.float32), "(h a) (w b) c -> h w c", "mean", a=pool, b=pool) if pool > 1 else whole
        )
    colour *= scale
    step = max(1, len(frames) // _SEAM_FRAMES)
    mean = np.zeros(frames.shape[1:3], np.float32)
    for frame in frames[::step]:
        mean += frame.astype(np.float32) @ _LUMA
    return Reduced(colour, colour @ _LUMA, mean * (scale / len(frames[::step])), fps)


def duplicated_frames(video: Reduced, limits: PictureLimits) -> list[Finding]:
    """Frames that repeat the one before while things move: ``frozen`` (three or more in a row) or ``duplicated``."""
    num_frames = len(video.grey)
    if num_frames < _FEWEST_FRAMES:
        return []
    still = _max_cell_difference(np.abs(video.grey - video.grey[:1]))
    if still.max() < limits.moving:
        detail = "largest change of the picture in the whole clip, in levels"
        return [Finding("frozen", 0.0, float(still.max()), limits.moving, detail)]
    # in a video that went through a codec the same frame comes out a little different
    same = (video.change < limits.same) & (video.activity < 0.6)
    stills = np.flatnonzero(np.r_[True, same] | np.r_[same, True])  # the first and the last frame may be at rest, too
    runs = [run for run in _runs(same) if _hangs(video, run, stills, limits)]
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
        found.append(
            Finding("duplicated", (short[0][0] + 1) / video.fps, float(count), 0.0, "frames shown twice amid movement")
        )
    return found


def black(video: Reduced, limits: PictureLimits) -> list[Finding]:
    """Black frames, unless a fade leads to them and away from them."""
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
            return [Finding("black", first / video.fps, float(dark.sum()), 0.0, detail)]
    return []


def colour_shift(video: Reduced, limits: PictureLimits) -> list[Finding]:
    """Colours of the whole picture that change for good: at once, or little by little."""
    stride = max(1, len(video.colour) // _COLOUR_FRAMES)
    cells = _coarse(video.colour[::stride])
    num = len(cells)
    least = max(5, round(_LASTING_S * video.fps / stride))
    if num < 2 * least:
        return []
    tint = np.stack((cells[..., 0] - cells[..., 1], cells[..., 2] - cells[..., 1]), axis=-1)
    light = cells @ _LUMA
    apart, brighter = _apart(tint), _apart(light[..., None])
    # a shift by gains is smaller where it is dark, and seen there all the same
    weighed = _apart(tint * (64.0 / (light[..., None] + 32.0)))
    # lightning changes the hue of all there is, too, but more than that its brightness: such pairs say nothing
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
            "colour_shift", at * stride / video.fps, best, limits.colour, "lasting change of hue, in levels weighed by darkness"
        )
    ]


def tile_grid(video: Reduced, limits: PictureLimits) -> list[Finding]:
    """Straight seams through the whole picture, both ways, at the borders of square tiles (a multiple of 8 pixels wide).

    Counted are the pieces of each line, an eighth of its length each, with a step above the limit. What fills most of the
    picture (a keyboard, pads) has lines too, but they end before the picture does, or stand elsewhere.
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
        # of a few large tiles one border in three may not show: enough, where there are hardly any other lines
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
_WARM_UP = 2  # codecs mend their first picture in the second
_FROZEN_RUN = 3
_REST, _TURNED = 0.05, 0.35
_AS_BRIGHT = 4.0
_LASTING_S = 0.4  # on either side of a change of colour: longer than a flash that ends with the video
_FADE = 0.3
_CELL = 8
_SEGMENTS = 8
_TILE_STEP = 8
_WHOLE = 0.65
_HALF = 0.5


def _cells(pictures: Floats) -> Floats:
    """``[T, h', w', C]`` means over cells of 8 x 8 pixels (what is left over at the edges is not looked at)."""
    height, width = (max(1, size // _CELL) * min(_CELL, size) for size in pictures.shape[1:3])
    side = [min(_CELL, size) for size in pictures.shape[1:3]]
    return reduce(pictures[:, :height, :width], "t (h a) (w b) c -> t h w c", "mean", a=side[0], b=side[1])


def _coarse(pictures: Floats) -> Floats:
    """``[T, cells, C]`` means over a grid of about 8 x 8 cells."""
    cells = _cells(pictures)
    pool = [max(1, size // 6) for size in cells.shape[1:3]]
    height, width = (size // by * by for size, by in zip(cells.shape[1:3], pool, strict=True))
    return reduce(cells[:, :height, :width], "t (h a) (w b) c -> t (h w) c", "mean", a=pool[0], b=pool[1])


def _max_cell_difference(difference: Floats) -> Floats:
    """``[T]`` of ``[T, h, w]``: the mean of the cell with the largest one."""
    return np.asarray(_cells(difference[..., None]).max((1, 2, 3)))


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """``(first, last + 1)`` of every stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(first), int(last)) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _hangs(video: Reduced, run: tuple[int, int], stills: npt.NDArray[np.intp], limits: PictureLimits) -> bool:
    """Whether frames ``first`` to ``last`` are one picture that movement led to and that is no place of rest.

    ``stills`` are all frames in which nothing moves.
    """
    first, last = run
    if first < _WARM_UP:
        return False
    # a light may be as bright in two frames, to a level, as it goes on and begins to fade; what moved before did not
    came = video.activity[first - 1 : first] if video.change[first:last].max() == 0.0 else video.activity[first - 2 : first]
    if came.min() < limits.hitch:
        return False
    if last < len(video.activity):
        goes = video.activity[last]
        turned = _max_cell_difference(np.abs(video.grey[last + 1 : last + 2] - video.grey[first - 1]))[0]
        # at a turning point the video runs backwards: the two frames beside it are alike, and so are their neighbours
        if goes < limits.hitch or (last == first + 1 and turned < _TURNED * min(goes, came[-1])):
            return False
    others = stills[(stills < first) | (stills > last)]
    if not others.size:
        return True
    nearest = float(_max_cell_difference(np.abs(video.grey[others] - video.grey[first])).min())
    return nearest > max(limits.rest, _REST * float(came[-1]))


def _apart(values: Floats) -> Floats:
    """``[T, T]`` how far each pair of frames is apart in half of the cells of ``[T, cells, C]``, at least."""
    # channel by channel: a maximum over a last axis of two is ten times as slow
    channels = [np.abs(channel[:, None] - channel[None]) for channel in np.moveaxis(values, -1, 0)]
    apart = np.maximum.reduce(channels)
    middle = values.shape[1] // 2
    return np.asarray(np.partition(apart, middle, axis=-1)[..., middle])


def _lower_quarter(hue: Floats) -> float:
    known = hue[np.isfinite(hue)]
    return float(np.quantile(known, 0.25)) if known.size else 0.0


def _steps(picture: Floats) -> Floats:
    """``[8, W]`` step before each column, in the median of each eighth of its length, in levels.

    The step between two columns less the mean slope beside it: a ramp has none, an edge of one pixel all of it.
    """
    slope = np.diff(picture, axis=1)
    step = slope[:, 1:-1] - 0.5 * (slope[:, :-2] + slope[:, 2:])
    height = picture.shape[0] // _SEGMENTS * _SEGMENTS
    pieces = np.abs(np.median(rearrange(step[:height], "(s y) x -> s y x", s=_SEGMENTS), axis=1))
    return np.pad(pieces, ((0, 0), (2, 1)))
