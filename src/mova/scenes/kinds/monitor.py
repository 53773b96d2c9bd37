"""A heart monitor: a trace sweeps over the screen; with each beat it peaks, a heart lights up and there is a beep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mova.scenes.kind import Hit, Kind, Light, Phrases, ReadingHints, each_event, light_up
from mova.scenes.raster import (
    BLACK,
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
)
from mova.scenes.script import Attributes, Event, Image, Plan, Script, Value, periodic_times, pick
from mova.scenes.waves import Signal, rise

PACES = {"slow": 0.95, "steady": 1.5, "racing": 2.4}
"""Beats per second, within 4 percent."""
TRACES: dict[str, Colour] = {
    "green": (0.25, 0.95, 0.40),
    "yellow": (1.00, 0.90, 0.25),
    "blue": (0.35, 0.75, 1.00),
    "white": (0.92, 0.95, 0.98),
}
SCREEN: Colour = (0.03, 0.07, 0.08)
DARK_HEART: Colour = (0.22, 0.05, 0.07)
HEART: Colour = (1.0, 0.24, 0.30)
LEFT, RIGHT, MIDDLE = 0.14, 0.86, 0.56
"""Ends of the trace and its height at rest, in fractions of the sides."""
PEAK = 0.26
SWEEP_S = 2.4
"""Time in which the beam crosses the screen."""
NUM_COLUMNS = 251
GAP = 0.06
"""Dark part of the screen ahead of the beam, in fractions of its width."""
HEART_AT, HEART_SIZE = (0.755, 0.205), 0.075
DECAY_S = 0.12
# (delay after the peak in seconds, width in seconds, height): P, Q, R, S and T of a heart beat
WAVES = ((-0.16, 0.025, 0.13), (-0.03, 0.010, -0.12), (0.0, 0.012, 1.0), (0.032, 0.011, -0.26), (0.21, 0.045, 0.24))


@dataclass(frozen=True)
class MonitorMotion:
    """Shift of the monitor (fractions of the sides), the beats, where the beam starts (share of the screen), the wall.

    The heart beats before and after the clip, too: what the screen shows at the start was drawn before it.
    """

    shift: tuple[float, float]
    beats_s: tuple[float, ...]
    start: float
    wall: int


def choose(rng: np.random.Generator, seconds: float, pinned: Attributes) -> Attributes:
    """Attributes of a heart monitor."""
    return {"pace": pick(rng, tuple(PACES), pinned.get("pace")), "colour": pick(rng, tuple(TRACES), pinned.get("colour"))}


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """A regular heart; the exact rate differs a little from script to script."""
    shift = (float(rng.uniform(-0.02, 0.02)), float(rng.uniform(-0.02, 0.02)))
    start, wall = float(rng.uniform(0.0, 1.0)), int(rng.integers(len(WALLS)))
    rate = PACES[str(attributes["pace"])] * float(rng.uniform(0.96, 1.04))
    period, times = periodic_times(rng, 1.0 / rate, seconds)
    beats = [times[0] + index * period for index in range(-int(SWEEP_S / period) - 1, len(times) + 1)]
    place = (HEART_AT[0] + shift[0], HEART_AT[1] + shift[1])
    events = tuple(Event(time, time, "beep", "beep", place, 1.0) for time in times)
    return Plan(events, MonitorMotion(shift, tuple(beats), start, wall))


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """The case once, the heart by the exact mean of its flash, the trace per frame as the beam has left it."""
    motion = script.motion
    assert isinstance(motion, MonitorMotion)
    colour = TRACES[str(script.attributes["colour"])]
    dark = _case(view, motion)
    frames = repeat(dark, exposure.num_frames)

    def bright(_: str) -> Image:
        picture = dark.copy()
        at = view.at(HEART_AT[0] + motion.shift[0], HEART_AT[1] + motion.shift[1])
        paint(picture, Disc(at, 0.12 * view.unit), colour=HEART, opacity=0.35, softness_px=0.12 * view.unit)
        _paint_heart(picture, view, at, HEART)
        return picture

    light_up(frames, dark, bright, script.events, exposure, DECAY_S)
    beats = np.array(motion.beats_s)
    for image, moments in zip(frames, exposure.moments(), strict=True):
        _draw_trace(image, view, motion, beats, float(moments[-1]), colour)
    return frames


def trace(beats_s: NDArray[np.float64], time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Height of the trace at each time, 1 at the peak of a beat."""
    since = time_s[:, None] - beats_s
    heights: NDArray[np.float64] = np.zeros(time_s.shape)
    for delay, width, height in WAVES:
        heights += height * np.exp(-(((since - delay) / width) ** 2)).sum(axis=1)
    return heights


def _draw_trace(
    image: Image, view: View, motion: MonitorMotion, beats: NDArray[np.float64], now_s: float, colour: Colour
) -> None:
    """The newest sweep up to the beam, and the one before it beyond the gap ahead of the beam."""
    turns = motion.start + now_s / SWEEP_S
    beam = turns % 1.0
    columns = np.linspace(0.0, 1.0, NUM_COLUMNS)
    is_new = columns <= beam
    shown_s = now_s - (beam - columns + np.where(is_new, 0.0, 1.0)) * SWEEP_S
    heights = trace(beats, shown_s)
    steps = np.abs(np.diff(heights)) > 0.002
    is_bent = np.concatenate(([True], steps)) | np.concatenate((steps, [True]))  # straight parts need no point of their own
    is_bent |= (np.arange(NUM_COLUMNS) % 16 == 0) | (np.diff(is_new, append=False) | np.diff(is_new, prepend=True))
    parts = np.flatnonzero((is_new & is_bent) | (is_bent & (columns > beam + GAP)))
    radius = 0.0085 * view.unit

    def at(index: int) -> tuple[float, float]:
        x = LEFT + columns[index] * (RIGHT - LEFT) + motion.shift[0]
        return view.at(float(x), float(MIDDLE + motion.shift[1] - PEAK * heights[index]))

    for first, last in pairwise(parts.tolist()):
        if is_new[first] == is_new[last]:
            age = beam - columns[first] + (0.0 if is_new[first] else 1.0)
            paint(image, Capsule(at(first), at(last), radius), colour=mix(colour, SCREEN, min(0.75, 0.8 * float(age))))
    paint(image, Disc(at(int(np.flatnonzero(is_new)[-1])), 0.02 * view.unit), colour=mix(colour, WHITE, 0.6))


def _case(view: View, motion: MonitorMotion) -> Image:
    image = gradient(view, *WALLS[motion.wall])
    dx, dy = motion.shift

    def box(left: float, top: float, right: float, bottom: float, corner: float) -> Box:
        (x0, y0), (x1, y1) = view.at(left + dx, top + dy), view.at(right + dx, bottom + dy)
        return Box(x0, y0, x1, y1, corner * view.unit)

    paint(image, box(0.05, 0.09, 0.97, 0.95, 0.05), colour=BLACK, opacity=0.45, softness_px=0.05 * view.unit)
    paint(image, box(0.05, 0.06, 0.95, 0.92, 0.05), colour=(0.70, 0.72, 0.74))
    paint(image, box(0.065, 0.075, 0.935, 0.905, 0.04), colour=(0.86, 0.87, 0.88))
    paint(image, box(0.10, 0.11, 0.90, 0.80, 0.025), colour=BLACK)
    paint(image, box(0.11, 0.12, 0.89, 0.79, 0.02), colour=SCREEN)
    for share in np.linspace(0.11, 0.89, 9)[1:-1]:
        paint(image, box(float(share) - 0.0015, 0.12, float(share) + 0.0015, 0.79, 0.0), colour=(0.07, 0.15, 0.16))
    for share in np.linspace(0.12, 0.79, 7)[1:-1]:
        paint(image, box(0.11, float(share) - 0.0015, 0.89, float(share) + 0.0015, 0.0), colour=(0.07, 0.15, 0.16))
    for index, knob in enumerate(((0.35, 0.37, 0.40), (0.35, 0.37, 0.40), (0.20, 0.55, 0.35))):
        at = view.at(0.70 + 0.08 * index + dx, 0.853 + dy)
        paint(image, Disc(at, 0.026 * view.unit), colour=mix(knob, BLACK, 0.6))
        paint(image, Disc(at, 0.020 * view.unit), colour=knob)
    _paint_heart(image, view, view.at(HEART_AT[0] + dx, HEART_AT[1] + dy), DARK_HEART)
    return image


def _paint_heart(image: Image, view: View, at: tuple[float, float], colour: Colour) -> None:
    x, y = at
    size = HEART_SIZE * view.unit
    paint(image, Disc((x - 0.42 * size, y - 0.3 * size), 0.52 * size), colour=colour)
    paint(image, Disc((x + 0.42 * size, y - 0.3 * size), 0.52 * size), colour=colour)
    paint(
        image,
        Polygon(((x - 0.86 * size, y - 0.02 * size), (x, y - 0.5 * size), (x + 0.86 * size, y - 0.02 * size), (x, y + size))),
        colour=colour,
    )


def phrases(given: Mapping[str, Value]) -> Phrases:
    """Names pace and colour."""
    pace, colour = given["pace"], given["colour"]
    return (
        f"a heart monitor beeps at a {pace} pace, its trace is {colour}",
        f"a {pace} heartbeat on a {colour} heart monitor",
        f"a heart monitor with a {colour} trace shows a {pace} pulse",
        f"{pace} beeps of a heart monitor, {colour} line",
    ), (f"a heart monitor beeps at a {pace} pace", f"a heart monitor with a {colour} trace beeps")


def voice(hit: Hit) -> tuple[int, Signal]:
    """A tone of 90 ms at 960 Hz with a weak octave, 2 ms of attack."""
    window = hit.window(0.1)
    times = window.times_s
    shape = rise(times, 0.002) * rise(0.09 - times, 0.012)
    turn = 2.0 * np.pi * 960.0 * times
    return window.first, hit.level * 0.42 * shape * (np.sin(turn) + 0.12 * np.sin(2.0 * turn))


_INNER = 0.5 * HEART_SIZE

KIND = Kind(
    name="monitor",
    description="A heart monitor, slow, steady or racing; with each beat the trace peaks, a heart lights up and it beeps.",
    words=frozenset({"monitor", "monitors", "heartbeat", "ecg", "ekg"}),
    attributes={"pace": tuple(PACES), "colour": tuple(TRACES)},
    labels=("beep",),
    choose=choose,
    plan=plan,
    draw=draw,
    sound=each_event(voice),
    phrases=phrases,
    example_captions=(
        "a heart monitor beeps at a steady pace, its trace is green",
        "a racing heartbeat on a blue heart monitor",
    ),
    reading=ReadingHints(
        lights=(
            Light(
                (HEART_AT[0] - _INNER, HEART_AT[1] - _INNER, HEART_AT[0] + _INNER, HEART_AT[1] + _INNER),
                DARK_HEART,
                HEART,
                DECAY_S,
                "beep",
            ),
        ),
        rates_hz={"pace": PACES},
    ),
)
