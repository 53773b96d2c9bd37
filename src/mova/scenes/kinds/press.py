"""A stamping press: its head falls on a hot blank, sparks fly, and it clangs; the head rises with a hiss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mova.scenes.kind import Hit, Kind, Light, Phrases, ReadingHints, counted, each_event, light_up, times
from mova.scenes.raster import (
    BLACK,
    COLOURS,
    WALLS,
    WHITE,
    Box,
    Colour,
    Ellipse,
    Exposure,
    View,
    gradient,
    mix,
    paint,
    repeat,
    sparkle,
)
from mova.scenes.script import (
    Attributes,
    Image,
    Plan,
    Script,
    Value,
    capacity,
    generator,
    irregular_events,
    pick,
    pick_count,
)
from mova.scenes.waves import BRIEF_HZ, Band, Signal, band_noise, damped_modes, rise, strike, together

MACHINES = ("red", "blue", "green", "yellow")
GAP_S = 0.42
"""Least time from stroke to stroke."""
FALL_S, REST_S, RISE_S = 0.11, 0.04, 0.20
"""How long the head falls, stays down and rises."""
TOP, BOTTOM = 0.34, 0.595
"""Lower edge of the head at rest and on the blank, in fractions of the height."""
FLASH_S = 0.07
NUM_SPARKS = 14
ANVIL = (0.30, 0.645, 0.70, 0.73)
DARK_ANVIL: Colour = (0.30, 0.31, 0.33)
LIT_ANVIL: Colour = (0.96, 0.66, 0.36)
MOST_SHIFT = 0.06
HOT: Colour = (1.0, 0.62, 0.22)


@dataclass(frozen=True)
class PressMotion:
    """Shift of the press to the side (fraction of the width) and the choice of wall."""

    shift: float
    wall: int


def choose(rng: np.random.Generator, seconds: float, pinned: Attributes) -> Attributes:
    """Attributes of a press."""
    count = pick_count(rng, seconds, pinned, low=1, high=3, capacity=capacity(seconds, gap_s=GAP_S))
    return {"colour": pick(rng, MACHINES, pinned.get("colour")), "count": count}


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """Strokes at irregular times."""
    shift, wall = float(rng.uniform(-MOST_SHIFT, MOST_SHIFT)), int(rng.integers(len(WALLS)))
    labels = ["stroke"] * int(attributes["count"])
    events = irregular_events(rng, labels, seconds, "stroke", lambda _: (0.5 + shift, BOTTOM), gap_s=GAP_S, weakest=0.75)
    return Plan(events, PressMotion(shift, wall))


def head(script: Script, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower edge of the head in fractions of the height: on the blank at each stroke, free fall before it."""
    down = np.zeros(time_s.shape)
    for event in script.events:
        since = time_s - event.time_s
        fall = np.where((since >= -FALL_S) & (since <= 0.0), ((since + FALL_S) / FALL_S) ** 2, 0.0)
        lift = np.clip((since - REST_S) / RISE_S, 0.0, 1.0)
        back = np.where(since > 0.0, 1.0 - lift * lift * (3.0 - 2.0 * lift), 0.0)
        down = np.maximum(down, np.maximum(fall, back))
    return TOP + (BOTTOM - TOP) * down


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """The frame of the machine once; the head at each moment of an exposure; sparks where the exposure sees them."""
    motion = script.motion
    assert isinstance(motion, PressMotion)
    colour = COLOURS[str(script.attributes["colour"])]
    dark = _machine(view, motion, colour)
    frames = repeat(dark, exposure.num_frames)

    def bright(_: str) -> Image:
        picture = dark.copy()
        centre = view.at(0.5 + motion.shift, BOTTOM)
        glow = Ellipse(centre, 0.30 * view.unit, 0.12 * view.unit)
        paint(picture, glow, colour=HOT, opacity=0.5, softness_px=0.12 * view.unit)
        paint(picture, _box(view, motion, ANVIL), colour=LIT_ANVIL)
        return picture

    light_up(frames, dark, bright, script.events, exposure, FLASH_S)
    moments = replace(exposure, subframes=2 * exposure.subframes).moments()  # the head falls far within one exposure
    for image, instants, lower in zip(frames, moments, head(script, moments), strict=True):
        _draw_head(image, view, motion, colour, lower)
        _draw_sparks(image, view, script, instants)
    return frames


def _box(view: View, motion: PressMotion, area: tuple[float, float, float, float], corner: float = 0.0) -> Box:
    left, top, right, bottom = area
    (x0, y0), (x1, y1) = view.at(left + motion.shift, top), view.at(right + motion.shift, bottom)
    return Box(x0, y0, x1, y1, corner * view.unit)


def _machine(view: View, motion: PressMotion, colour: Colour) -> Image:
    image = gradient(view, *(mix(one, BLACK, 0.35) for one in WALLS[motion.wall]))

    def box(left: float, top: float, right: float, bottom: float, corner: float = 0.0) -> Box:
        return _box(view, motion, (left, top, right, bottom), corner)

    paint(image, Box(-view.unit, 0.86 * view.height, 2.0 * view.width, 2.0 * view.height), colour=(0.24, 0.24, 0.26))
    paint(image, box(0.12, 0.83, 0.88, 0.90), colour=BLACK, opacity=0.5, softness_px=0.05 * view.unit)
    for left in (0.17, 0.73):
        paint(image, box(left, 0.16, left + 0.10, 0.86), colour=mix(colour, BLACK, 0.62))
        paint(image, box(left + 0.01, 0.16, left + 0.075, 0.86), colour=mix(colour, BLACK, 0.25))
    paint(image, box(0.13, 0.05, 0.87, 0.22, 0.03), colour=mix(colour, BLACK, 0.6))
    paint(image, box(0.14, 0.055, 0.86, 0.205, 0.025), colour=colour)
    paint(image, box(0.17, 0.075, 0.83, 0.09, 0.007), colour=mix(colour, WHITE, 0.45))
    paint(image, box(0.13, 0.72, 0.87, 0.88, 0.02), colour=mix(colour, BLACK, 0.6))
    paint(image, box(0.14, 0.725, 0.86, 0.865, 0.015), colour=mix(colour, BLACK, 0.15))
    paint(image, box(0.30, 0.63, 0.70, 0.73, 0.01), colour=DARK_ANVIL)
    paint(image, box(0.30, 0.63, 0.70, 0.645, 0.005), colour=(0.52, 0.53, 0.55))
    paint(image, box(0.37, 0.595, 0.63, 0.632, 0.012), colour=HOT)
    paint(image, box(0.37, 0.595, 0.63, 0.606, 0.005), colour=(1.0, 0.86, 0.55))
    return image


def _draw_head(image: Image, view: View, motion: PressMotion, colour: Colour, lower: NDArray[np.float64]) -> None:
    def boxes(half: float, above: float, below: float, corner: float) -> list[Box]:
        made = []
        for edge in lower:
            (x0, y0), (x1, y1) = (
                view.at(0.5 - half + motion.shift, float(edge) + above),
                view.at(0.5 + half + motion.shift, float(edge) + below),
            )
            made.append(Box(x0, y0, x1, y1, corner * view.unit))
        return made

    rod = [Box(one.left, 0.20 * view.height, one.right, one.bottom) for one in boxes(0.045, -0.2, -0.1, 0.0)]
    paint(image, rod, colour=(0.72, 0.74, 0.77))
    paint(image, boxes(0.20, -0.115, -0.03, 0.012), colour=(0.20, 0.21, 0.23))
    paint(image, boxes(0.19, -0.108, -0.037, 0.010), colour=mix(colour, (0.55, 0.56, 0.58), 0.75))
    paint(image, boxes(0.13, -0.035, 0.0, 0.006), colour=(0.40, 0.41, 0.44))


def _draw_sparks(image: Image, view: View, script: Script, instants: NDArray[np.float64]) -> None:
    """Sparks of each stroke on ballistic paths, at every moment of the exposure."""
    for index, event in enumerate(script.events):
        since = instants - event.time_s
        since = since[(since > 0.0) & (since < 0.32)]
        if not since.size:
            continue
        rng = generator(script.kind, script.seed, f"sparks of stroke {index}")
        sides, speeds = rng.choice((-1.0, 1.0), NUM_SPARKS), rng.uniform(0.35, 1.3, NUM_SPARKS)
        up, lives = rng.uniform(0.15, 0.95, NUM_SPARKS), rng.uniform(0.12, 0.32, NUM_SPARKS)
        ages = since[:, None]
        x = event.place[0] + sides * (0.13 + speeds * ages)
        y = event.place[1] + 0.01 - up * ages + 2.4 * ages**2
        weights = 1.1 * event.strength * np.clip(1.0 - ages / lives, 0.0, 1.0) / instants.size
        points = np.stack((x * view.width, y * view.height), axis=-1).reshape(-1, 2)
        sparkle(image, points, weights.reshape(-1), colour=(1.0, 0.75, 0.35), radius_px=max(0.9, 0.011 * view.unit))


def phrases(given: Mapping[str, Value]) -> Phrases:
    """Names the colour and the number of strokes."""
    colour, count = given["colour"], int(given["count"])
    return (
        f"a {colour} stamping press strikes {times(count)}",
        f"{counted(count, 'stroke')} of a {colour} press in a factory",
        f"a {colour} machine press comes down {times(count)} on hot metal",
        f"in a factory a {colour} press stamps {times(count)}",
    ), (f"a {colour} stamping press strikes hot metal", f"a press stamps {times(count)}")


def voice(hit: Hit) -> tuple[int, Signal]:
    """A low thud and a clang of steel, 30 dB down within 0.35 s; then the short hiss of the valve that lifts the head."""
    body, blow, hiss = hit.window(0.4), hit.window(0.02), hit.window(0.30)
    clang = damped_modes(
        body,
        (412.0, 977.0, 1531.0, 2389.0, 3557.0, 5210.0),
        decays_s=(0.075, 0.06, 0.05, 0.04, 0.03, 0.02),
        amplitudes=(0.20, 0.16, 0.12, 0.09, 0.06, 0.04),
    )
    thud = 0.42 * np.sin(2.0 * np.pi * 72.0 * body.times_s) * strike(body, 0.055)
    knock = 0.16 * band_noise(blow, Band(600.0, 6000.0, 3, BRIEF_HZ), hit.rng) * strike(blow, 0.0015)
    gate = rise(hiss.times_s - REST_S, 0.03) * np.exp(-np.maximum(hiss.times_s - REST_S, 0.0) / 0.06)
    valve = 0.02 * band_noise(hiss, Band(2500.0, 7000.0, 2), hit.rng) * gate
    return body.first, hit.level * together(clang + thud, knock, valve)


KIND = Kind(
    name="press",
    description="A stamping press comes down on a hot blank; sparks fly and steel clangs at each stroke.",
    words=frozenset({"press", "presses", "stamping", "stamps"}),
    attributes={"colour": MACHINES, "count": tuple(range(1, 13))},
    labels=("stroke",),
    choose=choose,
    plan=plan,
    draw=draw,
    sound=each_event(voice),
    phrases=phrases,
    example_captions=("a red stamping press strikes twice", "three strokes of a blue press in a factory"),
    reading=ReadingHints(
        lights=(
            Light(
                (ANVIL[0] + MOST_SHIFT, ANVIL[1] + 0.01, ANVIL[2] - MOST_SHIFT, ANVIL[3] - 0.01),
                DARK_ANVIL,
                LIT_ANVIL,
                FLASH_S,
                "stroke",
            ),
        ),
        gap_s=0.2,
    ),
)
