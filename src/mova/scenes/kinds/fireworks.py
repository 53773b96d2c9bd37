"""Fireworks over a city: a rocket climbs, bursts with a flash, and its sparks spread, fall and fade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from einops import rearrange

from mova.scenes.kind import Hit, Kind, Phrases, ReadingHints, counted, each_event, times
from mova.scenes.raster import (
    COLOURS,
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
    shine,
    sparkle,
)
from mova.scenes.script import Attributes, Event, Image, Plan, Script, Value, capacity, irregular_times, pick, pick_count
from mova.scenes.waves import MAX_OF_RATE, Band, Signal, Window, band_noise, damped_modes, strike

FIREWORK_COLOURS = ("red", "green", "blue", "gold")
GAP_S = 0.32
CLIMB_S = 0.5
FADE_S = 0.7
FLASH_DECAY_S = 0.12
SPREAD_S = 0.22
FALL = 0.22
"""Of the sparks, in short sides per second squared."""
ROOFS_Y = 0.80


@dataclass(frozen=True)
class Burst:
    """One firework: when and where it bursts, how far its sparks fly, and the angles of the two rings."""

    time_s: float
    place: tuple[float, float]
    radius: float
    turn: float
    strength: float


@dataclass(frozen=True)
class FireworksMotion:
    """The bursts in order of time, and how far the skyline is shifted."""

    bursts: tuple[Burst, ...]
    skyline: float


def choose(rng: np.random.Generator, seconds: float, pinned: Attributes) -> Attributes:
    """Attributes of a firework show."""
    return {
        "colour": pick(rng, FIREWORK_COLOURS, pinned.get("colour")),
        "count": pick_count(rng, seconds, pinned, low=1, high=3, capacity=capacity(seconds, gap_s=GAP_S)),
    }


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """Bursts at irregular times; neighbours in time are apart in place."""
    count = int(attributes["count"])
    skyline = float(rng.uniform(0.0, 1.0))
    times = irregular_times(rng, count, seconds, gap_s=GAP_S)
    lanes = (0.28, 0.72, 0.50)
    first = int(rng.integers(3))
    bursts = tuple(
        Burst(
            time_s=time,
            place=(lanes[(first + index) % 3] + float(rng.uniform(-0.05, 0.05)), float(rng.uniform(0.26, 0.42))),
            radius=float(rng.uniform(0.21, 0.27)),
            turn=float(rng.uniform(0.0, 1.0)),
            strength=float(rng.uniform(0.8, 1.0)),
        )
        for index, time in enumerate(times)
    )
    label = str(attributes["colour"])
    events = tuple(Event(b.time_s, b.time_s, "burst", label, b.place, b.strength) for b in bursts)
    return Plan(events, FireworksMotion(bursts, skyline))


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """Rocket, flash (exact mean of its light) and sparks of each burst over one picture of the city."""
    motion = script.motion
    assert isinstance(motion, FireworksMotion)
    colour = COLOURS[str(script.attributes["colour"])]
    dark = _city(view, motion)
    frames = repeat(dark, exposure.num_frames)
    for burst in motion.bursts:
        bright = dark + np.float32(0.22) * (np.asarray(colour, np.float32) - dark)
        centre = view.at(*burst.place)
        paint(bright, Disc(centre, 0.20 * view.unit), colour=colour, opacity=0.8, softness_px=0.34 * view.unit)
        paint(bright, Disc(centre, 0.09 * view.unit), colour=mix(colour, WHITE, 0.8), softness_px=0.08 * view.unit)
        shine(frames, dark, bright, exposure.flash([burst.time_s], [burst.strength], FLASH_DECAY_S))
        _draw_rocket(frames, burst, view, exposure)
        _draw_sparks(frames, burst, view, exposure, mix(colour, WHITE, 0.15))
    return frames


def _draw_rocket(frames: Image, burst: Burst, view: View, exposure: Exposure) -> None:
    """A short bright streak that climbs, slowing down, and is gone at the burst."""
    for image, moments in zip(frames, exposure.moments(), strict=True):
        streaks = []
        for moment in moments:
            share = (float(moment) - burst.time_s) / CLIMB_S + 1.0
            if 0.0 < share < 1.0:
                head, tail = (_climb(burst, at) for at in (share, max(0.0, share - 0.22)))
                streaks.append(Capsule(view.at(*tail), view.at(*head), 0.015 * view.unit))
        paint(image, streaks, colour=(1.0, 0.86, 0.55), opacity=len(streaks) / len(moments))


def _climb(burst: Burst, share: float) -> tuple[float, float]:
    return burst.place[0], ROOFS_Y + (burst.place[1] - ROOFS_Y) * (1 - (1 - share) ** 2)


def _draw_sparks(frames: Image, burst: Burst, view: View, exposure: Exposure, colour: Colour) -> None:
    """Two rings of sparks. A frame that is open when it bursts gets the part of its light that it sees."""
    angles = np.concatenate([(np.arange(14) + burst.turn) / 14, (np.arange(7) + burst.turn) / 7]) * 2 * np.pi
    reach = np.concatenate([np.full(14, burst.radius), np.full(7, 0.5 * burst.radius)])
    opened_s = exposure.shutter / exposure.fps
    centre = view.at(*burst.place)
    for image, opens in zip(frames, exposure.opens(), strict=True):
        start, end = max(opens, burst.time_s), min(opens + opened_s, burst.time_s + FADE_S)
        if end <= start:
            continue
        since = start + (np.arange(exposure.subframes) + 0.5) * (end - start) / exposure.subframes - burst.time_s
        seen = (end - start) / opened_s / exposure.subframes
        bright = 1.5 * burst.strength * (1 - since / FADE_S) ** 1.2 * seen
        out = (1 - np.exp(-since / SPREAD_S))[:, None] * reach
        x = centre[0] + view.unit * out * np.cos(angles)
        y = centre[1] + view.unit * (out * np.sin(angles) + 0.5 * FALL * since[:, None] ** 2)
        points = np.stack([x.ravel(), y.ravel()], axis=1)
        weights = np.broadcast_to(bright[:, None], x.shape).ravel()
        sparkle(image, points, weights, colour=colour, radius_px=0.020 * view.unit)


def _city(view: View, motion: FireworksMotion) -> Image:
    image = gradient(view, (0.03, 0.03, 0.10), (0.12, 0.09, 0.22))
    tops = (0.86, 0.80, 0.89, 0.76, 0.84, 0.90, 0.79, 0.87, 0.82)
    width = 1.0 / (len(tops) - 1)
    for index, top in enumerate(tops):
        left = (index - motion.skyline) * width
        block = Box(left * view.width, top * view.height, (left + width) * view.width, view.height + view.unit)
        paint(image, block, colour=(0.05, 0.05, 0.09) if index % 2 else (0.08, 0.08, 0.13))
        x, y = view.at(left + width / 2, top + 0.05)
        half = 0.013 * view.unit
        paint(image, Box(x - half, y - half, x + half, y + half), colour=(0.75, 0.62, 0.30))
    return image


def phrases(given: Mapping[str, Value]) -> Phrases:
    """Names colour and count."""
    colour, count = given["colour"], int(given["count"])
    shows = counted(count, f"{colour} firework")
    ends = "s" if count == 1 else ""
    return (
        f"{shows} burst{ends} over the city",
        f"{shows} explode{ends} in the night sky",
        f"{colour} fireworks over the city burst {times(count)}",
        f"a rocket show at night: {shows}",
        f"{shows} in the sky over the city at night",
    ), (f"{colour} fireworks over the city", f"{counted(count, 'firework')} in the night sky")


def voice(hit: Hit) -> tuple[int, Signal]:
    """A bursting rocket: a low thump, a burst of noise, and half a second of faint crackle."""
    window = hit.window(0.5)
    thump = 0.3 * damped_modes(window, (70.0, 113.0), decays_s=(0.058, 0.04), amplitudes=(1.0, 0.4))
    burst = 0.15 * band_noise(window, Band(180.0, 5000.0, 1, 2), hit.rng) * strike(window, 0.055)
    return window.first, hit.level * (thump + burst + _crackle(hit, window))


def _crackle(hit: Hit, window: Window) -> Signal:
    """``[num_samples]``: 14 snaps of 5 ms, strewn over the half second of ``window``."""
    snaps = hit.rng.uniform((0.05, 2000.0, 0.008), (0.48, 6500.0, 0.024), size=(14, 3))
    delay_s, frequency_hz, amplitude = rearrange(snaps, "snap part -> part snap 1")
    start_s = hit.start_s + delay_s
    sample = np.ceil(start_s * hit.sample_rate) + np.arange(ceil(0.005 * hit.sample_rate))
    since = sample / hit.sample_rate - start_s
    pulses = amplitude * np.exp(-since / 0.001) * np.sin(2.0 * np.pi * frequency_hz * since)
    position = sample.astype(np.int64) - window.first
    inside = (position >= 0) & (position < window.num_samples)
    heard = inside & (frequency_hz <= MAX_OF_RATE * hit.sample_rate)
    crackle = np.zeros(window.num_samples)
    np.add.at(crackle, position[heard], pulses[heard])
    return crackle


KIND = Kind(
    name="fireworks",
    description="Fireworks burst over a city at night; the bang is heard as the burst is seen.",
    words=frozenset({"firework", "fireworks", "rocket", "rockets"}),
    attributes={"colour": FIREWORK_COLOURS, "count": tuple(range(1, 13))},
    labels=FIREWORK_COLOURS,
    choose=choose,
    plan=plan,
    draw=draw,
    sound=each_event(voice),
    phrases=phrases,
    example_captions=("two gold fireworks burst over the city", "one red firework explodes in the night sky"),
    reading=ReadingHints(gap_s=0.15),
)
