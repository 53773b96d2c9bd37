"""What was understood of a prompt: the reading that is shown, recorded and planned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Span:
    """A part of a prompt that says something.

    Args:
        start: Index of its first character.
        stop: Index after its last one.
        tag: What it says, such as ``colour=red``, ``count=3`` or, in digits, ``count=#``.
        chance: Chance that a reader gives to the tag.
    """

    start: int
    stop: int
    tag: str
    chance: float = 1.0


@dataclass(frozen=True)
class Marked:
    """What a prompt reader found in a simplified prompt, not yet held against what its kind can do.

    Args:
        text: The simplified prompt, in which the spans are.
        kind: Likeliest kind; empty outside the known ones.
        kind_chance: Chance that the reader gives to that.
        also: A second kind that is to follow, or empty.
        language: Likeliest language.
        spans: Parts that say something, in order.
    """

    text: str
    kind: str
    kind_chance: float
    also: str = ""
    language: str = "en"
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class EventPlan:
    """What of the events that a prompt asks for can be kept.

    Args:
        number: Number of events; None if open.
        order: Labels of the events in order; empty if open.
        times: Times of the events in seconds; empty if open.
        labels: Labels that the events may have; empty if any.
    """

    number: int | None = None
    order: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class PromptReading:
    """What was understood of a prompt.

    Args:
        kind: Name of the kind of scene; None where the prompt is outside what the model knows.
        number: Number of events, where the prompt states one.
        order: Labels of the events in order, where the prompt names them.
        times: Times of the events in seconds, where the prompt states them.
        attributes: Other values that it names, by attribute.
        events: What of number, order and times can be kept.
        language: Language of the prompt, as two letters.
        confidence: Chance that the reader gives to the least certain part of it, 0 to 1.
        unsupported: What the prompt asks for and cannot be kept, one line each.
        text: What the network reads in place of the prompt: the wording that it learnt, or the prompt itself.
    """

    kind: str | None
    number: int | None = None
    order: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    events: EventPlan = EventPlan()
    language: str = "en"
    confidence: float = 1.0
    unsupported: tuple[str, ...] = ()
    text: str = ""

    def later(self, seconds: float) -> PromptReading:
        """The same for a clip that begins so many seconds earlier."""
        times = tuple(time + seconds for time in self.events.times)
        return replace(self, events=replace(self.events, times=times)) if seconds else self

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values; the colour stands beside the other attributes."""
        return {
            "kind": self.kind,
            "colour": self.attributes.get("colour"),
            "number": self.number,
            "order": list(self.order),
            "times": list(self.times),
            "attributes": dict(self.attributes),
            "language": self.language,
            "confidence": round(self.confidence, 3),
            "unsupported": list(self.unsupported),
            "text": self.text,
        }

    @property
    def words(self) -> str:
        """In a line: ``ball, red, wood, 3``."""
        values = (*self.attributes.values(), *(() if self.order or self.number is None else (str(self.number),)))
        order = (" ".join(self.order),) if self.order else ()
        times = (f"at {', '.join(f'{time:g}' for time in self.times)} s",) if self.times else ()
        return ", ".join((self.kind or "outside", *values, *order, *times))
