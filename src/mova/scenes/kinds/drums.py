"""Four drum pads, each with its own colour and corner; a mallet goes from hit to hit and the pad flashes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mova.scenes.palette import BLACK, COLOURS, WALLS, WHITE
from mova.scenes.raster import Box, Capsule, Colour, Disc, Exposure, View, gradient, mix, paint, repeat, shine
from mova.scenes.script import (
    Attributes,
    Event,
    Image,
    Kind,
    Plan,
    Script,
    irregular_times,
    pick_sequence,
)

PADS = ("red", "yellow", "green", "blue")
PLACES = {"red": (0.28, 0.28), "yellow": (0.72, 0.28), "green": (0.28, 0.72), "blue": (0.72, 0.72)}
HALF_PAD = 0.19
DECAY_S = 0.15
LIFT = 0.16


@dataclass(frozen=True)
class DrumMotion:
    """Shift of the whole set (fractions of the sides) and the choice of wall."""

    shift: tuple[float, float]
    wall: int


def choose(rng: np.random.Generator, seconds: float, pinned: Attributes) -> Attributes:
    """Attributes ``sequence`` and ``count``."""
    count, sequence = pick_sequence(rng, seconds, pinned, PADS)
    return {"sequence": sequence, "count": count}


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """Hits at irregular times."""
    shift = (float(rng.uniform(-0.02, 0.02)), float(rng.uniform(-0.02, 0.02)))
    wall = int(rng.integers(len(WALLS)))
    pads = str(attributes["sequence"]).split()
    times = irregular_times(rng, len(pads), seconds)
    strengths = rng.uniform(0.7, 1.0, size=len(pads))
    events = tuple(
        Event(time, time, "hit", pad, _place(pad, shift), float(strength))
        for time, pad, strength in zip(times, pads, strengths, strict=True)
    )
    return Plan(events, DrumMotion(shift, wall))


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """Pads that light up by the exact mean of their flash, and the mallet above them."""
    motion = script.motion
    assert isinstance(motion, DrumMotion)
    dark = gradient(view, *(mix(colour, BLACK, 0.55) for colour in WALLS[motion.wall]))
    for pad in PADS:
        _paint_pad(dark, view, _place(pad, motion.shift), mix(COLOURS[pad], BLACK, 0.45))
    frames = repeat(dark, exposure.num_frames)
    for pad in PADS:
        hits = [event for event in script.events if event.label == pad]
        if hits:
            bright = dark.copy()
            _paint_pad(bright, view, _place(pad, motion.shift), mix(COLOURS[pad], WHITE, 0.45))
            light = exposure.flash([hit.time_s for hit in hits], [hit.strength for hit in hits], DECAY_S)
            shine(frames, dark, bright, light)
    _draw_mallet(frames, script, view, exposure)
    return frames


def mallet(script: Script, time_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the mallet's head is, in unit picture coordinates: on the pad at each hit, lifted in between."""
    rest = (0.5, 0.5)
    stops = [event.place for event in script.events]
    times = [event.time_s for event in script.events]
    xs = [rest[0], *(place[0] for place in stops), rest[0]]
    ys = [rest[1], *(place[1] for place in stops), rest[1]]
    ends = [times[0] - 0.4, *times, times[-1] + 0.4]
    x, y = np.full(time_s.shape, rest[0]), np.full(time_s.shape, rest[1])
    for index in range(len(ends) - 1):
        share = np.clip((time_s - ends[index]) / (ends[index + 1] - ends[index]), 0.0, 1.0)
        smooth = share * share * (3 - 2 * share)
        here = (time_s >= ends[index]) & (time_s < ends[index + 1])
        lift = LIFT * np.sin(np.pi * share)
        x = np.where(here, xs[index] + smooth * (xs[index + 1] - xs[index]), x)
        y = np.where(here, ys[index] + smooth * (ys[index + 1] - ys[index]) - lift, y)
    return x, y


def _place(pad: str, shift: tuple[float, float]) -> tuple[float, float]:
    return PLACES[pad][0] + shift[0], PLACES[pad][1] + shift[1]


def _paint_pad(image: Image, view: View, place: tuple[float, float], colour: Colour) -> None:
    x, y = view.at(*place)
    half_w, half_h, rim = HALF_PAD * view.width, HALF_PAD * view.height, 0.02 * view.unit
    corner = 0.06 * view.unit
    paint(image, Box(x - half_w, y - half_h, x + half_w, y + half_h, corner), colour=mix(colour, BLACK, 0.5))
    paint(
        image,
        Box(x - half_w + rim, y - half_h + rim, x + half_w - rim, y + half_h - rim, corner - rim),
        colour=colour,
    )


def _draw_mallet(frames: Image, script: Script, view: View, exposure: Exposure) -> None:
    xs, ys = mallet(script, exposure.moments())
    for image, x, y in zip(frames, xs, ys, strict=True):
        heads = [view.at(float(px), float(py)) for px, py in zip(x, y, strict=True)]
        grips = [(hx + 0.10 * view.unit, hy + 0.20 * view.unit) for hx, hy in heads]
        sticks = [Capsule(head, grip, 0.016 * view.unit) for head, grip in zip(heads, grips, strict=True)]
        paint(image, sticks, colour=(0.80, 0.66, 0.45))
        paint(image, [Disc(head, 0.05 * view.unit) for head in heads], colour=BLACK)
        paint(image, [Disc(head, 0.036 * view.unit) for head in heads], colour=(0.93, 0.90, 0.84))


KIND = Kind(
    name="drums",
    description="Four drum pads (red, yellow, green, blue) are hit; the pad flashes, each has its own drum.",
    attributes={"sequence": PADS, "count": tuple(range(1, 13))},
    choose=choose,
    plan=plan,
    draw=draw,
    example_captions=("drum pads are hit: red, blue, red", "a mallet strikes the yellow, green drum pads"),
)
