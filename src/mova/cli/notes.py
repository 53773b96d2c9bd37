"""What is worth knowing of a prompt before and after a clip is made of it: how it is read, and where that may be wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from mova.request.plan import Capabilities

if TYPE_CHECKING:
    from mova.scenes.kind import Kind

NUM_CAPTIONS = 200
"""Captions of a kind from which its words are taken."""
_NUMBERS = {"once": 1, "one": 1, "twice": 2, "two": 2, "pair": 2, "three": 3, "thrice": 3, "four": 4, "five": 5, "six": 6}
# words that say nothing of a scene
_PLAIN = frozenset(
    re.findall(
        r"\w+",
        """a an and are as at be but by for from has have here i in into is it its just like of on or our out over so some that
        the then there they this to up very was we when where which while with you your clip video audio sound scene view""",
    )
)


def notes_before(prompt: str, cues: Sequence[tuple[float, str]], capabilities: Capabilities) -> list[str]:
    """Notes on a prompt and the cues that are given with it.

    Args:
        prompt: What to see and hear.
        cues: Times and labels that the user gives.
        capabilities: What the model can make.
    """
    from mova.scenes.kinds import kind_of

    kinds = _kinds(capabilities)
    if not kinds:
        return []
    name = kind_of(prompt, kinds)
    known = ", ".join(capabilities.kinds)
    if name is None:
        return [f"this prompt is outside what {capabilities.name} knows ({known}); see `mova examples`"]
    kind = next(one for one in kinds if one.name == name)
    notes = []
    others = sorted({one.name for one in kinds if one.name != name and kind_of(prompt, [one]) is not None})
    unread = [word for word in _words(prompt) if word not in _words_of(name)]
    if unread:
        words = ", ".join(repr(word) for word in unread[:5])
        notes.append(f"read as {name}; not in the captions that {capabilities.name} learnt from: {words}")
    if others:
        notes.append(f"read as {name}; words of it also name {', '.join(others)}")
    return notes + _cue_notes(cues, kind)


def notes_after(prompt: str, planned: Sequence[tuple[float, str]], capabilities: Capabilities) -> list[str]:
    """Notes on the cues that the model planned for a prompt: of another kind, or of another number.

    Args:
        prompt: What to see and hear.
        planned: Times and labels.
        capabilities: What the model can make.
    """
    from mova.scenes.kinds import kind_of

    kinds = _kinds(capabilities)
    name = kind_of(prompt, kinds) if kinds else None
    if name is None or not planned:
        return []
    kind = next(one for one in kinds if one.name == name)
    notes = []
    strange = sorted({label for _, label in planned if label and label not in kind.labels})
    if strange:
        notes.append(f"the prompt reads as {name}, and the planned cues {', '.join(strange)} are of other kinds; give --cue")
    asked = {_NUMBERS.get(word, int(word) if word.isdigit() else 0) for word in re.findall(r"[a-z]+|\d+", prompt.lower())} - {0}
    if len(asked) == 1 and (number := asked.pop()) <= 12 and number != len(planned):
        notes.append(f"the prompt says {number}, and {len(planned)} are planned; give --cue for each")
    return notes


def _cue_notes(cues: Sequence[tuple[float, str]], kind: Kind) -> list[str]:
    from mova.scenes.script import MIN_GAP_S

    notes = []
    strange = sorted({label for _, label in cues if label and label not in kind.labels})
    if strange:
        notes.append(f"{kind.name} has no {', '.join(strange)}; its labels are {', '.join(kind.labels)}")
    times = sorted(time_s for time_s, _ in cues)
    close = [(one, other) for one, other in zip(times, times[1:], strict=False) if other - one < MIN_GAP_S - 1e-9]
    if close:
        notes.append(
            f"cues at {close[0][0]:g} and {close[0][1]:g} s are nearer than {MIN_GAP_S:g} s, the least that the model learnt "
            "from; they may become one event"
        )
    return notes


def _kinds(capabilities: Capabilities) -> list[Kind]:
    """The kinds of a model; none if some are not installed here: what it learnt of those cannot be known from words."""
    from mova.scenes.kinds import known_kinds

    kinds = [known_kinds()[name] for name in capabilities.kinds if name in known_kinds()]
    return kinds if len(kinds) == len(capabilities.kinds) else []


def _words(text: str) -> list[str]:
    words = re.findall(r"[^\W\d_]+", text.lower())
    return [word for word in dict.fromkeys(words) if word not in _PLAIN and (len(word) > 1 or not word.isascii())]


@cache
def _words_of(name: str) -> frozenset[str]:
    """Words that name a kind, and those of a sample of its captions."""
    from mova.scenes.kinds import find_kind
    from mova.scenes.world import write_script

    kind = find_kind(name)
    captions = [write_script(kind, seed, seconds=2.0).caption for seed in range(NUM_CAPTIONS)]
    return frozenset(word for caption in captions for word in _words(caption)) | frozenset(kind.words) | frozenset(_NUMBERS)
