"""Who meets whom, on which side, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mova.errors import RequestError


@dataclass(frozen=True)
class Pair:
    """Videos of two systems from the same prompt.

    Args:
        name: Stem of both videos.
        left: System on the left.
        right: System on the right.
    """

    name: str
    left: str
    right: str


def plan_pairs(systems: Sequence[str], names: Sequence[str], *, seed: int, num_pairs: int | None = None) -> tuple[Pair, ...]:
    """Pairs in the order in which they are shown.

    In every stretch of as many pairs as there are couples of systems, each couple comes once, on prompts of their own
    where there are enough. Over the whole, each couple comes equally often (within one), and each of the two is
    equally often on the left (within one); which comes first and when is drawn.

    Args:
        systems: Two or more.
        names: Prompts, by the stem of their videos.
        seed: Seed of everything that is drawn.
        num_pairs: Take only this many. Default: every couple on every prompt.

    Raises:
        RequestError: If there are fewer than two systems, no prompts, or fewer pairs than asked for.
    """
    if len(systems) < 2 or not names:
        raise RequestError(f"an arena needs two systems and a video; got {len(systems)} and {len(names)}.")
    generator = np.random.default_rng(seed)
    couples = list(combinations(systems, 2))
    most = len(couples) * len(names)
    wanted = most if num_pairs is None else num_pairs
    if not 1 <= wanted <= most:
        raise RequestError(
            f"num_pairs must be 1 to {most} ({len(couples)} couples of systems on {len(names)} prompts); got {wanted}.",
            f"Use {max(1, min(wanted, most))}, the nearest.",
            field="num_pairs",
        )
    shuffled = [names[k] for k in generator.permutation(len(names))]
    # couples begin at different prompts, so that a stretch does not show the same prompt again and again
    starts = [number * len(names) // len(couples) for number in range(len(couples))]
    meetings: list[tuple[int, str]] = []
    for turn in range(len(names)):
        for couple in generator.permutation(len(couples)):
            meetings.append((int(couple), shuffled[(starts[couple] + turn) % len(names)]))
    meetings = meetings[:wanted]
    sides = {k: _balanced(generator, sum(couple == k for couple, _ in meetings)) for k in range(len(couples))}
    pairs = []
    for couple, name in meetings:
        first, second = couples[couple]
        pairs.append(Pair(name, second, first) if sides[couple].pop() else Pair(name, first, second))
    return tuple(pairs)


def _balanced(generator: np.random.Generator, size: int) -> list[bool]:
    """As many True as False (one more of either if ``size`` is odd), shuffled: strict turns could be guessed."""
    offset = int(generator.integers(2))
    return [bool((k + offset) % 2) for k in generator.permutation(size)]
