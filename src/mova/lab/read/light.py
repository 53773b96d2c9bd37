"""When a light came on, to a fraction of a frame: the shutter turned around.

A frame shows the mean of the light while the shutter was open. A flash that jumps up and fades by a known time constant
leaves, after the fading of the frame before is taken off, only two frames that differ from zero: the one in which it
came on, in part, and the next. The share of the first tells when. A flash between two exposures is not seen until the
next opens, whenever it was; the time given is then the middle of what is possible.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mova.lab.read.events import Detection
from mova.scenes.raster import Exposure

Floats = npt.NDArray[np.float64]
Response = Callable[[Exposure, float], Floats]
SHUTTER = 0.75


def flashes(
    light: Floats, fps: float, *, decay_s: float, threshold: float, gap_s: float = 0.16, label: str = ""
) -> list[Detection]:
    """Flashes that jump up and fade exponentially.

    Args:
        light: ``[T]`` brightness of the lamp in each frame, 0 when dark, about 1 when just lit.
        fps: Frames per second.
        decay_s: Time constant of the fading.
        threshold: Smallest height of a flash.
        gap_s: Two flashes are at least this far apart; the brighter stays.
        label: Given to each.

    Returns:
        In order of time; strength is the height.
    """

    def response(exposure: Exposure, time_s: float) -> Floats:
        return exposure.flash([time_s], [1.0], decay_s)

    keep = float(np.exp(-1.0 / (fps * decay_s)))
    return pulses(light, fps, response=response, keep=keep, threshold=threshold, gap_s=gap_s, label=label)


def pulses(
    light: Floats,
    fps: float,
    *,
    response: Response,
    keep: float,
    threshold: float,
    gap_s: float,
    label: str = "",
    num_frames: int = 4,
) -> list[Detection]:
    """Pulses of a known shape.

    Args:
        light: ``[T]`` per frame, 0 at rest.
        fps: Frames per second.
        response: ``(exposure, time) -> [T]``: what each frame shows of a pulse of height 1 that starts at ``time``.
        keep: What is left of the light after one frame; taken off before a pulse is sought.
        threshold: Smallest height.
        gap_s: Two pulses are at least this far apart; the higher stays.
        label: Given to each.
        num_frames: Frames that the fit looks at: one before the first lit one, and those after.

    Returns:
        In order of time; strength is the fitted height.
    """
    fresh = np.diff(light, prepend=light[:1] * keep) + (1.0 - keep) * np.concatenate((light[:1], light[:-1]))
    fresh[0] = 0.0
    padded = np.concatenate((fresh, np.zeros(num_frames)))
    candidates = []
    for frame in range(1, light.size):
        pair = padded[frame] + padded[frame + 1]
        # a lamp that stays lit, or brightens slowly, is no flash: the light itself must rise
        rise = float(light[frame : frame + 2].max() - light[frame - 1])
        if pair < 0.5 * threshold or padded[frame] < 0.08 * pair or rise < 0.55 * threshold:
            continue
        candidates.append(_fit(padded, frame, fps, response, keep, num_frames))
    chosen: list[tuple[float, float]] = []
    for height, time_s in sorted(candidates, reverse=True):
        if height >= threshold and all(abs(time_s - other) >= gap_s for _, other in chosen):
            chosen.append((height, time_s))
    return [Detection(time_s, label, height) for height, time_s in sorted(chosen, key=lambda pair: pair[1])]


def switches(signal: Floats, fps: float, *, labels: tuple[str, str], hold_frames: int = 2) -> list[Detection]:
    """When a signal that is either low or high changes sides; the frame in between tells the part of it that was open.

    Args:
        signal: ``[T]``.
        fps: Frames per second.
        labels: Of a change upward and of a change downward.
        hold_frames: A side must last so many frames.

    Returns:
        In order of time; strength is the step as a share of the whole range. Empty if the signal has no two sides.
    """
    low, high = np.quantile(signal, [0.1, 0.9])
    if signal.size < 4 or high - low < 1e-6:
        return []
    up = signal > 0.5 * (low + high)
    edges = np.flatnonzero(np.diff(up.astype(np.int8))) + 1
    bounds = [0, *edges.tolist(), signal.size]
    found: list[Detection] = []
    for left, edge, right in zip(bounds[:-2], bounds[1:-1], bounds[2:], strict=True):
        if edge - left < min(hold_frames, edge) or right - edge < hold_frames:
            continue
        # levels on both sides, away from the frame that holds the change
        before = float(np.median(signal[max(left, edge - 4) : max(edge - 1, left + 1)]))
        after = float(np.median(signal[edge + 1 : min(right, edge + 5)]))
        if abs(after - before) < 0.3 * (high - low):
            continue
        # frames edge - 1 and edge: the change lies in one of them
        parts = np.clip((signal[edge - 1 : edge + 1] - before) / (after - before), 0.0, 1.0)
        share = float(parts.sum())  # 1: just between the two exposures; 2: at the start of the first
        first_opens = (edge - 1) / fps
        if share >= 1.0:
            time_s = first_opens + SHUTTER * (2.0 - share) / fps
        else:
            time_s = first_opens + (1.0 + SHUTTER * (1.0 - share)) / fps
        if 0.93 < share < 1.07:
            time_s = first_opens + 0.5 * (SHUTTER + 1.0) / fps
        label = labels[0] if after > before else labels[1]
        found.append(Detection(time_s, label, abs(after - before) / float(high - low)))
    return found


def _fit(padded: Floats, frame: int, fps: float, response: Response, keep: float, num_frames: int) -> tuple[float, float]:
    """Height and time of the pulse that first shows in about ``frame``: the mean of all times that fit as well."""
    grid = np.arange(frame - 1.0, frame + 1.0, 0.02)
    exposure = Exposure(fps, num_frames + 1, SHUTTER, 3)
    # only the position within a frame matters: times are taken from frame - 2 on
    shapes = np.stack([response(exposure, (position - (frame - 2)) / fps) for position in grid])
    shapes = shapes[:, 1:] - keep * shapes[:, :-1]
    seen = padded[frame - 1 : frame - 1 + num_frames]
    power = np.einsum("gt,gt->g", shapes, shapes)
    heights = np.maximum(shapes @ seen, 0.0) / np.maximum(power, 1e-9)
    errors = np.square(seen - heights[:, None] * shapes).sum(axis=1)
    best = int(np.argmin(errors))
    doubt = (0.03 * max(heights[best], 1e-6)) ** 2
    weights = np.exp(-(errors - errors[best]) / (2.0 * doubt))
    weights /= weights.sum()
    return float(weights @ heights), float(weights @ grid / fps)
