"""Solvers against equations whose answer is known, and against diffusers' schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from mova.sampling.schedule import shifted_sigmas
from mova.sampling.solvers import SOLVERS, SolverState, Step
from mova.sampling.task import AVTensors

RATE = 1.3
ORDERS = {"euler": 1, "heun": 2, "adams": 2}
ORDERS_INSIDE = {"dpmpp": 2, "unipc": 3}
FLOW: dict[str, Any] = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "solver_order": 2}

Field = Callable[[Tensor, Tensor], Tensor]


def run(name: str, start: AVTensors, levels: AVTensors, field: Field, *, limits: AVTensors | None = None) -> AVTensors:
    """A run over ``levels``, where no token is noisier than ``limits``."""
    latents, memory, num_steps = start, None, len(levels.video) - 1
    tops = limits or AVTensors(torch.ones(1, 1, 1, 1, 1), torch.ones(1, 1, 1))

    def at(point: int) -> AVTensors:
        return AVTensors(*(torch.minimum(tops[part].to(levels[part]), levels[part][point]) for part in (0, 1)))

    def velocity(state: AVTensors, point: int, /) -> AVTensors:
        sigma = at(point)
        return AVTensors(field(state.video, sigma.video), field(state.audio, sigma.audio))

    for index in range(num_steps):
        latents, memory = SOLVERS[name].step(velocity, latents, Step(index, num_steps, at(index), at(index + 1)), memory)
    return latents


def bent(x: Tensor, sigma: Tensor) -> Tensor:
    """A smooth velocity that is linear in nothing."""
    return torch.sin(1.7 * x) + 0.3 * x * sigma - 0.5 * sigma


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def video_and_audio() -> AVTensors:
    return AVTensors(normal(1, 2, 3, 4, 5), normal(1, 6, 7, seed=1))


# --- order of convergence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_the_error_falls_with_the_solvers_order_on_both_clocks(name: str) -> None:
    start = AVTensors(torch.ones(1, 1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64))

    def error(num_steps: int, part: int) -> float:
        levels = AVTensors(shifted_sigmas(num_steps, 3.0), shifted_sigmas(num_steps, 1.0))
        return abs(float(run(name, start, levels, lambda x, sigma: RATE * x)[part].sum()) - math.exp(-RATE))

    for part in (0, 1):
        assert math.log2(error(32, part) / error(64, part)) == pytest.approx(ORDERS[name], abs=0.35)


def swinging(sigma: float) -> float:
    """Solution of ``dx / dsigma = 2 cos(3 sigma) x`` through 1 at sigma 1."""
    return math.exp(2 / 3 * (math.sin(3 * sigma) - math.sin(3)))


def swinging_error(name: str, levels: Tensor) -> float:
    begin = torch.tensor(swinging(float(levels[0])), dtype=torch.float64)
    start = AVTensors(begin.view(1, 1, 1, 1, 1), begin.view(1, 1, 1))
    end = run(name, start, AVTensors(levels, levels), lambda x, sigma: 2 * torch.cos(3 * sigma) * x)
    assert torch.equal(end.video.flatten(), end.audio.flatten())
    return abs(float(end.video.sum()) - swinging(float(levels[-1])))


@pytest.mark.parametrize("name", sorted(ORDERS_INSIDE))
def test_the_solvers_of_the_log_signal_to_noise_have_their_order_inside_the_run(name: str) -> None:
    coarse, fine = (swinging_error(name, torch.linspace(0.9, 0.2, n + 1, dtype=torch.float64)) for n in (32, 64))
    assert math.log2(coarse / fine) == pytest.approx(ORDERS_INSIDE[name], abs=0.35)


@pytest.mark.parametrize("name", sorted(ORDERS_INSIDE))
def test_from_noise_to_data_they_are_better_than_first_order_though_their_clock_is_infinite_there(name: str) -> None:
    errors = [swinging_error(name, torch.linspace(1.0, 0.0, n + 1, dtype=torch.float64)) for n in (32, 64, 128)]
    assert math.log2(errors[0] / errors[2]) / 2 > 1.5
    assert errors[0] < swinging_error("euler", torch.linspace(1.0, 0.0, 33, dtype=torch.float64)) / 5


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_a_straight_path_is_followed_exactly_in_one_step_and_in_several(name: str) -> None:
    start, end = video_and_audio(), AVTensors(normal(1, 2, 3, 4, 5, seed=2), normal(1, 6, 7, seed=3))

    def velocity(latents: AVTensors, point: int, /) -> AVTensors:
        return AVTensors(start.video - end.video, start.audio - end.audio)

    for num_steps in (1, 4):
        sigmas, latents, memory = shifted_sigmas(num_steps, 3.0), start, None
        for index in range(num_steps):
            ends = [AVTensors(sigmas[i], sigmas[i]) for i in (index, index + 1)]
            latents, memory = SOLVERS[name].step(velocity, latents, Step(index, num_steps, *ends), memory)
        torch.testing.assert_close(latents.video, end.video, rtol=0, atol=2e-6)
        torch.testing.assert_close(latents.audio, end.audio, rtol=0, atol=2e-6)


# --- against diffusers --------------------------------------------------------------------------------------


def diffusers_run(scheduler: Any, sigmas: Tensor, x: Tensor) -> Tensor:
    """The scheduler's own loop over one modality, on the levels given here."""
    scheduler.set_timesteps(len(sigmas) - 1)
    # the constructor's options cannot say these levels, for it rounds and shifts; the steps read this table only
    scheduler.sigmas = sigmas.clone()
    scheduler.set_begin_index(0)
    for index, timestep in enumerate(scheduler.timesteps):
        x = scheduler.step(bent(x, sigmas[index]), timestep, x).prev_sample
    return x


@pytest.mark.parametrize("num_steps", [1, 2, 3, 8, 20])
def test_dpmpp_equals_diffusers_in_each_modality_at_its_own_shift(num_steps: int) -> None:
    start, levels = video_and_audio(), AVTensors(shifted_sigmas(num_steps, 5.0), shifted_sigmas(num_steps, 1.0))
    ours = run("dpmpp", start, levels, bent)
    for part in (0, 1):
        theirs = diffusers_run(DPMSolverMultistepScheduler(**FLOW), levels[part], start[part])
        torch.testing.assert_close(ours[part], theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 8, 20])
def test_unipc_equals_diffusers_in_each_modality_at_its_own_shift(num_steps: int) -> None:
    scheduler, columns = UniPCMultistepScheduler(**FLOW), []
    for shift in (5.0, 1.0):
        scheduler.set_timesteps(sigmas=shifted_sigmas(num_steps, shift)[:-1].double().numpy().astype(np.float64))
        columns.append(scheduler.sigmas)
        assert float(columns[-1][0]) == pytest.approx(1 - 1e-6, abs=1e-7)  # theirs cannot begin at 1 itself
    start, levels = video_and_audio(), AVTensors(*columns)
    ours = run("unipc", start, levels, bent)
    for part in (0, 1):
        theirs = diffusers_run(UniPCMultistepScheduler(**FLOW), levels[part], start[part])
        torch.testing.assert_close(ours[part], theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["dpmpp", "unipc"])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 8])
def test_a_beginning_at_pure_noise_is_the_limit_of_beginnings_close_to_it(name: str, num_steps: int) -> None:
    start = AVTensors(*(x.double() for x in video_and_audio()))

    def from_level(first: float) -> Tensor:
        sigmas = torch.linspace(1.0, 0.0, num_steps + 1, dtype=torch.float64)
        sigmas[0] = first
        return run(name, start, AVTensors(sigmas, sigmas), bent).video

    limit = from_level(1.0)
    assert bool(limit.isfinite().all())
    distances = [float((from_level(1.0 - gap) - limit).abs().max()) for gap in (1e-3, 1e-8, 1e-15)]
    # the way to the limit is as long as the logarithm of the gap
    assert distances[0] > distances[1] > distances[2] or max(distances) < 1e-3
    assert distances[2] < 0.3 * distances[0] or distances[2] < 1e-6


# --- levels of their own ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_each_modality_runs_as_if_alone_and_each_token_as_if_all_were_at_its_level(name: str) -> None:
    start, levels = video_and_audio(), AVTensors(shifted_sigmas(9, 5.0), shifted_sigmas(9, 1.0))
    limit = torch.ones(1, 1, 3, 4, 5)
    limit[0, 0, 1], limit[0, 0, 2] = 0.45, 0.0
    mixed = run(name, start, levels, bent, limits=AVTensors(limit, torch.full((1, 1, 1), 0.7)))
    assert bool(mixed.video.isfinite().all())
    assert torch.equal(mixed.video[:, :, 2], start.video[:, :, 2])

    other_audio = run(name, start, AVTensors(levels.video, levels.video), bent)
    for frame, level in ((0, 1.0), (1, 0.45)):
        alone = run(name, start, levels, bent, limits=AVTensors(torch.full_like(limit, level), torch.ones(1, 1, 1)))
        torch.testing.assert_close(mixed.video[:, :, frame], alone.video[:, :, frame], rtol=0, atol=1e-6)
        if level == 1.0:
            torch.testing.assert_close(other_audio.video, alone.video, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["dpmpp", "unipc"])
def test_a_run_towards_noise_stays_finite_and_undoes_a_run_towards_data(name: str) -> None:
    start, sigmas = video_and_audio(), torch.linspace(0.9, 0.0, 65)
    data = run(name, start, AVTensors(sigmas, sigmas), bent)
    back = run(name, data, AVTensors(sigmas.flip(0), sigmas.flip(0)), bent)
    for part in (0, 1):
        torch.testing.assert_close(back[part], start[part], rtol=0, atol=1e-2)


def test_what_a_callback_adds_between_two_steps_is_kept_by_the_corrector() -> None:
    sigmas = shifted_sigmas(6, 3.0)

    def velocity(latents: AVTensors, point: int, /) -> AVTensors:
        return AVTensors(torch.cos(3 * sigmas[point]).expand(1, 1, 1, 1, 1), torch.zeros(1, 1, 1))

    def end(added: float) -> float:
        latents, memory = AVTensors(torch.zeros(1, 1, 1, 1, 1), torch.zeros(1, 1, 1)), None
        for index in range(6):
            ends = [AVTensors(sigmas[i], sigmas[i]) for i in (index, index + 1)]
            latents, memory = SOLVERS["unipc"].step(velocity, latents, Step(index, 6, *ends), memory)
            if index == 2:
                latents = AVTensors(latents.video + added, latents.audio)
        return float(latents.video.sum())

    # on a field that does not depend on the state every later state moves along
    assert end(1.0) > end(0.0) + 0.5


def test_heun_asks_for_the_velocity_at_the_next_point_but_not_beyond_the_end() -> None:
    asked: list[int] = []

    def velocity(latents: AVTensors, point: int, /) -> AVTensors:
        asked.append(point)
        return latents

    state = AVTensors(torch.ones(1, 1, 1, 1, 1), torch.ones(1, 1, 1))
    for index, (high, low) in enumerate([(1.0, 0.5), (0.5, 0.0)]):
        ends = [AVTensors(torch.tensor(s), torch.tensor(s)) for s in (high, low)]
        state, _ = SOLVERS["heun"].step(velocity, state, Step(index, 2, *ends), None)
    assert asked == [0, 1, 1]


@pytest.mark.parametrize("name", ["adams", "dpmpp", "euler", "unipc"])
def test_solvers_that_look_back_ask_for_one_velocity_a_step_and_remember_no_more_than_two_steps(name: str) -> None:
    asked: list[int] = []

    def velocity(latents: AVTensors, point: int, /) -> AVTensors:
        asked.append(point)
        return latents

    state, memory = AVTensors(torch.ones(1, 1, 1, 1, 1), torch.ones(1, 1, 1)), None
    sigmas = torch.linspace(1, 0, 7)
    for index in range(6):
        ends = [AVTensors(sigmas[i], sigmas[i]) for i in (index, index + 1)]
        state, memory = SOLVERS[name].step(velocity, state, Step(index, 6, *ends), memory)
        depth, oldest = 0, memory
        while isinstance(oldest, SolverState):
            depth, oldest = depth + 1, oldest.before
        assert depth <= 2
    assert asked == list(range(6))
