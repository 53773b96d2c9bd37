"""What a kind of scene is: all that the renderers, captions, recognition, training and the lab know of it, in one value.

A kind is one file that ends in ``KIND = Kind(...)``; nothing else in the package names it.
``docs/scenes.md`` shows a whole one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from mova.scenes.hits import Sound
from mova.scenes.raster import Colour, Exposure, View
from mova.scenes.script import Attributes, Image, Plan, Script, Value
from mova.scenes.waves import Band

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
        sound: ``(script, sample_rate, num_samples) -> sources``; :func:`~mova.scenes.hits.each_event` makes one of a voice.
        phrases: ``attributes -> (captions that say everything, short ones)``, of at most 24 words, without contradiction.
        example_captions: Prompts that ask for this kind.
        background: Noise under the events.
        reading: Hints for reading its events from a clip.

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

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"a kind's name has lower-case letters, digits and underscores; got {self.name!r}.")
        if not self.labels or not all(self.labels):
            raise ValueError(f"{self.name}: labels must name at least one label, and none of them empty; got {self.labels}.")
