"""Wordings of prompts in six languages, drawn at random, each with what it says and where.

    wording = draw_wording(KINDS.values(), np.random.default_rng(0))
    wording.prompt   # "pls show me a crimson ball that bounces 3x on a wooden floor!!"
    wording.kind     # "ball"
    wording.spans    # (Span(14, 21, "colour=red"), Span(40, 42, "count=#"), Span(48, 60, "floor=wood"))

Each file of a language has words for values, numbers and times, and templates for each kind. A template has ``{slots}``, which
say something, and ``[one|other]`` choices. Grammatical forms are drawn at random: what is learnt from them is to read, not to
write.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import yaml

from mova.request.reading import Span
from mova.scenes.kind import NUMBERS, Kind, write_caption
from mova.scenes.kinds import KINDS

LANGUAGES = ("en", "de", "fr", "es", "zh", "hi")
_LANGUAGE_SHARES = (0.6, 0.08, 0.08, 0.08, 0.08, 0.08)
OUTSIDE = "outside"
"""Kind of a prompt that names none."""
MOST_COUNTED = 20
"""Largest number in words."""
SHARE_OUTSIDE = 0.22
SHARE_OF_CAPTIONS = 0.08
"""Share of prompts that are captions of scenes, as the network learnt them."""
OTHER = "other"
"""Stands for a value of an attribute that the kind does not have."""
DIGITS = "#"
"""Stands for a number that is written in digits."""
# characters for private use: a slot's text stands between the two, and the one after the first is the number of its tag
_OPEN, _CLOSE, _FIRST = "\ue000", "\ue001", 0xE100

Rng = np.random.Generator


@dataclass(frozen=True)
class Wording:
    """A prompt and what it says.

    Args:
        prompt: Simplified, see :func:`simplify`.
        kind: Name of its kind, or :data:`OUTSIDE`.
        also: Name of a second kind that is to follow, or empty.
        language: One of :data:`LANGUAGES`.
        spans: Parts that say something, in order.
    """

    prompt: str
    kind: str
    also: str
    language: str
    spans: tuple[Span, ...]


@dataclass
class _Said:
    """What a template has said so far."""

    kind: Kind
    words: Mapping[str, Any]
    rng: Rng
    count: int
    tags: list[str] = field(default_factory=list)

    def mark(self, text: str, tag: str) -> str:
        """The text with marks around it that tell its tag."""
        self.tags.append(tag)
        return f"{_OPEN}{chr(_FIRST + len(self.tags) - 1)}{text}{_CLOSE}"


def draw_wording(kinds: Iterable[Kind], rng: Rng) -> Wording:
    """Draw a prompt, with what it says.

    Args:
        kinds: Kinds that can be named; of those without wordings, captions are drawn. Wordings of other kinds are outside.
        rng: Source of every choice.
    """
    templates = read_words("en")["kinds"]
    among = list(kinds)
    language = str(rng.choice(LANGUAGES, p=_LANGUAGE_SHARES))
    words = read_words(language)
    strange = [KINDS[name] for name in words["kinds"] if name in KINDS and name not in {kind.name for kind in among}]
    tags: list[str] = []
    if rng.random() < SHARE_OUTSIDE:
        if strange and rng.random() < 0.2:
            text = _say_unmarked(strange[int(rng.integers(len(strange)))], words, rng)
        else:
            text = _outside(language, rng)
        kind, also = OUTSIDE, ""
    else:
        one = among[int(rng.integers(len(among)))]
        kind, also = one.name, ""
        is_caption = one.name not in templates or rng.random() < SHARE_OF_CAPTIONS
        text = _caption(one, rng, tags) if is_caption else _say(one, words, rng, tags)
        language, words = ("en", read_words("en")) if is_caption else (language, words)
        others = [other for other in among if other is not one and other.name in templates]
        if others and rng.random() < 0.06:
            other = others[int(rng.integers(len(others)))]
            if rng.random() < 0.5:
                text = str(_pick(words["not"], rng)).replace("{other}", words["others"][other.name]) + text
            else:
                text, also = text + str(_pick(words["then"], rng)) + _say_unmarked(other, words, rng), other.name
    prompt, spans = _unmarked(simplify(_worn(_decorated(text, words, rng), rng)), tags)
    return Wording(prompt, kind, also, language, spans)


def list_tags(kinds: Iterable[Kind]) -> tuple[str, ...]:
    """Every tag that a span of these kinds' wordings can have, in a fixed order."""
    found: list[str] = []
    for kind in kinds:
        for name, values in kind.attributes.items():
            if name == "sequence":
                found += [f"item={value}" for value in values]
            elif name != "count":
                found += [f"{name}={value}" for value in (*values, OTHER)]
    numbers = [f"count={number}" for number in range(1, MOST_COUNTED + 1)]
    halves = sorted({float(time) for language in LANGUAGES for time in read_words(language)["halves"]})
    written = [f"{name}={DIGITS}" for name in ("count", "at", "bpm")]
    return tuple(dict.fromkeys([*found, *numbers, *(f"at={time:g}" for time in halves), *written]))


def simplify(text: str) -> str:
    """A prompt as the reader sees it: one case, no accents of Latin letters, single spaces.

    Marks of other scripts stay, since they are vowels there.
    """
    parts = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    plain = "".join(one for one in parts if not "\u0300" <= one <= "\u036f")
    return " ".join(unicodedata.normalize("NFC", plain).split())


def number_in(text: str) -> float | None:
    """The number that digits of a text state, with a point or a comma, a million at most; None without any."""
    found = re.search(r"\d+(?:[.,]\d+)?", text)
    return None if found is None else min(float(found[0].replace(",", ".")), 1e6)


@lru_cache(maxsize=1)
def list_characters() -> str:
    """Every character of the grammar, simplified, and those of ASCII."""
    texts = [
        (files("mova.scenes.wording") / name).read_text("utf-8")
        for name in (*(f"{one}.yaml" for one in LANGUAGES), "outside.yaml")
    ]
    return "".join(sorted({*simplify(" ".join(texts)), *map(chr, range(32, 127))}))


@lru_cache(maxsize=len(LANGUAGES))
def read_words(language: str) -> Mapping[str, Any]:
    """The file of a language."""
    found: Mapping[str, Any] = yaml.safe_load((files("mova.scenes.wording") / f"{language}.yaml").read_text("utf-8"))
    return found


@lru_cache(maxsize=len(LANGUAGES))
def numbers_in_words(language: str) -> Mapping[str, int]:
    """Simplified words of a language for numbers and how often, without those in digits."""
    words = read_words(language)
    found = {simplify(str(form)): number for number, forms in words["numbers"].items() for form in forms}
    for number in words["numbers"]:
        forms = words["times"].get(number, [one for one in words["times_of"] if "{n}" in one])
        spelt = words["numbers"][number][0]
        found |= {simplify(str(form).replace("{n}", str(spelt))): number for form in forms}
    return {form: number for form, number in found.items() if number_in(form) is None}


@lru_cache(maxsize=len(LANGUAGES))
def values_in_words(language: str) -> Mapping[str, Mapping[str, str]]:
    """Attribute, and simplified words of a language, to the one value of it that they stand for."""
    tables: dict[str, dict[str, str]] = {}
    for name, table in read_words(language)["words"].items():
        found: dict[str, set[str]] = {}
        for value, forms in table.items():
            for form in forms:
                found.setdefault(simplify(str(form)), set()).add(str(value))
        tables[name] = {form: min(values) for form, values in found.items() if len(values) == 1}
    return tables


@lru_cache(maxsize=1)
def _outside_words() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load((files("mova.scenes.wording") / "outside.yaml").read_text("utf-8"))
    return found


def _say(kind: Kind, words: Mapping[str, Any], rng: Rng, tags: list[str]) -> str:
    """A wording of a kind, marked; the tags are added to a list."""
    template = choose_parts(_pick(words["kinds"][kind.name], rng), rng)
    slots = re.findall(r"\{(\w+)\}", template)
    count = int(rng.integers(1, 7)) if rng.random() < 0.85 else int(_pick([n for n in words["numbers"] if n > 6], rng))
    if {"list", "cues", "each"} & set(slots):
        count = int(rng.choice([1, 2, 3, 4, 5, 6, 7], p=[0.1, 0.25, 0.28, 0.2, 0.1, 0.05, 0.02]))
    said = _Said(kind, words, rng, count, tags)
    text = re.sub(r"\{(\w+)\}", lambda match: _fill(match[1], said), template)
    if not {"cues", "list", "one", "each"} & set(slots) and rng.random() < 0.06:
        times = _times(int(rng.integers(1, 4)), rng)
        text += _pick([", ", " ", ": "], rng) + str(_pick(words["joins"], rng)).join(_at(time, said) for time in times)
    return text


def _caption(kind: Kind, rng: Rng, tags: list[str]) -> str:
    """A caption of a scene of a kind, marked by the words of its values."""
    attributes = kind.choose(rng, float(rng.uniform(1.5, 4.0)), {})
    caption = write_caption(kind, attributes, rng)
    found: list[Span] = []

    def find(word: str, tag: str, *, before: int | None = None) -> int | None:
        """Mark the word where it is free: its first place, or its last one before another."""
        places = [match.span() for match in re.finditer(rf"\b{re.escape(word)}\b", caption)]
        free = [place for place in places if not any(one.start < place[1] and place[0] < one.stop for one in found)]
        free = [place for place in free if before is None or place[1] <= before]
        if not free:
            return None
        found.append(Span(*free[0 if before is None else -1], tag))
        return found[-1].start

    items = str(attributes.get("sequence", "")).split()
    place: int | None = len(caption)
    for item in reversed(items):  # from the end: "a" is a note there, and an article before
        place = None if place is None else find(item.lower(), f"item={item}", before=place)
    for name, value in attributes.items():
        if name == "count":
            for word in (NUMBERS[int(value)], *({1: ("once",), 2: ("twice",)}.get(int(value), ()))):
                if find(word, f"count={value}") is not None:
                    break
        elif name not in ("sequence", "number"):
            find(str(value).lower(), f"{name}={value}")
    said, text, end = _Said(kind, {}, rng, 0, tags), "", 0
    for one in sorted(found, key=lambda span: span.start):
        text, end = text + caption[end : one.start] + said.mark(caption[one.start : one.stop], one.tag), one.stop
    return text + caption[end:]


def _say_unmarked(kind: Kind, words: Mapping[str, Any], rng: Rng) -> str:
    """A wording of a kind of which nothing counts."""
    return _unmarked(_say(kind, words, rng, []), ())[0]


def _fill(slot: str, said: _Said) -> str:
    """The text of a slot, marked with what it says."""
    words, rng, number = said.words, said.rng, said.count
    if slot == "s":
        return "" if number == 1 else "s"
    if slot in ("n", "d"):
        return said.mark(*_number(number, words, rng))
    if slot in ("times", "times_sp"):
        if slot == "times_sp" and rng.random() < 0.4:
            return ""
        text, tag = _how_often(number, words, rng)
        return (" " if slot == "times_sp" else "") + said.mark(text, tag)
    if slot == "two":
        return said.mark(str(_pick([*words["numbers"][2], "2"], rng)), "number=2")
    if slot == "bpm":
        return said.mark(str(int(rng.integers(40, 221))), f"bpm={DIGITS}")
    if slot in ("list", "cues", "one", "each"):
        return _items(slot, said)
    if slot == "vowels":
        return _repeated("vowel", said)
    return _value(slot, said)


def _items(slot: str, said: _Said) -> str:
    words, rng = said.words, said.rng
    known = [str(one) for one in said.kind.attributes["sequence"]]
    table = words["words"]["item"]
    if slot == "one":
        label = str(_pick(known, rng))
        form = str(_pick(table[label], rng)).removeprefix("the ").removesuffix(" pad").removesuffix(" drum")
        return said.mark(form, f"item={label}")
    labels = [str(_pick(known, rng)) for _ in range(said.count)]
    keeps_form = rng.random() < 0.6  # most people keep to one form
    forms = [str(table[label][0] if keeps_form else _pick(table[label], rng)) for label in labels]
    if said.kind.name == "piano" and rng.random() < 0.4:
        forms = [one.upper() for one in forms]
    joint = str(_pick(words["joins"], rng))
    if slot == "each":
        parts = [said.mark(form, f"item={label}") for form, label in zip(forms[:3], labels, strict=False)]
        for index in range(len(parts)):
            if rng.random() < 0.7:
                text, tag = _how_often(int(rng.integers(1, 5)), words, rng)
                parts[index] += ("" if words.get("unspaced", False) else " ") + said.mark(text, tag)
        return joint.join(parts)
    if slot == "list":
        marked = [said.mark(form, f"item={label}") for form, label in zip(forms, labels, strict=True)]
        first, last = str(_pick(words["firsts"], rng)), str(_pick(words["lasts"], rng))
        return first + (marked[0] if len(marked) < 2 else joint.join(marked[:-1]) + joint + last + marked[-1])
    parts, is_before = [], bool(rng.random() < 0.5)
    for label, form, time in zip(labels, forms, _times(len(labels), rng), strict=True):
        item, at = said.mark(form, f"item={label}"), _at(time, said)
        parts.append(f"{at} {item}" if is_before else f"{item} {at}")
    return joint.join(parts)


def _repeated(name: str, said: _Said) -> str:
    """A value that is said as often as it is to be heard."""
    value = str(_pick(said.kind.attributes[name], said.rng))
    form = str(said.words["words"][name][value][0])
    joint = str(_pick([" ", ", ", "! ", "... ", "-"], said.rng))
    return joint.join(said.mark(form, f"{name}={value}") for _ in range(max(2, min(said.count, 5))))


def _value(slot: str, said: _Said) -> str:
    """A value of an attribute in words; one in twenty is none that the kind has, and some come with one that is denied."""
    name = "colour" if slot == "colour2" else slot
    table, rng = said.words["words"][name], said.rng
    known = [str(one) for one in said.kind.attributes.get(slot, said.kind.attributes.get(name, ()))]
    strange = [one for one in table if one not in known]
    value = str(_pick(strange if strange and rng.random() < 0.05 else [one for one in table if one in known], rng))
    text = said.mark(str(_pick(table[value], rng)), f"{slot}={value if value in known else OTHER}")
    if rng.random() < 0.03:
        denied = str(_pick(table[_pick([one for one in table if one != value], rng)], rng))
        return str(_pick(said.words["not_value"], rng)).replace("{other}", denied).replace("{one}", text)
    return text


def _number(number: int, words: Mapping[str, Any], rng: Rng) -> tuple[str, str]:
    """A number as it is written, and its tag."""
    if rng.random() < 0.4 or number not in words["numbers"]:
        return str(number), f"count={DIGITS}"
    return str(_pick(words["numbers"][number], rng)), f"count={number}"


def _how_often(number: int, words: Mapping[str, Any], rng: Rng) -> tuple[str, str]:
    """How often something happens, and its tag."""
    if number in words["times"]:
        text = str(_pick(words["times"][number], rng))
    else:
        form = str(_pick(words["times_of"], rng))
        spelt = words["numbers"].get(number, [number])[0]
        text = form.replace("{n}", str(spelt)).replace("{d}", str(number))
    return text, f"count={DIGITS if number_in(text) is not None else number}"


def _times(count: int, rng: Rng) -> list[str]:
    """Times in seconds as they are written, in order."""
    step = float(rng.choice([0.1, 0.25, 0.5]))
    ticks = np.sort(rng.choice(np.arange(1, int(4.0 / step)), size=min(count, int(4.0 / step) - 1), replace=False))
    return [f"{tick * step:g}" for tick in ticks]


def _at(time: str, said: _Said) -> str:
    words, rng = said.words, said.rng
    spelt = words["halves"].get(float(time))
    if spelt and rng.random() < 0.4:
        return str(_pick(words["at_spelt"], rng)).replace("{t}", said.mark(str(_pick(spelt, rng)), f"at={float(time):g}"))
    shown = time.replace(".", ",") if words.get("comma", False) and rng.random() < 0.5 else time
    return str(_pick(words["at"], rng)).replace("{t}", said.mark(shown, f"at={DIGITS}"))


def _unmarked(text: str, tags: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """A marked text without its marks, and where they were."""
    plain: list[str] = []
    spans, start, tag, is_tag = [], 0, "", False
    for one in text:
        if is_tag:
            tag, is_tag = tags[ord(one) - _FIRST] if ord(one) - _FIRST < len(tags) else "", False
        elif one == _OPEN:
            start, is_tag = len(plain), True
        elif one == _CLOSE:
            if tag and len(plain) > start:
                spans.append(Span(start, len(plain), tag))
        else:
            plain.append(one)
    return "".join(plain), tuple(spans)


def _outside(language: str, rng: Rng) -> str:
    words = _outside_words()[language]
    if rng.random() < 0.2:
        return str(_pick(words["whole"], rng))
    parts = [_pick(words[name], rng) for name in ("who", "does", "where", "how")]
    text = ("" if language == "zh" else " ").join(str(one) for one in parts if one)
    return re.sub("_", lambda _: _invented(rng), text)


def _invented(rng: Rng) -> str:
    """A word that nobody has heard: unknown things are outside, however they are called."""
    syllables = [
        str(rng.choice(list("bcdfghjklmnprstvwz")))
        + str(rng.choice(["a", "e", "i", "o", "u", "ea", "oo"]))
        + str(rng.choice(["", "", "n", "r", "st", "l", "ck"]))
        for _ in range(int(rng.integers(1, 4)))
    ]
    return "".join(syllables)


def _decorated(text: str, words: Mapping[str, Any], rng: Rng) -> str:
    """With what people put around a prompt."""
    return str(_pick(words["before"], rng)) + text + str(_pick(words["after"], rng))


def _worn(text: str, rng: Rng) -> str:
    """With typing errors, now and then."""
    if rng.random() < 0.25:
        letters = list(text)
        for _ in range(1 + int(rng.random() < 0.35) + int(rng.random() < 0.15)):
            places = [
                i
                for i in range(1, len(letters) - 1)
                if letters[i].isalpha() and letters[i].isascii() and letters[i - 1].isalpha()
            ]
            if not places:
                break
            place = int(_pick(places, rng))
            change = int(rng.integers(4))
            if change == 0:
                letters[place - 1 : place + 1] = letters[place], letters[place - 1]
            elif change == 1:
                del letters[place]
            elif change == 2:
                letters.insert(place, letters[place])
            else:
                letters[place] = str(rng.choice(list("abcdefghijklmnopqrstuvwxyz")))
        text = "".join(letters)
    return text


def choose_parts(template: str, rng: Rng) -> str:
    """A template with each ``[one|other]`` chosen, inner ones first."""
    while (match := re.search(r"\[([^\[\]]*)\]", template)) is not None:
        template = template[: match.start()] + str(_pick(match[1].split("|"), rng)) + template[match.end() :]
    return template


def _pick(values: Sequence[Any], rng: Rng) -> Any:
    return values[int(rng.integers(len(values)))]
