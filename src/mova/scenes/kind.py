"""What a kind of scene is: all that the renderers, captions, recognition, training and the lab know of it, in one value.

A kind is one file that ends in ``KIND = Kind(...)``; nothing else in the package names it. ``docs/scenes.md`` shows a whole
one. What most kinds share is here, too: a sound for each event, and captions.

A voice makes the samples of one hit, and is a fixed patch: its gain, its partials and its bands are constants, so a louder
hit is louder in the clip and nothing is normalised. The peak of a hit of strength 1 is about 0.3 to 0.75. Percussive voices
attack within 0.5 ms, the human voice within 8 ms, far thunder within 15 ms. Everything struck is 30 dB down within 0.35 s,
except thunder (0.8 s), so hits 0.22 s apart are heard apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import TypeVar

import numpy as np

from mova.scenes.raster import Colour, Exposure, View, shine
from mova.scenes.script import Attributes, Event, Image, Plan, Script, Value, generator
from mova.scenes.waves import Band, Signal, Window

Found = TypeVar("Found")


@dataclass(frozen=True)
class Hit:
    """One sounding event, as a voice needs it.

    Args:
        label: What is struck or said: a material, a drum, a note, a vowel, near or far.
        strength: 0 to 1.
        attributes: Attributes of the scene.
        start_s: Start of the sound, in seconds from the start of the clip; may lie between samples.
        sample_rate: Samples per second.
        clip_samples: Samples in the clip.
        rng: Source of the noise of this hit alone; a voice is called once.
    """

    label: str
    strength: float
    attributes: Mapping[str, object]
    start_s: float
    sample_rate: int
    clip_samples: int
    rng: np.random.Generator

    @property
    def level(self) -> float:
        """Gain from strength: ``strength ** 1.2``."""
        return float(max(self.strength, 0.0) ** 1.2)

    def window(self, seconds: float, *, delay_s: float = 0.0) -> Window:
        """The samples from ``delay_s`` after the start of the sound, for ``seconds``."""
        return Window.after(self.start_s + delay_s, seconds, sample_rate=self.sample_rate, clip_samples=self.clip_samples)


Voice = Callable[[Hit], tuple[int, Signal]]
"""``hit -> (first sample, samples [N])``."""
Source = tuple[int, Signal, float | Signal]
"""First sample, samples ``[N]``, and place x (0 left, 1 right) as one number or ``[N]``."""
Sound = Callable[[Script, int, int], Sequence[Source]]
"""``(script, sample_rate, num_samples) -> sources``."""


def each_event(voice: Voice) -> Sound:
    """The sound of a kind whose every event is one hit: a source for each that sounds inside the clip."""
    return partial(_each_event, voice=voice)


def light_up(
    frames: Image, dark: Image, bright: Callable[[str], Image], events: Sequence[Event], exposure: Exposure, decay_s: float
) -> None:
    """Light what is named by the label of each event, in place, by the exact mean of its flashes.

    Args:
        frames: ``[T, H, W, 3]``, made from ``dark``.
        dark: ``[H, W, 3]`` picture with no light.
        bright: Label to the picture in which its light is full.
        events: Events in order of time.
        exposure: When each frame's shutter is open.
        decay_s: Time constant of the fading, in seconds.
    """
    for label in dict.fromkeys(event.label for event in events):
        own = [event for event in events if event.label == label]
        shine(frames, dark, bright(label), exposure.flash([e.time_s for e in own], [e.strength for e in own], decay_s))


def look_up(table: Mapping[str, Found], label: str, what: str) -> Found:
    """Look a label up, or say which there are.

    Raises:
        ValueError: If ``label`` is not in ``table``.
    """
    if label not in table:
        raise ValueError(f"{what} must be one of {', '.join(table)}; got {label!r}.")
    return table[label]


def _each_event(script: Script, sample_rate: int, num_samples: int, *, voice: Voice) -> Sequence[Source]:
    sources: list[Source] = []
    for index, event in enumerate(script.events):
        hit = Hit(
            label=event.label,
            strength=event.strength,
            attributes=script.attributes,
            start_s=event.audio_time_s,
            sample_rate=sample_rate,
            clip_samples=num_samples,
            rng=generator(script.kind, script.seed, f"sound of event {index}"),
        )
        if hit.start_s * sample_rate < num_samples:
            sources.append((*voice(hit), event.place[0]))
    return sources


Area = tuple[float, float, float, float]
"""``(left, top, right, bottom)`` in unit picture coordinates."""
Phrases = tuple[tuple[str, ...], tuple[str, ...]]
"""Captions that say everything, and short ones that leave something out."""


@dataclass(frozen=True)
class Light:
    """A place that lights up with an event and fades.

    Args:
        area: Part of the picture of which more than half shows the light.
        dark: Its colour at rest.
        bright: Its colour just after an event of strength 1.
        decay_s: Time constant of the fading, in seconds.
        label: Label of its events; empty if the place does not tell it.
    """

    area: Area
    dark: Colour
    bright: Colour
    decay_s: float
    label: str = ""


@dataclass(frozen=True)
class ReadingHints:
    """Where and how the lab reads the events of a kind from a clip, wherever the clip comes from.

    Args:
        lights: What lights up. Without any, sudden changes of light and motion are read.
        area: Part of the picture in which they are; the whole by default.
        heard_labels: Labels that the audio tells apart, by the kind's own sound of each.
        variants: Attributes that change the sound of a label; every one of them is compared.
        low_hz: Frequencies from here on count as an onset.
        gap_s: Two onsets are at least this far apart.
        longest_s: An event lasts up to this long and may have several onsets, of which the first counts.
        label_attribute: Attribute whose value is the label of every event, if there is one.
        rates_hz: Attributes that name a pace, with the events per second of each of their values.
        lags_s: Delay of what is heard after what is seen, by label.
    """

    lights: tuple[Light, ...] = ()
    area: Area = (0.0, 0.0, 1.0, 1.0)
    heard_labels: tuple[str, ...] = ()
    variants: tuple[Mapping[str, Value], ...] = field(default=({},))
    low_hz: float = 60.0
    gap_s: float = 0.11
    longest_s: float = 0.0
    label_attribute: str | None = None
    rates_hz: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lags_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Noise:
    """Steady background noise.

    Args:
        rms: Level, as a share of full scale.
        band: Band of frequencies.
    """

    rms: float
    band: Band


ROOM = Noise(10.0 ** (-66.0 / 20.0), Band(60.0, 6000.0, 1, 1))


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of scene.

    Args:
        name: Name in scripts and recipes: lower-case letters, digits and underscores.
        description: One line for people.
        words: Words of a prompt that name this kind.
        attributes: Names that may be pinned, with their allowed values. Sequences list the allowed items.
        labels: Every label that an event can have.
        choose: ``(rng, seconds, pinned) -> attributes``; pinned values are taken as they are.
        plan: ``(rng, attributes, seconds) -> Plan``.
        draw: ``(script, view, exposure) -> [T, H, W, 3]`` float32 in 0..1.
        sound: ``(script, sample_rate, num_samples) -> sources``; :func:`~mova.scenes.kind.each_event` makes one of a voice.
        phrases: ``attributes -> (captions that say everything, short ones)``, of at most 24 words, without contradiction.
        example_captions: Prompts that ask for this kind.
        background: Noise under the events.
        reading: Hints for reading its events from a clip.
        needs: Module of another package that drawing, sounding and reading it need; empty if none.

    Raises:
        ValueError: If the name is no word, or a label is missing or empty.
    """

    name: str
    description: str
    words: frozenset[str]
    attributes: Mapping[str, tuple[Value, ...]]
    labels: tuple[str, ...]
    choose: Callable[[np.random.Generator, float, Attributes], Attributes]
    plan: Callable[[np.random.Generator, Attributes, float], Plan]
    draw: Callable[[Script, View, Exposure], Image]
    sound: Sound
    phrases: Callable[[Mapping[str, Value]], Phrases]
    example_captions: tuple[str, ...]
    background: Noise = ROOM
    reading: ReadingHints = ReadingHints()
    needs: str = ""

    @property
    def is_drawable(self) -> bool:
        """Whether what it needs is installed here."""
        return not self.needs or find_spec(self.needs) is not None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"a kind's name has lower-case letters, digits and underscores; got {self.name!r}.")
        if not self.labels or not all(self.labels):
            raise ValueError(f"{self.name}: labels must name at least one label, and none of them empty; got {self.labels}.")


OMIT = 0.15
"""Share of captions that leave out some attributes, so that a model also learns short prompts."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def write_caption(kind: Kind, attributes: Mapping[str, Value], rng: np.random.Generator) -> str:
    """One prompt for a scene, in lower case, at most 24 words.

    Args:
        kind: The kind of scene.
        attributes: Attributes of the script; the caption never contradicts them.
        rng: Chooses the phrasing, and which attributes are left out.
    """
    short = bool(rng.uniform() < OMIT)
    full, brief = kind.phrases(attributes)
    phrases = brief if short else full
    return phrases[int(rng.integers(len(phrases)))].lower()


def times(count: int) -> str:
    """``once``, ``twice``, ``three times``, ..."""
    return {1: "once", 2: "twice"}.get(count, f"{NUMBERS[count]} times")


def counted(count: int, noun: str) -> str:
    """``one bounce``, ``two bounces``, ..."""
    plural = noun + ("es" if noun.endswith(("sh", "ch", "s")) else "s")
    return f"{NUMBERS[count]} {noun if count == 1 else plural}"
