"""When something happens in the picture of any video: lights and cuts, and things that start, stop or turn round.

Of a video of which nothing is known, two traces tell what could be heard. *Light*: how much 16 x 16 blocks change from one
frame to the next, as far as it stands out of the usual change around it; what only takes a change back (a flash that goes
out) is no event of its own. *Motion*: how much the mean flow of the picture changes from one pair of frames to the next.
Things that fly, fall or roll change it little; a blow changes it at once, and is what is heard.

A frame shows what its shutter let in, and how long that was is not known of a video: a light that is there in full is taken
to have come on with its frame, one of which a part is there to have come on within it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from einops import reduce
from scipy.ndimage import maximum_filter1d, median_filter

from mova.lab.read.events import Detection
from mova.lab.read.flow import farneback
from mova.scenes.clapper.scene import WORLD_SHUTTER

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PictureTrace:
    """What happens in a picture.

    Args:
        events: In order of time; labelled ``light`` or ``motion``.
        activity: ``[T]`` how much happens at each frame; 1 at the strongest event, for drawing.
    """

    events: tuple[Detection, ...]
    activity: Floats


def watch(frames: Frames, fps: float) -> PictureTrace:
    """Sudden changes of light and motion in any video.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        fps: Frames per second.
    """
    if len(frames) < _FEWEST_FRAMES:
        return PictureTrace((), np.zeros(len(frames)))
    grey = _reduce(frames)
    lights, lightness, has_light = _lights(grey, fps)
    # what flow is where the light changes is no motion, neither when it comes nor when it goes
    motions, jerk = _motions(grey, fps, masked=maximum_filter1d(has_light, 5))
    apart = [one for one in motions if all(abs(one.time_s - light.time_s) > _GAP_S for light in lights)]
    events = sorted((*lights, *apart), key=lambda event: event.time_s)
    return PictureTrace(tuple(events), np.maximum(lightness, jerk))


_FEWEST_FRAMES = 5
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
_SHORT_SIDE, _BLOCKS = 48, 16
_GAP_S = 0.12
_AROUND_S = 0.3
_RETURN_S = 0.4  # a flash may burn so long: its end is not heard
_LEAST_LIGHT = 0.003  # mean change of the blocks, of full scale: a codec's key frames jump by less
_LEAST_JERK = 0.02  # change of the mean velocity, in sides of the picture per second
_SHARE = 0.1  # of the strongest event: what is weaker is not counted
_STANDS_OUT = 4.0  # times the usual


def _reduce(frames: Frames) -> npt.NDArray[np.float32]:
    """``[T, h, w]`` luma in 0..1, pooled over whole squares."""
    pool = max(1, min(frames.shape[1:3]) // _SHORT_SIDE)
    height, width = (size // pool * pool for size in frames.shape[1:3])
    return np.stack(
        [
            reduce(frame[:height, :width] @ (_LUMA / np.float32(255.0)), "(h a) (w b) -> h w", "mean", a=pool, b=pool)
            for frame in frames
        ]
    )


def _lights(grey: npt.NDArray[np.float32], fps: float) -> tuple[list[Detection], Floats, npt.NDArray[np.bool_]]:
    """Events, ``[T]`` the trace, and ``[T]`` whether the light changes."""
    rows, columns = (np.unique(np.linspace(0, side, _BLOCKS + 1).astype(np.int64)[:-1]) for side in grey.shape[1:])
    sums = np.add.reduceat(np.add.reduceat(grey.astype(np.float64), rows, axis=1), columns, axis=2)
    change = np.diff(sums.reshape(len(grey), -1), axis=0, prepend=sums[:1].reshape(1, -1)) / (grey.shape[1] * grey.shape[2])
    size = np.abs(change).sum(axis=1)  # [T], at the frame that is new
    usual = _usual(size, fps)
    fresh = np.clip(size - usual, 0.0, None)
    threshold = np.maximum(max(_LEAST_LIGHT, _SHARE * float(fresh.max())), (_STANDS_OUT - 1.0) * usual)
    found: list[Detection] = []
    frame, turned, until = 1, np.zeros(change.shape[1]), -1
    while frame < len(fresh):
        if fresh[frame] < threshold[frame] or (frame <= until and _cosine(change[frame], turned) < -0.5):
            frame += 1
            continue
        first = frame
        # the first frame may hold so little of the light that it does not stand out
        if fresh[first - 1] > 0.05 * fresh[first] and _cosine(change[first - 1], change[first]) > 0.7:
            first -= 1
        goes_on = first + 1 < len(fresh) and _cosine(change[first], change[first + 1]) > 0.7
        whole = float(fresh[first] + (fresh[first + 1] if goes_on else 0.0))
        time_s = (first + WORLD_SHUTTER * (1.0 - float(fresh[first]) / whole)) / fps
        if not found or time_s - found[-1].time_s > _GAP_S:
            found.append(Detection(time_s, "light", whole))
            turned = change[first] + (change[first + 1] if goes_on else 0.0)
            until = first + 1 + round(_RETURN_S * fps)
        frame = first + 2 if goes_on else frame + 1
    return found, fresh / max(float(fresh.max()), _LEAST_LIGHT), fresh >= threshold


def _motions(grey: npt.NDArray[np.float32], fps: float, *, masked: npt.NDArray[np.bool_]) -> tuple[list[Detection], Floats]:
    """Events and ``[T]`` the trace, without what is ``[T]`` masked."""
    levels = 255.0 * grey
    flow = np.stack([farneback(one, two, window=9, num_iterations=2) for one, two in zip(levels, levels[1:], strict=False)])
    velocity = flow.mean(axis=(1, 2)) * (fps / min(grey.shape[1:]))  # [T - 1, 2], sides of the picture per second
    speed = np.linalg.norm(flow, axis=-1).mean(axis=(1, 2)) * (fps / min(grey.shape[1:]))
    jerk = np.zeros(len(grey))
    jerk[1:-1] = np.linalg.norm(np.diff(velocity, axis=0), axis=1) + np.abs(np.diff(speed))
    jerk[masked] = 0.0
    usual = _usual(jerk, fps)
    threshold = np.maximum(max(_LEAST_JERK, _SHARE * float(jerk.max())), _STANDS_OUT * usual)
    found: list[Detection] = []
    for frame in np.argsort(-jerk):
        if jerk[frame] < threshold[frame] or not 0 < frame < len(jerk) - 1:
            continue
        before, here, after = (float(value) for value in jerk[frame - 1 : frame + 2])
        curve = before - 2.0 * here + after
        vertex = float(np.clip(0.5 * (before - after) / curve, -0.5, 0.5)) if curve < 0.0 else 0.0
        time_s = (int(frame) + 0.5 * WORLD_SHUTTER + vertex) / fps
        if all(abs(time_s - other.time_s) > _GAP_S for other in found):
            found.append(Detection(time_s, "motion", here))
    return found, jerk / max(float(jerk.max()), _LEAST_JERK)


def _usual(trace: Floats, fps: float) -> Floats:
    """Median over what is around each frame."""
    return np.asarray(median_filter(trace, size=2 * max(4, round(_AROUND_S * fps)) + 1, mode="nearest"))


def _cosine(one: Floats, other: Floats) -> float:
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size > 0.0 else 0.0
