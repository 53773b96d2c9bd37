"""Prompts for rendered scenes: a few phrasings per kind that name what is in the script and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mova.scenes.script import Value

if TYPE_CHECKING:
    from mova.scenes.kind import Kind

OMIT = 0.15
"""Share of captions that leave out some attributes, so that a model also learns short prompts."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def write_caption(kind: Kind, attributes: Mapping[str, Value], rng: np.random.Generator) -> str:
    """One prompt for a scene, in lower case, at most 24 words.

    Args:
        kind: The kind of scene.
        attributes: Attributes of the script; the caption never contradicts them.
        rng: Chooses the phrasing, and which attributes are left out.
    """
    short = bool(rng.uniform() < OMIT)
    full, brief = kind.phrases(attributes)
    phrases = brief if short else full
    return phrases[int(rng.integers(len(phrases)))].lower()


def times(count: int) -> str:
    """``once``, ``twice``, ``three times``, ..."""
    return {1: "once", 2: "twice"}.get(count, f"{NUMBERS[count]} times")


def counted(count: int, noun: str) -> str:
    """``one bounce``, ``two bounces``, ..."""
    plural = noun + ("es" if noun.endswith(("sh", "ch", "s")) else "s")
    return f"{NUMBERS[count]} {noun if count == 1 else plural}"
