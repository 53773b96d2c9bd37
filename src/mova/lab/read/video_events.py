"""See what happens in a picture, and when, to a fraction of a frame: one reader for each kind of scene.

The readers know where things are in the rendered world (from the scenes' own constants) and what their light looks like
through the shutter (:mod:`mova.lab.read.light`); a ball is followed in :mod:`mova.lab.read.ball_track`. They take
medians and means over regions, so that a picture that went through a codec or came out of a model reads as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mova.lab.read import ball_track
from mova.lab.read.events import Detection
from mova.lab.read.light import flashes, pulses, switches
from mova.scenes.kinds import drums, fireworks, metronome, mouth, piano, storm
from mova.scenes.palette import BLACK, COLOURS, WHITE
from mova.scenes.raster import Exposure, mix

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]


def see(frames: Frames, fps: float, *, kind: str) -> list[Detection]:
    """What is seen in a clip of a known kind.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        fps: Frames per second.
        kind: A scene kind. Labels are given where the picture tells them (drums, piano, siren) and are empty elsewhere.

    Returns:
        In order of time.

    Raises:
        ValueError: If there is no reader for the kind, or the frames have another shape.
    """
    if kind not in READERS:
        raise ValueError(f"kind must be one of {', '.join(READERS)}; got {kind!r}.")
    if frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(f"frames must be [T, H, W, 3]; got {list(frames.shape)}.")
    if frames.shape[0] < 4:
        return []
    return READERS[kind](frames, float(fps))


def _drums(frames: Frames, fps: float) -> list[Detection]:
    found = []
    for pad, (x, y) in drums.PLACES.items():
        half = 0.6 * drums.HALF_PAD
        region = _region(frames, x - half, y - half, x + half, y + half)
        dark = np.asarray(mix(COLOURS[pad], BLACK, 0.45))
        bright = np.asarray(mix(COLOURS[pad], WHITE, 0.45))
        # the mallet covers less than half of a pad: the median does not see it
        light = _along(np.median(region, axis=(1, 2)), dark, bright)
        found += flashes(light, fps, decay_s=drums.DECAY_S, threshold=0.35, label=pad)
    return _one_at_a_time(found)


def _piano(frames: Frames, fps: float) -> list[Detection]:
    found = []
    width = (piano.RIGHT - piano.LEFT) / len(piano.NOTES)
    ivory = np.array((0.94, 0.93, 0.90))
    for index, note in enumerate(piano.NOTES):
        left = piano.LEFT + index * width
        # below the black keys, above the lips, wherever the keys are shifted to
        region = _region(frames, left + 0.25 * width, 0.67, left + 0.75 * width, 0.78)
        light = _along(np.median(region, axis=(1, 2)), ivory, np.asarray(piano.LIGHTS[note]))
        found += flashes(light, fps, decay_s=piano.DECAY_S, threshold=0.35, label=note)
    return _one_at_a_time(found)


def _mouth(frames: Frames, fps: float) -> list[Detection]:
    region = _region(frames, 0.28, 0.47, 0.72, 0.82)
    closed = np.median(np.sort(region, axis=0)[: max(1, frames.shape[0])], axis=0)
    opened = np.abs(region - closed).mean(axis=(1, 2, 3))
    opened -= np.quantile(opened, 0.2)
    scale = float(np.quantile(opened, 0.97))
    if scale < 0.004:
        return []

    def response(exposure: Exposure, time_s: float) -> Floats:
        moments = exposure.moments() - time_s
        rising = np.clip(moments / mouth.OPENING_S, 0.0, 1.0)
        falling = np.clip((moments - mouth.OPENING_S) / mouth.CLOSING_S, 0.0, 1.0)
        return np.asarray((rising * (0.5 + 0.5 * np.cos(np.pi * falling))).mean(axis=1))

    return pulses(opened / scale, fps, response=response, keep=0.0, threshold=0.3, gap_s=0.2, num_frames=5)


def _metronome(frames: Frames, fps: float) -> list[Detection]:
    y = 0.55 + metronome.LAMP_DY
    lamp = _region(frames, 0.40, y - 0.07, 0.60, y + 0.07).mean(axis=(1, 2, 3))
    light = lamp - np.quantile(lamp, 0.1)
    return flashes(light / 0.38, fps, decay_s=metronome.DECAY_S, threshold=0.25)


def _siren(frames: Frames, fps: float) -> list[Detection]:
    sky = _region(frames, 0.0, 0.0, 1.0, 0.72).mean(axis=(1, 2))
    return switches(sky[:, 2] - sky[:, 0], fps, labels=("high", "low"))


def _storm(frames: Frames, fps: float) -> list[Detection]:
    sky = _region(frames, 0.0, 0.0, 1.0, 0.6).mean(axis=(1, 2, 3))
    light = (sky - np.quantile(sky, 0.1)) / 0.45
    threshold = max(0.12, 0.3 * float(light.max()))
    return flashes(light, fps, decay_s=storm.DECAY_S, threshold=threshold, gap_s=0.3)


def _fireworks(frames: Frames, fps: float) -> list[Detection]:
    # the whole sky takes the colour of a burst; sparks and rockets cover little of it and the median does not see them
    sky = np.median(_region(frames, 0.0, 0.0, 1.0, 0.72), axis=(1, 2))
    light = (sky - np.quantile(sky, 0.1, axis=0)).max(axis=1) / 0.2
    return flashes(light, fps, decay_s=fireworks.FLASH_DECAY_S, threshold=0.3, gap_s=0.22)


READERS: Mapping[str, Callable[[Frames, float], list[Detection]]] = {
    "ball": ball_track.contacts,
    "drums": _drums,
    "piano": _piano,
    "mouth": _mouth,
    "metronome": _metronome,
    "siren": _siren,
    "storm": _storm,
    "fireworks": _fireworks,
}


def _region(frames: Frames, left: float, top: float, right: float, bottom: float) -> Floats:
    """``[T, h, w, 3]`` in 0..1 of a box in unit picture coordinates; at least one pixel."""
    height, width = frames.shape[1:3]
    rows = slice(int(np.floor(top * height)), max(int(np.ceil(bottom * height)), int(top * height) + 1))
    columns = slice(int(np.floor(left * width)), max(int(np.ceil(right * width)), int(left * width) + 1))
    return frames[:, rows, columns].astype(np.float64) / 255.0


def _along(colours: Floats, dark: Floats, bright: Floats) -> Floats:
    """``[T]`` light: where a colour lies on the way from its resting level (0) towards bright (1 at full light)."""
    way = bright - dark
    position = (colours - dark) @ way / (way @ way)
    return np.asarray(position - np.quantile(position, 0.2))


def _one_at_a_time(found: list[Detection], *, gap_s: float = 0.08) -> list[Detection]:
    """In order of time; of two lamps that came on together only the brighter, which lit up its neighbour."""
    ordered = sorted(found, key=lambda detection: detection.time_s)
    weaker = set()
    for first, second in pairwise(ordered):
        if second.time_s - first.time_s < gap_s:
            weaker.add(min(first, second, key=lambda detection: detection.strength))
    return [detection for detection in ordered if detection not in weaker]
