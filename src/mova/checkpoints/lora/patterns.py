"""Patterns of layer names in the settings of a LoRA, matched in time linear in pattern and name.

PEFT reads them as regular expressions, which can be written to take for ever. Here is the part of that language that names
layers: characters, ``.``, ``\\d`` and ``\\w``, ``[...]``, each maybe repeated by ``* + ?``; groups and alternatives, not
repeated; ``^`` and ``$``. A matcher keeps the set of places that it can have reached, so that it never goes back.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_PATTERN = 500
_SPECIAL = "*+?{}()|[]^$\\."
Places = frozenset[int]
Step = Callable[[str, Places], Places]


def matches_end(pattern: str, name: str) -> bool:
    """Whether a pattern matches a name whole, or its end from a dot on: the rule of PEFT.

    Raises:
        ValueError: If the pattern is broken, or uses more than is read here; the message is the reason.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"it has {len(pattern)} characters")
    reader = _Reader(pattern)
    step = reader.alternatives()
    if reader.position < len(pattern):
        raise ValueError("it has a ) too many")
    starts = frozenset([0, *(place + 1 for place, one in enumerate(name) if one == ".")])
    return len(name) in step(name, starts)


class _Reader:
    """Recursive descent over a pattern.

    Args:
        pattern: Pattern.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0
        self.depth = 0

    def alternatives(self) -> Step:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        if len(branches) == 1:
            return branches[0]
        return lambda name, places: frozenset[int]().union(*(branch(name, places) for branch in branches))

    def _sequence(self) -> Step:
        steps: list[Step] = []
        while self.position < len(self.pattern) and self.pattern[self.position] not in "|)":
            steps.append(self._step())

        def run(name: str, places: Places) -> Places:
            for step in steps:
                places = step(name, places)
            return places

        return run

    def _step(self) -> Step:
        if self._take("^"):
            return lambda name, places: places & {0}
        if self._take("$"):
            return lambda name, places: places & {len(name)}
        if self._take("("):
            return self._group()
        return _repeated(self._character(), self._repeat())

    def _group(self) -> Step:
        self.depth += 1
        if self.depth > 20:
            raise ValueError("it is nested too deeply")
        if self._take("?") and not self._take(":"):
            raise ValueError("it looks ahead or names a group")
        inner = self.alternatives()
        if not self._take(")"):
            raise ValueError("it lacks a )")
        self.depth -= 1
        if self._repeat():
            raise ValueError("it repeats a group")
        return inner

    def _repeat(self) -> str:
        if self._take("{"):
            raise ValueError("it counts repetitions")
        sign = next((one for one in "*+?" if self._take(one)), "")
        if sign:
            self._take("?")  # the shortest match is a match too
        return sign

    def _character(self) -> re.Pattern[str]:
        """One character's worth of the pattern; what it means, Python's own expressions know."""
        one = self.pattern[self.position]
        start = self.position
        self.position += 1
        if one == "\\":
            self.position += 1
            escaped = self.pattern[start + 1 : self.position]
            if not escaped or (escaped.isalnum() and escaped not in "dDwWsS"):
                raise ValueError(f"it uses \\{escaped}")
        elif one == "[":
            end = self.pattern.find("]", self.position + (2 if self.pattern.startswith("^", self.position) else 1))
            if end < 0:
                raise ValueError("it lacks a ]")
            self.position = end + 1
        elif one in _SPECIAL and one != ".":
            raise ValueError(f"it has a {one} with nothing before it")
        try:
            return re.compile(self.pattern[start : self.position])
        except re.error as error:
            raise ValueError(str(error)) from None

    def _take(self, sign: str) -> bool:
        if self.pattern.startswith(sign, self.position):
            self.position += 1
            return True
        return False


def _repeated(character: re.Pattern[str], sign: str) -> Step:
    def run(name: str, places: Places) -> Places:
        reached = {place for place in places if sign in ("*", "?") and sign}
        ahead = [place for place in places if place < len(name) and character.match(name, place)]
        if sign in ("", "?"):
            return frozenset(reached | {place + 1 for place in ahead})
        begins, is_inside = set(places), False
        for place in range(len(name)):  # one pass: a run of the character goes on from any place within it
            is_inside = (is_inside or place in begins) and character.match(name, place) is not None
            if is_inside:
                reached.add(place + 1)
        return frozenset(reached)

    return run
