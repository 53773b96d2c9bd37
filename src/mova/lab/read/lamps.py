"""When a light of which nothing is known came on, to a part of a frame: the share of the first frame tells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mova.lab.read.events import GAP_S, Detection, Train
from mova.lab.read.regions import Region

Floats = npt.NDArray[np.float64]


def find_lights(region: Region, fps: float) -> list[Train]:
    """When a lamp comes on, from how bright its first frame is against the next.

    Returns:
        At most two trains, the likelier first: with and without what the brightness of first frames tells, which is nothing
        where the shutter was open for a moment only.
    """
    light, _ = region.light()
    full = float(np.quantile(light, 0.98))
    light = np.append(light / full, np.zeros(4))
    rise = np.diff(light, prepend=light[:1])
    found: list[tuple[int, float, float]] = []
    frame = 1
    while frame < light.size - 4:
        two = light[frame + 1] - light[frame - 1]
        if rise[frame] > 0.06 and max(rise[frame], two) > 0.3 and rise[frame] > 0.08 * max(rise[frame], two):
            found.append((frame, light[frame - 1], max(rise[frame], two)))
            frame += max(2, round(GAP_S * fps))
        else:
            frame += 1
    if not found:
        return []
    keeps = [float(np.clip(light[at + 2] / max(light[at + 1], 1e-6), 0.0, 1.0)) for at, *_ in found]
    laters = [float(np.clip(light[at + 3] / max(light[at + 2], 1e-6), 0.0, 1.0)) for at, *_ in found]
    keep = float(np.median(keeps))
    # what goes out at once does not fade
    later = float(np.median(laters))
    keep = float(np.sqrt(keep * later)) if abs(keep - later) < 0.12 and 0.3 < keep < 0.97 else 1.0
    shares = []
    for at, before, _ in found:
        first, second = light[at] - before * keep, light[at + 1] - before * keep**2
        shares.append(float(np.clip(first * keep / max(second, 1e-6), 0.0, 1.0)))
    num_partly = int(np.sum(np.array(shares) < _WHOLE))
    shutter = 1.0 if num_partly > 0.72 * len(shares) else 0.5
    events = []
    for (at, _, height), share in zip(found, shares, strict=True):
        frames = at - 0.5 * (1.0 - shutter) if share >= 0.95 else at + shutter - _exposed(share / keep, keep, shutter)
        events.append(Detection(frames / fps, "light", height))
    # nothing is known of a light but its first frame if all of these are as bright as they can be
    odds = _log_odds(num_partly, len(shares), shutter)
    first_frames = [Detection(at / fps, "light", height) for at, _, height in found]
    trains = [Train("light", tuple(first_frames), 0.5 / fps + 0.004, is_sampled=True, doubt=max(odds, 0.0))]
    if num_partly:
        trains.append(Train("light", tuple(events), 0.25 * (1.2 - shutter) / fps + 0.004, doubt=max(-odds, 0.0)))
    return sorted(trains, key=lambda train: train.doubt)


_WHOLE = 0.9
"""Share of its brightness from which on a frame was lit as long as it was exposed."""


def _log_odds(num_partly: int, num: int, shutter: float) -> float:
    """By how many nats an open shutter is likelier than none where so many lights of all are seen in part at first."""
    partly = min(max(shutter, _MISREAD), 1.0 - _MISREAD)
    return float(num_partly * np.log(partly / _MISREAD) + (num - num_partly) * np.log((1.0 - partly) / (1.0 - _MISREAD)))


_MISREAD = 0.1
"""Share of the lights whose first frame is misread."""


def _exposed(ratio: float, keep: float, shutter: float) -> float:
    """For how much of a frame a fading light was seen in its first, of ``ratio`` of the brightness of the second."""
    if keep > 0.995:
        return min(shutter, ratio * shutter)
    fade = -np.log(keep)
    return float(
        np.clip(np.log1p(ratio * np.exp(-fade * (1.0 - shutter)) * (1.0 - np.exp(-fade * shutter))) / fade, 0.0, shutter)
    )
