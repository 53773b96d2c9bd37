"""When a light came on, to a fraction of a frame: shutter deconvolution.

A frame shows the mean of the light while the shutter was open. A flash that jumps up and fades by a known time constant
leaves, after the fading of the frame before is taken off, only two frames that differ from zero: the one in which it
came on, in part, and the next. The share of the first tells when. A flash between two exposures is not seen until the
next opens, whenever it was; the time given is then the middle of what is possible.

Parts of a picture are cut out here, too: boxes, lines along a rail, and where on them something is.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mova.lab.read.events import Detection
from mova.scenes.raster import Exposure

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]
STARTS = np.arange(0.0, 2.0, 0.01)
"""Starts of the pulses that are tried, in frames after the first frame of a shape."""


def find_flashes(
    light: Floats, fps: float, *, shutter: float, decay_s: float, threshold: float, gap_s: float = 0.16, label: str = ""
) -> list[Detection]:
    """Find flashes that jump up and fade exponentially.

    Args:
        light: ``[T]`` brightness of the lamp in each frame, 0 when dark, about 1 when just lit.
        fps: Frames per second.
        shutter: Share of a frame that is exposed.
        decay_s: Time constant of the fading.
        threshold: Smallest height of a flash.
        gap_s: Smallest distance of two flashes; the brighter stays.
        label: Label of each.

    Returns:
        In order of time; strength is the height.
    """
    keep = float(np.exp(-1.0 / (fps * decay_s)))
    shapes = _flash_shapes(fps, shutter, decay_s)
    return find_pulses(light, fps, shapes=shapes, keep=keep, threshold=threshold, gap_s=gap_s, label=label)


def find_pulses(
    light: Floats, fps: float, *, shapes: Floats, keep: float, threshold: float, gap_s: float, label: str = ""
) -> list[Detection]:
    """Find pulses of a known shape.

    Args:
        light: ``[T]`` per frame, 0 at rest.
        fps: Frames per second.
        shapes: ``[G, N]`` what ``N`` frames show of a pulse of height 1 that starts at ``STARTS[g]``, with ``keep`` times the
            frame before taken off each.
        keep: What is left of the light after one frame.
        threshold: Smallest height.
        gap_s: Smallest distance of two pulses; the higher stays.
        label: Label of each.

    Returns:
        In order of time; strength is the fitted height.
    """
    num_frames = shapes.shape[1]
    fresh = np.diff(light, prepend=light[:1] * keep) + (1.0 - keep) * np.concatenate((light[:1], light[:-1]))
    fresh[0] = 0.0
    padded = np.concatenate((fresh, np.zeros(num_frames)))
    candidates = []
    for frame in range(1, light.size):
        pair = padded[frame] + padded[frame + 1]
        # a lamp that stays lit, or brightens slowly, is no flash: the light itself must rise
        rise = float(light[frame : frame + 2].max() - light[frame - 1])
        if pair >= 0.5 * threshold and padded[frame] >= 0.08 * pair and rise >= 0.55 * threshold:
            height, start = fit_start(padded[frame - 1 : frame - 1 + num_frames], shapes, STARTS)
            # a pulse at the very edge of what is tried starts nearer to another frame
            if height >= threshold and 0.03 < start < 1.95:
                candidates.append(Detection((frame - 1 + start) / fps, label, height))
    return keep_strongest(candidates, gap_s=gap_s)


def find_switches(signal: Floats, fps: float, *, shutter: float, least: float = 1e-6, hold_frames: int = 2) -> list[Detection]:
    """Find when a signal that is either low or high changes sides; the frame in between tells the part of it that was open.

    Args:
        signal: ``[T]``, in any unit.
        fps: Frames per second.
        shutter: Share of a frame that is exposed.
        least: Smallest range of the signal in which changes are sought.
        hold_frames: Fewest frames that a side lasts.

    Returns:
        In order of time, labelled ``up`` or ``down``; strength is the step.
    """
    low, high = np.quantile(signal, [0.1, 0.995]) if signal.size > 3 else (0.0, 0.0)
    if high - low < least:
        return []
    is_up = signal > 0.5 * (low + high)
    edges = np.flatnonzero(np.diff(is_up.astype(np.int8))) + 1
    bounds = [0, *edges.tolist(), signal.size]
    found: list[Detection] = []
    for left, edge, right in zip(bounds[:-2], bounds[1:-1], bounds[2:], strict=True):
        if edge - left < min(hold_frames, edge) or right - edge < hold_frames:
            continue
        # levels on both sides, away from the frame that holds the change
        before = float(np.median(signal[max(left, edge - 4) : max(edge - 1, left + 1)]))
        after = float((np.max if is_up[edge] else np.min)(signal[edge + 1 : min(right, edge + 3)]))
        if abs(after - before) < 0.3 * (high - low):
            continue
        # frames edge - 1 and edge: the change lies in one of them
        share = float(np.clip((signal[edge - 1 : edge + 1] - before) / (after - before), 0.0, 1.0).sum())
        if abs(share - 1.0) < 0.28 * (1.0 - shutter):  # between the two exposures
            frames = 0.5 * (shutter + 1.0)
        elif share >= 1.0:
            frames = shutter * (2.0 - share)
        else:
            frames = 1.0 + shutter * (1.0 - share)
        found.append(Detection((edge - 1 + frames) / fps, "up" if is_up[edge] else "down", abs(after - before)))
    return found


def keep_strongest(found: list[Detection], *, gap_s: float) -> list[Detection]:
    """Keep the strongest of those nearer than ``gap_s`` to each other, in order of time."""
    kept: list[Detection] = []
    for one in sorted(found, key=lambda detection: -detection.strength):
        if all(abs(one.time_s - other.time_s) >= gap_s for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda detection: detection.time_s)


def fit_start(seen: Floats, shapes: Floats, starts: Floats) -> tuple[float, float]:
    """Height and start of the pulse that fits best: the mean of all that fit as well.

    Args:
        seen: ``[N]`` what is seen.
        shapes: ``[G, N]`` what is seen of a pulse of height 1.
        starts: ``[G]`` start of each.
    """
    heights = np.maximum(shapes @ seen, 0.0) / np.maximum(np.square(shapes).sum(axis=1), 1e-9)
    errors = np.square(seen - heights[:, None] * shapes).sum(axis=1)
    best = int(np.argmin(errors))
    doubt = (0.01 * max(heights[best], 1e-6)) ** 2
    weights = np.exp(-(errors - errors[best]) / (2.0 * doubt))
    weights /= weights.sum()
    return float(weights @ heights), float(weights @ starts)


@lru_cache(maxsize=16)
def _flash_shapes(fps: float, shutter: float, decay_s: float, num_frames: int = 4) -> Floats:
    exposure = Exposure(fps, num_frames + 1, shutter, 1)
    shown = np.stack([exposure.flash([(1.0 + start) / fps], [1.0], decay_s) for start in STARTS])
    return np.asarray(shown[:, 1:] - np.exp(-1.0 / (fps * decay_s)) * shown[:, :-1])


def cut_box(frames: Frames, left: float, top: float, right: float, bottom: float) -> Floats:
    """Cut ``[T, h, w, 3]`` in 0..1 of a box in unit picture coordinates; at least one pixel."""
    height, width = frames.shape[1:3]
    rows = slice(int(np.floor(top * height)), max(int(np.ceil(bottom * height)), int(top * height) + 1))
    columns = slice(int(np.floor(left * width)), max(int(np.ceil(right * width)), int(left * width) + 1))
    return frames[:, rows, columns].astype(np.float64) / 255.0


def project_light(colours: Floats, dark: Floats, bright: Floats) -> Floats:
    """``[T]`` light: the place of a colour on the way from its resting level (0) towards bright (1 at full light)."""
    way = bright - dark
    position = (colours - dark) @ way / (way @ way)
    return np.asarray(position - np.quantile(position, 0.2))


def cut_line(frames: Frames, top: float, bottom: float, *, reach: float = 0.5) -> tuple[Floats, Floats]:
    """Cut the line between two heights, and the places of its columns.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        top: Upper end in lengths of the short side from the middle, down.
        bottom: Lower end.
        reach: Largest distance from the middle to both sides.

    Returns:
        ``[T, w, 3]`` mean over the rows in 0..1, and ``[w]`` in lengths from the middle.
    """
    height, width = frames.shape[1:3]
    unit = min(height, width)
    rows = slice(max(0, round(0.5 * height + top * unit)), max(1, round(0.5 * height + bottom * unit)))
    first, last = max(0, round(0.5 * width - reach * unit)), min(width, round(0.5 * width + reach * unit))
    line = frames[:, rows, first:last].mean(axis=1, dtype=np.float64) / 255.0
    return line, (np.arange(first, last) + 0.5 - 0.5 * width) / unit


def find_middles(weights: Floats, positions: Floats) -> Floats:
    """``[T]`` weighted mean position of ``[T, N]`` weights; nan where there is almost nothing."""
    total = weights.sum(axis=1, dtype=np.float64)
    is_present = (total > 0.25 * np.median(total)) & (total > 0.0)
    return np.where(is_present, weights @ positions / np.maximum(total, 1e-9), np.nan)


def fill_gaps(places: Floats) -> Floats:
    """``[T]`` places with what is nan filled in from both sides; zeros if all is."""
    known = np.flatnonzero(np.isfinite(places))
    return np.interp(np.arange(places.size), known, places[known]) if known.size else np.zeros(places.size)


def thin(frames: Frames, *, num_frames: int = 24, side: int = 128) -> Frames:
    """Leave out frames and pixels: enough for a colour is left."""
    pixels = max(1, min(frames.shape[1:3]) // side)
    return frames[:: max(1, len(frames) // num_frames), ::pixels, ::pixels]
