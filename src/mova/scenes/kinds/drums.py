"""Four drum pads, each with its own colour and corner; a mallet goes from hit to hit and the pad flashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mova.scenes.kind import Hit, Kind, Light, Phrases, ReadingHints, counted, each_event, light_up, look_up, times
from mova.scenes.raster import (
    BLACK,
    COLOURS,
    WALLS,
    WHITE,
    Box,
    Capsule,
    Colour,
    Disc,
    Exposure,
    View,
    gradient,
    mix,
    paint,
    repeat,
)
from mova.scenes.script import Attributes, Image, Plan, Script, Value, pick_sequence, sequence_events
from mova.scenes.waves import BRIEF_HZ, Band, Signal, band_noise, damped_modes, glide, strike, together

PADS = ("red", "yellow", "green", "blue")
PLACES = {"red": (0.28, 0.28), "yellow": (0.72, 0.28), "green": (0.28, 0.72), "blue": (0.72, 0.72)}
DARK = {pad: mix(COLOURS[pad], BLACK, 0.45) for pad in PADS}
BRIGHT = {pad: mix(COLOURS[pad], WHITE, 0.45) for pad in PADS}
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
    return pick_sequence(rng, seconds, pinned, PADS)


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """Hits at irregular times."""
    shift = (float(rng.uniform(-0.02, 0.02)), float(rng.uniform(-0.02, 0.02)))
    wall = int(rng.integers(len(WALLS)))
    events = sequence_events(rng, attributes, seconds, "hit", lambda pad: _place(pad, shift))
    return Plan(events, DrumMotion(shift, wall))


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """Pads that light up by the exact mean of their flash, and the mallet above them."""
    motion = script.motion
    assert isinstance(motion, DrumMotion)
    dark = gradient(view, *(mix(colour, BLACK, 0.55) for colour in WALLS[motion.wall]))
    for pad in PADS:
        _paint_pad(dark, view, _place(pad, motion.shift), DARK[pad])
    frames = repeat(dark, exposure.num_frames)

    def bright(pad: str) -> Image:
        picture = dark.copy()
        _paint_pad(picture, view, _place(pad, motion.shift), BRIGHT[pad])
        return picture

    light_up(frames, dark, bright, script.events, exposure, DECAY_S)
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
    paint(image, Box(x - half_w + rim, y - half_h + rim, x + half_w - rim, y + half_h - rim, corner - rim), colour=colour)


def _draw_mallet(frames: Image, script: Script, view: View, exposure: Exposure) -> None:
    xs, ys = mallet(script, exposure.moments())
    for image, x, y in zip(frames, xs, ys, strict=True):
        heads = [view.at(float(px), float(py)) for px, py in zip(x, y, strict=True)]
        grips = [(hx + 0.10 * view.unit, hy + 0.20 * view.unit) for hx, hy in heads]
        sticks = [Capsule(head, grip, 0.016 * view.unit) for head, grip in zip(heads, grips, strict=True)]
        paint(image, sticks, colour=(0.80, 0.66, 0.45))
        paint(image, [Disc(head, 0.05 * view.unit) for head in heads], colour=BLACK)
        paint(image, [Disc(head, 0.036 * view.unit) for head in heads], colour=(0.93, 0.90, 0.84))


def phrases(given: Mapping[str, Value]) -> Phrases:
    """Names the pads in order, or how often they are hit."""
    pads = ", ".join(str(given["sequence"]).split())
    count = int(given["count"])
    return (
        f"drum pads are hit {times(count)}: {pads}",
        f"{counted(count, 'drum hit')}: {pads}",
        f"a mallet strikes the drum pads {times(count)}: {pads}",
        f"{counted(count, 'hit')} on the drum pads: {pads}",
        f"someone plays the drum pads {pads}",
    ), (f"{counted(count, 'hit')} on the drum pads", f"a mallet plays the drum pads {times(count)}")


def voice(hit: Hit) -> tuple[int, Signal]:
    """One pad of a drum kit: red kick, yellow hi-hat, green snare, blue tom."""
    return hit.window(0.0).first, hit.level * look_up(_DRUMS, hit.label, "drum")(hit)


def _kick(hit: Hit) -> Signal:
    skin, beater = hit.window(0.5), hit.window(0.012)
    tone = np.sin(glide(skin.times_s, 120.0, 50.0, 0.035)) * strike(skin, 0.068)
    click = band_noise(beater, Band(700.0, 3500.0, 3, BRIEF_HZ), hit.rng) * strike(beater, 0.0015)
    return together(0.64 * tone, 0.13 * click)


def _hi_hat(hit: Hit) -> Signal:
    window = hit.window(0.2)
    return 0.2 * band_noise(window, Band(5200.0, 9000.0, 4), hit.rng) * strike(window, 0.023)


def _snare(hit: Hit) -> Signal:
    window = hit.window(0.3)
    wires = band_noise(window, Band(1200.0, 5500.0), hit.rng) * strike(window, 0.042)
    skin = damped_modes(window, (190.0, 331.0), decays_s=(0.04, 0.03), amplitudes=(0.22, 0.1))
    return 0.13 * wires + skin


def _tom(hit: Hit) -> Signal:
    skin, stick = hit.window(0.55), hit.window(0.016)
    fall = glide(skin.times_s, 260.0, 180.0, 0.05)
    # 1.59 is the second mode of a circular membrane
    tone = np.sin(fall) * strike(skin, 0.08) + 0.3 * np.sin(1.59 * fall) * strike(skin, 0.04)
    tap = band_noise(stick, Band(500.0, 2500.0, 3, BRIEF_HZ), hit.rng) * strike(stick, 0.002)
    return together(0.43 * tone, 0.07 * tap)


_DRUMS = {"red": _kick, "yellow": _hi_hat, "green": _snare, "blue": _tom}


_INNER = 0.6 * HALF_PAD
# the inner part of every pad: the mallet covers less than half of it
_LIGHTS = tuple(
    Light((x - _INNER, y - _INNER, x + _INNER, y + _INNER), DARK[pad], BRIGHT[pad], DECAY_S, pad)
    for pad, (x, y) in PLACES.items()
)


KIND = Kind(
    name="drums",
    description="Four drum pads (red, yellow, green, blue) are hit; the pad flashes, each has its own drum.",
    words=frozenset({"drum", "drums", "drummer", "drumming", "mallet", "pad", "pads"}),
    attributes={"sequence": PADS, "count": tuple(range(1, 13))},
    labels=PADS,
    choose=choose,
    plan=plan,
    draw=draw,
    sound=each_event(voice),
    phrases=phrases,
    example_captions=("drum pads are hit: red, blue, red", "a mallet strikes the yellow, green drum pads"),
    reading=ReadingHints(lights=_LIGHTS, heard_labels=PADS),
)
