"""A metronome: the arm swings, and each time it passes the middle there is a tick and a lamp flashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mova.scenes.kind import Hit, Kind, Phrases, ReadingHints, each_event
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
    Polygon,
    View,
    gradient,
    mix,
    paint,
    repeat,
    shine,
)
from mova.scenes.script import Attributes, Event, Image, Plan, Script, Value, periodic_times, pick
from mova.scenes.waves import BRIEF_HZ, Band, Signal, band_noise, damped_modes, strike, together

TEMPI = {"slow": 1.6, "medium": 2.4, "fast": 3.4}
"""Ticks per second, within 4 percent."""
CASES = ("brown", "white", "red", "blue")
SWING = 0.52
"""Largest angle of the arm from upright, radians."""
LAMP_DY = 0.30
DECAY_S = 0.10


@dataclass(frozen=True)
class MetronomeMotion:
    """Where the case is, the beat, and the choice of wall."""

    centre: tuple[float, float]
    first_s: float
    period_s: float
    side: int
    wall: int

    def angle(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the arm from upright, radians: zero at every tick, largest halfway."""
        return self.side * SWING * np.sin(np.pi * (time_s - self.first_s) / self.period_s)


def choose(rng: np.random.Generator, seconds: float, pinned: Attributes) -> Attributes:
    """Attributes of a metronome."""
    return {"tempo": pick(rng, tuple(TEMPI), pinned.get("tempo")), "colour": pick(rng, CASES, pinned.get("colour"))}


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """A steady beat; the exact rate differs a little from script to script."""
    centre = (0.5 + float(rng.uniform(-0.03, 0.03)), 0.55 + float(rng.uniform(-0.015, 0.015)))
    wall, side = int(rng.integers(len(WALLS))), 1 if rng.uniform() < 0.5 else -1
    rate = TEMPI[str(attributes["tempo"])] * float(rng.uniform(0.96, 1.04))
    period, times = periodic_times(rng, 1.0 / rate, seconds)
    place = (centre[0], centre[1] + LAMP_DY)
    events = tuple(Event(time, time, "tick", "tick", place, 1.0) for time in times)
    return Plan(events, MetronomeMotion(centre, times[0], period, side, wall))


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """The case once, the arm per frame, the lamp by the exact mean of its flash."""
    motion = script.motion
    assert isinstance(motion, MetronomeMotion)
    dark = _case(view, motion, COLOURS[str(script.attributes["colour"])])
    bright = dark.copy()
    lamp = view.near(motion.centre, 0.0, LAMP_DY)
    paint(bright, Disc(lamp, 0.15 * view.unit), colour=(1.0, 0.98, 0.85), opacity=0.7, softness_px=0.14 * view.unit)
    paint(bright, Disc(lamp, 0.062 * view.unit), colour=WHITE)
    frames = repeat(dark, exposure.num_frames)
    light = exposure.flash([e.time_s for e in script.events], [e.strength for e in script.events], DECAY_S)
    shine(frames, dark, bright, light)
    pivot = view.near(motion.centre, 0.0, 0.20)
    fine = replace(exposure, subframes=2 * exposure.subframes)  # the arm sweeps far within one exposure
    for image, angles in zip(frames, motion.angle(fine.moments()), strict=True):
        ways = [(float(np.sin(angle)), -float(np.cos(angle))) for angle in angles]

        def along(length: float, ways: list[tuple[float, float]] = ways) -> list[tuple[float, float]]:
            return [(pivot[0] + dx * length * view.unit, pivot[1] + dy * length * view.unit) for dx, dy in ways]

        paint(image, [Capsule(pivot, tip, 0.016 * view.unit) for tip in along(0.60)], colour=(0.88, 0.88, 0.90))
        paint(image, [Disc(at, 0.062 * view.unit) for at in along(0.42)], colour=BLACK)
        paint(image, [Disc(at, 0.046 * view.unit) for at in along(0.42)], colour=(0.98, 0.80, 0.20))
        paint(image, Disc(pivot, 0.028 * view.unit), colour=BLACK)
    return frames


def _case(view: View, motion: MetronomeMotion, colour: Colour) -> Image:
    image = gradient(view, *WALLS[motion.wall])
    table = view.near(motion.centre, 0.0, 0.38)[1]
    paint(image, Box(-view.unit, table, view.width + view.unit, view.height + view.unit), colour=(0.33, 0.24, 0.19))

    def outline(grow: float) -> tuple[tuple[float, float], ...]:
        corners = ((-0.13, -0.38), (0.13, -0.38), (0.30, 0.40), (-0.30, 0.40))
        return tuple(
            view.near(motion.centre, dx + (grow if dx > 0 else -grow), dy + (grow if dy > 0 else -grow)) for dx, dy in corners
        )

    paint(image, Polygon(outline(0.0)), colour=mix(colour, BLACK, 0.65))
    paint(image, Polygon(outline(-0.018)), colour=colour)
    window = ((-0.075, -0.32), (0.075, -0.32), (0.165, 0.22), (-0.165, 0.22))
    inside = tuple(view.near(motion.centre, dx, dy) for dx, dy in window)
    paint(image, Polygon(inside), colour=mix(mix(colour, BLACK, 0.82), (0.1, 0.1, 0.12), 0.5))
    lamp = view.near(motion.centre, 0.0, LAMP_DY)
    paint(image, Disc(lamp, 0.075 * view.unit), colour=BLACK)
    paint(image, Disc(lamp, 0.062 * view.unit), colour=(0.28, 0.27, 0.24))
    return image


def phrases(given: Mapping[str, Value]) -> Phrases:
    """Names tempo and colour."""
    tempo, colour = given["tempo"], given["colour"]
    return (
        f"a {tempo} metronome ticks in a {colour} case",
        f"a {colour} metronome ticks at a {tempo} tempo",
        f"a {tempo} {colour} metronome is ticking",
        f"{tempo} ticks of a {colour} metronome with a flashing lamp",
    ), (f"a {tempo} metronome ticks", f"a {colour} metronome is ticking")


def voice(hit: Hit) -> tuple[int, Signal]:
    """A wooden tick of 30 ms."""
    window = hit.window(0.07)
    body = damped_modes(window, (1200.0, 2410.0, 3720.0), decays_s=(0.0085, 0.006, 0.003), amplitudes=(0.36, 0.27, 0.1))
    blow = hit.window(0.01)
    knock = band_noise(blow, Band(900.0, 5000.0, 3, BRIEF_HZ), hit.rng) * strike(blow, 0.0012)
    return window.first, hit.level * together(body, 0.13 * knock)


KIND = Kind(
    name="metronome",
    description="A metronome, slow, medium or fast; it ticks and flashes when its arm is upright.",
    words=frozenset({"metronome", "metronomes", "tick", "ticks", "ticking", "tock"}),
    attributes={"tempo": tuple(TEMPI), "colour": CASES},
    labels=("tick",),
    choose=choose,
    plan=plan,
    draw=draw,
    sound=each_event(voice),
    phrases=phrases,
    example_captions=("a slow metronome ticks in a brown case", "a fast red metronome is ticking"),
    reading=ReadingHints(rates_hz={"tempo": TEMPI}),
)
