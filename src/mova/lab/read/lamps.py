"""When a light of which nothing is known came on, to a part of a frame: the share of the first frame tells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mova.lab.read.events import GAP_S, Detection, Train
from mova.lab.read.regions import Region

Floats = npt.NDArray[np.float64]


def find_lights(region: Region, fps: float) -> Train:
    """When a lamp comes on, from how bright its first frame is against the next."""
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
        return Train("light", (), 0.5 / fps)
    keeps = [float(np.clip(light[at + 2] / max(light[at + 1], 1e-6), 0.0, 1.0)) for at, *_ in found]
    laters = [float(np.clip(light[at + 3] / max(light[at + 2], 1e-6), 0.0, 1.0)) for at, *_ in found]
    keep = float(np.median(keeps))
    # what goes out at once does not fade
    keep = keep if abs(keep - float(np.median(laters))) < 0.08 and 0.3 < keep < 0.97 else 1.0
    shares = []
    for at, before, _ in found:
        first, second = light[at] - before * keep, light[at + 1] - before * keep**2
        shares.append(float(np.clip(first * keep / max(second, 1e-6), 0.0, 1.0)))
    part = float(np.mean(np.array(shares) < 0.93))
    shutter = 1.0 if part > 0.72 else 0.5 if part > 0.25 else 0.0
    events = []
    for (at, _, height), share in zip(found, shares, strict=True):
        if shutter == 0.0:
            frames = float(at)
        elif share >= 0.95:
            frames = at - 0.5 * (1.0 - shutter)
        else:
            frames = at + shutter - _exposed(share / keep, keep, shutter)
        events.append(Detection(frames / fps, "light", height))
    return Train("light", tuple(events), (0.5 if shutter == 0.0 else 0.25 * (1.2 - shutter)) / fps + 0.004, shutter == 0.0)


def _exposed(ratio: float, keep: float, shutter: float) -> float:
    """For how much of a frame a fading light was seen in its first, of ``ratio`` of the brightness of the second."""
    if keep > 0.995:
        return min(shutter, ratio * shutter)
    fade = -np.log(keep)
    return float(
        np.clip(np.log1p(ratio * np.exp(-fade * (1.0 - shutter)) * (1.0 - np.exp(-fade * shutter))) / fade, 0.0, shutter)
    )
