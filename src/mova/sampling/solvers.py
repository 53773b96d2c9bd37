"""Solvers of the flow's equation ``dx / dsigma = velocity``: one step from a level to the next, both
modalities at once.

Every level is a map over tokens and each modality has its own, so that a token that is given (level 0
throughout) does not move. States and updates are float32. A solver that looks back takes its memory from the
step before and hands on its own; ``None`` is no memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mova.sampling.pair import Pair


class Velocity(Protocol):
    """The guided velocity at a point of the run."""

    def __call__(self, latents: Pair, point: int, /) -> Pair:
        """Velocity of ``latents`` at point ``point`` of the schedule (0 is the beginning, n the end)."""
        ...


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the run.

    Args:
        index: 0 for the first.
        num_steps: Steps of the run.
        sigma_from: Level maps before the step, broadcastable to the latents.
        sigma_to: Level maps after it.
    """

    index: int
    num_steps: int
    sigma_from: Pair
    sigma_to: Pair


@dataclass(frozen=True, eq=False)
class Memory:
    """What a multistep solver remembers: the step before and the velocity at its beginning."""

    step: Step
    velocity: Pair


Solver = Callable[[Velocity, Pair, Step, Memory | None], tuple[Pair, Memory | None]]


def euler(velocity: Velocity, latents: Pair, step: Step, memory: Memory | None) -> tuple[Pair, Memory | None]:
    """First order, one evaluation: the reference's sampler (spec 3.9)."""
    return _moved(latents, velocity(latents, step.index), step), None


def heun(velocity: Velocity, latents: Pair, step: Step, memory: Memory | None) -> tuple[Pair, Memory | None]:
    """Second order, two evaluations; the last step is Euler's (Karras et al. 2022, arXiv 2206.00364)."""
    first = velocity(latents, step.index)
    guess = _moved(latents, first, step)
    if step.index == step.num_steps - 1:
        return guess, None
    second = velocity(guess, step.index + 1)
    mean = Pair(0.5 * (first.video + second.video), 0.5 * (first.audio + second.audio))
    return _moved(latents, mean, step), None


def adams(velocity: Velocity, latents: Pair, step: Step, memory: Memory | None) -> tuple[Pair, Memory | None]:
    """Second order, one evaluation: Adams-Bashforth with uneven steps, the slope taken from the step before.

    ``v + (v - v_before) h / (2 h_before)``, with h the signed length of a step in sigma (Hairer, Norsett and
    Wanner, "Solving ordinary differential equations I", III.5). The first step is Euler's.
    """
    now = velocity(latents, step.index)
    if memory is None:
        return _moved(latents, now, step), Memory(step, now)
    slope = Pair(
        _extrapolated(now.video, memory.velocity.video, step, memory.step, part=0),
        _extrapolated(now.audio, memory.velocity.audio, step, memory.step, part=1),
    )
    return _moved(latents, slope, step), Memory(step, now)


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun, "adams": adams}


def _moved(latents: Pair, velocity: Pair, step: Step) -> Pair:
    return Pair(
        _advanced(latents.video, velocity.video, step.sigma_to.video - step.sigma_from.video),
        _advanced(latents.audio, velocity.audio, step.sigma_to.audio - step.sigma_from.audio),
    )


def _advanced(x: Tensor, velocity: Tensor, length: Tensor) -> Tensor:
    # where a token does not move it stays to the bit, whatever the network said about it
    return torch.where(length == 0, x, x + velocity.float() * length)


def _extrapolated(now: Tensor, before: Tensor, step: Step, last: Step, *, part: int) -> Tensor:
    length = step.sigma_to[part] - step.sigma_from[part]
    length_before = last.sigma_to[part] - last.sigma_from[part]
    still = length_before == 0
    ratio = torch.where(still, 0.0, length / torch.where(still, 1.0, length_before))
    return now + (now - before) * (0.5 * ratio)
