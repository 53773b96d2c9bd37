"""Whether a prompt asks for something of the rendered world, by the words that name its kinds."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mova.scenes.kind import Kind
from mova.scenes.kinds import known_kinds


def kind_of(prompt: str, kinds: Iterable[Kind] | None = None) -> str | None:
    """The kind that most words of ``prompt`` name, or None if no word names any.

    Args:
        prompt: What is asked for.
        kinds: Among which; every known one by default.
    """
    words = re.findall(r"[a-z]+", prompt.lower())
    among = known_kinds().values() if kinds is None else kinds
    hits = {kind.name: sum(word in kind.words for word in words) for kind in among}
    best = max(hits, key=lambda name: hits[name], default=None)
    return best if best is not None and hits[best] else None
