"""The measures of a run: one table, from which rows, results, tables, the report and comparisons follow.

    mine = Measure("brightness", of=brightness, floor=share_floor_of, chance=None, words="brightness, share")
    measure_model(..., measures=(*list_measures(), mine))

An installed package adds measures of its own by entry points in the group ``mova.measures``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import entry_points
from typing import Literal

import numpy as np

from mova.lab.adherence.judge import Verdict, judge
from mova.lab.adherence.physics import ball_physics, physics_floors, restitution
from mova.lab.numbers import share_floor
from mova.lab.read.events import Reading
from mova.lab.read.readers import read_all
from mova.lab.sync.scores import HEADLINE, HEADLINE_WINDOW
from mova.media.clip import Clip
from mova.media.health.gate import check_clip
from mova.scenes.clapper.scene import WORLD_SHUTTER, as_scene
from mova.scenes.script import Script

ENTRY_POINTS = "mova.measures"
BALL = "ball"
"""The kind of scene that is measured for physics."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A clip and the script that it is held against; what is read of it is read once.

    Args:
        script: What was asked for.
        clip: As the model gave it, and not as a file holds it.
    """

    script: Script
    clip: Clip

    @cached_property
    def reading(self) -> Reading:
        """What is seen and heard."""
        return read_all(self.clip, as_scene(self.script))

    @cached_property
    def verdict(self) -> Verdict:
        """What the prompt asked for against what is seen and heard."""
        return judge(as_scene(self.script), self.reading)

    @cached_property
    def physics(self) -> dict[str, float]:
        """What is measured of a ball's flights and impacts (:data:`mova.lab.adherence.physics.PHYSICS`)."""
        return ball_physics(self.clip, self.reading, shutter=WORLD_SHUTTER)

    @cached_property
    def faults(self) -> tuple[str, ...]:
        """What the health gate says of the clip."""
        return tuple(fault.message for fault in check_clip(self.clip).faults)


@dataclass(frozen=True)
class Measure:
    """A number that every clip of a run has, or all of them together.

    Args:
        name: Its key in rows and results.
        of: Its value of a clip, None where the clip says nothing; the number of a run is the mean. None for a score of all
            clips together, which :mod:`mova.lab.sync.scores` takes from the times of their events.
        floor: Differences up to this the meter cannot tell, from the values of rendered clips after the model's codecs (at
            least one) and their scripts. None if nothing is known of it; scores have floors of their own.
        chance: What the clip is held against for its value by chance: another scene's script (``"script"``), or its own with
            another scene's audio (``"audio"``). None where chance has no say.
        words: What it is, with its unit, for people.
        heading: Heading of its column in the table of kinds; None for no column.
        kinds: Kinds of scene that have it; None for all.
        is_compared: Whether two runs are compared by it; not, if it follows from others.
    """

    name: str
    of: Callable[[Subject], float | None] | None
    floor: Callable[[Sequence[float], Sequence[Script]], float] | None
    chance: Literal["script", "audio"] | None
    words: str
    heading: str | None = None
    kinds: tuple[str, ...] | None = None
    is_compared: bool = True

    def is_of(self, kind: str) -> bool:
        """Whether clips of a kind of scene have it."""
        return self.of is not None and (self.kinds is None or kind in self.kinds)


def values_of(measures: Sequence[Measure], subject: Subject) -> dict[str, float]:
    """What measures say of a clip, by name; those that say nothing, or give a number that is not finite, are left out."""
    values = {one.name: one.of(subject) for one in measures if one.of is not None and one.is_of(subject.script.kind)}
    return {name: float(value) for name, value in values.items() if value is not None and np.isfinite(value)}


def list_measures() -> tuple[Measure, ...]:
    """The measures of this package, and those that installed packages add by entry point."""
    return (*MEASURES, *(point.load() for point in entry_points(group=ENTRY_POINTS)))


def share_floor_of(values: Sequence[float], scripts: Sequence[Script]) -> float:
    """The floor of a share: what is missing of 1 in clips that are right, but at least one clip of all."""
    return share_floor(values)


def _asked(name: str, subject: Subject) -> float | None:
    return subject.verdict.values.get(name)


def _flight(name: str, subject: Subject) -> float | None:
    return subject.physics.get(name)


def _whole(subject: Subject) -> float:
    return float(not subject.faults)


def _flight_floor(name: str, values: Sequence[float], scripts: Sequence[Script]) -> float:
    # a flight is between two impacts of one ball
    single = [script.events if script.attributes.get("number") == 1 else () for script in scripts]
    true = [restitution([one.time_s for one in events]) for events in single]
    return physics_floors([{name: value} for value in values], true)[name]


def _score(name: str, words: str, heading: str | None = None, *, is_compared: bool = True) -> Measure:
    return Measure(name, None, None, None, words, heading, is_compared=is_compared)


def _adherence(
    name: str,
    words: str,
    heading: str | None,
    *,
    chance: Literal["script", "audio"] = "script",
    kinds: tuple[str, ...] | None = None,
    is_compared: bool = True,
) -> Measure:
    return Measure(name, partial(_asked, name), share_floor_of, chance, words, heading, kinds, is_compared)


def _physics(name: str, words: str, heading: str, *, chance: Literal["audio"] | None = None) -> Measure:
    return Measure(name, partial(_flight, name), partial(_flight_floor, name), chance, words, heading, (BALL,))


MEASURES: tuple[Measure, ...] = (
    _score(HEADLINE, "in step, 0 by chance and 1 if all is"),
    _score(f"f1_{HEADLINE_WINDOW}", "in step where nobody notices, -45 to +125 ms (F1)", "F1 BT.1359"),
    _score("f1_80", "seen and heard within 80 ms (F1)", "F1@80"),
    _score("f1_45", "seen and heard within 45 ms (F1)", "F1@45"),
    _score("missed_80", "seen, not heard within 80 ms, share", "missed", is_compared=False),
    _score("extra_80", "heard, not seen within 80 ms, share", "extra", is_compared=False),
    _score("offset_ms", "audio after picture (+ is late), ms"),
    _score("median_abs_ms", "distance of audio from picture, ms", "abs ms"),
    _score("mad_ms", "scatter of the offsets, ms"),
    _score("drift_ms_per_s", "drift of audio against picture, ms per second"),
    _score("sounding_rate", "events seen that are heard, share"),
    _score("hallucination_rate", "sounds without a cause, share"),
    _score("coverage", "clips in which events could be read, share"),
    _adherence("colour", "colour as asked, share", "colour"),
    _adherence("count", "number of events as asked, share", "count"),
    _adherence("count_seen", "number of events seen as asked, share", "seen", is_compared=False),
    _adherence("count_heard", "number of events heard as asked, share", "heard", is_compared=False),
    _adherence("sequence", "order seen as asked, share", "sequence"),
    _adherence("sequence_heard", "order heard as asked, share", None),
    _adherence("sound", "sounds as asked, share", "sound"),
    _adherence("voice", "voices as asked, share", None),
    _adherence("rate", "rate of events as asked, share", "rate"),
    _adherence("key_asked", "notes as asked, share", "pitch=asked"),
    _adherence("key_pitch", "notes of the keys seen, share", "pitch=key", chance="audio", kinds=("piano",)),
    _adherence("drum_sound", "sounds of the drums seen, share", "drum=pad", chance="audio", kinds=("drums",)),
    _physics("restitution_seen", "a ball's restitution, as seen", "e seen"),
    _physics("restitution_heard", "a ball's restitution, as heard", "e heard"),
    _physics("restitution_difference", "restitution seen and heard, distance", "e apart", chance="audio"),
    _physics("energy_gain_rate", "flights of a ball longer than the one before, share", "gain"),
    _physics("g_cv", "spread of gravity between flights (0 is constant)", "g cv"),
    _physics("loudness_speed_rho", "harder impacts are louder (1 is always)", "loud~fast", chance="audio"),
    Measure("whole", _whole, share_floor_of, None, "clips without a fault, share", is_compared=False),
)
"""In the order in which people are shown them; results hold the other scores of :mod:`mova.lab.sync.scores` besides."""
