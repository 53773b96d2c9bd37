"""A ball that bounces: parabolas between impacts that lie exactly on the floor line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mova.errors import RequestError
from mova.scenes.kind import Hit, Kind, Phrases, ReadingHints, counted, each_event, look_up, times
from mova.scenes.raster import (
    BLACK,
    COLOURS,
    WALLS,
    WHITE,
    Box,
    Capsule,
    Disc,
    Ellipse,
    Exposure,
    View,
    gradient,
    mix,
    paint,
    repeat,
)
from mova.scenes.script import (
    FIRST_EVENT_S,
    LAST_EVENT_S,
    MIN_GAP_S,
    Attributes,
    Event,
    Image,
    Plan,
    Script,
    Value,
    capacity,
    pick,
    pick_count,
)
from mova.scenes.waves import BRIEF_HZ, Band, Signal, band_noise, damped_modes, strike, together

BALL_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
SIZES = {"small": 0.105, "large": 0.15}
FLOORS = ("wood", "metal", "glass", "stone")
FLOOR_Y = 0.80
DROP_HEIGHTS = (0.12, 0.50)
OUTLINE = 0.014
Way = tuple[float, float, tuple[float, ...]]
"""Gravity, time of release, and impacts with the one after the clip as the last."""


@dataclass(frozen=True)
class Flight:
    """One ball's way, closed form.

    Args:
        release_s: Time at which it begins to fall; until then it hangs still. May be before the clip.
        gravity: Acceleration in picture heights per second squared.
        impacts_s: Every time it meets the floor, with the one after the clip as the last.
        x: Place of its first impact, as a fraction of the width.
        drift: Fractions of the width per second, constant.
        colour: Name of its colour.
    """

    release_s: float
    gravity: float
    impacts_s: tuple[float, ...]
    x: float
    drift: float
    colour: str

    def height(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Height of the ball's lowest point above the floor, in picture heights."""
        first = self.impacts_s[0]
        fallen = np.clip(time_s, self.release_s, first) - self.release_s
        falling = 0.5 * self.gravity * ((first - self.release_s) ** 2 - fallen**2)
        height = np.where(time_s < first, falling, 0.0)
        for start, end in pairwise(self.impacts_s):
            flying = (time_s >= start) & (time_s < end)
            height = np.where(flying, 0.5 * self.gravity * (time_s - start) * (end - time_s), height)
        return height

    def across(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where it is, as a fraction of the width. It drifts only after its release."""
        moving = np.maximum(time_s, self.release_s) - self.impacts_s[0]
        return self.x + self.drift * moving


@dataclass(frozen=True)
class BallMotion:
    """Everything that the picture of a ball scene needs."""

    flights: tuple[Flight, ...]
    radius: float
    floor: str
    wall: int


def choose(rng: np.random.Generator, seconds: float, pinned: Attributes) -> Attributes:
    """Attributes of a ball scene; about one in seven has two balls."""
    colour = pick(rng, BALL_COLOURS, pinned.get("colour"))
    size = pick(rng, tuple(SIZES), pinned.get("size"))
    floor = pick(rng, FLOORS, pinned.get("floor"))
    two_drawn = rng.uniform() < 0.45  # of those with 3 impacts: with fewer, both balls hang for long
    others = tuple(name for name in BALL_COLOURS if name != colour)
    colour2 = pick(rng, others, pinned.get("colour2"))
    count = pick_count(rng, seconds, pinned, low=2, high=4, capacity=capacity(seconds, gap_s=0.27))
    number = pinned.get("number", 2 if "colour2" in pinned or (two_drawn and count == 3) else 1)
    if number == 2 and count == 1 and "count" not in pinned and capacity(seconds) > 1:
        count = 2
    if number == 2 and count < 2:
        raise RequestError("two balls need a count of at least 2.", "Pin count to 2, or number to 1.")
    if number == 1 and "colour2" in pinned:
        raise RequestError("colour2 needs number 2; got number 1.", "Leave number out.")
    if number == 2 and colour2 == colour:
        raise RequestError(f"colour2 must differ from colour; both are {colour!r}.", "Choose another colour2.")
    chosen: Attributes = {"colour": colour, "size": size, "floor": floor, "number": number}
    if number == 2:
        chosen["colour2"] = colour2
    chosen["count"] = count
    return chosen


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """Trajectories with exactly ``count`` impacts inside the margins and none in them."""
    count, radius = int(attributes["count"]), SIZES[str(attributes["size"])]
    wall = int(rng.integers(len(WALLS)))
    if attributes["number"] == 2:
        flights = _two_flights(rng, attributes, seconds, radius)
    else:
        flights = (_place(rng, str(attributes["colour"]), _bounces(rng, count, seconds), (radius, 1 - radius), seconds),)
    speeds = [
        (time, flight.x + flight.drift * (time - flight.impacts_s[0]), speed)
        for flight in flights
        for time, speed in zip(flight.impacts_s[:-1], _impact_speeds(flight), strict=True)
    ]
    fastest = max(speed for _, _, speed in speeds)
    events = tuple(
        Event(time, time, "impact", str(attributes["floor"]), (x, FLOOR_Y), speed / fastest)
        for time, x, speed in sorted(speeds)
    )
    return Plan(events, BallMotion(flights, radius, str(attributes["floor"]), wall))


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """Floor and wall once; per frame a contact shadow and the ball, blurred by its motion."""
    motion = script.motion
    assert isinstance(motion, BallMotion)
    frames = repeat(_room(motion, view), exposure.num_frames)
    radius, floor = motion.radius * view.unit, FLOOR_Y * view.height
    moments = exposure.moments()
    for flight in motion.flights:
        xs, heights = flight.across(moments) * view.width, flight.height(moments)
        colour = COLOURS[flight.colour]
        for image, x, height in zip(frames, xs, heights, strict=True):
            near = math.exp(-float(height.mean()) / 0.15)
            below = (float(x.mean()), floor + 0.022 * view.height)
            shade = Ellipse(below, radius * (0.6 + 0.4 * near), 0.018 * view.unit)
            paint(image, shade, colour=BLACK, opacity=0.15 + 0.45 * near, softness_px=0.02 * view.unit)
            centres = [(float(cx), floor - float(h) * view.height - radius) for cx, h in zip(x, height, strict=True)]
            paint(image, [Disc(centre, radius) for centre in centres], colour=mix(colour, BLACK, 0.6))
            inner = radius - OUTLINE * view.unit
            paint(image, [Disc(centre, inner) for centre in centres], colour=colour)
            middle = centres[len(centres) // 2]
            gleam = Disc((middle[0] - 0.32 * radius, middle[1] - 0.36 * radius), 0.24 * radius)
            paint(image, gleam, colour=WHITE, opacity=0.65, softness_px=max(1.0, 0.2 * radius))
    return frames


def _impact_speeds(flight: Flight) -> list[float]:
    """Speed at each impact but the last: half the flight before it, times gravity."""
    falls = [flight.impacts_s[0] - flight.release_s]
    falls += [(end - start) / 2 for start, end in pairwise(flight.impacts_s[:-1])]
    return [flight.gravity * fall for fall in falls]


def _bounces(
    rng: np.random.Generator, count: int, seconds: float, *, give: tuple[float, float] = (0.6, 0.85), hang_s: float = 0.25
) -> Way:
    """The way of a ball seen to bounce ``count`` times.

    A fall of ``f`` seconds is followed by flights of ``2 f e, 2 f e^2, ...``. Among many draws of gravity,
    drop height and restitution ``e`` (within ``give``), keep those whose flights can be laid over the clip with no impact in
    its margins; prefer those that hang no longer than ``hang_s`` before they fall.
    """
    draws = rng.uniform(size=(1024, 3))
    gravity = 4.0 + 5.0 * draws[:, 0]
    fall = np.sqrt(2 * (DROP_HEIGHTS[0] + (DROP_HEIGHTS[1] - DROP_HEIGHTS[0]) * draws[:, 1]) / gravity)
    bounce = give[0] + (give[1] - give[0]) * draws[:, 2]
    flights = 2 * fall[:, None] * bounce[:, None] ** np.arange(1, count + 1)
    before_last, until_next = flights[:, :-1].sum(axis=1), flights.sum(axis=1)
    earliest = np.maximum(FIRST_EVENT_S, seconds - until_next + 0.02)
    latest = seconds - LAST_EVENT_S - before_last
    fits = (latest - earliest >= 0) & (flights[:, -1] >= MIN_GAP_S) & (latest >= FIRST_EVENT_S)
    prompt = fits & (earliest <= fall + hang_s)
    where, shares = rng.uniform(size=2)
    usable = np.flatnonzero(prompt if prompt.any() else fits)
    if usable.size == 0:
        if give[1] >= 0.99:
            raise RequestError(f"a ball cannot bounce {count} times in {seconds:g} s.", "Ask for fewer, or for a longer clip.")
        return _bounces(rng, count, seconds, give=(0.8, 0.99), hang_s=hang_s)
    best = usable[int(where * usable.size)]
    latest_prompt = max(earliest[best], min(latest[best], fall[best] + hang_s))
    first = float(earliest[best] + shares * (latest_prompt - earliest[best]))
    impacts = first + np.concatenate(([0.0], np.cumsum(flights[best])))
    return float(gravity[best]), first - float(fall[best]), tuple(float(time) for time in impacts)


def _place(rng: np.random.Generator, colour: str, way: Way, lane: tuple[float, float], seconds: float) -> Flight:
    """A slow drift that stays in the lane ``(left, right)`` from the first frame to the last."""
    gravity, release, impacts = way
    first = impacts[0]
    drift = float(rng.uniform(-0.12, 0.12))
    reach = (drift * (max(0.0, release) - first), drift * (seconds - first))
    widest = lane[1] - lane[0] - 0.02
    if abs(reach[1] - reach[0]) > 0.8 * widest:
        shrink = 0.8 * widest / abs(reach[1] - reach[0])
        drift, reach = drift * shrink, (reach[0] * shrink, reach[1] * shrink)
    left, right = lane[0] + 0.01 - min(reach), lane[1] - 0.01 - max(reach)
    return Flight(release, gravity, impacts, float(rng.uniform(left, right)), drift, colour)


def _two_flights(rng: np.random.Generator, attributes: Attributes, seconds: float, radius: float) -> tuple[Flight, ...]:
    """Two balls in lanes of their own whose impacts, merged, keep the smallest gap."""
    count = int(attributes["count"])
    parts = (count - count // 2, count // 2)
    for attempt in range(400):
        # a little patience, then an odd pair of balls, finds room where ordinary ones meet the floor together
        hang_s = 0.25 if attempt < 40 else 0.6 if attempt < 200 else 1.5
        bounce = (0.6, 0.85) if attempt < 200 else (0.4, 0.95)
        ways = [_bounces(rng, part, seconds, give=bounce, hang_s=hang_s) for part in parts]
        merged = np.sort(np.concatenate([np.asarray(way[2][:-1]) for way in ways]))
        if merged.size < 2 or float(np.diff(merged).min()) >= MIN_GAP_S:
            lanes = ((radius, 0.49 - radius), (0.51 + radius, 1 - radius))
            names = (str(attributes["colour"]), str(attributes["colour2"]))
            return tuple(_place(rng, name, way, lane, seconds) for name, way, lane in zip(names, ways, lanes, strict=True))
    raise RequestError(
        f"two balls cannot bounce {count} times in {seconds:g} s without meeting the floor together.",
        "Ask for fewer, or for a longer clip.",
    )


def _room(motion: BallMotion, view: View) -> Image:
    image = gradient(view, *WALLS[motion.wall])
    top = FLOOR_Y * view.height
    floor = Box(0.0 - view.unit, top, view.width + view.unit, view.height + view.unit)
    base, line = _MATERIALS[motion.floor]
    paint(image, floor, colour=base)
    if motion.floor == "wood":
        for index in range(9):
            x = (index - 0.5) * view.width / 7
            slant = (index - 4.0) * 0.05 * view.width
            paint(image, Capsule((x, top), (x + slant, view.height), 0.008 * view.unit), colour=line)
    elif motion.floor == "metal":
        for y in (0.87, 0.94):
            paint(image, Capsule((0.0, y * view.height), (view.width, y * view.height), 0.007 * view.unit), colour=line)
        for x in (0.1, 0.3, 0.5, 0.7, 0.9):
            paint(image, Disc(view.at(x, 0.905), 0.014 * view.unit), colour=line)
    elif motion.floor == "glass":
        for x in (0.18, 0.30, 0.68):
            paint(image, Capsule(view.at(x, 0.97), view.at(x + 0.14, 0.84), 0.012 * view.unit), colour=line)
    else:
        for index in range(26):
            place = view.at((index * 0.754878) % 1.0, FLOOR_Y + 0.03 + 0.16 * ((index * 0.569840) % 1.0))
            paint(image, Disc(place, 0.013 * view.unit), colour=line)
    paint(image, Box(-2.0, top, view.width + 2.0, top + 0.015 * view.unit), colour=mix(base, WHITE, 0.45))
    return image


_MATERIALS = {
    "wood": ((0.66, 0.43, 0.20), (0.43, 0.26, 0.11)),
    "metal": ((0.45, 0.53, 0.66), (0.27, 0.33, 0.44)),
    "glass": ((0.62, 0.87, 0.93), (0.93, 0.99, 1.00)),
    "stone": ((0.50, 0.49, 0.46), (0.33, 0.32, 0.30)),
}


def phrases(given: Mapping[str, Value]) -> Phrases:
    """Names colours, size, floor and count."""
    size, floor, count = given["size"], str(given["floor"]), int(given["count"])
    wooden = "wooden" if floor == "wood" else floor
    if given["number"] == 2:
        first, second = given["colour"], given["colour2"]
        return (
            f"two {size} balls, {first} and {second}, bounce {times(count)} on a {wooden} floor",
            f"a {size} {first} ball and a {size} {second} ball bounce {times(count)} on {floor}",
            f"{counted(count, 'bounce')} of two {size} balls, {first} and {second}, on {floor}",
            f"two {size} balls on a {wooden} floor, {first} and {second}, {counted(count, 'bounce')}",
        ), (f"a {first} ball and a {second} ball bounce on {floor}", f"two balls bounce on a {wooden} floor")
    article = "an" if given["colour"] == "orange" else "a"
    ball = f"{size} {given['colour']} ball"
    return (
        f"a {ball} bounces {times(count)} on a {wooden} floor",
        f"{counted(count, 'bounce')} of a {ball} on {floor}",
        f"a {ball} falls and bounces {times(count)} on {floor}",
        f"on a {wooden} floor a {ball} bounces {times(count)}",
        f"a {ball} hits the {wooden} floor {times(count)}",
    ), (
        f"a {ball} bounces on {floor}",
        f"{article} {given['colour']} ball bounces {times(count)}",
        f"a {size} ball bounces on a {wooden} floor",
        f"a ball bounces {times(count)} on {floor}",
    )


def voice(hit: Hit) -> tuple[int, Signal]:
    """A ball on wood, metal, glass or stone; a harder hit is louder and brighter, a small ball higher."""
    floor = look_up(_SOUNDS, hit.label, "floor material")
    window = hit.window(8.0 * max(floor.decays_s))
    frequencies = np.asarray(floor.frequencies_hz)
    softness = 1.0 - min(max(hit.strength, 0.0), 1.0)
    amplitudes = np.asarray(floor.amplitudes) * (frequencies / frequencies[0]) ** (-0.8 * softness)
    thud_hz = 250.0 if hit.attributes.get("size") == "small" else 165.0
    body = damped_modes(
        window,
        np.append(frequencies, thud_hz),
        decays_s=np.append(floor.decays_s, 0.018),
        amplitudes=np.append(amplitudes, floor.thud),
    )
    touch = hit.window(0.03)
    contact = band_noise(touch, floor.contact_band, hit.rng) * strike(touch, floor.contact_decay_s)
    return window.first, hit.level * together(body, floor.contact * (1.0 - 0.5 * softness) * contact)


@dataclass(frozen=True)
class _Floor:
    """How a floor rings: its modes, the ball's own thud on it, and the noise of the contact."""

    frequencies_hz: tuple[float, ...]
    decays_s: tuple[float, ...]
    amplitudes: tuple[float, ...]
    thud: float
    contact: float
    contact_decay_s: float
    contact_band: Band


# Mode ratios from Fletcher and Rossing, "The Physics of Musical Instruments": wood is a supported
# rectangular plate (m^2 + 1.96 n^2), metal a free bar (1, 2.756, 5.404, 8.933) with a plate's modes
# between, glass a free circular plate (1, 1.73, 2.33, 3.91, 4.11); stone is dense and damped, its modes are
# lost in the click
_SOUNDS = {
    "wood": _Floor(
        (190.0, 382.0, 568.0, 703.0, 760.0, 890.0),
        (0.042, 0.034, 0.026, 0.022, 0.02, 0.016),
        (0.3, 0.18, 0.11, 0.07, 0.06, 0.05),
        0.13, 0.06, 0.002, Band(250.0, 1400.0, 2, BRIEF_HZ),
    ),
    "metal": _Floor(
        (430.0, 1010.0, 1185.0, 1730.0, 2324.0, 3060.0, 3841.0),
        (0.1, 0.1, 0.095, 0.085, 0.075, 0.06, 0.05),
        (0.13, 0.1, 0.15, 0.1, 0.12, 0.07, 0.06),
        0.07, 0.1, 0.002, Band(600.0, 6000.0, 2, BRIEF_HZ),
    ),
    "glass": _Floor(
        (1500.0, 2595.0, 3495.0, 4310.0, 5865.0, 6165.0),
        (0.055, 0.05, 0.045, 0.035, 0.028, 0.025),
        (0.1, 0.17, 0.16, 0.12, 0.1, 0.06),
        0.03, 0.13, 0.0015, Band(2000.0, 7500.0, 2, BRIEF_HZ),
    ),
    "stone": _Floor(
        (260.0, 455.0, 690.0, 985.0, 1240.0, 1500.0),
        (0.016, 0.014, 0.012, 0.01, 0.009, 0.008),
        (0.12, 0.13, 0.13, 0.12, 0.11, 0.1),
        0.08, 0.1, 0.004, Band(400.0, 3200.0, 1, BRIEF_HZ),
    ),
}  # fmt: skip


KIND = Kind(
    name="ball",
    description="A ball bounces on wood, metal, glass or stone; each impact sounds like its floor.",
    words=frozenset({"ball", "balls", "bounce", "bounces", "bouncing"}),
    attributes={
        "colour": BALL_COLOURS,
        "size": tuple(SIZES),
        "floor": FLOORS,
        "number": (1, 2),
        "colour2": BALL_COLOURS,
        "count": tuple(range(1, 13)),
    },
    labels=FLOORS,
    choose=choose,
    plan=plan,
    draw=draw,
    sound=each_event(voice),
    phrases=phrases,
    example_captions=(
        "a small red ball bounces three times on a wooden floor",
        "two bounces of a large yellow ball on metal",
        "two small balls, blue and pink, bounce three times on glass",
    ),
    reading=ReadingHints(heard_labels=FLOORS, variants=({"size": "small"}, {"size": "large"}), label_attribute="floor"),
)
