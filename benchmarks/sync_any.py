"""How well ``mova sync`` measures videos that mova did not make.

A renderer of its own draws flashes, bouncing balls, strikes, claps and talking mouths, none of which looks like a scene of
mova: other shapes, colours, frame rates (24 to 60), sizes (160 to 720), shutters (none, half, full), textures, noise, camera
shake, things that move without a sound, and H.264 at several qualities. The audio (clicks, knocks, beeps, voices; with noise,
music or an echo; mono, stereo, one side, opposite phase) is moved by a known -200 to +200 ms. Controls have nothing to
measure: audio of another video, silence, a still picture.

    python benchmarks/sync_any.py --num 10 --seed 15000 --save benchmarks/results/sync_any.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32]
KINDS = ("flash", "bounce", "strike", "clap", "mouth")
CONTROLS = ("unrelated", "silent", "still")
RATE = 48000
WRONG_MS = 25.0
KEPT = ("kind", "seed", "control", "offset_ms", "value_ms", "is_sure", "verdict", "why")
SIZES = (
    (160, 160),
    (320, 240),
    (256, 256),
    (256, 256),
    (426, 240),
    (360, 360),
    (360, 640),
    (640, 360),
    (854, 480),
    (1280, 720),
)
SIZE_SHARES = (0.1, 0.2, 0.1, 0.1, 0.2, 0.08, 0.06, 0.08, 0.05, 0.03)
RATES = (Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(50), Fraction(60))


@dataclass(frozen=True)
class Sprite:
    """Something that moves: how much of each pixel it covers at a moment.

    Args:
        colour: ``[3]`` in 0..1.
        sdf: From ``x``, ``y`` (in lengths of the short side, from the middle) and the time, distance from its edge.
        box: From the time, its middle and its reach, in the same lengths.
        glow: From the time, how opaque it is; 1 if not given.
        is_static: Whether it never changes; such are drawn below all others.
    """

    colour: Floats
    sdf: Callable[[Floats, Floats, float], Floats]
    box: Callable[[float], tuple[float, float, float]]
    glow: Callable[[float], float] = lambda time_s: 1.0
    is_static: bool = False


def make(kind: str, seed: int, path: Path, *, control: str | None = None) -> dict[str, Any]:
    """Write a video, and return what is true of it.

    Args:
        kind: One of ``KINDS``.
        seed: Seed of everything.
        path: File to write.
        control: One of ``CONTROLS``, for a video of which nothing can be told.
    """
    rng = np.random.default_rng([KINDS.index(kind), seed])
    width, height = SIZES[rng.choice(len(SIZES), p=SIZE_SHARES)]
    fps = RATES[rng.integers(len(RATES))]
    seconds = float(rng.uniform(4.0, 7.0))
    shutter = float(rng.choice([0.0, 0.5, 1.0], p=[0.3, 0.3, 0.4]))
    times = _times(kind, seconds, rng)
    sprites, times = _SCENES[kind](times, seconds, rng)
    if rng.random() < 0.3:
        sprites.append(_distractor(seconds, rng))
    offset_s = float(rng.uniform(-0.2, 0.2))
    unrelated = control == "unrelated"
    sounds = np.sort(rng.uniform(0.2, seconds - 0.2, len(times))) if unrelated else np.asarray(times) + offset_s
    audio, sound = _audio(kind, sounds, seconds, rng, silent=control == "silent")
    frames = _draw(sprites, seconds, float(fps), shutter, width, height, rng, still=control == "still")
    crf = int(rng.choice([18, 23, 28, 32], p=[0.3, 0.4, 0.2, 0.1]))
    _write(path, frames, fps, audio, crf)
    return {
        "kind": kind,
        "seed": seed,
        "control": control,
        "offset_ms": round(1000.0 * offset_s, 2),
        "events": [round(float(time_s), 4) for time_s in times],
        "shutter": shutter,
        "fps": round(float(fps), 3),
        "size": [width, height],
        "crf": crf,
        "distractor": len(sprites) > _NUM_PARTS[kind],
        "sound": sound,
    }


_NUM_PARTS = {"flash": 1, "bounce": 2, "strike": 2, "clap": 2, "mouth": 4}


def _times(kind: str, seconds: float, rng: np.random.Generator) -> list[float]:
    """Regular in one video of six, else irregular."""
    least = {"flash": 0.3, "bounce": 0.3, "strike": 0.38, "clap": 0.42, "mouth": 0.32}[kind]
    if rng.random() < 1 / 6:
        step = float(rng.uniform(least + 0.25, 1.0))
        return list(np.arange(rng.uniform(0.4, 0.8), seconds - 0.35, step))
    times, time_s = [], float(rng.uniform(0.4, 0.8))
    while time_s < seconds - 0.35:
        times.append(time_s)
        time_s += float(rng.uniform(least, least + 0.8))
    return times


def _colour(rng: np.random.Generator, *, away: Floats | None = None, least: float = 0.5) -> Floats:
    while True:
        colour = rng.uniform(0.05, 0.95, 3)
        if away is None or np.abs(colour - away).sum() > least:
            return colour


def _disc(x: float, y: float, radius: float) -> Callable[[Floats, Floats], Floats]:
    return lambda xs, ys: np.hypot(xs - x, ys - y) - radius


def _capsule(xs: Floats, ys: Floats, ends: tuple[float, float, float, float], radius: float) -> Floats:
    x0, y0, x1, y1 = ends
    along = np.clip(((xs - x0) * (x1 - x0) + (ys - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0.0, 1.0)
    return np.hypot(xs - x0 - along * (x1 - x0), ys - y0 - along * (y1 - y0)) - radius


def _brick(xs: Floats, ys: Floats, x: float, y: float, half: tuple[float, float]) -> Floats:
    return np.maximum(np.abs(xs - x) - half[0], np.abs(ys - y) - half[1])


def _flash(times: list[float], seconds: float, rng: np.random.Generator) -> tuple[list[Sprite], list[float]]:
    x, y, radius = rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2), rng.choice([0.08, 0.15, 0.25, 3.0])
    decays, length_s = bool(rng.random() < 0.5), float(rng.uniform(0.08, 0.2))
    square = bool(rng.random() < 0.4)
    strengths = rng.uniform(0.8, 1.0, len(times)) if rng.random() < 0.5 else np.ones(len(times))

    def glow(time_s: float) -> float:
        light = 0.0
        for start_s, strength in zip(times, strengths, strict=True):
            age = time_s - start_s
            if age >= 0.0:
                light = max(light, strength * (np.exp(-age / length_s) if decays else float(age < length_s)))
        return float(light)

    def sdf(xs: Floats, ys: Floats, time_s: float) -> Floats:
        return _brick(xs, ys, x, y, (radius, radius)) if square else _disc(x, y, radius)(xs, ys)

    return [Sprite(rng.uniform(0.75, 1.0, 3), sdf, lambda time_s: (x, y, min(radius, 3.0)), glow)], times


def _bounce(times: list[float], seconds: float, rng: np.random.Generator) -> tuple[list[Sprite], list[float]]:
    floor, top = float(rng.uniform(0.25, 0.42)), float(rng.uniform(-0.4, -0.2))
    radius, gravity = float(rng.uniform(0.05, 0.12)), float(rng.uniform(2.0, 6.0))
    keep = float(rng.uniform(0.65, 0.9))
    slide = float(rng.uniform(-0.06, 0.06))
    drop = floor - radius - top
    begin = float(rng.uniform(0.1, 0.5))
    hits, speeds = [begin + np.sqrt(2.0 * drop / gravity)], [np.sqrt(2.0 * drop * gravity) * keep]
    while speeds[-1] * 2.0 / gravity > 0.07 and hits[-1] + speeds[-1] * 2.0 / gravity < seconds - 0.2:
        hits.append(hits[-1] + speeds[-1] * 2.0 / gravity)
        speeds.append(speeds[-1] * keep)

    def place(time_s: float) -> tuple[float, float]:
        x = slide * (time_s - 0.5 * seconds)
        if time_s < begin:
            return x, top
        if time_s < hits[0]:
            return x, top + 0.5 * gravity * (time_s - begin) ** 2
        last = int(np.searchsorted(hits, time_s, side="right")) - 1
        age = time_s - hits[last]
        return x, floor - radius - max(0.0, speeds[last] * age - 0.5 * gravity * age * age)

    def sdf(xs: Floats, ys: Floats, time_s: float) -> Floats:
        return _disc(*place(time_s), radius)(xs, ys)

    ground = _colour(rng)
    parts = [
        Sprite(ground, lambda xs, ys, time_s: floor - ys, lambda time_s: (0.0, 0.0, 9.0), is_static=True),
        Sprite(_colour(rng), sdf, lambda time_s: (*place(time_s), radius)),
    ]
    return parts, hits


def _strike(times: list[float], seconds: float, rng: np.random.Generator) -> tuple[list[Sprite], list[float]]:
    lift, fall_s, rise_s = float(rng.uniform(0.5, 1.1)), float(rng.uniform(0.09, 0.16)), float(rng.uniform(0.15, 0.24))
    hold_s = float(rng.choice([0.0, 0.0, 0.05]))
    power = float(rng.choice([1.0, 1.5, 2.0]))
    length, side = float(rng.uniform(0.35, 0.55)), float(rng.choice([-1.0, 1.0]))
    pivot = (-side * length * 0.5, float(rng.uniform(0.0, 0.15)))
    head = float(rng.uniform(0.035, 0.07))

    def angle(time_s: float) -> float:
        lowest = lift
        for hit_s in times:
            age = time_s - hit_s
            if -fall_s < age < 0.0:
                lowest = min(lowest, lift * (1.0 - (1.0 + age / fall_s) ** power))
            elif 0.0 <= age < hold_s + rise_s:
                lowest = min(lowest, lift * (max(0.0, age - hold_s) / rise_s) ** 0.8)
        return lowest

    def tip(time_s: float) -> tuple[float, float]:
        turn = angle(time_s)
        return pivot[0] + side * length * np.cos(turn), pivot[1] - length * np.sin(turn)

    def sdf(xs: Floats, ys: Floats, time_s: float) -> Floats:
        x, y = tip(time_s)
        return np.minimum(_capsule(xs, ys, (*pivot, x, y), 0.012), np.hypot(xs - x, ys - y) - head)

    plate_y = pivot[1] + head
    plate = Sprite(
        _colour(rng),
        lambda xs, ys, time_s: _brick(xs, ys, pivot[0] + side * length, plate_y + 0.06, (0.13, 0.06)),
        lambda time_s: (pivot[0] + side * length, plate_y + 0.06, 0.14),
        is_static=True,
    )
    return [plate, Sprite(_colour(rng), sdf, lambda time_s: (*pivot, length + 0.1))], times


def _clap(times: list[float], seconds: float, rng: np.random.Generator) -> tuple[list[Sprite], list[float]]:
    apart, in_s, out_s = float(rng.uniform(0.1, 0.22)), float(rng.uniform(0.1, 0.18)), float(rng.uniform(0.14, 0.22))
    hold_s = float(rng.choice([0.0, 0.04, 0.08]))
    half = (float(rng.uniform(0.03, 0.06)), float(rng.uniform(0.1, 0.2)))
    smooth = bool(rng.random() < 0.5)

    def gap(time_s: float) -> float:
        least = apart
        for hit_s in times:
            age = time_s - hit_s
            if -in_s < age < 0.0:
                left = -age / in_s
                least = min(least, apart * (np.sin(0.5 * np.pi * left) if smooth else left))
            elif 0.0 <= age < hold_s + out_s:
                least = min(least, apart * max(0.0, age - hold_s) / out_s)
        return least

    def hand(side: float) -> Sprite:
        def x_of(time_s: float) -> float:
            return side * (half[0] + gap(time_s))

        return Sprite(
            skin,
            lambda xs, ys, time_s: _brick(xs, ys, x_of(time_s), 0.0, half),
            lambda time_s: (x_of(time_s), 0.0, max(half)),
        )

    skin = _colour(rng)
    return [hand(-1.0), hand(1.0)], times


def _mouth(times: list[float], seconds: float, rng: np.random.Generator) -> tuple[list[Sprite], list[float]]:
    half_x, open_y = float(rng.uniform(0.08, 0.14)), float(rng.uniform(0.05, 0.1))
    y = float(rng.uniform(0.08, 0.18))

    def sdf(xs: Floats, ys: Floats, time_s: float) -> Floats:
        opened = 0.008 + open_y * syllables(np.array([time_s]), times)[0]
        shape = np.hypot(xs / half_x, (ys - y) / opened)
        return (shape - 1.0) * opened

    skin = _colour(rng)
    outline = lambda xs, ys, time_s: (np.hypot(xs / 0.32, ys / 0.42) - 1.0) * 0.32  # noqa: E731
    face = Sprite(skin, outline, lambda time_s: (0.0, 0.0, 0.45), is_static=True)
    eyes = [
        Sprite(
            np.full(3, 0.1),
            lambda xs, ys, time_s, x=x: _disc(x, -0.12, 0.035)(xs, ys),
            lambda time_s, x=x: (x, -0.12, 0.04),
            is_static=True,
        )
        for x in (-0.12, 0.12)
    ]
    return [face, *eyes, Sprite(np.array([0.25, 0.05, 0.08]), sdf, lambda time_s: (0.0, y, 0.16))], times


SYLLABLE_S = (0.07, 0.16)
"""Time in which a mouth opens, and in which it closes."""


def syllables(at_s: Floats, times: npt.ArrayLike) -> Floats:
    """How far a mouth is open that opens at given times, 0 to 1."""
    opened = np.zeros(at_s.shape)
    for start_s in np.asarray(times):
        age = at_s - start_s
        rising = 0.5 - 0.5 * np.cos(np.pi * np.clip(age / SYLLABLE_S[0], 0.0, 1.0))
        falling = 0.5 + 0.5 * np.cos(np.pi * np.clip((age - SYLLABLE_S[0]) / SYLLABLE_S[1], 0.0, 1.0))
        opened = np.maximum(opened, rising * falling)
    return opened


_SCENES: dict[str, Callable[[list[float], float, np.random.Generator], tuple[list[Sprite], list[float]]]] = {
    "flash": _flash,
    "bounce": _bounce,
    "strike": _strike,
    "clap": _clap,
    "mouth": _mouth,
}


def _distractor(seconds: float, rng: np.random.Generator) -> Sprite:
    """Something that drifts along the upper edge, smoothly."""
    y, reach, pace, phase = -0.42, float(rng.uniform(0.15, 0.4)), float(rng.uniform(0.6, 2.0)), float(rng.uniform(0.0, 6.0))

    def x_of(time_s: float) -> float:
        return reach * float(np.sin(pace * time_s + phase))

    return Sprite(
        _colour(rng),
        lambda xs, ys, time_s: _brick(xs, ys, x_of(time_s), y, (0.05, 0.03)),
        lambda time_s: (x_of(time_s), y, 0.06),
    )


def _draw(
    sprites: list[Sprite],
    seconds: float,
    fps: float,
    shutter: float,
    width: int,
    height: int,
    rng: np.random.Generator,
    *,
    still: bool,
) -> list[npt.NDArray[np.uint8]]:
    short = min(width, height)
    back = _background(width, height, rng)
    noise = float(rng.choice([0.0, 2.0, 5.0])) / 255.0
    shakes = float(rng.choice([0.0, 0.0, 0.004, 0.01]))
    phases = rng.uniform(0.0, 6.28, 4)
    subs = 8 if shutter > 0.0 else 1
    resting = [sprite for sprite in sprites if sprite.is_static]
    acting = [sprite for sprite in sprites if not sprite.is_static]
    frames, ground = [], None
    for index in range(int(seconds * fps)):
        begin_s = 0.0 if still else index / fps
        wobble = [
            shakes * (np.sin(5.1 * begin_s + phases[2 * i]) + 0.6 * np.sin(13.7 * begin_s + phases[2 * i + 1])) for i in (0, 1)
        ]
        if ground is None or shakes:
            ground = _shifted(back, wobble[0] * short, wobble[1] * short)
            for sprite in resting:
                _paint(ground, (0, 0), (height, width), sprite, begin_s, short, wobble)
        total = ground.copy()
        moments = [begin_s + shutter * (sub + 0.5) / subs / fps for sub in range(subs)] if subs > 1 else [begin_s]
        for rows, columns in [_reach(acting, moments, height, width, short, wobble)]:
            piece = np.zeros_like(ground[rows, columns])
            for time_s in moments:
                picture = ground[rows, columns].copy()
                for sprite in acting:
                    _paint(picture, (rows.start, columns.start), (height, width), sprite, time_s, short, wobble)
                piece += picture
            total[rows, columns] = piece / len(moments)
        if noise:
            total += np.float32(noise) * rng.standard_normal((height, width, 1), dtype=np.float32)
        frames.append(np.clip(255.0 * total + 0.5, 0, 255).astype(np.uint8))
    return frames


def _reach(
    sprites: list[Sprite], moments: list[float], height: int, width: int, short: int, wobble: list[float]
) -> tuple[slice, slice]:
    """Rows and columns that hold all that moves during one exposure."""
    boxes = np.array([sprite.box(time_s) for sprite in sprites for time_s in moments])
    spans = []
    for middles, size, shift in ((boxes[:, 1], height, wobble[1]), (boxes[:, 0], width, wobble[0])):
        low = int(np.floor((middles - boxes[:, 2]).min() * short + shift * short + 0.5 * size)) - 3
        high = int(np.ceil((middles + boxes[:, 2]).max() * short + shift * short + 0.5 * size)) + 3
        spans.append(slice(min(max(0, low), size), max(0, min(size, high))))
    return spans[0], spans[1]


def _background(width: int, height: int, rng: np.random.Generator) -> Pixels:
    """With a margin of a twentieth, for the camera to shake in."""
    short = min(width, height)
    margin = short // 20 + 2
    rows, columns = height + 2 * margin, width + 2 * margin
    base = rng.uniform(0.1, 0.6, 3)
    style = rng.integers(4)
    picture = np.broadcast_to(base, (rows, columns, 3)).copy()
    if style == 1:
        picture *= np.linspace(0.7, 1.3, rows)[:, None, None]
    elif style == 2:
        rough = gaussian_filter(rng.standard_normal((rows, columns)), max(1.0, short / 60))
        picture += 0.08 * (rough / rough.std())[..., None]
    elif style == 3:
        tile = max(4, short // 8)
        checks = (np.arange(rows)[:, None] // tile + np.arange(columns)[None] // tile) % 2
        picture += 0.07 * (checks[..., None] - 0.5)
    return np.clip(picture, 0.0, 1.0).astype(np.float32)


def _shifted(back: Pixels, dx: float, dy: float) -> Pixels:
    """The background without its margin, moved by a part of a pixel."""
    short = min(back.shape[:2])
    margin = int(np.ceil((short - 4) / 22)) + 1  # of a picture whose margin is a twentieth of it
    margin = next(m for m in range(margin + 3, 0, -1) if (short - 2 * m) // 20 + 2 == m)
    x, y = margin - dx, margin - dy
    height, width = (size - 2 * margin for size in back.shape[:2])
    left, top = int(np.floor(x)), int(np.floor(y))
    part_x, part_y = np.float32(x - left), np.float32(y - top)
    piece = back[top : top + height + 1, left : left + width + 1]
    if part_x == 0.0 and part_y == 0.0:
        return piece[:height, :width].copy()
    across = piece[:, :width] * (1.0 - part_x) + piece[:, 1 : width + 1] * part_x
    return across[:height] * (1.0 - part_y) + across[1 : height + 1] * part_y


def _paint(
    picture: Pixels,
    corner: tuple[int, int],
    size: tuple[int, int],
    sprite: Sprite,
    time_s: float,
    short: int,
    wobble: list[float],
) -> None:
    """Draw on a piece of a picture of a given size whose upper left corner is at ``corner``."""
    glow = np.float32(sprite.glow(time_s))
    if glow <= 0.0:
        return
    x, y, reach = sprite.box(time_s)
    reach += 3.0 / short
    spans = []
    for axis, middle, shift in ((0, y, wobble[1]), (1, x, wobble[0])):
        low = int(np.floor((middle + shift - reach) * short + 0.5 * size[axis])) - corner[axis]
        high = int(np.ceil((middle + shift + reach) * short + 0.5 * size[axis])) - corner[axis]
        spans.append(slice(min(max(0, low), picture.shape[axis]), max(0, min(picture.shape[axis], high))))
    rows, columns = spans
    if columns.start >= columns.stop or rows.start >= rows.stop:
        return
    xs = (np.arange(columns.start, columns.stop)[None] + corner[1] + 0.5 - 0.5 * size[1]) / short - wobble[0]
    ys = (np.arange(rows.start, rows.stop)[:, None] + corner[0] + 0.5 - 0.5 * size[0]) / short - wobble[1]
    xs, ys = np.broadcast_arrays(xs, ys)
    cover = np.clip(0.5 - sprite.sdf(xs, ys, time_s) * short, 0.0, 1.0).astype(np.float32)[..., None] * glow
    patch = picture[rows, columns]
    patch += cover * (sprite.colour.astype(np.float32) - patch)


def _audio(
    kind: str, times: npt.ArrayLike, seconds: float, rng: np.random.Generator, *, silent: bool
) -> tuple[npt.NDArray[np.float32], str]:
    """``[2, S]`` and how it was made."""
    num = int(seconds * RATE)
    dry = np.zeros(num)
    at_s = np.arange(num) / RATE
    names = ["click", "knock", "beep"] if kind != "mouth" else ["voice", "voice with an attack"]
    name = str(rng.choice(names))
    if kind == "mouth":
        pitch = float(rng.uniform(100.0, 240.0))
        voice = sum(np.sin(2.0 * np.pi * pitch * n * at_s) / n for n in range(1, 13))
        if name == "voice":
            envelope = syllables(at_s, times)
        else:
            envelope = np.zeros(num)
            for start_s in np.asarray(times):
                age = at_s - start_s
                envelope = np.maximum(
                    envelope, np.clip(age / 0.012, 0.0, 1.0) * np.exp(-np.clip(age, 0.0, None) / 0.12) * (age >= 0.0)
                )
        dry = 0.25 * voice * envelope
    else:
        age = np.arange(int(0.3 * RATE)) / RATE
        pitch = float(rng.uniform(300.0, 2500.0))
        for time_s in np.asarray(times):
            if name == "click":
                burst = rng.standard_normal(age.size) * np.exp(-age / 0.008)
            elif name == "knock":
                burst = sum(np.sin(2.0 * np.pi * pitch * m * age) * np.exp(-age * (18.0 + 20.0 * m)) for m in (1.0, 2.76, 5.4))
            else:
                burst = np.sin(2.0 * np.pi * pitch * age) * np.clip(age / 0.002, 0.0, 1.0) * (age < 0.1)
            burst = burst / np.abs(burst).max() * rng.uniform(0.3, 0.7)
            first = round(time_s * RATE)
            skip, room = max(0, -first), min(age.size, num - first)
            if room > skip:
                dry[first + skip : first + room] += burst[skip:room]
    surround = str(rng.choice(["plain", "noise", "music", "echo"], p=[0.4, 0.25, 0.15, 0.2]))
    if surround == "noise":
        rough = np.cumsum(rng.standard_normal(num))
        rough -= gaussian_filter(rough, 400)
        dry += 10.0 ** (rng.uniform(-50.0, -34.0) / 20.0) * rough / rough.std()
    elif surround == "music":
        dry += _music(num, rng) * 10.0 ** (rng.uniform(-40.0, -30.0) / 20.0)
    elif surround == "echo":
        tail = np.arange(int(0.5 * RATE)) / RATE
        room = rng.standard_normal(tail.size) * np.exp(-tail / rng.uniform(0.05, 0.12)) * 0.012
        room[0] = 1.0
        dry = fftconvolve(dry, room)[:num]
    dry /= max(1.0, 1.1 * np.abs(dry).max())
    dry += 1e-4 * rng.standard_normal(num)
    sides = str(rng.choice(["mono", "opposite", "left"], p=[0.7, 0.15, 0.15]))
    other = {"mono": dry, "opposite": -dry, "left": np.zeros(num)}[sides]
    both = np.stack((dry, other)) * (0.0 if silent else 1.0)
    return both.astype(np.float32), f"{name}, {surround}, {sides}"


def _music(num: int, rng: np.random.Generator) -> Floats:
    """Chords that swell and fade, one every half second or so."""
    at_s = np.arange(num) / RATE
    total, start_s = np.zeros(num), 0.0
    while start_s < num / RATE:
        length_s = float(rng.uniform(0.4, 0.9))
        age = (at_s - start_s) / length_s
        swell = np.sin(np.pi * np.clip(age, 0.0, 1.0)) ** 2
        total += swell * sum(np.sin(2.0 * np.pi * 220.0 * 2.0 ** (rng.integers(0, 13) / 12) * at_s) for _ in range(3))
        start_s += 0.7 * length_s
    return total / total.std()


def _write(path: Path, frames: list[npt.NDArray[np.uint8]], fps: Fraction, audio: npt.NDArray[np.float32], crf: int) -> None:
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "veryfast", "threads": "1"})
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=RATE, layout="stereo")
        sound.bit_rate = 160000
        for frame in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode(None))
        num = int(len(frames) * RATE / fps)
        block = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(np.pad(audio, ((0, 0), (0, num)))[:, :num]), format="fltp", layout="stereo"
        )
        block.sample_rate, block.pts, block.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(sound.encode(block))
        container.mux(sound.encode(None))


def measured(path: Path, truth: dict[str, Any]) -> dict[str, Any]:
    """What ``mova sync`` says of a video."""
    from mova.lab.sync.measure import measure_file

    found = measure_file(path)
    value = None if found.offset_ms is None else round(found.offset_ms, 1)
    return {**truth, "value_ms": value, "verdict": found.verdict, "is_sure": found.is_sure, "why": found.why}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Share with a value, how far off those are, and how many are sure; a value more than 25 ms off counts as wrong."""
    valued = [row for row in rows if row["value_ms"] is not None]
    errors = [abs(row["value_ms"] - row["offset_ms"]) for row in valued]
    wrong = [row for row, error in zip(valued, errors, strict=True) if error > WRONG_MS]
    return {
        "videos": len(rows),
        "with_a_value": round(len(errors) / max(1, len(rows)), 3),
        "median_ms": round(float(np.median(errors)), 2) if errors else None,
        "p95_ms": round(float(np.quantile(errors, 0.95)), 2) if errors else None,
        "wrong": len(wrong),
        "sure": sum(row["is_sure"] for row in valued),
        "sure_and_wrong": sum(row["is_sure"] for row in wrong),
    }


def main() -> None:
    """Draw, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=12, help="videos of each kind")
    parser.add_argument("--seed", type=int, default=1000, help="first seed")
    parser.add_argument("--kinds", nargs="*", default=[*KINDS, "controls"])
    parser.add_argument("--draw-only", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder that the videos stay in")
    parser.add_argument("--save", type=Path, help="file that the result is written to")
    args = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in args.kinds}
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        for name in args.kinds:
            for index in range(args.num):
                seed, kind, control = args.seed + index, name, None
                if name == "controls":
                    kind, control = KINDS[index % len(KINDS)], CONTROLS[(0, 0, 1, 0, 2)[index % 5]]
                path = folder / f"{name}_{seed}.mp4"
                note = path.with_suffix(".json")
                if note.exists():
                    truth = json.loads(note.read_text())
                else:
                    truth = make(kind, seed, path, control=control)
                    note.write_text(json.dumps(truth))
                if args.draw_only:
                    continue
                rows[name].append(measured(path, truth))
                print(json.dumps({key: rows[name][-1][key] for key in KEPT}), file=sys.stderr)
    result: dict[str, Any] = {"seed": args.seed, "kinds": {n: summary(rows[n]) for n in args.kinds if n != "controls"}}
    everything = [row for name in args.kinds if name != "controls" for row in rows[name]]
    result["all"] = summary(everything)
    if "controls" in rows:
        told = [row["seed"] for row in rows["controls"] if row["value_ms"] is not None]
        result["controls"] = {"videos": len(rows["controls"]), "cannot_tell": len(rows["controls"]) - len(told), "told": told}
    print(json.dumps(result, indent=1))
    if args.save:
        result["rows"] = [{key: row[key] for key in KEPT} for name in args.kinds for row in rows[name]]
        args.save.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
