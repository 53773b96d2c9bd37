"""Lightning at night: near bolts with their thunder, far ones half a second ahead of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mova.errors import RequestError
from mova.scenes.kind import Hit, Kind, Noise, Phrases, ReadingHints, counted, each_event, look_up, times
from mova.scenes.raster import Capsule, Colour, Disc, Ellipse, Exposure, Polygon, View, gradient, mix, paint, repeat, shine
from mova.scenes.script import (
    FIRST_EVENT_S,
    LAST_EVENT_S,
    Attributes,
    Event,
    Image,
    Plan,
    Script,
    Value,
    capacity,
    irregular_times,
    pick,
    pick_count,
)
from mova.scenes.waves import Band, Signal, band_noise, strike, together

DISTANCES = ("near", "far")
THUNDER_LAG_S = {"near": 0.0, "far": 0.5}
GAPS_S = {"near": 0.45, "far": 0.62}
DECAY_S = 0.15
FLASH: dict[str, float] = {"near": 1.0, "far": 0.55}
RAIN = Noise(10.0 ** (-45.0 / 20.0), Band(1200.0, 6500.0, 1, 1))
_SPANS = {"near": (0.20, 0.80), "far": (0.36, 0.68)}
_WIDTHS = {"near": 0.017, "far": 0.010}


@dataclass(frozen=True)
class StormMotion:
    """A bolt per event as unit picture coordinates, and where the clouds are."""

    bolts: tuple[tuple[tuple[float, float], ...], ...]
    clouds: tuple[tuple[float, float, float], ...]


def choose(rng: np.random.Generator, seconds: float, pinned: Attributes) -> Attributes:
    """Attributes of a storm. A clip too short for far thunder gets near lightning, unless far was pinned."""
    distance = str(pick(rng, DISTANCES, pinned.get("distance")))
    if seconds < FIRST_EVENT_S + LAST_EVENT_S + THUNDER_LAG_S[distance]:
        if "distance" in pinned:
            raise RequestError(
                f"far thunder, {THUNDER_LAG_S['far']} s after the flash, does not fit in {seconds:g} s.",
                "Ask for near, or for a longer clip.",
            )
        distance = "near"
    fits = capacity(seconds, gap_s=GAPS_S[distance], lag_s=THUNDER_LAG_S[distance])
    return {"distance": distance, "count": pick_count(rng, seconds, pinned, low=1, high=2, capacity=fits)}


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """Flashes at irregular times, far thunder ``THUNDER_LAG_S`` later."""
    distance, count = str(attributes["distance"]), int(attributes["count"])
    lag = THUNDER_LAG_S[distance]
    clouds = tuple(
        (0.1 + 0.27 * index + float(rng.uniform(-0.05, 0.05)), 0.10 + float(rng.uniform(-0.03, 0.03)), 0.16)
        for index in range(4)
    )
    times = irregular_times(rng, count, seconds, gap_s=GAPS_S[distance], lag_s=lag)
    strengths = rng.uniform(0.8, 1.0, size=count)
    bolts, events = [], []
    for time, strength in zip(times, strengths, strict=True):
        bolt = _bolt(rng, _SPANS[distance])
        bolts.append(bolt)
        middle = bolt[len(bolt) // 2]
        events.append(Event(time, time + lag, "thunder", distance, middle, float(strength)))
    return Plan(tuple(events), StormMotion(tuple(bolts), clouds))


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """The dark land once, and once per bolt lit up by it; blended by the exact mean of the flash."""
    motion = script.motion
    assert isinstance(motion, StormMotion)
    distance = str(script.attributes["distance"])
    dark = _land(view, motion, flash=0.0)
    lit = _land(view, motion, flash=FLASH[distance])
    frames = repeat(dark, exposure.num_frames)
    for event, bolt in zip(script.events, motion.bolts, strict=True):
        bright = lit.copy()
        _paint_bolt(bright, view, bolt, _WIDTHS[distance])
        if distance == "far":
            _paint_hills(bright, view, flash=FLASH[distance])
        shine(frames, dark, bright, exposure.flash([event.time_s], [event.strength], DECAY_S))
    return frames


def _bolt(rng: np.random.Generator, span: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    top, bottom = span
    x, side = float(rng.uniform(0.28, 0.72)), 1 if rng.uniform() < 0.5 else -1
    points = []
    for index in range(6):
        y = top + (bottom - top) * index / 5
        points.append((x, y))
        x += side * float(rng.uniform(0.03, 0.09)) * (bottom - top) / 0.6
        side = -side
    return tuple(points)


def _paint_bolt(image: Image, view: View, bolt: tuple[tuple[float, float], ...], width: float) -> None:
    ends = [view.at(*point) for point in bolt]
    for radius, colour, softness in ((2.6 * width, (0.72, 0.78, 1.0), 2.5 * width), (width, (1.0, 1.0, 1.0), 0.0)):
        for start, end in pairwise(ends):
            shape = Capsule(start, end, radius * view.unit)
            opacity = 0.5 if softness else 1.0
            paint(image, shape, colour=colour, opacity=opacity, softness_px=max(1.0, softness * view.unit))


def _land(view: View, motion: StormMotion, *, flash: float) -> Image:
    def lit(colour: Colour, by: Colour) -> Colour:
        return mix(colour, by, flash)

    sky_top, sky_low = (lit((0.05, 0.06, 0.14), (0.50, 0.54, 0.78)), lit((0.11, 0.12, 0.24), (0.74, 0.78, 0.96)))
    image = gradient(view, sky_top, sky_low)
    for x, y, radius in motion.clouds:
        colour = lit((0.15, 0.16, 0.22), (0.58, 0.60, 0.72))
        paint(image, Ellipse(view.at(x, y), 1.25 * radius * view.unit, 0.75 * radius * view.unit), colour=colour)
        paint(image, Disc(view.near((x, y), 0.06, 0.05), 0.55 * radius * view.unit), colour=colour)
    _paint_hills(image, view, flash=flash)
    return image


def _paint_hills(image: Image, view: View, *, flash: float) -> None:
    far, near = (mix((0.06, 0.09, 0.11), (0.22, 0.30, 0.34), flash), mix((0.03, 0.05, 0.05), (0.12, 0.18, 0.16), flash))
    ridge = ((-0.1, 0.74), (0.18, 0.64), (0.42, 0.73), (0.70, 0.62), (1.1, 0.72), (1.1, 1.1), (-0.1, 1.1))
    hill = ((-0.1, 0.84), (0.30, 0.78), (0.62, 0.85), (1.1, 0.79), (1.1, 1.1), (-0.1, 1.1))
    paint(image, Polygon(tuple(view.at(*point) for point in ridge)), colour=far)
    paint(image, Polygon(tuple(view.at(*point) for point in hill)), colour=near)


def phrases(given: Mapping[str, Value]) -> Phrases:
    """Names distance and count."""
    distance, count = given["distance"], int(given["count"])
    if distance == "near":
        return (
            f"near lightning strikes {times(count)} with thunder",
            f"{counted(count, 'near flash')} of lightning with thunder",
            f"a storm at night: near lightning {times(count)} with loud thunder",
            f"lightning strikes near {times(count)}, thunder at once",
        ), ("near lightning with loud thunder", f"lightning strikes {times(count)} in a storm")
    return (
        f"far lightning flashes {times(count)}, then thunder",
        f"{counted(count, 'far flash')} of lightning, thunder comes later",
        f"a storm at night: far lightning {times(count)}, thunder later",
        f"lightning flashes far away {times(count)}, then thunder",
    ), ("far lightning, then thunder", f"lightning flashes {times(count)} in a storm")


def voice(hit: Hit) -> tuple[int, Signal]:
    """Thunder: near is a sharp crack and then a rumble, far is a softer, lower rumble alone."""
    near = look_up({"near": True, "far": False}, hit.label, "thunder")
    window = hit.window(1.6)
    if not near:
        rumble = 0.1 * band_noise(window, _FAR_RUMBLE, hit.rng) * strike(window, 0.22, 0.015)
        return window.first, hit.level * rumble
    rumble = 0.13 * band_noise(window, _NEAR_RUMBLE, hit.rng) * strike(window, 0.22, 0.012)
    flash = hit.window(0.3)
    crack = 0.2 * band_noise(flash, Band(350.0, 6000.0, 2), hit.rng) * strike(flash, 0.04)
    return window.first, hit.level * together(rumble, crack)


_NEAR_RUMBLE, _FAR_RUMBLE = Band(35.0, 220.0, 3, 1), Band(35.0, 160.0, 3, 1)


KIND = Kind(
    name="storm",
    description="Lightning over hills at night; near thunder comes with the flash, far thunder 0.5 s later.",
    words=frozenset({"storm", "storms", "lightning", "thunder", "thunderstorm", "thunderstorms"}),
    attributes={"distance": DISTANCES, "count": tuple(range(1, 13))},
    labels=DISTANCES,
    choose=choose,
    plan=plan,
    draw=draw,
    sound=each_event(voice),
    phrases=phrases,
    example_captions=("near lightning strikes twice with thunder", "a far flash of lightning, then thunder"),
    background=RAIN,
    reading=ReadingHints(heard_labels=DISTANCES, label_attribute="distance", lags_s=THUNDER_LAG_S),
)
