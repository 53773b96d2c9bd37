"""A cartoon face that says a vowel: the mouth opens at the start of each syllable and closes after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mova.scenes.kind import Hit, Kind, Phrases, ReadingHints, each_event, look_up, times
from mova.scenes.raster import (
    BLACK,
    COLOURS,
    WALLS,
    WHITE,
    Box,
    Capsule,
    Colour,
    Disc,
    Ellipse,
    Exposure,
    Overlap,
    Polygon,
    View,
    gradient,
    mix,
    paint,
    repeat,
)
from mova.scenes.script import Attributes, Image, Plan, Script, Value, capacity, irregular_events, pick, pick_count
from mova.scenes.waves import MAX_OF_RATE, Signal, harmonics, rise

FACE_COLOURS = ("green", "blue", "orange", "pink")
VOICES = ("high", "low")
VOWELS = {"ah": (0.095, 0.125), "oh": (0.065, 0.075), "ee": (0.155, 0.050)}
"""Half width and half height of the open mouth, in lengths of the short side."""
CLOSED_RY = 0.008
OPENING_S = 0.04
CLOSING_S = 0.18
FACE_RADII = {"high": 0.29, "low": 0.39}
MOUTH_DY = {"high": 0.105, "low": 0.14}


@dataclass(frozen=True)
class MouthMotion:
    """Where the face is, and the choice of wall."""

    centre: tuple[float, float]
    wall: int


def choose(rng: np.random.Generator, seconds: float, pinned: Attributes) -> Attributes:
    """Attributes of a face."""
    return {
        "colour": pick(rng, FACE_COLOURS, pinned.get("colour")),
        "voice": pick(rng, VOICES, pinned.get("voice")),
        "vowel": pick(rng, tuple(VOWELS), pinned.get("vowel")),
        "count": pick_count(rng, seconds, pinned, low=2, high=4, capacity=capacity(seconds, gap_s=0.28)),
    }


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """Syllables at irregular times, far enough apart for the mouth to close in between."""
    high = attributes["voice"] == "high"
    centre = (0.5 + float(rng.uniform(-0.03, 0.03)), (0.53 if high else 0.49) + float(rng.uniform(-0.02, 0.02)))
    wall = int(rng.integers(len(WALLS)))
    labels = [str(attributes["vowel"])] * int(attributes["count"])
    place = (centre[0], centre[1] + MOUTH_DY[str(attributes["voice"])])
    events = irregular_events(rng, labels, seconds, "syllable", lambda _: place, gap_s=0.28, weakest=0.75)
    return Plan(events, MouthMotion(centre, wall))


def aperture(script: Script, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the mouth is open: 0 until an event, most after ``OPENING_S``, 0 ``CLOSING_S`` later."""
    opened = np.zeros(time_s.shape)
    for event in script.events:
        since = time_s - event.time_s
        rising = np.clip(since / OPENING_S, 0.0, 1.0)
        falling = np.clip((since - OPENING_S) / CLOSING_S, 0.0, 1.0)
        shape = rising * (0.5 + 0.5 * np.cos(np.pi * falling))
        opened = np.maximum(opened, (0.55 + 0.45 * event.strength) * shape)
    return opened


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """The face once, the mouth per frame."""
    motion = script.motion
    assert isinstance(motion, MouthMotion)
    voice = str(script.attributes["voice"])
    skin = COLOURS[str(script.attributes["colour"])]
    frames = repeat(_face(view, motion, voice, skin), exposure.num_frames)
    rx, ry = VOWELS[str(script.attributes["vowel"])]
    centre = view.near(motion.centre, 0.0, MOUTH_DY[voice])
    lips = 0.020
    for image, opened in zip(frames, aperture(script, exposure.moments()), strict=True):
        wide = [rx * (0.75 + 0.25 * share) for share in opened]
        tall = [CLOSED_RY + (ry - CLOSED_RY) * share for share in opened]
        sizes = [(float(w) * view.unit, float(h) * view.unit) for w, h in zip(wide, tall, strict=True)]
        rim = lips * view.unit
        paint(image, [Ellipse(centre, w + rim, h + rim) for w, h in sizes], colour=(0.72, 0.12, 0.20))
        paint(image, [Ellipse(centre, w, h) for w, h in sizes], colour=(0.10, 0.02, 0.04))
        tongues = [Ellipse((centre[0], centre[1] + 0.55 * h), 0.55 * w, 0.38 * h) for w, h in sizes]
        paint(image, tongues, colour=(0.93, 0.38, 0.42), opacity=float(np.mean(opened)))
    return frames


def _face(view: View, motion: MouthMotion, voice: str, skin: Colour) -> Image:
    image = gradient(view, *WALLS[motion.wall])
    radius, unit = FACE_RADII[voice], view.unit

    def at(dx: float, dy: float) -> tuple[float, float]:
        return view.near(motion.centre, dx, dy)

    paint(image, Disc(at(0, 0), (radius + 0.014) * unit), colour=mix(skin, BLACK, 0.6))
    paint(image, Disc(at(0, 0), radius * unit), colour=skin)
    if voice == "low":
        _paint_beard(image, view, motion.centre, skin)
    eye_dx, eye_dy = 0.38 * radius, -0.30 * radius
    for side in (-1, 1):
        paint(image, Disc(at(side * eye_dx, eye_dy), 0.062 * unit), colour=WHITE)
        paint(image, Disc(at(side * eye_dx, eye_dy + 0.008), 0.032 * unit), colour=BLACK)
        if voice == "low":
            brow = (at(side * 0.24 * radius, eye_dy - 0.085), at(side * 0.62 * radius, eye_dy - 0.105))
            paint(image, Capsule(*brow, 0.022 * unit), colour=mix(skin, BLACK, 0.75))
        else:
            for angle in (0.25, 0.75, 1.25):
                dx, dy = side * float(np.cos(angle)), -float(np.sin(angle))
                root = at(side * eye_dx + 0.058 * dx, eye_dy + 0.058 * dy)
                tip = at(side * eye_dx + 0.10 * dx, eye_dy + 0.10 * dy)
                paint(image, Capsule(root, tip, 0.009 * unit), colour=BLACK)
    if voice == "high":
        for side in (-1, 1):
            wing = (at(0, -radius), at(side * 0.16, -radius - 0.085), at(side * 0.16, -radius + 0.065))
            paint(image, Polygon(wing), colour=(0.85, 0.10, 0.45))
        paint(image, Disc(at(0, -radius), 0.035 * unit), colour=(1.0, 0.75, 0.85))
    return image


def _paint_beard(image: Image, view: View, centre: tuple[float, float], skin: Colour) -> None:
    """The lower cap of the face in a dark shade, with skin left around the mouth."""
    edge = view.near(centre, 0, 0.06)[1]
    below = Box(-view.unit, edge, view.width + view.unit, view.height + view.unit)
    face = Disc(view.near(centre, 0, 0), FACE_RADII["low"] * view.unit)
    paint(image, Overlap(face, below), colour=mix(skin, BLACK, 0.72))
    around = Ellipse(view.near(centre, 0, MOUTH_DY["low"] - 0.06), 0.24 * view.unit, 0.12 * view.unit)
    paint(image, around, colour=skin)


def phrases(given: Mapping[str, Value]) -> Phrases:
    """Names colour, voice, vowel and count."""
    colour, voice, vowel, count = given["colour"], given["voice"], given["vowel"], int(given["count"])
    article = "an" if colour == "orange" else "a"
    return (
        f"{article} {colour} cartoon face with a {voice} voice says {vowel} {times(count)}",
        f"{article} {colour} face sings {vowel} {times(count)} in a {voice} voice",
        f"a {voice} voice: {article} {colour} cartoon face says {vowel} {times(count)}",
        f"{vowel} is said {times(count)} by {article} {colour} face with a {voice} voice",
    ), (
        f"{article} {colour} face says {vowel}",
        f"a cartoon face with a {voice} voice says {vowel} {times(count)}",
        f"a face says {vowel} {times(count)}",
    )


def voice(hit: Hit) -> tuple[int, Signal]:
    """One sung syllable of 0.18 s, "ah", "oh" or "ee", in a low or a high voice whose pitch falls by a tenth.

    A buzz through three formants in parallel, of alternating sign (Klatt 1980, "Software for a
    cascade/parallel formant synthesizer"), taken at the syllable's mean pitch.
    """
    voice = str(hit.attributes.get("voice", "low"))
    pitch_hz = look_up(_PITCHES_HZ, voice, "voice")
    formants_hz = look_up(look_up(_FORMANTS_HZ, voice, "voice"), hit.label, "vowel")
    window = hit.window(_SYLLABLE_S)
    times = window.times_s
    phase = 2.0 * np.pi * pitch_hz * (1.05 * times - 0.05 * times**2 / _SYLLABLE_S)
    tone = harmonics(phase, _vowel_weights(pitch_hz, formants_hz, hit.sample_rate))
    envelope = rise(times, 0.008) * rise(_SYLLABLE_S - times, 0.06)
    return window.first, 0.15 * hit.level * envelope * tone


@lru_cache(maxsize=64)
def _vowel_weights(pitch_hz: float, formants_hz: tuple[float, float, float], sample_rate: int) -> NDArray[np.complex128]:
    """``[H]`` complex harmonic amplitudes of a vowel, RMS 1 up to 5 kHz whatever the sample rate."""
    frequencies = pitch_hz * np.arange(1, int(5000.0 / pitch_hz) + 1)
    weights = np.zeros(frequencies.size, dtype=np.complex128)
    for centre, width, gain in zip(formants_hz, _BANDWIDTHS_HZ, _FORMANT_GAINS, strict=True):
        weights += gain * 1j * width * frequencies / (centre**2 - frequencies**2 + 1j * width * frequencies)
    weights /= np.sqrt(np.sum(np.abs(weights) ** 2) / 2.0)
    # the pitch starts 5 % above its mean
    return weights[1.05 * frequencies <= MAX_OF_RATE * sample_rate]


_SYLLABLE_S = 0.18
_PITCHES_HZ = {"high": 240.0, "low": 115.0}
# Peterson and Barney 1952, table II: means for women and for men ("oh" is their open o)
_FORMANTS_HZ = {
    "high": {"ah": (850.0, 1220.0, 2810.0), "oh": (590.0, 920.0, 2710.0), "ee": (310.0, 2790.0, 3310.0)},
    "low": {"ah": (730.0, 1090.0, 2440.0), "oh": (570.0, 840.0, 2410.0), "ee": (270.0, 2290.0, 3010.0)},
}
_BANDWIDTHS_HZ = (110.0, 140.0, 200.0)
_FORMANT_GAINS = (1.0, -0.6, 0.3)


KIND = Kind(
    name="mouth",
    description="A cartoon face with a high or a low voice says ah, oh or ee; the mouth opens each time.",
    words=frozenset({"face", "mouth", "says", "speaks", "utters", "sings", "voice", "syllable", "syllables", "talking"}),
    attributes={"colour": FACE_COLOURS, "voice": VOICES, "vowel": tuple(VOWELS), "count": tuple(range(1, 13))},
    labels=tuple(VOWELS),
    choose=choose,
    plan=plan,
    draw=draw,
    sound=each_event(voice),
    phrases=phrases,
    example_captions=(
        "a green cartoon face with a low voice says ah three times",
        "a pink face sings ee twice in a high voice",
    ),
    reading=ReadingHints(
        heard_labels=tuple(VOWELS), variants=({"voice": "low"}, {"voice": "high"}), gap_s=0.15, label_attribute="vowel"
    ),
)
