"""A face that says words: lips, teeth and tongue follow the phones of the voice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import soxr
from numpy.typing import NDArray

from mova.scenes.kind import Hit, Kind, Phrases, ReadingHints, each_event
from mova.scenes.raster import (
    BLACK,
    COLOURS,
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
from mova.scenes.script import Attributes, Image, Plan, Script, Value, irregular_events, pick, pick_sequence
from mova.scenes.spoken import VOICES, WORDS, speak
from mova.scenes.waves import Signal

GAP_S = 0.64
"""Least time from word to word: the longest word and a pause."""
LAST_S = 0.35
"""No word begins later than this before the last event that other kinds may have."""
OPENING_S, MOVING_S, CLOSING_S = 0.04, 0.05, 0.08
"""How long the lips take to open for the first phone, from one phone to the next, and to close after the last."""
HOLD_S = 0.075
"""The lips keep the first phone at least as long."""
FIRST_TALL = 0.42
"""Least opening for the first phone of a word: its beginning is seen."""
HAIR: dict[str, Colour] = {
    "black": (0.10, 0.09, 0.11),
    "brown": (0.36, 0.21, 0.12),
    "blond": (0.90, 0.74, 0.38),
    "red": (0.70, 0.27, 0.12),
}
SKINS: tuple[Colour, ...] = ((0.98, 0.83, 0.71), (0.93, 0.73, 0.57), (0.75, 0.53, 0.38), (0.52, 0.35, 0.25))
WALLS: tuple[tuple[Colour, Colour], ...] = (
    ((0.62, 0.78, 0.86), (0.80, 0.89, 0.92)),
    ((0.86, 0.80, 0.68), (0.94, 0.90, 0.82)),
    ((0.66, 0.76, 0.66), (0.82, 0.88, 0.80)),
    ((0.38, 0.42, 0.55), (0.55, 0.60, 0.72)),
)
CLOTHES = ("red", "green", "blue", "purple", "orange")
HEAD = (0.255, 0.325)
"""Half width and half height of a head, in lengths of the short side."""
MOUTH_DY = 0.175
WIDE, TALL, LIP = 0.105, 0.082, 0.020
"""Half width and half height of a mouth that is open, and the thickness of its lips, in lengths of the short side."""
INSIDE: Colour = (0.22, 0.05, 0.07)


@dataclass(frozen=True)
class Viseme:
    """Shape of a mouth: share of ``TALL`` and of ``WIDE``, and how much of teeth and tongue is seen."""

    tall: float
    wide: float
    teeth: float = 0.0
    tongue: float = 0.0


REST = Viseme(0.0, 0.92)
_AH, _EH, _EE = Viseme(1.0, 0.95, 0.5, 1.0), Viseme(0.72, 1.08, 0.7, 0.8), Viseme(0.54, 1.30, 1.0, 0.2)
_OH, _OO, _ER = Viseme(0.88, 0.60, 0.0, 0.4), Viseme(0.55, 0.44), Viseme(0.46, 0.66, 0.4)
_SS, _TH, _NN = Viseme(0.30, 1.18, 1.0), Viseme(0.34, 1.05, 0.7, 1.0), Viseme(0.36, 1.0, 0.8, 0.5)
_IH, _KK, _FF, _PP = Viseme(0.62, 1.18, 0.8, 0.3), Viseme(0.18, 1.05, 0.8), Viseme(0.26, 1.0, 1.0), Viseme(0.0, 0.95)
VISEMES: Mapping[str, tuple[Viseme, ...]] = {
    **dict.fromkeys(("s", "z", "t", "t2"), (_SS,)),
    **dict.fromkeys(("g", "n"), (_NN,)),
    **dict.fromkeys(("f", "v"), (_FF,)),
    **dict.fromkeys(("p", "b", "m"), (_PP,)),
    **dict.fromkeys(("i:", "j"), (_EE,)),
    **dict.fromkeys(("V", "0"), (_AH,)),
    **dict.fromkeys(("E", "@"), (_EH,)),
    **dict.fromkeys(("u:", "w"), (_OO,)),
    "I": (_IH,),
    "k": (_KK,),
    "T": (_TH,),
    "r": (_ER,),
    "oU": (_OH, _OO),
    "o@": (_OH, _ER),
    "aI": (_AH, _EE),
    "eI": (_EH, _EE),
    "i@": (_EE, _EH),
}
"""Shapes of each phone, in turn."""


@dataclass(frozen=True)
class SpeechMotion:
    """Where the middle of the head is, the choices of skin, wall and clothes, and when the eyes blink."""

    centre: tuple[float, float]
    skin: int
    wall: int
    clothes: int
    blinks_s: tuple[float, ...]


def choose(rng: np.random.Generator, seconds: float, pinned: Attributes) -> Attributes:
    """Attributes of a speaker and the words in order."""
    return {
        "speaker": pick(rng, tuple(VOICES), pinned.get("speaker")),
        "hair": pick(rng, tuple(HAIR), pinned.get("hair")),
        **pick_sequence(rng, seconds, pinned, WORDS, low=1, high=2, gap_s=GAP_S, lag_s=LAST_S),
    }


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """Words at irregular times, with pauses between them."""
    centre = (0.5 + float(rng.uniform(-0.02, 0.02)), 0.44 + float(rng.uniform(-0.015, 0.015)))
    skin, wall, clothes = (int(rng.integers(len(some))) for some in (SKINS, WALLS, CLOTHES))
    gaps = rng.uniform(1.6, 3.6, size=1 + int(seconds))
    blinks = np.cumsum(gaps) - float(rng.uniform(0.2, 1.6))
    place = (centre[0], centre[1] + MOUTH_DY)
    words = str(attributes["sequence"]).split()
    events = irregular_events(rng, words, seconds, "word", lambda _: place, gap_s=GAP_S, lag_s=LAST_S)
    return Plan(events, SpeechMotion(centre, skin, wall, clothes, tuple(float(time) for time in blinks if time < seconds)))


@lru_cache(maxsize=256)
def _keys(word: str, speaker: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``[K]`` seconds from the start of a word and ``[4, K]`` shapes of the mouth, between which it moves evenly."""
    spoken = speak(word, speaker)
    keys: list[tuple[float, Viseme]] = [(0.0, REST)]
    ends = [*(start for start, _ in spoken.phones[1:]), spoken.seconds]
    for (start, phone), end in zip(spoken.phones, ends, strict=True):
        shapes = VISEMES[phone]
        parts = np.linspace(start, end, len(shapes) + 1)
        for shape, first, last in zip(shapes, parts[:-1], parts[1:], strict=True):
            is_first = len(keys) == 1
            shape = replace(shape, tall=max(shape.tall, FIRST_TALL)) if is_first else shape
            reached = OPENING_S if is_first else max(float(first) + MOVING_S / 2, keys[-1][0] + MOVING_S)
            kept = max(float(last) - MOVING_S / 2, reached + 0.001, HOLD_S if is_first else 0.0)
            # a mouth that speaks is never quite still
            keys += [(reached, shape), (kept, replace(shape, tall=0.85 * shape.tall, wide=0.96 * shape.wide))]
    closes = max(spoken.seconds - CLOSING_S / 2, keys[-1][0])
    keys = [*keys[:-1], (closes, keys[-1][1]), (closes + CLOSING_S, REST)]
    shapes_at = np.array([(shape.tall, shape.wide, shape.teeth, shape.tongue) for _, shape in keys]).T
    return np.array([time for time, _ in keys]), shapes_at


def lips(script: Script, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape of the mouth at each time, ``[4, ...]``: share of the full height, of the full width, teeth and tongue.

    It begins to change at each event, and not before.
    """
    rest = (REST.tall, REST.wide, REST.teeth, REST.tongue)
    shape = np.stack([np.full(time_s.shape, value) for value in rest])
    for event in script.events:
        times, shapes = _keys(event.label, str(script.attributes["speaker"]))
        since = time_s - event.time_s
        speaks = (since > 0.0) & (since < times[-1])
        for row, values in zip(shape, shapes, strict=True):
            row[speaks] = np.interp(since[speaks], times, values)
    return shape


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """The portrait once; the mouth at each moment of an exposure; the lids when they blink."""
    motion = script.motion
    assert isinstance(motion, SpeechMotion)
    skin, hair = SKINS[motion.skin], HAIR[str(script.attributes["hair"])]
    frames = repeat(_portrait(view, motion, str(script.attributes["speaker"]), skin, hair), exposure.num_frames)
    moments = exposure.moments()
    shapes = np.moveaxis(lips(script, moments), 1, 0)
    lids = _lids(motion, moments)
    for image, shape, closed in zip(frames, shapes, lids, strict=True):
        _paint_mouth(image, view, motion, shape, skin)
        if closed.max() > 0.0:
            _paint_lids(image, view, motion, closed, skin)
    return frames


def _lids(motion: SpeechMotion, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the eyes are closed at each time."""
    closed = np.zeros(time_s.shape)
    for blink in motion.blinks_s:
        closed = np.maximum(closed, np.clip(1.1 - np.abs(time_s - blink) / 0.08, 0.0, 1.0))
    return closed


def _paint_mouth(image: Image, view: View, motion: SpeechMotion, shape: NDArray[np.float64], skin: Colour) -> None:
    """Lips, what is dark between them, teeth and tongue, for ``[4, S]`` shapes."""
    unit = view.unit
    tall, wide, teeth, tongue = shape
    halves = [(float(w) * WIDE * unit, max(float(h) * TALL, 0.004) * unit) for h, w in zip(tall, wide, strict=True)]
    x, y = view.near(motion.centre, 0.0, MOUTH_DY)
    # the lower lip goes down more than the upper one goes up
    middles = [(x, y + 0.35 * h) for _, h in halves]
    rim = LIP * unit
    red = mix(skin, (0.78, 0.16, 0.22), 0.72)
    outer = [Ellipse(at, w + 0.8 * rim, h + rim) for at, (w, h) in zip(middles, halves, strict=True)]
    inner = [Ellipse(at, w, h) for at, (w, h) in zip(middles, halves, strict=True)]
    lower = [Ellipse((at[0], at[1] + 0.25 * rim), w + 0.7 * rim, h + rim) for at, (w, h) in zip(middles, halves, strict=True)]
    paint(image, lower, colour=mix(skin, BLACK, 0.28), opacity=0.6, softness_px=max(1.0, 0.012 * unit))
    paint(image, outer, colour=red)
    paint(image, inner, colour=INSIDE)
    far = 2.0 * (view.width + view.height)
    flesh = [
        Overlap(hole, Ellipse((at[0], at[1] + (1.65 - 0.8 * float(shown)) * h), 0.72 * w, 0.75 * h))
        for hole, at, (w, h), shown in zip(inner, middles, halves, tongue, strict=True)
    ]
    paint(image, flesh, colour=(0.86, 0.36, 0.38))
    edges = [
        min(float(shown) * (0.62 * h + 0.012 * unit), 0.036 * unit, 1.4 * h)
        for (_, h), shown in zip(halves, teeth, strict=True)
    ]
    upper = [
        Overlap(hole, Box(at[0] - 0.86 * w, at[1] - far, at[0] + 0.86 * w, at[1] - h + edge))
        for hole, at, (w, h), edge in zip(inner, middles, halves, edges, strict=True)
        if edge > 0.3 * h
    ]
    paint(image, upper, colour=(0.97, 0.96, 0.92), opacity=len(upper) / len(inner))
    for side in (-1, 1):  # the corners, which smile a little at rest
        smiles = [
            Capsule((at[0] + side * 0.9 * w, at[1]), (at[0] + side * (w + 0.75 * rim), at[1] - smile), 0.26 * rim)
            for at, (w, _), smile in zip(middles, halves, 0.016 * unit * (1.0 - np.minimum(tall, 1.0)), strict=True)
        ]
        paint(image, smiles, colour=mix(red, BLACK, 0.45))


def _paint_lids(image: Image, view: View, motion: SpeechMotion, closed: NDArray[np.float64], skin: Colour) -> None:
    for side in (-1, 1):
        x, y = view.near(motion.centre, side * _EYE_X, _EYE_Y)
        rx, ry = 1.08 * _EYE[0] * view.unit, 1.12 * _EYE[1] * view.unit
        edges = [y - ry + 2.0 * ry * float(share) for share in closed]
        covers = [Overlap(Ellipse((x, y), rx, ry), Box(x - 2 * rx, y - 3 * ry, x + 2 * rx, edge)) for edge in edges]
        paint(image, covers, colour=mix(skin, BLACK, 0.16))
        if float(closed.min()) > 0.95:
            paint(image, Capsule((x - 0.8 * rx, y + 0.8 * ry), (x + 0.8 * rx, y + 0.8 * ry), 0.006 * view.unit), colour=BLACK)


_EYE_X, _EYE_Y = 0.112, -0.035
_EYE = (0.052, 0.039)


def _portrait(view: View, motion: SpeechMotion, speaker: str, skin: Colour, hair: Colour) -> Image:
    image = gradient(view, *WALLS[motion.wall])
    unit = view.unit
    (rx, ry), shade = HEAD, mix(skin, BLACK, 0.22)

    def at(dx: float, dy: float) -> tuple[float, float]:
        return view.near(motion.centre, dx, dy)

    def ellipse(dx: float, dy: float, across: float, down: float) -> Ellipse:
        return Ellipse(at(dx, dy), across * unit, down * unit)

    def part(shape: Ellipse, top: float, bottom: float) -> Overlap:
        return Overlap(shape, Box(-unit, at(0, top)[1], view.width + unit, at(0, bottom)[1]))

    dark = mix(hair, BLACK, 0.35)
    paint(image, ellipse(0.02, 0.05, rx + 0.12, ry + 0.10), colour=BLACK, opacity=0.16, softness_px=0.12 * unit)
    if speaker == "woman":
        paint(image, ellipse(0.0, 0.02, rx + 0.085, ry + 0.075), colour=dark)
        paint(image, Box(*at(-rx - 0.085, 0.0), *at(rx + 0.085, 0.46), 0.08 * unit), colour=dark)
    elif speaker == "girl":
        for side in (-1, 1):
            paint(image, ellipse(side * (rx + 0.085), 0.06, 0.085, 0.15), colour=dark)
            paint(image, ellipse(side * (rx + 0.085), 0.06, 0.070, 0.135), colour=hair)
            paint(image, ellipse(side * (rx + 0.045), -0.055, 0.035, 0.030), colour=(0.93, 0.30, 0.50))
    # shoulders, neck, ears, head
    clothes = COLOURS[CLOTHES[motion.clothes]]
    paint(image, Box(*at(-0.40, 0.395), *at(0.40, 1.2), 0.16 * unit), colour=mix(clothes, BLACK, 0.45))
    paint(image, Box(*at(-0.385, 0.41), *at(0.385, 1.2), 0.15 * unit), colour=mix(clothes, BLACK, 0.1))
    paint(image, Box(*at(-0.105, 0.20), *at(0.105, 0.45), 0.05 * unit), colour=shade)
    paint(image, ellipse(0.0, 0.42, 0.115, 0.04), colour=shade)
    for side in (-1, 1):
        paint(image, ellipse(side * rx, 0.02, 0.045, 0.065), colour=shade)
        paint(image, ellipse(side * rx, 0.02, 0.033, 0.052), colour=skin)
    paint(image, ellipse(0.0, 0.0, rx + 0.008, ry + 0.008), colour=mix(skin, BLACK, 0.4))
    paint(image, ellipse(0.0, 0.0, rx, ry), colour=skin)
    for side in (-1, 1):
        paint(image, ellipse(side * 0.155, 0.085, 0.05, 0.038), colour=(0.95, 0.45, 0.42), opacity=0.3, softness_px=0.05 * unit)
    _paint_hair(image, view, motion, speaker, skin, hair)
    for side in (-1, 1):
        x, y = side * _EYE_X, _EYE_Y
        paint(image, ellipse(x, y, _EYE[0] + 0.007, _EYE[1] + 0.007), colour=mix(skin, BLACK, 0.35))
        paint(image, ellipse(x, y, *_EYE), colour=WHITE)
        paint(image, ellipse(x, y + 0.003, 0.026, 0.029), colour=(0.28, 0.42, 0.52))
        paint(image, ellipse(x, y + 0.003, 0.014, 0.016), colour=BLACK)
        paint(image, ellipse(x - 0.010, y - 0.010, 0.008, 0.008), colour=WHITE)
        lid = (at(x - 0.050, y - 0.020), at(x - 0.018, y - 0.039), at(x + 0.018, y - 0.039), at(x + 0.050, y - 0.020))
        thick = (0.007 if speaker in ("woman", "girl") else 0.004) * unit
        for first, last in pairwise(lid):
            paint(image, Capsule(first, last, thick), colour=mix(skin, BLACK, 0.9))
        brow = (at(x - side * 0.042, y - 0.092), at(x + side * 0.056, y - 0.080))
        paint(image, Capsule(*brow, (0.014 if speaker == "man" else 0.009) * unit), colour=mix(hair, BLACK, 0.25))
    nose = (at(0.006, 0.0), at(0.024, 0.075), at(-0.022, 0.080))
    paint(image, Polygon(nose), colour=mix(skin, BLACK, 0.12), softness_px=max(1.0, 0.012 * unit))
    paint(image, Capsule(at(-0.020, 0.083), at(0.022, 0.080), 0.007 * unit), colour=mix(skin, BLACK, 0.28))
    if speaker == "boy":
        for dx, dy in ((-0.16, 0.06), (-0.125, 0.075), (-0.14, 0.045), (0.16, 0.06), (0.125, 0.075), (0.14, 0.045)):
            paint(image, Disc(at(dx, dy), 0.006 * unit), colour=mix(skin, (0.55, 0.25, 0.12), 0.5))
    return image


def _paint_hair(image: Image, view: View, motion: SpeechMotion, speaker: str, skin: Colour, hair: Colour) -> None:
    """What of the hair is before the head."""
    unit, (rx, ry), dark = view.unit, HEAD, mix(hair, BLACK, 0.35)

    def at(dx: float, dy: float) -> tuple[float, float]:
        return view.near(motion.centre, dx, dy)

    def cap(grown: float, bottom: float, colour: Colour) -> None:
        shape = Ellipse(at(0.0, 0.0), (rx + grown) * unit, (ry + grown) * unit)
        paint(image, Overlap(shape, Box(-unit, -unit, view.width + unit, at(0, bottom)[1])), colour=colour)

    if speaker == "man":
        cap(0.030, -0.02, dark)
        cap(0.022, -0.03, hair)
        paint(image, Ellipse(at(0.0, 0.02), 0.228 * unit, 0.218 * unit), colour=skin)
    elif speaker == "boy":
        cap(0.028, -0.175, hair)
        for dx, tip in ((-0.19, -0.10), (-0.10, -0.125), (0.0, -0.10), (0.10, -0.125), (0.19, -0.10)):
            paint(image, Polygon((at(dx - 0.07, -0.19), at(dx + 0.07, -0.19), at(dx + 0.015, tip))), colour=hair)
        for dx, top in ((-0.10, -0.385), (0.0, -0.41), (0.09, -0.39)):
            paint(image, Polygon((at(dx - 0.06, -0.29), at(dx + 0.07, -0.29), at(dx + 0.05, top))), colour=hair)
    elif speaker == "woman":
        cap(0.035, -0.19, hair)
        for side in (-1, 1):
            paint(image, Capsule(at(side * 0.03, -0.285), at(side * (rx + 0.01), -0.06), 0.055 * unit), colour=hair)
            paint(image, Capsule(at(side * (rx + 0.025), -0.06), at(side * (rx + 0.03), 0.36), 0.048 * unit), colour=hair)
    else:
        cap(0.030, -0.135, hair)
        paint(image, Capsule(at(0.0, -0.345), at(0.0, -0.15), 0.006 * unit), colour=dark)
    paint(image, Capsule(at(-0.13, -0.30), at(-0.02, -0.325), 0.010 * unit), colour=mix(hair, WHITE, 0.35), opacity=0.7)


def phrases(given: Mapping[str, Value]) -> Phrases:
    """Names speaker, hair and words."""
    speaker, hair = given["speaker"], given["hair"]
    words = ", ".join(str(given["sequence"]).split())
    return (
        f"a {speaker} with {hair} hair says: {words}",
        f"the face of a {speaker} with {hair} hair, the voice says: {words}",
        f"a {speaker} with {hair} hair speaks the words: {words}",
        f"a talking {speaker} with {hair} hair says the words: {words}",
    ), (f"a {speaker} says: {words}", f"a face says the words: {words}", f"spoken words: {words}")


def voice(hit: Hit) -> tuple[int, Signal]:
    """A word in the speaker's voice, placed between samples if need be."""
    spoken = speak(hit.label, str(hit.attributes.get("speaker", "woman")))
    window = hit.window(spoken.seconds)
    samples = soxr.resample(spoken.samples, spoken.sample_rate, hit.sample_rate, "VHQ")
    size = 1 << (samples.size + 64).bit_length()
    shift = np.exp(2j * np.pi * np.fft.rfftfreq(size) * ((window.lead_s * hit.sample_rate) % 1.0))
    moved = np.fft.irfft(np.fft.rfft(samples, size) * shift, size)
    skipped = int(window.lead_s * hit.sample_rate)
    return window.first, 0.75 * hit.level * moved[skipped : skipped + window.num_samples]


KIND = Kind(
    name="speech",
    needs="espeakng_loader",
    description="A woman, a man, a girl or a boy says digits, yes, no, go and stop; the lips follow the words.",
    words=frozenset({"face", "voice", "says", "speaks", "talking", "word", "words", "spoken", "speech"}),
    attributes={"speaker": tuple(VOICES), "hair": tuple(HAIR), "sequence": WORDS, "count": tuple(range(1, 13))},
    labels=WORDS,
    choose=choose,
    plan=plan,
    draw=draw,
    sound=each_event(voice),
    phrases=phrases,
    example_captions=("a woman with red hair says: three, yes", "a boy with black hair says: go"),
    reading=ReadingHints(
        heard_labels=WORDS, variants=tuple({"speaker": speaker} for speaker in VOICES), gap_s=0.03, longest_s=0.55
    ),
)
