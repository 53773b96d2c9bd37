"""When a ball meets the floor, found between frames: follow its middle, and intersect its ways before and after.

The wall behind is the same along each row, so the median of a row over the whole clip is the wall. Between impacts a
ball falls freely: with gravity taken off, its way before and after an impact are two straight lines in time, and they
cross at the impact. Up to two balls, told apart by colour.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mova.lab.read.colour import lab, nearest_names
from mova.lab.read.events import Detection
from mova.lab.read.light import SHUTTER
from mova.scenes.kinds import ball
from mova.scenes.palette import COLOURS

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]


def contacts(frames: Frames, fps: float) -> list[Detection]:
    """Impacts of all balls on the floor, in order of time; the label is the ball's colour.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        fps: Frames per second.

    Returns:
        In order of time; strength is the jump of the speed in picture heights per second.
    """
    found = []
    for name, cover in balls(frames).items():
        found += [Detection(time_s, name, jump) for time_s, jump in _impacts(_heights(cover, frames.shape[1]), fps)]
    return sorted(found, key=lambda detection: detection.time_s)


def balls(frames: Frames) -> dict[str, Floats]:
    """The one or two balls in a clip, larger first: colour name to ``[T, h, W]`` cover in 0..1, rows above the floor."""
    above = frames[:, : int(ball.FLOOR_Y * frames.shape[1])].astype(np.float64) / 255.0
    wall = np.median(above, axis=(0, 2))
    # away from the wall by Lab distance
    core = np.linalg.norm(lab(above) - lab(wall)[None, :, None], axis=-1) > 24.0
    if core.sum() < 4 * frames.shape[0]:
        return {}
    names = np.full(core.shape, "", dtype="<U8")
    names[core] = nearest_names(above[core], {name: COLOURS[name] for name in ball.BALL_COLOURS})
    counts = {name: int((names == name).sum()) for name in ball.BALL_COLOURS}
    first, second = sorted(counts, key=lambda name: -counts[name])[:2]
    if counts[second] < 0.3 * counts[first]:
        return {first: _cover(above, wall, first)}
    columns = np.arange(frames.shape[2]) / frames.shape[2]
    places = {name: _middle((names == name).sum(axis=1), columns) for name in (first, second)}
    apart = np.abs(places[first] - places[second])
    if not np.isfinite(apart).any() or np.nanmedian(apart) < 0.2:
        return {first: _cover(above, wall, first)}
    nearer = np.abs(columns - places[first][:, None]) <= np.abs(columns - places[second][:, None])
    return {
        first: _cover(above, wall, first) * nearer[:, None],
        second: _cover(above, wall, second) * ~nearer[:, None],
    }


def paths(frames: Frames) -> dict[str, Floats]:
    """Where the one or two balls are: colour name to ``[T, 2]``, their middle's x in picture widths and y, down, in heights.

    Args:
        frames: ``[T, H, W, 3]`` uint8.

    Returns:
        nan where a ball is not seen; empty if there is none.
    """
    height, width = frames.shape[1:3]

    def way(cover: Floats) -> Floats:
        columns, rows = ((np.arange(size) + 0.5) / of for size, of in ((width, width), (cover.shape[1], height)))
        return np.stack((_middle(cover.sum(axis=1), columns), _middle(cover.sum(axis=2), rows)), axis=1)

    return {name: way(cover) for name, cover in balls(frames).items()}


def _cover(above: Floats, wall: Floats, name: str) -> Floats:
    """How far each pixel is on the way from the wall's colour to the ball's; a dark rim or halo counts as wall."""
    way = np.asarray(COLOURS[name]) - wall
    share = np.einsum("thwc,hc->thw", above - wall[None, :, None], way) / np.square(way).sum(axis=1)[None, :, None]
    return np.asarray(np.clip((share - 0.2) / 0.6, 0.0, 1.0))


_REACH = 3  # frames on each side of an impact that its ways are fitted to
_GRAVITY = (3.0, 10.0)  # heights per second squared that the scenes use, with a margin


def _middle(weights: Floats, positions: Floats) -> Floats:
    """``[T]`` weighted mean position of ``[T, N]`` weights; nan where there is (almost) nothing."""
    total = weights.sum(axis=1).astype(np.float64)
    present = total > 0.25 * np.median(total)
    return np.where(present, weights @ positions / np.maximum(total, 1e-9), np.nan)


def _heights(cover: Floats, height_px: int) -> Floats:
    """``[T]`` height of the ball's middle in picture heights, upward; gaps are filled in from both sides."""
    rows = (np.arange(cover.shape[1]) + 0.5) / height_px
    heights = -_middle(cover.sum(axis=2), rows)
    known = np.flatnonzero(np.isfinite(heights))
    return np.interp(np.arange(heights.size), known, heights[known]) if known.size else np.zeros(heights.size)


def _impacts(heights: Floats, fps: float) -> list[tuple[float, float]]:
    """Times of impacts and the jumps of the speed at them."""
    bend = np.diff(heights, n=2) * fps**2
    falling = bend[bend < 0.0]
    gravity = float(np.clip(-np.median(falling), *_GRAVITY)) if falling.size else _GRAVITY[0]
    lowest = [
        frame
        for frame in range(1, heights.size - 1)
        if heights[frame] < heights[frame - 1] and heights[frame] <= heights[frame + 1]
    ]
    # an impact bends the way upward far more than gravity bends it down
    lowest = [frame for frame in lowest if bend[frame - 1] > 0.5 * gravity]
    ways = []
    for frame in lowest:
        before, after = _way(heights, frame, -1, gravity, fps), _way(heights, frame, 1, gravity, fps)
        jump = after[1] - before[1]
        if jump < 0.5:
            continue
        since = (before[0] - after[0]) / jump
        ways.append((frame, float(np.clip(since, -1.5 / fps, 1.5 / fps)), jump, before[0] + before[1] * since))
    if not ways:
        return []
    floor = min(level for *_, level in ways)
    span = float(heights.max() - heights.min())
    return [
        ((frame + 0.5 * SHUTTER) / fps + since, jump)
        for frame, since, jump, level in ways
        if level < floor + max(0.06, 0.25 * span)
    ]


def _way(heights: Floats, frame: int, side: int, gravity: float, fps: float) -> tuple[float, float]:
    """Height and speed at ``frame`` of the free flight on one side of it (-1 before, 1 after), gravity taken off."""
    indices = frame + side * np.arange(1, _REACH + 1)
    indices = indices[(indices >= 0) & (indices < heights.size)]
    since = (indices - frame) / fps
    straight = heights[indices] + 0.5 * gravity * since**2
    # a ball that hangs before its fall, or another impact: keep the frames that go on as they began
    if indices.size == _REACH and abs((straight[2] - straight[1]) - (straight[1] - straight[0])) > 0.02:
        since, straight = since[:2], straight[:2]
    if since.size < 2:
        return float(heights[frame]), 0.0 if side > 0 else float((heights[frame] - straight[0]) * fps)
    slope, level = np.polyfit(since, straight, 1)
    return float(level), float(slope)
