"""What a prompt asks for, as far as words tell: the kind of scene, and the labels and the number of its events.

    reading = read_prompt("no drums, just a piano playing A", KINDS.values())
    reading.kind.name, reading.order        # "piano", ("A",)

A prompt is held against the captions of the kinds: words that are in none of them, and orders of words that are in none, were
never learnt by a model that was trained on these captions. What is learnt is computed from what the kinds declare; nothing is
drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from mova.errors import RequestError
from mova.scenes.kind import NUMBERS, Kind
from mova.scenes.kinds import kind_of, known_kinds, without_negations
from mova.scenes.script import Value, generator

MAX_NUMBER = 12
"""Most events that a prompt can count."""
_LONG_S = 60.0
"""Length in which every number of events fits."""
_COUNTS = {**{word: number for number, word in enumerate(NUMBERS) if number}, "once": 1, "twice": 2, "thrice": 3, "pair": 2}
_SAME = {
    **dict.fromkeys(("crimson", "scarlet", "ruby"), "red"),
    **dict.fromkeys(("golden",), "gold"),
    **dict.fromkeys(("emerald", "lime"), "green"),
    **dict.fromkeys(("navy", "azure"), "blue"),
    **dict.fromkeys(("violet",), "purple"),
    **dict.fromkeys(("steel", "iron"), "metal"),
    **dict.fromkeys(("wooden",), "wood"),
    **dict.fromkeys(("big",), "large"),
    **dict.fromkeys(("little",), "small"),
    **dict.fromkeys(("quick",), "fast"),
    **dict.fromkeys(("daylight",), "day"),
    **dict.fromkeys(("close", "nearby"), "near"),
    **dict.fromkeys(("distant",), "far"),
}
"""Words that people use for values of attributes."""
_OF_TIME = frozenset({"second", "seconds", "half", "minute", "minutes", "bpm", "s", "ms"})
_LIST = re.compile(r"(?::|\bkeys|\bnotes?|\bplays?|\bplaying)\s+((?:[a-z]\b(?:\s*,\s*|\s+and\s+|\s+then\s+|\s+|\W*$))+)$")
_PLAIN = frozenset(
    re.findall(
        r"\w+",
        """a an and are as at be but by for from has have here i in into is it its just like of on or our out over so some that
        the then there they this to up very was we when where which while with you your clip video audio sound scene view""",
    )
)
"""Words that say nothing of a scene."""


@dataclass(frozen=True)
class PromptReading:
    """What words of a prompt tell.

    Args:
        kind: Kind that they name, or None.
        others: Names of other kinds that words of the prompt name, those that it excludes among them. Words of the kind's own
            captions name no other.
        labels: Labels that the events may have.
        order: Labels of the events in order, where the prompt names them.
        number: Number of events, where the prompt states one.
        unread: Words that no caption of the kind has.
        is_foreign: Whether most of its words are in no caption of the kind.
        is_caption: Whether its words follow each other as in captions of the kind.
        caption: Caption of the kind that says what was read.
    """

    kind: Kind | None
    others: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    number: int | None = None
    unread: tuple[str, ...] = ()
    is_foreign: bool = False
    is_caption: bool = False
    caption: str = ""


def read_prompt(prompt: str, kinds: Iterable[Kind] | None = None) -> PromptReading:
    """Read a prompt.

    Args:
        prompt: What to see and hear.
        kinds: Among which; every known one by default.
    """
    among = {kind.name: kind for kind in (known_kinds().values() if kinds is None else kinds)}
    name = kind_of(prompt, among.values())
    if name is None:
        return PromptReading(None)
    kind, language = among[name], _language_of(among[name])
    words = [word for word in dict.fromkeys(_tokens(prompt)) if word not in _PLAIN and word not in ",:;"]
    unread = tuple(
        word for word in words if word not in language.words and (len(word) > 1 or not word.isalpha() or not word.isascii())
    )
    said = without_negations(prompt)
    listed, counted = _parts(said, kind)
    items = _items(listed, kind)
    number = _number(counted)
    found = _values(said, kind)
    if len(items) == 1 and number is not None:
        items *= number
    if items and number not in (None, len(items)):
        items = ()
    elif items:
        number = len(items)
    if items:
        found["sequence"] = " ".join(items)
    if number is not None and "count" in kind.attributes:
        found["count"] = number
    return PromptReading(
        kind,
        others=tuple(sorted({name for name, one in among.items() if _names(prompt, one.words - language.words)} - {kind.name})),
        labels=_labels(kind, found),
        order=items,
        number=number if "count" in kind.attributes else None,
        unread=unread,
        is_foreign=2 * sum(word not in kind.words for word in unread) > len(words),
        is_caption=not unread and said == prompt and set(pairwise(_classes(prompt, kind))) <= language.pairs,
        caption=_caption(kind, found) if found else next(iter(kind.example_captions), ""),
    )


@dataclass(frozen=True)
class Language:
    """Words of a kind's captions, and which follows which, values of one attribute taken for the same."""

    words: frozenset[str]
    pairs: frozenset[tuple[str, str]]


@lru_cache(maxsize=64)
def _language_of(kind: Kind) -> Language:
    captions = {*kind.example_captions, *(text for pinned in _all_values(kind) for text in _phrases(kind, pinned))}
    words, pairs = set[str](_COUNTS) - {"thrice", "pair"}, set[tuple[str, str]]()
    for caption in captions:
        words.update(_tokens(caption))
        pairs.update(pairwise(_classes(caption, kind)))
    return Language(frozenset(words), frozenset(pairs))


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


def _phrases(kind: Kind, pinned: Mapping[str, Value]) -> list[str]:
    """Captions of a scene with the pinned values; none if they do not go together."""
    try:
        full, brief = kind.phrases(kind.choose(generator(kind.name, 0, "attributes"), _LONG_S, dict(pinned)))
    except RequestError:
        return []
    return [text.lower() for text in (*full, *brief)]


def _caption(kind: Kind, found: Mapping[str, Value]) -> str:
    """The caption that says what was found and least besides."""
    wanted = {word for value in found.values() for word in _tokens(str(value))} - {str(found.get("count"))}
    values = {str(value).lower() for name, given in kind.attributes.items() if name != "count" for value in given}
    has_number = "count" in found

    def cost(text: str) -> tuple[int, int]:
        words = [_SAME.get(word, word) for word in _tokens(text)]
        missing = len(wanted - set(words)) + (has_number and not any(_COUNTS.get(word) == found["count"] for word in words))
        return missing, sum(word in values and word not in wanted for word in words) + (
            not has_number and any(word in _COUNTS for word in words)
        )

    return min(_phrases(kind, found) or kind.example_captions, key=cost, default="")


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


def _names(prompt: str, names: frozenset[str]) -> bool:
    return any(word in names for word in re.findall(r"[a-z]+", prompt.lower()))


def _parts(text: str, kind: Kind) -> tuple[str, str]:
    """What may list items, and what may state a number: where numbers are items, those before *times* or *words* count."""
    if not {str(value) for value in kind.attributes.get("sequence", ())} & set(_COUNTS):
        return text, text
    counts = re.compile(r"\b(?:once|twice|thrice|\w+(?= (?:times|words?)\b))", re.IGNORECASE)
    return counts.sub("", text).rpartition(":")[2], " ".join(counts.findall(text))


def _number(text: str) -> int | None:
    """The one number that a prompt states; None if there is none, or more than one, or one of time."""
    words = _tokens(text)
    if _OF_TIME & set(words):
        return None
    found = [_COUNTS[word] for word in words if word in _COUNTS]
    found += [
        int(digits) for word in words if (digits := word.removesuffix("x")).isascii() and digits.isdigit() and len(digits) < 3
    ]
    return found[0] if len(found) == 1 and found[0] <= MAX_NUMBER else None


def _items(text: str, kind: Kind) -> tuple[str, ...]:
    """Items of the kind's sequence, in order. A single letter is one in upper case, or in a list of its own."""
    items = {str(value).lower(): str(value) for value in kind.attributes.get("sequence", ())}
    if not items:
        return ()
    if max(map(len, items)) > 1:
        return tuple(items[word] for one in _tokens(text) if (word := _SAME.get(one, one)) in items)
    # the first word of a sentence is in upper case whatever it is
    capital = re.findall(r"\b[A-Z]\b", re.sub(r"^\W*A\b(?! *,)", "", text))
    if capital and not text.isupper():
        return tuple(letter for letter in capital if letter.lower() in items)
    listed = _LIST.search(text.lower())
    letters = re.findall(r"\b[a-z]\b", listed[1]) if listed else []
    return tuple(items[letter] for letter in letters) if all(letter in items for letter in letters) else ()


def _values(text: str, kind: Kind) -> dict[str, Value]:
    """Values of attributes that the words name; of two attributes with the same values, those of the first word first."""
    found: dict[str, Value] = {}
    for word in (_SAME.get(one, one) for one in _tokens(text)):
        for name, values in kind.attributes.items():
            if name not in ("sequence", "count", "number") and name not in found and word in values:
                found[name] = word
                break
    return found


def _labels(kind: Kind, found: Mapping[str, Value]) -> tuple[str, ...]:
    """Labels that the events may have: of an attribute whose values are the labels, the one that is named."""
    of_labels = [name for name in found if name != "sequence" and set(kind.attributes[name]) == set(kind.labels)]
    return (str(found[of_labels[0]]),) if of_labels else kind.labels


def read_as_known(prompt: str, names: Sequence[str]) -> PromptReading:
    """Read a prompt for a model that knows the kinds of these names.

    Some may not be installed here: what the model learnt of those cannot be known from words, and nothing is read.
    """
    return read_prompt(prompt, [known_kinds()[name] for name in names]) if are_known(names) else PromptReading(None)


def are_known(names: Sequence[str]) -> bool:
    """Whether there are kinds of these names, at least one, and all are installed here."""
    return bool(names) and set(names) <= set(known_kinds())
