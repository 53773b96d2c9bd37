"""Solvers against equations whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from mova.sampling.pair import Pair
from mova.sampling.schedule import shifted_sigmas
from mova.sampling.solvers import SOLVERS, Memory, Step

RATE = 1.3
ORDERS = {"euler": 1, "heun": 2, "adams": 2}


def solved(name: str, num_steps: int) -> Pair:
    """``dx / dsigma = RATE x`` from x(1) = 1, the film and the sound each on levels of their own."""
    levels = Pair(shifted_sigmas(num_steps, 3.0), shifted_sigmas(num_steps, 1.0))
    state = Pair(torch.ones(1, 1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64))

    def velocity(latents: Pair, point: int, /) -> Pair:
        return Pair(RATE * latents.video, RATE * latents.audio)

    memory: Memory | None = None
    for index in range(num_steps):
        ends = [Pair(levels.video[i], levels.audio[i]) for i in (index, index + 1)]
        state, memory = SOLVERS[name](velocity, state, Step(index, num_steps, *ends), memory)
    return state


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_the_error_falls_with_the_solvers_order_on_both_clocks(name: str) -> None:
    exact = math.exp(-RATE)
    for part in (0, 1):
        coarse, fine = (abs(float(solved(name, steps)[part].sum()) - exact) for steps in (32, 64))
        assert math.log2(coarse / fine) == pytest.approx(ORDERS[name], abs=0.35)


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_a_straight_path_is_followed_exactly_in_one_step(name: str) -> None:
    start, end = torch.randn(1, 2, 3, 4, 5), torch.randn(1, 2, 3, 4, 5)
    sound_start, sound_end = torch.randn(1, 2, 3), torch.randn(1, 2, 3)

    def velocity(latents: Pair, point: int, /) -> Pair:
        return Pair(start - end, sound_start - sound_end)

    levels = [Pair(torch.tensor(s), torch.tensor(s)) for s in (1.0, 0.0)]
    result, _ = SOLVERS[name](velocity, Pair(start, sound_start), Step(0, 1, *levels), None)
    torch.testing.assert_close(result.video, end)
    torch.testing.assert_close(result.audio, sound_end)


def test_heun_asks_for_the_velocity_at_the_next_point_but_not_beyond_the_end() -> None:
    asked: list[int] = []

    def velocity(latents: Pair, point: int, /) -> Pair:
        asked.append(point)
        return latents

    state = Pair(torch.ones(1, 1, 1, 1, 1), torch.ones(1, 1, 1))
    for index, (high, low) in enumerate([(1.0, 0.5), (0.5, 0.0)]):
        ends = [Pair(torch.tensor(s), torch.tensor(s)) for s in (high, low)]
        state, _ = SOLVERS["heun"](velocity, state, Step(index, 2, *ends), None)
    assert asked == [0, 1, 1]
