"""A police car: while the blue lamp is lit the siren is high, while the red one is lit it is low."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from mova.scenes.kind import Kind, Phrases, ReadingHints, Source, look_up
from mova.scenes.raster import (
    BLACK,
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
from mova.scenes.sprites import cut_out, paste
from mova.scenes.waves import Signal, Window, strike

SPEEDS = {"slow": 1.5, "fast": 3.0}
"""Switches per second, within 4 percent."""
TIMES = ("day", "night")
ROAD_Y = 0.76
BLUE: Colour = (0.15, 0.40, 1.00)
RED: Colour = (1.00, 0.10, 0.10)
_LAMPS: dict[str, tuple[float, Colour]] = {"high": (-0.075, BLUE), "low": (0.075, RED)}
_BAR_DY = -0.345


@dataclass(frozen=True)
class SirenMotion:
    """Where the middle of the car meets the road, and which tone the clip starts with."""

    place: tuple[float, float]
    drift: float
    first_label: str


def choose(rng: np.random.Generator, seconds: float, pinned: Attributes) -> Attributes:
    """Attributes of a police car."""
    return {"speed": pick(rng, tuple(SPEEDS), pinned.get("speed")), "time": pick(rng, TIMES, pinned.get("time"))}


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """Switches on a steady beat, alternating."""
    x, y = 0.5 + float(rng.uniform(-0.04, 0.04)), ROAD_Y + float(rng.uniform(-0.02, 0.02))
    drift = float(rng.uniform(0.02, 0.05)) * (1 if rng.uniform() < 0.5 else -1)
    labels = ("high", "low") if rng.uniform() < 0.5 else ("low", "high")
    rate = SPEEDS[str(attributes["speed"])] * float(rng.uniform(0.96, 1.04))
    _, times = periodic_times(rng, 1.0 / rate, seconds)
    drift = float(np.clip(drift, -0.08 / seconds, 0.08 / seconds))
    x -= drift * seconds / 2
    events = []
    for index, time in enumerate(times):
        label = labels[(index + 1) % 2]
        lamp = (x + drift * time + _LAMPS[label][0], y + _BAR_DY)
        events.append(Event(time, time, "switch", label, lamp, 1.0))
    return Plan(tuple(events), SirenMotion((x, y), drift, labels[0]))


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """The street under each lamp's light, the car moved a little each frame, its lamps and their glow."""
    motion = script.motion
    assert isinstance(motion, SirenMotion)
    street = _street(view, motion, str(script.attributes["time"]))
    frames = repeat(street, exposure.num_frames)
    spans = _spans(script, motion)
    light = {label: exposure.lit(spans[label]) for label in _LAMPS}
    wash = 0.30 if script.attributes["time"] == "night" else 0.12
    for label, (_, colour) in _LAMPS.items():
        shine(frames, street, street + np.float32(wash) * (np.asarray(colour, np.float32) - street), light[label])
    car = cut_out(view, lambda image: _paint_car(image, view, motion.place))
    middles = exposure.moments().mean(axis=1)
    for index, (image, middle) in enumerate(zip(frames, middles, strict=True)):
        place = (motion.place[0] + motion.drift * float(middle), motion.place[1])
        paste(image, car, shift_px=motion.drift * float(middle) * view.width)
        for label, (dx, colour) in _LAMPS.items():
            _paint_lamp(image, view, (view.near(place, dx, _BAR_DY)), colour, float(light[label][index]))
    return frames


def _spans(script: Script, motion: SirenMotion) -> dict[str, list[tuple[float, float]]]:
    """When each lamp is lit; one of the two always is."""
    starts = [-np.inf, *(event.time_s for event in script.events)]
    labels = [motion.first_label, *(event.label for event in script.events)]
    spans: dict[str, list[tuple[float, float]]] = {label: [] for label in _LAMPS}
    for label, start, end in zip(labels, starts, [*starts[1:], np.inf], strict=True):
        spans[label].append((start, end))
    return spans


def _paint_lamp(image: Image, view: View, place: tuple[float, float], colour: Colour, light: float) -> None:
    half_w, half_h = 0.066 * view.unit, 0.036 * view.unit
    glow = Disc(place, 0.11 * view.unit)
    paint(image, glow, colour=colour, opacity=0.75 * light, softness_px=0.16 * view.unit)
    box = Box(place[0] - half_w, place[1] - half_h, place[0] + half_w, place[1] + half_h, 0.02 * view.unit)
    paint(image, box, colour=mix(mix(colour, BLACK, 0.72), mix(colour, WHITE, 0.25), light))


def _paint_car(image: Image, view: View, place: tuple[float, float]) -> None:
    def at(dx: float, dy: float) -> tuple[float, float]:
        return view.near(place, dx, dy)

    def box(left: float, top: float, right: float, bottom: float, corner: float) -> Box:
        return Box(*at(left, top), *at(right, bottom), corner * view.unit)

    cabin = ((-0.22, -0.19), (-0.14, -0.315), (0.12, -0.315), (0.20, -0.19))
    paint(image, Polygon(tuple(at(dx, dy) for dx, dy in cabin)), colour=(0.93, 0.94, 0.96))
    for corners in (
        ((-0.185, -0.19), (-0.125, -0.29), (-0.02, -0.29), (-0.02, -0.19)),
        ((0.01, -0.19), (0.01, -0.29), (0.105, -0.29), (0.165, -0.19)),
    ):
        paint(image, Polygon(tuple(at(dx, dy) for dx, dy in corners)), colour=(0.18, 0.26, 0.36))
    paint(image, box(-0.36, -0.20, 0.36, -0.045, 0.04), colour=(0.93, 0.94, 0.96))
    paint(image, box(-0.36, -0.145, 0.36, -0.095, 0.0), colour=(0.10, 0.18, 0.50))
    for dx in (-0.21, 0.21):
        paint(image, Disc(at(dx, -0.055), 0.075 * view.unit), colour=BLACK)
        paint(image, Disc(at(dx, -0.055), 0.035 * view.unit), colour=(0.62, 0.63, 0.66))


def _street(view: View, motion: SirenMotion, time: str) -> Image:
    road_y = (motion.place[1] - 0.05) * view.height
    if time == "day":
        image = gradient(view, (0.45, 0.70, 0.95), (0.80, 0.90, 0.98))
        houses, road, line = (0.66, 0.58, 0.52), (0.42, 0.42, 0.44), (0.90, 0.90, 0.85)
    else:
        image = gradient(view, (0.03, 0.04, 0.12), (0.08, 0.10, 0.22))
        houses, road, line = (0.05, 0.05, 0.10), (0.13, 0.13, 0.16), (0.45, 0.45, 0.40)
    for left, right, top in ((-0.02, 0.20, 0.38), (0.20, 0.38, 0.50), (0.66, 0.82, 0.46), (0.82, 1.02, 0.34)):
        paint(image, Box(left * view.width, top * view.height, right * view.width, road_y + 2), colour=houses)
    paint(image, Box(-view.unit, road_y, view.width + view.unit, view.height + view.unit), colour=road)
    for x in (0.12, 0.5, 0.88):
        ends = view.at(x - 0.08, 0.92), view.at(x + 0.08, 0.92)
        paint(image, Capsule(*ends, 0.014 * view.unit), colour=line)
    return image


def phrases(given: Mapping[str, Value]) -> Phrases:
    """Names speed and time of day."""
    speed, time = given["speed"], given["time"]
    when = "at night" if time == "night" else "by day"
    return (
        f"a police car {when} with a {speed} siren",
        f"a {speed} siren on a police car {when}",
        f"{when} a police car sounds a {speed} siren",
        f"blue and red lights of a police car {when}, {speed} siren",
    ), (f"a police car {when}", f"a police car with a {speed} siren")


def sound(script: Script, sample_rate: int, num_samples: int) -> Sequence[Source]:
    """One source that never stops; at each switch it is at the event's place, in between on the way."""
    events = sorted(script.events, key=lambda event: event.audio_time_s)
    switches = [(event.audio_time_s, event.label) for event in events]
    samples = _tone(switches, sample_rate=sample_rate, num_samples=num_samples)
    if not events:
        return [(0, samples, 0.5)]
    times = np.arange(num_samples) / sample_rate
    places_x = [event.place[0] for event in events]
    return [(0, samples, np.interp(times, [time for time, _ in switches], places_x))]


def _tone(switches: Sequence[tuple[float, str]], *, sample_rate: int, num_samples: int) -> Signal:
    """A two-tone siren through a whole clip, without a break of phase.

    Args:
        switches: ``(time in seconds, "high" or "low")`` in order of time. Before the first, the other tone
            sounds.
        sample_rate: Samples per second.
        num_samples: Samples in the clip.

    Returns:
        ``[num_samples]`` float64. The frequency slides for 5 ms from each switch on, and the level, otherwise
        constant, starts there at 1.5 times its value and settles within 80 ms: the accent by which a switch
        is heard.
    """
    times = np.arange(num_samples) / sample_rate
    tones_hz = [look_up(_SIREN_HZ, label, "siren tone") for _, label in switches]
    other_hz = sum(_SIREN_HZ.values()) - tones_hz[0] if tones_hz else _SIREN_HZ["low"]
    cycles = other_hz * times
    accent = np.zeros(num_samples)
    for (switch_s, _), before_hz, after_hz in zip(switches, [other_hz, *tones_hz], tones_hz, strict=False):
        first = max(0, ceil(switch_s * sample_rate))
        since = times[first:] - switch_s
        sliding = np.minimum(since, _SLIDE_S)
        cycles[first:] += (after_hz - before_hz) * (sliding**2 / (2.0 * _SLIDE_S) + since - sliding)
        loud = Window.after(switch_s, 0.2, sample_rate=sample_rate, clip_samples=num_samples)
        accent[loud.first : loud.first + loud.num_samples] = strike(loud, 0.025, 0.002)
    sine, cosine = np.sin(2.0 * np.pi * cycles), np.cos(2.0 * np.pi * cycles)
    # sin 2x = 2 sin x cos x and sin 3x = sin x (4 cos^2 x - 1): harmonics of 1, 0.4 and 0.2
    tone = sine * (1.0 + 0.8 * cosine + 0.2 * (4.0 * cosine**2 - 1.0))
    return 0.2 * (1.0 + 0.5 * accent) * tone


_SIREN_HZ = {"high": 960.0, "low": 720.0}

_SLIDE_S = 0.005


KIND = Kind(
    name="siren",
    description="A police car by day or night; blue lamp and high tone alternate with red lamp and low tone.",
    words=frozenset({"siren", "sirens", "police", "cop", "cops"}),
    attributes={"speed": tuple(SPEEDS), "time": TIMES},
    labels=("high", "low"),
    choose=choose,
    plan=plan,
    draw=draw,
    sound=sound,
    phrases=phrases,
    example_captions=("a police car at night with a fast siren", "a slow siren on a police car by day"),
    reading=ReadingHints(heard_labels=("high", "low"), rates_hz={"speed": SPEEDS}),
)
