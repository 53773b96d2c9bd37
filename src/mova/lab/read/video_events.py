"""See what happens in a picture, and when, to a fraction of a frame: one detector for each kind of picture.

The detectors know where things are in a scene's picture (from the scenes' own constants), and nothing of a particular scene's
times. They take medians and means over regions, so that a picture that went through a codec or came out of a model reads as
well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from mova.lab.read.any_video import watch
from mova.lab.read.attributes import find_block, find_glass, find_pucks, follow_balls
from mova.lab.read.events import Detection
from mova.lab.read.light import (
    STARTS,
    cut_box,
    fill_gaps,
    find_flashes,
    find_middles,
    find_pulses,
    find_switches,
    fit_start,
    keep_strongest,
    project_light,
)
from mova.lab.read.trajectories import find_impacts, find_strokes, find_turns
from mova.scenes.clapper.scene import WORLD_SHUTTER
from mova.scenes.kind import Kind, ReadingHints
from mova.scenes.kinds import find_kind, fireworks, metronome, mouth, speech, storm
from mova.scenes.raster import Exposure
from mova.scenes.world import draw, write_script

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]


def see(frames: Frames, fps: float, *, kind: str | Kind, shutter: float = WORLD_SHUTTER) -> list[Detection]:
    """See what happens in a clip of a known kind.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        fps: Frames per second.
        kind: Kind of scene or its name, or a name in :data:`DETECTORS`. Labels are given where the picture tells them (ball,
            drums, piano, siren) and are empty elsewhere.
        shutter: Share of a frame that is exposed.

    Returns:
        In order of time.

    Raises:
        RequestError: If there is no such kind.
        ValueError: If the frames have another shape, or the shutter is not in (0, 1].
    """
    name = kind if isinstance(kind, str) else kind.name
    hints = None if name in DETECTORS else find_kind(kind).reading
    if frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(f"frames must be [T, H, W, 3]; got {list(frames.shape)}.")
    if not 0.0 < shutter <= 1.0:
        raise ValueError(f"shutter must be above 0 and at most 1; got {shutter}.")
    if len(frames) < _FEWEST_FRAMES:
        return []
    found = _see_by_hints(frames, float(fps), shutter, hints) if hints else DETECTORS[name](frames, float(fps), shutter)
    # light before the first frame or after the last is a fit gone astray
    inside = [one for one in found if 0.0 <= one.time_s <= len(frames) / fps]
    return sorted(inside, key=lambda one: one.time_s)


_FEWEST_FRAMES = 4


def _ball(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    return [
        replace(one, label=name)
        for name, path in follow_balls(frames).items()
        for one in find_impacts(fill_gaps(-path[:, 1]), fps, shutter=shutter)
    ]


def _see_by_hints(frames: Frames, fps: float, shutter: float, hints: ReadingHints) -> list[Detection]:
    """What the lights of a kind show or, if it has none, sudden changes of light and motion in its area."""
    if not hints.lights:
        left, top, right, bottom = hints.area
        height, width = frames.shape[1:3]
        area = frames[:, int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
        return [replace(one, label="") for one in watch(area, fps).events]
    found = []
    for light in hints.lights:
        colour = np.median(cut_box(frames, *light.area), axis=(1, 2))
        level = project_light(colour, np.asarray(light.dark), np.asarray(light.bright))
        found += find_flashes(level, fps, shutter=shutter, decay_s=light.decay_s, threshold=0.35, label=light.label)
    # of two lamps that come on together the brighter lit up its neighbour
    return keep_strongest(found, gap_s=0.08)


def _mouth(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    region = cut_box(frames, 0.28, 0.47, 0.72, 0.82)
    opened = np.abs(region - np.median(region, axis=0)).mean(axis=(1, 2, 3))
    opened -= np.quantile(opened, 0.3)
    scale = float(np.quantile(opened, 0.97))
    if scale < 0.004:
        return []
    return find_pulses(opened / scale, fps, shapes=_mouth_shapes(fps, shutter), keep=0.0, threshold=0.3, gap_s=0.2)


@lru_cache(maxsize=4)
def _mouth_shapes(fps: float, shutter: float) -> Floats:
    moments = Exposure(fps, 2 + max(3, round(0.2 * fps)), shutter, 8).moments()

    def opened(since: Floats) -> Floats:
        rising = np.clip(since / mouth.OPENING_S, 0.0, 1.0)
        falling = np.clip((since - mouth.OPENING_S) / mouth.CLOSING_S, 0.0, 1.0)
        return np.asarray((rising * (0.5 + 0.5 * np.cos(np.pi * falling))).mean(axis=1))

    return np.stack([opened(moments - start / fps) for start in STARTS])


def _speech(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    """When lips begin to open after a pause: where the first frames of a word, whichever it is, fit best."""
    opened = _opened_lips(frames)
    scale = float(np.quantile(opened, 0.95))
    if scale < 0.004:
        return []
    light, shapes = opened / scale, _lip_shapes(fps, shutter)
    starts, num = np.tile(_LIP_STARTS, len(shapes) // _LIP_STARTS.size), shapes.shape[1]
    padded, pause = np.append(light, np.zeros(num)), max(1, round(0.06 * fps))
    found: list[Detection] = []
    for frame in range(1, light.size - 1):
        if light[frame] >= 0.12 and light[frame + 1] >= 0.3 and light[max(0, frame - pause) : frame].max() <= 0.12:
            height, start = fit_start(padded[frame - 1 : frame - 1 + num], shapes, starts)
            found.append(Detection((frame - 1 + start) / fps, "", height))
    return found


def _opened_lips(frames: Frames) -> Floats:
    """``[T]`` how far the mouth of a speaking face differs from the mouth at rest: it moves in every frame of a word."""
    region = _mouth_region(frames)
    change = np.abs(np.diff(region, axis=0)).mean(axis=(1, 2, 3))
    stir = np.maximum(np.append(change, change[-1]), np.append(change[0], change))
    rest = np.median(region[stir <= np.quantile(stir, 0.3)], axis=0)
    opened = np.abs(region - rest).mean(axis=(1, 2, 3))
    return np.asarray(opened - np.quantile(opened, 0.15))


def _mouth_region(frames: Frames) -> Floats:
    (x, y), (across, down) = (0.5, 0.44 + speech.MOUTH_DY), (0.17, 0.11)
    return cut_box(frames, x - across, y - down, x + across, y + 1.2 * down)


@lru_cache(maxsize=4)
def _lip_shapes(fps: float, shutter: float, num_frames: int = 4) -> Floats:
    """``[words * starts, N]`` how far lips are open in the first frames of each word, as it is drawn."""
    dense_fps, size = 120.0, 40
    shapes = []
    for skin, word in product(_SKINS, speech.KIND.labels):
        script = write_script(speech.KIND, 0, attributes={"speaker": "woman", "sequence": word})
        events = tuple(replace(event, time_s=1.0 / dense_fps) for event in script.events)
        assert isinstance(script.motion, speech.SpeechMotion)
        drawn = replace(script, events=events, motion=replace(script.motion, skin=skin))
        num_dense = 2 + int(np.ceil((num_frames + 1) / fps * dense_fps))
        region = _mouth_region(
            draw(drawn, width=size, height=size, fps=dense_fps, num_frames=num_dense, shutter=1.0, subframes=2)
        )
        opened = np.abs(region[1:] - region[0]).mean(axis=(1, 2, 3))
        total = np.concatenate(([0.0], np.cumsum(opened)))
        opens = (np.arange(num_frames) - _LIP_STARTS[:, None]) * dense_fps / fps
        ends = np.arange(total.size)
        until, since = (np.interp(edge, ends, total) for edge in (opens + shutter * dense_fps / fps, opens))
        shapes.append(until - since)
    found = np.concatenate(shapes)
    return np.asarray(found / found.max(axis=1, keepdims=True))


_SKINS = (0, len(speech.SKINS) - 1)
_LIP_STARTS = STARTS[(STARTS > 0.25) & (STARTS < 1.78)]
"""Within the exposure that shows the lips closed at first, to the end of the next."""


def _metronome(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    y = 0.55 + metronome.LAMP_DY
    lamp = cut_box(frames, 0.40, y - 0.07, 0.60, y + 0.07).mean(axis=(1, 2, 3))
    light = (lamp - np.quantile(lamp, 0.1)) / 0.38
    return find_flashes(light, fps, shutter=shutter, decay_s=metronome.DECAY_S, threshold=0.25)


def _siren(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    sky = cut_box(frames, 0.0, 0.0, 1.0, 0.72).mean(axis=(1, 2))
    names = {"up": "high", "down": "low"}
    return [replace(one, label=names[one.label]) for one in find_switches(sky[:, 2] - sky[:, 0], fps, shutter=shutter)]


def _storm(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    sky = cut_box(frames, 0.0, 0.0, 1.0, 0.6).mean(axis=(1, 2, 3))
    light = (sky - np.quantile(sky, 0.1)) / 0.45
    threshold = max(0.12, 0.3 * float(light.max()))
    return find_flashes(light, fps, shutter=shutter, decay_s=storm.DECAY_S, threshold=threshold, gap_s=0.3)


def _fireworks(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    # the whole sky takes the colour of a burst; sparks and rockets cover little of it and the median does not see them
    sky = np.median(cut_box(frames, 0.0, 0.0, 1.0, 0.72), axis=(1, 2))
    light = (sky - np.quantile(sky, 0.1, axis=0)).max(axis=1) / 0.2
    return find_flashes(light, fps, shutter=shutter, decay_s=fireworks.FLASH_DECAY_S, threshold=0.3, gap_s=0.22)


def _lamp(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    luma = frames.astype(np.float32).mean(axis=3) / 255.0
    glass = find_glass(luma)
    return _switched_on(luma[:, glass].mean(axis=1, dtype=np.float64), fps, shutter, least=0.15) if glass.any() else []


def _mover(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    return _switched_on(frames.mean(axis=(1, 2, 3), dtype=np.float64) / 255.0, fps, shutter, least=0.04)


def _switched_on(light: Floats, fps: float, shutter: float, *, least: float) -> list[Detection]:
    switches = find_switches(light, fps, shutter=shutter, least=least)
    return [replace(one, label="") for one in switches if one.label == "up"]


def _rail(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    pucks = list(find_pucks(frames).values())
    return find_turns(fill_gaps(pucks[1]) - fill_gaps(pucks[0]), fps, shutter=shutter) if len(pucks) == 2 else []


def _block(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    line, columns = find_block(frames)
    cover = np.clip((np.linalg.norm(line - np.median(line, axis=(0, 1)), axis=2) - 0.08) / 0.15, 0.0, 1.0)
    if cover.sum(axis=1).max() < 2.0:
        return []
    return find_strokes(fill_gaps(find_middles(cover, columns)), fps, shutter=shutter)


DETECTORS: Mapping[str, Callable[[Frames, float, float], list[Detection]]] = {
    "ball": _ball,
    "mouth": _mouth,
    "speech": _speech,
    "metronome": _metronome,
    "siren": _siren,
    "storm": _storm,
    "fireworks": _fireworks,
    "lamp": _lamp,
    "mover": _mover,
    "rail": _rail,
    "block": _block,
}
"""By the kind of what is drawn, in the rendered world or in a Clapper scene; other kinds are read by their own hints."""
