"""From the parts of a prompt that a reader found to what they ask of a kind of scene, and the caption that says it.

    reading = interpret(marked, "no drums, just a piano playing A", {kind.name: kind for kind in KINDS.values()}, seconds=2.0)
    reading.kind, reading.order, reading.text     # "piano", ("A",), "one note on the piano: a"

What a model learnt are the captions of its kinds: a prompt that is worded otherwise is replaced by the caption that says the
same. What cannot be kept is said in ``unsupported``. All is computed from what the kinds declare; nothing is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise

from mova.errors import RequestError
from mova.request.reading import EventPlan, Marked, PromptReading, Span
from mova.scenes.kind import NUMBERS, Kind
from mova.scenes.kinds import known_kinds, without_negations
from mova.scenes.script import MIN_GAP_S, Value, generator
from mova.scenes.wording.grammar import DIGITS, OTHER, number_in, numbers_in_words, simplify, values_in_words

MAX_NUMBER = 12
"""Most events that a caption can count."""
FURTHEST_TEMPO = 1.25
"""A tempo is taken for one of the kind's up to this ratio."""
_LONG_S = 60.0
"""Length in which every number of events fits."""
_COUNTS = {**{word: number for number, word in enumerate(NUMBERS) if number}, "once": 1, "twice": 2}


def interpret(marked: Marked, prompt: str, kinds: Mapping[str, Kind], *, seconds: float) -> PromptReading:
    """What a prompt asks for.

    Args:
        marked: What a reader found in it.
        prompt: The prompt as it was written.
        kinds: Kinds that the model knows, by name.
        seconds: Length of the clip, of which the model makes the beginning at least.
    """
    if marked.kind not in kinds:
        return PromptReading(None, language=marked.language, confidence=marked.kind_chance, text=prompt)
    said, confidence = _Said(kinds[marked.kind], seconds), marked.kind_chance
    for before, span, after in zip((None, *marked.spans), marked.spans, (*marked.spans[1:], None), strict=False):
        name, _, value = span.tag.partition("=")
        if before is not None and _goes_on(before, span, marked):
            continue
        is_short = name in ("item", "at", "bpm")
        words = marked.text[span.start : span.stop].strip() if is_short else _whole_words(marked.text, span)
        known = _look_up(said.kind, name, words, marked.language)
        is_of_next = name == "count" and _is_nearer_to_next(before, span, after, marked.text)
        said.add(*(known or (name, value)), words, is_of_next=is_of_next)
        confidence = confidence if known else min(confidence, span.chance)
    if marked.also:
        second = marked.also if marked.also != marked.kind else "another scene"
        said.unsupported.append(f"{second} as well: one kind in a clip")
    if len(simplify(prompt)) > len(marked.text):
        said.unsupported.append(f"what follows the first {len(marked.text)} characters")
    events = said.combine()
    found = said.list_values(events)
    is_kept = is_caption(prompt, said.kind) and not said.unsupported
    return PromptReading(
        kind=marked.kind,
        number=said.number,
        order=tuple(said.items),
        times=tuple(said.times),
        attributes=dict(said.values),
        events=replace(events, labels=_labels(said.kind, found)),
        language=marked.language,
        confidence=confidence,
        unsupported=tuple(said.unsupported),
        text=prompt if is_kept else _caption(said.kind, found, seconds),
    )


def _goes_on(before: Span, span: Span, marked: Marked) -> bool:
    """Whether a part is of the same item as the one before it, as the *pad* of *the red pad*: both side by side, and not both
    words for it.
    """
    between = marked.text[before.stop : span.start].strip()
    if span.tag != before.tag or not span.tag.startswith("item=") or len(between) > 1 or not (between or "a").isalpha():
        return False
    known = values_in_words(marked.language).get("item", {})
    return any(marked.text[one.start : one.stop].strip() not in known for one in (before, span))


def _is_nearer_to_next(before: Span | None, span: Span, after: Span | None, text: str) -> bool:
    """Whether less stands between a number and the item after it than between it and the item before."""
    if before is None or after is None or not (before.tag.startswith("item=") and after.tag.startswith("item=")):
        return False
    return len(text[before.stop : span.start].strip()) > len(text[span.stop : after.start].strip())


def _whole_words(text: str, span: Span) -> str:
    """The words of a part without digits, to their ends."""
    start, stop = span.start, span.stop
    if text[start:stop].isascii() and not any(one.isdigit() for one in text[start:stop]):
        while start > 0 and text[start - 1].isascii() and text[start - 1].isalpha():
            start -= 1
        while stop < len(text) and text[stop].isascii() and text[stop].isalpha():
            stop += 1
    return text[start:stop].strip()


def _look_up(kind: Kind, name: str, words: str, language: str) -> tuple[str, str] | None:
    """Attribute and value that a language's words are known to stand for: a network may take one for another that is rarer."""
    if name == "count":
        number = numbers_in_words(language).get(words)
        return None if number is None else (name, str(number))
    tables = values_in_words(language)
    own = tables.get(name.rstrip("2"), {}).get(words)
    if own is not None:
        return name, own
    for other, values in kind.attributes.items() if name != "item" else ():
        value = tables.get(other, {}).get(words)
        if value is not None and value in map(str, values):
            return other, value
    return None


@dataclass
class _Said:
    """What the parts of a prompt say, held against what its kind can do.

    ``counts`` are numbers with the place of their item, from 1, ``repeats`` how often each attribute was said.
    """

    kind: Kind
    seconds: float
    values: dict[str, str] = field(default_factory=dict)
    items: list[str] = field(default_factory=list)
    counts: list[tuple[int, int, str]] = field(default_factory=list)
    is_of_each: bool = False
    repeats: dict[str, int] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    number: int | None = None
    rate_hz: float | None = None
    unsupported: list[str] = field(default_factory=list)

    def add(self, name: str, value: str, words: str, *, is_of_next: bool = False) -> None:
        """Take a part of the prompt; a number may be of the item that comes next."""
        number = number_in(words) if value == DIGITS else None
        if name == "item":
            if value in map(str, self.kind.attributes.get("sequence", ())):
                self.items.append(value)
            else:
                self.unsupported.append(f"{words!r}: {self.kind.name} has no {value}")
        elif name == "count":
            place = len(self.items) + is_of_next
            self.counts.append((place, int(number or 0) if value == DIGITS else int(value), words))
            self.is_of_each |= is_of_next
        elif name == "at":
            self.times.append(float(number if number is not None else 0.0) if value == DIGITS else float(value))
        elif name == "bpm":
            self.rate_hz = float(number or 0.0) / 60.0
        else:
            self._add_value(name, value, words)

    def combine(self) -> EventPlan:
        """Bring order, number, times and tempo together, and see what of them can be kept."""
        if len(self.items) == len(self.times):
            pairs = sorted(zip(self.times, self.items, strict=True))
            self.times, self.items = [time for time, _ in pairs], [item for _, item in pairs]
        self.times.sort()
        self._check_counts()
        beats = self._check_tempo(self.rate_hz) if self.rate_hz is not None else []
        events = self._check_number()
        times = tuple(self._check_times(events) or beats)
        return replace(events, times=times)

    def list_values(self, events: EventPlan) -> dict[str, Value]:
        """What can be kept as the kind's attributes."""
        found: dict[str, Value] = {}
        for name in self.kind.attributes:
            if name == "sequence" and events.order:
                found[name] = " ".join(events.order)
            elif name == "count" and events.number is not None:
                found[name] = events.number
            elif name in self.values:
                known = {str(one): one for one in self.kind.attributes[name]}
                found[name] = known[self.values[name]]
        return found

    def _add_value(self, name: str, value: str, words: str) -> None:
        known = self.kind.attributes.get(name)
        if known is None:
            self.unsupported.append(f"{words!r}: {self.kind.name} has no {name}")
        elif value == OTHER or value not in map(str, known):
            self.unsupported.append(f"{words!r}: the {name} can be {', '.join(map(str, known))}")
        elif self.values.get(name, value) == value:
            self.values[name] = value
            self.repeats[name] = self.repeats.get(name, 0) + 1
        elif (second := f"{name}2") in self.kind.attributes and second not in self.values:
            self.values[second] = value
        else:
            self.unsupported.append(f"{words!r}: {self.values[name]} is taken, one {name} in a clip")
        if "colour2" in self.values and "number" in self.kind.attributes:
            self.values["number"] = "2"

    def _check_counts(self) -> None:
        """Tell how often an item comes ("red twice, blue once") from how often anything happens."""
        if self.is_of_each or any(0 < place < len(self.items) for place, _, _ in self.counts):
            often = {place - 1: number for place, number, _ in self.counts if place and number}
            self.items = [item for index, item in enumerate(self.items) for _ in range(often.get(index, 1))]
            return
        for _, number, words in self.counts:
            self._add_number(number, words)
        for name, repeats in self.repeats.items():  # "oh oh oh"
            if repeats > 1 and self.number is None and set(self.kind.attributes[name]) == set(self.kind.labels):
                self.number = repeats

    def _add_number(self, number: int, words: str) -> None:
        if "count" not in self.kind.attributes:
            self.unsupported.append(f"{words!r}: how many there are follows from the {'/'.join(self.kind.reading.rates_hz)}")
        elif number < 1:
            self.unsupported.append(f"{words!r}: at least one")
        elif self.number not in (None, number):
            self.unsupported.append(f"{words!r}: {self.number} is taken, one number in a clip")
        else:
            self.number = number

    def _check_tempo(self, rate_hz: float) -> list[float]:
        """The times of the beats, where the kind has such a tempo."""
        for name, rates in self.kind.reading.rates_hz.items():
            near = min(rates, key=lambda value: _ratio(rates[value], rate_hz))
            self.values[name] = near
            if _ratio(rates[near], rate_hz) > FURTHEST_TEMPO:
                self.unsupported.append(f"{60 * rate_hz:g} bpm: the nearest is {near}, {60 * rates[near]:.0f} bpm")
                return []
            return [round((index + 0.5) / rate_hz, 4) for index in range(int(self.seconds * rate_hz))]
        self.unsupported.append(f"{60 * rate_hz:g} bpm: {self.kind.name} has no tempo")
        return []

    def _check_number(self) -> EventPlan:
        if len(set(self.items)) == 1 and self.number is not None:
            self.items = self.items[:1] * self.number
        elif self.items and self.number not in (None, len(self.items)):
            self.unsupported.append(f"{self.number} of {', '.join(self.items)}: those that are named are kept")
        if self.items:
            self.number = len(self.items)
        elif self.number is None and self.times and "count" in self.kind.attributes:
            self.number = len(self.times)
        most = MAX_NUMBER if self.number is None else most_events(self.kind, self.seconds)
        if self.number is not None and self.number > most:
            self.unsupported.append(f"{self.number}: {most} is the most in {self.seconds:.3g} s")
        return EventPlan(None if self.number is None else min(self.number, most), tuple(self.items[:most]))

    def _check_times(self, events: EventPlan) -> list[float]:
        """The times, where they can be kept."""
        named = f"at {', '.join(f'{time:g}' for time in self.times)} s"
        if any(not 0.0 <= time < self.seconds for time in self.times):
            self.unsupported.append(f"{named}: the clip lasts {self.seconds:.3g} s")
        elif self.times and events.number not in (None, len(self.times)):
            self.unsupported.append(f"{named}: {len(self.times)} times for {events.number}")
        elif any(later - first < MIN_GAP_S - 1e-9 for first, later in pairwise(self.times)):
            self.unsupported.append(f"{named}: at least {MIN_GAP_S:g} s apart")
        else:
            return self.times
        return []


def most_events(kind: Kind, seconds: float) -> int:
    """Most events that a scene of a kind can have in a clip of that length; at least one."""
    most = 1
    for number in kind.attributes.get("count", ()):
        try:
            kind.choose(generator(kind.name, 0, "attributes"), seconds, {"count": number})
        except RequestError:
            break
        most = int(number)
    return most


@dataclass(frozen=True)
class _Captions:
    """Words of a kind's captions, and which follows which, values of one attribute taken for the same."""

    words: frozenset[str]
    pairs: frozenset[tuple[str, str]]


def is_caption(prompt: str, kind: Kind) -> bool:
    """Whether the words of a prompt, and how they follow each other, are those of captions of a kind."""
    known = _captions_of(kind)
    words = set(_tokens(prompt)) <= known.words | set(_classes_of(kind)) | {",", ":", ";"}
    return words and without_negations(prompt) == prompt and set(pairwise(_classes(prompt, kind))) <= known.pairs


@lru_cache(maxsize=64)
def _captions_of(kind: Kind) -> _Captions:
    captions = {*kind.example_captions, *(text for pinned in _all_values(kind) for text in _phrases(kind, pinned))}
    words, pairs = set[str](_COUNTS), set[tuple[str, str]]()
    for caption in captions:
        words.update(_tokens(caption))
        pairs.update(pairwise(_classes(caption, kind)))
    return _Captions(frozenset(words), frozenset(pairs))


def _all_values(kind: Kind) -> Iterator[Mapping[str, Value]]:
    """Every value of every attribute, one at a time, with the numbers that are worded in their own ways."""
    counts: list[dict[str, Value]] = [{"count": count} for count in (1, 2, 3)] if "count" in kind.attributes else [{}]
    for name, values in kind.attributes.items():
        if name == "sequence":
            for value in values:
                yield from ({name: " ".join([str(value)] * number)} for number in (1, 2, 3))
        elif name == "count":
            yield from ({name: value} for value in values)
        else:
            yield from ({name: value, **count} for value in values for count in counts)


def _phrases(kind: Kind, pinned: Mapping[str, Value], seconds: float = _LONG_S) -> list[str]:
    """Captions of a scene of that length with the pinned values; none if they do not go together."""
    try:
        full, brief = kind.phrases(kind.choose(generator(kind.name, 0, "attributes"), seconds, dict(pinned)))
    except RequestError:
        return []
    return [text.lower() for text in (*full, *brief)]


def _caption(kind: Kind, found: Mapping[str, Value], seconds: float) -> str:
    """The caption that says what was found and least besides, of a scene that fits in a clip if there is one."""
    wanted = {word for value in found.values() for word in _tokens(str(value))} - {str(found.get("count"))}
    values = {str(value).lower() for name, given in kind.attributes.items() if name != "count" for value in given}
    has_number = "count" in found

    def cost(text: str) -> tuple[int, int]:
        words = _tokens(text)
        missing = len(wanted - set(words)) + (has_number and not any(_COUNTS.get(word) == found["count"] for word in words))
        return missing, sum(word in values and word not in wanted for word in words) + (
            not has_number and any(word in _COUNTS for word in words)
        )

    return min(_phrases(kind, found, seconds) or _phrases(kind, found) or kind.example_captions, key=cost, default="")


def _tokens(text: str) -> list[str]:
    """Words and the signs that part them, in lower case; what ends a sentence is left out."""
    return re.findall(r"[^\W_]+|[,:;]", re.sub(r"['’]", "", text.lower()))


def _classes(text: str, kind: Kind) -> list[str]:
    """The tokens, values of an attribute and numbers as their classes, after a mark of the beginning."""
    classes = _classes_of(kind)
    return ["<begin>", *(classes.get(word, word) for word in _tokens(text))]


@lru_cache(maxsize=64)
def _classes_of(kind: Kind) -> Mapping[str, str]:
    values = {str(value).lower(): f"<{min(map(str, some))}>" for some in kind.attributes.values() for value in some}
    return {**values, **dict.fromkeys(NUMBERS, "<number>"), **dict.fromkeys(("once", "twice"), "<times>")}


def _labels(kind: Kind, found: Mapping[str, Value]) -> tuple[str, ...]:
    """Labels that the events may have: of an attribute whose values are the labels, the one that is named."""
    of_labels = [name for name in found if name != "sequence" and set(kind.attributes[name]) == set(kind.labels)]
    return (str(found[of_labels[0]]),) if of_labels else kind.labels


def _ratio(one: float, other: float) -> float:
    return max(one, other) / max(min(one, other), 1e-9)


def kinds_known(names: Sequence[str]) -> Mapping[str, Kind]:
    """The kinds of these names, none if one of them is not installed here: what a model learnt of it cannot be known."""
    known = known_kinds()
    return {name: known[name] for name in names} if set(names) <= set(known) else {}
