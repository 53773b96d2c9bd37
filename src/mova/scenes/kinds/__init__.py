"""The kinds of rendered scenes, one file each, how those of others are found, and which one a prompt names.

A kind of another package is found by its name if the package has an entry point in the group ``mova.scenes``::

    [project.entry-points."mova.scenes"]
    rattle = "my_package.rattle:KIND"

A :class:`~mova.scenes.kind.Kind` is accepted wherever a name is; recipes and ``mova scenes sheet`` also take the path of a
file.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from mova.errors import RequestError
from mova.scenes.kind import Kind
from mova.scenes.kinds import ball, car, drums, fireworks, metronome, monitor, mouth, piano, press, siren, speech, storm
from mova.scenes.script import Script, nearest_hint

ENTRY_POINTS = "mova.scenes"
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        ball.KIND,
        drums.KIND,
        piano.KIND,
        mouth.KIND,
        metronome.KIND,
        siren.KIND,
        storm.KIND,
        fireworks.KIND,
        monitor.KIND,
        press.KIND,
        car.KIND,
        speech.KIND,
    )
}
"""The kinds of this package, by name."""


@lru_cache(maxsize=1)
def known_kinds() -> Mapping[str, Kind]:
    """Every kind by name: those of this package, and those that installed packages add by entry point."""
    return {**{point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}, **KINDS}


def drawable_kinds() -> Mapping[str, Kind]:
    """The kinds of this package that can be drawn here, by name: those whose own packages are installed."""
    return {name: kind for name, kind in KINDS.items() if kind.is_drawable}


def find_kind(kind: str | Kind) -> Kind:
    """A kind by its name; a kind is itself.

    Raises:
        RequestError: If there is no kind of that name.
    """
    if isinstance(kind, Kind):
        return kind
    found = KINDS.get(kind) or known_kinds().get(kind)
    if found is None:
        raise RequestError(f"there is no scene kind {kind!r}.", nearest_hint(kind, known_kinds()), field="kind")
    return found


def load_kinds(names: Sequence[str] | None) -> tuple[Kind, ...]:
    """The kinds of a recipe: each a name, or the path of a ``.py`` file that defines ``KIND``. None: those of this package.

    Raises:
        RequestError: If there is no such kind, or a file has none.
    """
    if names is None:
        return tuple(KINDS.values())
    return tuple(_read_kind(Path(name)) if name.endswith(".py") else find_kind(name) for name in names)


def definition_of(script: Script) -> Kind:
    """The kind that a script was written by."""
    return script.definition if script.definition is not None else find_kind(script.kind)


def labels_of(kinds: Iterable[Kind], known: Sequence[str] = ()) -> tuple[str, ...]:
    """Every label of the kinds, each once: the known ones first and as they are, new ones after them in order of the kinds."""
    return tuple(dict.fromkeys((*known, *(label for kind in kinds for label in kind.labels))))


def _read_kind(path: Path) -> Kind:
    """Run a file and take its ``KIND``."""
    spec = spec_from_file_location(f"mova_scene_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise RequestError(f"there is no scene kind at {path}.", "Give the path of a Python file that defines KIND.")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their own module
    spec.loader.exec_module(module)
    kind = getattr(module, "KIND", None)
    if not isinstance(kind, Kind):
        raise RequestError(f"{path} defines no KIND.", "End it with KIND = Kind(...); see docs/scenes.md.")
    return kind


_SAID = r"\s*(?:[,.;:!?\"']|$|(?:and|then)\b)"
_NEGATION = re.compile(
    rf"\b(?:no(?!{_SAID})|not|without|never|neither|nor|instead of|rather than)\b.*?(?=[,.;:!?]|\b(?:but|just|only|and)\b|$)",
    re.IGNORECASE,
)


def without_negations(prompt: str) -> str:
    """The prompt without what it says is not to be there: from a word such as *no* to the end of its clause.

    A *no* that nothing follows in its clause is what is said.
    """
    return _NEGATION.sub("", prompt)


def kind_of(prompt: str, kinds: Iterable[Kind] | None = None) -> str | None:
    """The kind that most words of ``prompt`` name, or None if no word names any.

    What is negated names nothing, unless all is. A kind before a colon (``drums: red, blue``) is that kind whatever follows.
    Where no word names a kind as it is spelt, one that is spelt nearly so does. Of kinds that the same words name, it is the
    one more of whose labels are named, or the first.

    Args:
        prompt: What is asked for.
        kinds: Among which; every known one by default.
    """
    among = list(known_kinds().values() if kinds is None else kinds)
    for text in (without_negations(prompt), prompt):
        words = re.findall(r"[a-z]+", text.lower())
        before = re.match(r"\W*([a-z]+)\s*:", text.lower())
        headed = [kind for kind in among if before and before[1] in kind.words]
        for named in (_as_spelt, _nearly_as_spelt):
            hits = {kind.name: [word for word in words if named(word, kind.words)] for kind in headed or among}
            most = max(headed or among, key=lambda kind: len(hits[kind.name]), default=None)
            if most is not None and hits[most.name]:
                by_the_same = [kind for kind in headed or among if hits[kind.name] == hits[most.name]]
                return max(by_the_same, key=lambda kind: _num_labels(words, kind)).name
    return None


def _num_labels(words: Sequence[str], kind: Kind) -> int:
    """How many of the words are labels of the kind."""
    labels = {label.lower() for label in kind.labels}
    return sum(word in labels for word in words)


def _as_spelt(word: str, known: frozenset[str]) -> bool:
    return word in known


def _nearly_as_spelt(word: str, known: frozenset[str]) -> bool:
    """Whether the letters of a longer word are those of a known one, with two exchanged, or one changed, lost or added."""
    if len(word) < 5:
        return False
    return any(
        sorted(word) == sorted(other) or bool(difflib.get_close_matches(word, [other], cutoff=0.88))
        for other in known
        if abs(len(word) - len(other)) <= 1
    )
