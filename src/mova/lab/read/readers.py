"""Read a clip of a known family: what is seen, what is heard, and when.

Readers know where things are in a family's picture, and nothing of a particular scene's times. The clip may come from the
renderer, through a codec, or from a model that was given the scene's caption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mova.lab.read import sight
from mova.lab.read.audio_events import hear
from mova.lab.read.colour import nearest_names
from mova.lab.read.events import Detection
from mova.media.clip import Clip
from mova.scenes.clapper import stages
from mova.scenes.clapper.families import FAMILIES
from mova.scenes.clapper.plans import PUCK_COLOURS
from mova.scenes.clapper.scene import SHUTTER
from mova.scenes.kinds import ball, drums, mouth, piano
from mova.scenes.palette import BLACK, COLOURS, WHITE
from mova.scenes.raster import Exposure, mix

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Reading:
    """What the readers found in a clip.

    Args:
        seen: In order of time.
        heard: In order of time.
    """

    seen: tuple[Detection, ...]
    heard: tuple[Detection, ...]


def read_clip_events(clip: Clip, *, family: str, shutter: float = SHUTTER) -> Reading:
    """Look at and listen to a clip.

    Args:
        clip: The clip.
        family: A name in :data:`~mova.scenes.clapper.families.FAMILIES`.
        shutter: Share of a frame that is exposed; 1 in the suite's own scenes, 0.75 in the rendered world that the shipped
            model learnt from.

    Raises:
        ValueError: If there is no such family, or the shutter is not in (0, 1].
    """
    seen = see_events(clip.frames, float(clip.fps), family=family, shutter=shutter)
    return Reading(tuple(seen), tuple(hear_events(clip.waveform, clip.sample_rate, family=family)))


def see_events(frames: Frames, fps: float, *, family: str, shutter: float = SHUTTER) -> list[Detection]:
    """What is seen, in order of time; labels where the picture tells them. Arguments as :func:`read_clip_events`."""
    _check_family(family)
    if not 0.0 < shutter <= 1.0:
        raise ValueError(f"shutter must be above 0 and at most 1; got {shutter}.")
    if frames.ndim != 4 or frames.shape[3] != 3:
        raise ValueError(f"frames must be [T, H, W, 3]; got {list(frames.shape)}.")
    if frames.shape[0] < 6:
        return []
    found = _READERS[family](frames, fps, shutter)
    # light before the first frame or after the last is a fit gone astray
    return [one for one in found if 0.0 <= one.time_s <= frames.shape[0] / fps]


def hear_events(waveform: npt.NDArray[np.float32], sample_rate: int, *, family: str) -> list[Detection]:
    """What is heard, in order of time; labels where the audio tells them. Arguments as :func:`read_clip_events`."""
    _check_family(family)
    if family == "scrape":
        return _swells(waveform, sample_rate)
    return hear(waveform, sample_rate, kind=_VOICES[family])


def lit_glass(luma: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """``[H, W]`` where the lamp of ``flash_beep`` or ``far_flash`` lights up most, of ``[T, H, W]`` in 0..1."""
    reach = np.quantile(luma, 0.98, axis=0) - np.median(luma, axis=0)
    return np.asarray(reach > max(0.15, 0.5 * float(reach.max())))


def puck_colours(frames: Frames) -> tuple[str, ...]:
    """The colours of the pucks of ``collision``, at most two, the more of it first."""
    line = _rail_line(frames)
    core = line[np.linalg.norm(line - np.median(line, axis=(0, 1)), axis=2) > 0.2]
    if len(core) < 2 * frames.shape[0]:
        return ()
    names, counts = np.unique(nearest_names(core, {name: COLOURS[name] for name in PUCK_COLOURS}), return_counts=True)
    return tuple(str(name) for name in names[np.argsort(-counts)[:2]])


def block_line(frames: Frames) -> Floats:
    """``[T, w, 3]`` in 0..1: the line through the block of ``scrape``."""
    top, bottom = (stages.RAIL_Y - part * stages.BLOCK[1] for part in (1.5, 0.5))
    return _smooth_line(frames, top, bottom, reach=stages.WALL_X)


def body_places(frames: Frames) -> Floats:
    """``[T]`` how far right the body of ``moving_source`` is, in lengths from the middle; nan where it is not seen."""
    line = _smooth_line(frames, -0.32, 0.32)
    away = np.linalg.norm(line - np.median(line, axis=1, keepdims=True), axis=2)
    return _middles(np.where(away > 0.5 * away.max(axis=1, keepdims=True), away, 0.0), _columns(frames, line.shape[1]))


_VOICES: Mapping[str, str] = {
    "bounce": "ball",
    "flash_beep": "piano",
    "keys": "piano",
    "drum": "drums",
    "mouth": "mouth",
    "collision": "ball",
    "far_flash": "fireworks",
    "moving_source": "piano",
    "silent_motion": "ball",
    "off_screen": "ball",
    "unrelated": "ball",
}


def _bounce(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    above = frames[:, : int(ball.FLOOR_Y * frames.shape[1])].astype(np.float32) / 255.0
    away = np.linalg.norm(above - np.median(above, axis=(0, 2))[None, :, None], axis=3)
    cover = np.clip((away - 0.06) / 0.12, 0.0, 1.0).sum(axis=2, dtype=np.float64)
    if cover.sum(axis=1).max() < 4.0:
        return []
    rows = (np.arange(cover.shape[1]) + 0.5) / frames.shape[1]
    heights = _filled(-_middles(cover, rows))
    return sight.impacts(heights, fps, shutter=shutter)


def _lamp(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    luma = frames.astype(np.float32).mean(axis=3) / 255.0
    glass = lit_glass(luma)
    return sight.steps(luma[:, glass].mean(axis=1, dtype=np.float64), fps, shutter=shutter, least=0.15) if glass.any() else []


def _mover(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    luma = frames.mean(axis=(1, 2, 3), dtype=np.float64) / 255.0
    return sight.steps(luma, fps, shutter=shutter, least=0.04)


def _keys(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    found = []
    width = (piano.RIGHT - piano.LEFT) / len(piano.NOTES)
    ivory = np.array((0.94, 0.93, 0.90))
    for index, note in enumerate(piano.NOTES):
        left = piano.LEFT + index * width
        region = _region(frames, left + 0.25 * width, 0.67, left + 0.75 * width, 0.78)
        light = _along(np.median(region, axis=(1, 2)), ivory, np.asarray(piano.LIGHTS[note]))
        found += sight.fading_flashes(light, fps, shutter=shutter, decay_s=piano.DECAY_S, least=0.35, label=note)
    return _one_at_a_time(found)


def _drum(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    found = []
    for pad, (x, y) in drums.PLACES.items():
        half = 0.6 * drums.HALF_PAD
        region = _region(frames, x - half, y - half, x + half, y + half)
        dark, bright = (np.asarray(mix(COLOURS[pad], other, 0.45)) for other in (BLACK, WHITE))
        # the mallet covers less than half of a pad: the median does not see it
        light = _along(np.median(region, axis=(1, 2)), dark, bright)
        found += sight.fading_flashes(light, fps, shutter=shutter, decay_s=drums.DECAY_S, least=0.35, label=pad)
    return _one_at_a_time(found)


def _mouth(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    region = _region(frames, 0.28, 0.47, 0.72, 0.82)
    opened = np.abs(region - np.median(region, axis=0)).mean(axis=(1, 2, 3))
    opened -= np.quantile(opened, 0.3)
    scale = float(np.quantile(opened, 0.97))
    if scale < 0.004:
        return []
    grid = np.arange(0.0, 2.0, 0.01)
    exposure = Exposure(fps, 2 + max(4, round(0.2 * fps)), shutter, 8)
    shapes = np.stack([_aperture(exposure.moments() - position / fps).mean(axis=1) for position in grid])
    return sight.openings(opened / scale, fps, shapes=shapes, grid=grid, least=0.35)


def _aperture(since: Floats) -> Floats:
    """How much of the picture an open mouth changes, ``since`` seconds after it began to open."""
    rising = np.clip(since / mouth.OPENING_S, 0.0, 1.0)
    falling = np.clip((since - mouth.OPENING_S) / mouth.CLOSING_S, 0.0, 1.0)
    opened = rising * (0.5 + 0.5 * np.cos(np.pi * falling))
    # an ellipse grows in height and a little in width
    return np.asarray(opened * (0.75 + 0.25 * opened))


def _rail(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    names = puck_colours(frames)
    if len(names) < 2:
        return []
    line = _rail_line(frames)
    wall = np.median(line, axis=(0, 1))
    columns = _columns(frames, line.shape[1], reach=stages.WALL_X)
    first, second = (np.asarray(COLOURS[name]) for name in names)
    ways = [_share(line, wall, *pair) for pair in ((first, second), (second, first))]
    places = [_filled(_middles(way, columns)) for way in ways]
    return sight.turns(places[1] - places[0], fps, shutter=shutter)


def _rail_line(frames: Frames) -> Floats:
    middle = stages.RAIL_Y - stages.PUCK_RADIUS
    return _smooth_line(frames, middle - 0.03, middle + 0.03, reach=stages.WALL_X)


def _block(frames: Frames, fps: float, shutter: float) -> list[Detection]:
    line = block_line(frames)
    away = np.linalg.norm(line - np.median(line, axis=(0, 1)), axis=2)
    cover = np.clip((away - 0.08) / 0.15, 0.0, 1.0)
    if cover.sum(axis=1).max() < 2.0:
        return []
    places = _middles(cover, _columns(frames, line.shape[1], reach=stages.WALL_X))
    return sight.strokes(_filled(places), fps, shutter=shutter)


_READERS: Mapping[str, Callable[[Frames, float, float], list[Detection]]] = {
    "bounce": _bounce,
    "flash_beep": _lamp,
    "keys": _keys,
    "drum": _drum,
    "mouth": _mouth,
    "collision": _rail,
    "far_flash": _lamp,
    "moving_source": _mover,
    "scrape": _block,
    "silent_motion": _bounce,
    "off_screen": _bounce,
    "unrelated": _bounce,
}


def _swells(waveform: npt.NDArray[np.float32], sample_rate: int) -> list[Detection]:
    """Centres of swells of noise of the length of a stroke, by their power."""
    hop = max(1, sample_rate // 1000)
    power = np.square(waveform.mean(axis=0).astype(np.float64))
    power = power[: power.size // hop * hop].reshape(-1, hop).mean(axis=1)
    step = hop / sample_rate
    if power.size * step < 2 * stages.STROKE_S or power.max() < 1e-6:
        return []
    half = round(0.5 * stages.STROKE_S / step)
    level = np.sqrt(np.convolve(power, np.ones(half) / half, mode="same"))
    peaks = [
        index
        for index in range(1, level.size - 1)
        if level[index] == level[max(0, index - half) : index + half + 1].max() and level[index] > max(0.08 * level.max(), 2e-3)
    ]
    fresh = np.clip(power - np.quantile(power, 0.1), 0.0, None)
    found = []
    for peak in peaks:
        centre = float(peak)
        for _ in range(5):
            span = np.arange(max(0, round(centre) - half), min(fresh.size, round(centre) + half + 1))
            centre = float(span @ fresh[span] / max(float(fresh[span].sum()), 1e-12))
        found.append(Detection((centre + 0.5) * step, "", float(level[peak])))
    return found


def _check_family(family: str) -> None:
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}; got {family!r}.")


def _region(frames: Frames, left: float, top: float, right: float, bottom: float) -> Floats:
    """``[T, h, w, 3]`` in 0..1 of a box in unit picture coordinates; at least one pixel."""
    height, width = frames.shape[1:3]
    rows = slice(int(top * height), max(int(np.ceil(bottom * height)), int(top * height) + 1))
    columns = slice(int(left * width), max(int(np.ceil(right * width)), int(left * width) + 1))
    return frames[:, rows, columns].astype(np.float64) / 255.0


def _along(colours: Floats, dark: Floats, bright: Floats) -> Floats:
    """``[T]`` light: 0 at rest, 1 where the lamp's full colour is reached."""
    way = bright - dark
    position = (colours - dark) @ way / (way @ way)
    return np.asarray(position - np.quantile(position, 0.2))


def _smooth_line(frames: Frames, top: float, bottom: float, *, reach: float = 0.5) -> Floats:
    """``[T, w, 3]`` mean over rows between two heights and columns within ``reach``, in lengths from the middle."""
    height, width = frames.shape[1:3]
    unit = min(height, width)
    rows = slice(max(0, round(0.5 * height + top * unit)), max(1, round(0.5 * height + bottom * unit)))
    columns = slice(max(0, round(0.5 * width - reach * unit)), min(width, round(0.5 * width + reach * unit)))
    return np.asarray(frames[:, rows, columns].mean(axis=1, dtype=np.float64) / 255.0)


def _columns(frames: Frames, num_columns: int, *, reach: float = 0.5) -> Floats:
    """``[w]`` where the columns of :func:`_smooth_line` are, in lengths from the middle."""
    height, width = frames.shape[1:3]
    unit = min(height, width)
    first = max(0, round(0.5 * width - reach * unit))
    return np.asarray((first + np.arange(num_columns) + 0.5 - 0.5 * width) / unit)


def _share(line: Floats, wall: Floats, colour: Floats, other: Floats) -> Floats:
    """``[T, w]`` how much of a column has ``colour``, if it is made of that, ``other`` and the wall."""
    basis = np.stack((colour - wall, other - wall))
    shares = (line - wall) @ np.linalg.pinv(basis)
    return np.clip((shares[..., 0] - 0.15) / 0.7, 0.0, 1.0)


def _middles(weights: Floats, positions: Floats) -> Floats:
    """``[T]`` weighted mean position of ``[T, N]`` weights; nan where there is almost nothing."""
    total = weights.sum(axis=1)
    present = total > 0.25 * np.median(total)
    return np.where(present & (total > 0), weights @ positions / np.maximum(total, 1e-9), np.nan)


def _filled(places: Floats) -> Floats:
    known = np.flatnonzero(np.isfinite(places))
    return np.interp(np.arange(places.size), known, places[known]) if known.size else np.zeros(places.size)


def _one_at_a_time(found: list[Detection], *, gap_s: float = 0.08) -> list[Detection]:
    """In order of time; of two lamps that came on together only the brighter, which lit up its neighbour."""
    chosen: list[Detection] = []
    for one in sorted(found, key=lambda detection: -detection.strength):
        if all(abs(one.time_s - other.time_s) >= gap_s for other in chosen):
            chosen.append(one)
    return sorted(chosen, key=lambda detection: detection.time_s)
