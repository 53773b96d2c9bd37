"""Seven piano keys; a pressed key goes down, lights up in its own colour and fades."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mova.scenes.kind import Hit, Kind, Light, Phrases, ReadingHints, counted, each_event, light_up, look_up, times
from mova.scenes.raster import BLACK, WALLS, WHITE, Box, Colour, Exposure, View, gradient, mix, paint, repeat
from mova.scenes.script import Attributes, Image, Plan, Script, Value, pick_sequence, sequence_events
from mova.scenes.waves import BRIEF_HZ, Band, Signal, band_noise, damped_modes, strike, together

NOTES = ("C", "D", "E", "F", "G", "A", "B")
LIGHTS: dict[str, Colour] = {
    "C": (0.95, 0.15, 0.15),
    "D": (1.00, 0.55, 0.10),
    "E": (1.00, 0.90, 0.10),
    "F": (0.20, 0.80, 0.25),
    "G": (0.10, 0.80, 0.90),
    "A": (0.20, 0.35, 1.00),
    "B": (0.70, 0.25, 0.95),
}
IVORY: Colour = (0.94, 0.93, 0.90)
LEFT, RIGHT = 0.05, 0.95
TOP, BOTTOM = 0.30, 0.86
DIP = 0.035
DECAY_S = 0.20
_BLACK_AFTER = (0, 1, 3, 4, 5)


@dataclass(frozen=True)
class PianoMotion:
    """How far the keys are shifted down (fraction of the height), and the choice of wall."""

    shift_y: float
    wall: int


def choose(rng: np.random.Generator, seconds: float, pinned: Attributes) -> Attributes:
    """Attributes ``sequence`` and ``count``."""
    return pick_sequence(rng, seconds, pinned, NOTES)


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """Notes at irregular times."""
    shift_y, wall = float(rng.uniform(-0.03, 0.03)), int(rng.integers(len(WALLS)))
    events = sequence_events(rng, attributes, seconds, "note", lambda note: _place(note, shift_y))
    return Plan(events, PianoMotion(shift_y, wall))


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """The keys at rest, and once per note with its key down; blended by the exact mean of its light."""
    motion = script.motion
    assert isinstance(motion, PianoMotion)
    dark = _keyboard(view, motion, pressed=None)
    frames = repeat(dark, exposure.num_frames)
    light_up(frames, dark, lambda note: _keyboard(view, motion, pressed=note), script.events, exposure, DECAY_S)
    return frames


def _place(note: str, shift_y: float) -> tuple[float, float]:
    return LEFT + (NOTES.index(note) + 0.5) * _WIDTH, TOP + 0.75 * (BOTTOM - TOP) + shift_y


def _keyboard(view: View, motion: PianoMotion, *, pressed: str | None) -> Image:
    image = gradient(view, *WALLS[motion.wall])
    top, bottom = (TOP + motion.shift_y) * view.height, (BOTTOM + motion.shift_y) * view.height
    left, right = LEFT * view.width, RIGHT * view.width
    rim = 0.03 * view.unit
    case = (0.24, 0.12, 0.08)
    paint(image, Box(left - rim, top - 0.2 * view.height, right + rim, bottom + 2 * rim, rim), colour=case)
    paint(image, Box(left, top - 0.02 * view.height, right, bottom + DIP * view.height, 0.0), colour=BLACK)
    key_width, gap = (right - left) / len(NOTES), 0.008 * view.unit
    for index, note in enumerate(NOTES):
        down = DIP * view.height if note == pressed else 0.0
        colour = LIGHTS[note] if note == pressed else IVORY
        x = left + index * key_width
        lip = Box(x + gap, top, x + key_width - gap, bottom + down, 0.02 * view.unit)
        paint(image, lip, colour=mix(colour, BLACK, 0.35))
        paint(image, Box(x + gap, top, x + key_width - gap, bottom - 0.04 * view.height + 1.8 * down, gap), colour=colour)
    for index in _BLACK_AFTER:
        x, half = left + (index + 1) * key_width, 0.29 * key_width
        low = top + 0.56 * (bottom - top)
        paint(image, Box(x - half, top, x + half, low, 0.015 * view.unit), colour=BLACK)
        paint(image, Box(x - half * 0.5, top, x + half * 0.5, low - 0.05 * view.height, 0.0), colour=mix(BLACK, WHITE, 0.16))
    return image


def phrases(given: Mapping[str, Value]) -> Phrases:
    """Names the notes in order, or how many there are."""
    notes = ", ".join(str(given["sequence"]).split())
    count = int(given["count"])
    return (
        f"{counted(count, 'note')} on the piano: {notes}",
        f"piano keys are pressed {times(count)}: {notes}",
        f"the piano plays {counted(count, 'note')}: {notes}",
        f"{counted(count, 'piano note')}: {notes}",
        f"someone plays the piano keys {notes}",
    ), (f"{counted(count, 'note')} on the piano", f"someone presses {counted(count, 'piano key')}")


def voice(hit: Hit) -> tuple[int, Signal]:
    """One key of the octave C5 to B5, equal temperament, A4 = 440 Hz.

    The partials are a stiff string's, ``f_n = n f sqrt(1 + B n^2)``:
    Fletcher, Blackham and Stratton 1962, "Quality of piano tones".
    """
    pitch_hz = 440.0 * 2.0 ** (look_up(_SEMITONES_ABOVE_A4, hit.label, "key") / 12.0)
    number = np.arange(1.0, 9.0)
    window = hit.window(0.7)
    string = damped_modes(
        window,
        pitch_hz * number * np.sqrt(1.0 + 4e-4 * number**2),
        decays_s=0.087 / (1.0 + 0.35 * (number - 1.0)),
        amplitudes=0.34 / number,
    )
    blow = hit.window(0.008)
    hammer = band_noise(blow, Band(1200.0, 5000.0, 3, BRIEF_HZ), hit.rng) * strike(blow, 0.0009)
    return window.first, hit.level * together(string, 0.16 * hammer)


_SEMITONES_ABOVE_A4 = {"C": 3, "D": 5, "E": 7, "F": 8, "G": 10, "A": 12, "B": 14}


_WIDTH = (RIGHT - LEFT) / len(NOTES)
# every key below the black ones and above its lip, wherever the keys are shifted to
_LIGHTS = tuple(
    Light((left + 0.25 * _WIDTH, 0.67, left + 0.75 * _WIDTH, 0.78), IVORY, LIGHTS[note], DECAY_S, note)
    for note, left in ((note, LEFT + index * _WIDTH) for index, note in enumerate(NOTES))
)


KIND = Kind(
    name="piano",
    description="Piano keys C D E F G A B are pressed; each lights up in its own colour and sounds its note.",
    words=frozenset({"piano", "pianos", "pianist", "keyboard", "notes", "keys"}),
    attributes={"sequence": NOTES, "count": tuple(range(1, 13))},
    labels=NOTES,
    choose=choose,
    plan=plan,
    draw=draw,
    sound=each_event(voice),
    phrases=phrases,
    example_captions=("someone plays the piano keys c, e, g", "piano notes: a, b"),
    reading=ReadingHints(lights=_LIGHTS, heard_labels=NOTES, low_hz=400.0),
)
