"""A prompt that is wrong of a clip must explain it worse. A mean of squares hardly teaches this: a number decides little of it.

How much better one prompt explains noisy latents than another is the difference of their errors: a diffusion model is a
classifier (Li et al. 2023, arXiv 2303.16203). Training by that difference, as preferences are trained (Wallace et al. 2023,
arXiv 2311.12908), shows the network clips that have begun to go wrong: two hits under way, three asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mova.scenes.captions import write_caption
from mova.scenes.script import Value
from mova.scenes.world import KINDS

COLOUR = 0.3
"""Share of the wrong captions that name another colour, of the kinds that have one; the others name another number."""
LEVELS = (0.84, 0.99)
"""Noise levels at which prompts are told apart: above, nothing can be seen yet; below, everything."""
SALT = 1


def known_counts(scripts: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """The numbers of events that occur, by kind; kinds without one are left out."""
    found: dict[str, set[int]] = {}
    for script in scripts:
        if "count" in script["attributes"]:
            found.setdefault(script["kind"], set()).add(int(script["attributes"]["count"]))
    return {kind: sorted(counts) for kind, counts in found.items()}


def wrong_phrasings(script: Mapping[str, Any], count: int, counts: Mapping[str, Sequence[int]]) -> list[str]:
    """``count`` captions that are wrong of a described script in its number of events or its colour, the same every time.

    Args:
        script: A described script: ``kind``, ``seed``, ``attributes``.
        count: Captions.
        counts: From :func:`known_counts`; a wrong number is one that occurs.

    Returns:
        Captions; empty where the phrasing names nothing that could be wrong.
    """
    rng = np.random.default_rng((script["seed"], SALT))
    found = []
    for _ in range(count):
        other = _contrary(script["kind"], script["attributes"], counts.get(script["kind"], ()), rng)
        before = rng.bit_generator.state
        right = write_caption(script["kind"], script["attributes"], rng)
        rng.bit_generator.state = before  # the same phrasing
        wrong = write_caption(script["kind"], other, rng)
        found.append(wrong if wrong != right else "")
    return found


def _contrary(kind: str, given: Mapping[str, Value], counts: Sequence[int], rng: np.random.Generator) -> dict[str, Value]:
    """The attributes with another number of events or another colour; as they are where nothing can be another."""
    palette = [one for one in KINDS[kind].attributes.get("colour", ()) if one not in (given["colour"], given.get("colour2"))]
    numbers = [one for one in counts if abs(one - int(given["count"])) == 1]
    if not numbers:
        return dict(given)
    if palette and rng.uniform() < COLOUR:
        return {**given, "colour": palette[int(rng.integers(len(palette)))]}
    number = numbers[int(rng.integers(len(numbers)))]
    other = {**given, "count": number}
    if "sequence" in given:
        other["sequence"] = _resized(str(given["sequence"]).split(), number, KINDS[kind].attributes["sequence"], rng)
    return other


def _resized(items: list[str], number: int, allowed: Sequence[Value], rng: np.random.Generator) -> str:
    """A sequence of ``number`` items: one more somewhere, or one fewer."""
    place = int(rng.integers(max(len(items), number)))
    if number < len(items):
        return " ".join(items[:place] + items[place + 1 :])
    return " ".join([*items[:place], str(allowed[int(rng.integers(len(allowed)))]), *items[place:]])


def twins(levels: Tensor, usable: Tensor, share: int) -> Tensor:
    """Which samples of a batch are told apart from a wrong prompt: the first usable ones before its last ``share``.

    Args:
        levels: One noise level per sample ``[B]``.
        usable: Samples that have a right and a wrong prompt ``[B]``, bool.
        share: At most so many; their twins take the places at the end of the batch.

    Returns:
        Indices, ``share`` or fewer.
    """
    fits = usable & (levels > LEVELS[0]) & (levels < LEVELS[1])
    return torch.nonzero(fits[: len(fits) - share]).flatten()[:share]


def contrast_loss(right: Tensor, wrong: Tensor, levels: Tensor) -> Tensor:
    """Minus the log of the chance that the right prompt is told from the wrong one, mean over samples.

    The error of a velocity weighs ``(1 - sigma)^2``: in the variational bound this is what it adds to the log likelihood per
    unit of log signal-to-noise ratio (Kingma et al. 2021, arXiv 2107.00630), of which one level stands for two.

    Args:
        right: Squared error of the velocity under the right prompt, summed over the clip ``[N]``.
        wrong: The same under the wrong one.
        levels: Noise levels ``[N]``.
    """
    return -logsigmoid((1.0 - levels).square() * (wrong - right)).mean()
