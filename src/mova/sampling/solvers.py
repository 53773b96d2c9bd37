"""Solvers of the flow's equation ``dx / dsigma = velocity``: one step from a level to the next, both
modalities at once.

Every level is a map over tokens and each modality has its own, so that a token that is given (level 0
throughout) does not move. States and updates are float32. A multistep solver takes its state from the step before
and returns its own; ``None`` is no state.

``dpmpp`` and ``unipc`` look back on the clock of the log signal-to-noise ratio, ``lambda = log((1 - sigma) /
sigma)``, whose ends are infinite: at sigma 1 and 0 they take the limits, which are finite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mova.errors import RequestError
from mova.request.solver_names import EVALUATIONS, Evaluations, list_solvers, load_solver, once_a_step
from mova.sampling.task import AVTensors

MAX_STEP_RATIO = 10.0
"""Looking back over a step that was shorter by more than this would magnify rounding."""


class Velocity(Protocol):
    """The guided velocity at a point of the run."""

    def __call__(self, latents: AVTensors, point: int, /) -> AVTensors:
        """Velocity of ``latents`` at point ``point`` of the schedule (0 is the beginning, n the end)."""
        ...


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the run.

    Args:
        index: Number of the step, from 0.
        num_steps: Steps of the run.
        sigma_from: Level maps before the step, broadcastable to the latents.
        sigma_to: Level maps after it.
    """

    index: int
    num_steps: int
    sigma_from: AVTensors
    sigma_to: AVTensors


@dataclass(frozen=True, eq=False)
class SolverState:
    """What a multistep solver keeps of the steps before.

    Args:
        step: The step before.
        prediction: What the solver extrapolates, at the beginning of that step: the velocity, or the denoised latents.
        before: State of one step earlier, for a solver that needs it.
    """

    step: Step
    prediction: AVTensors
    before: SolverState | None = None


Solver = Callable[[Velocity, AVTensors, Step, SolverState | None], tuple[AVTensors, SolverState | None]]
"""Makes one step: from (velocity, latents, step, state) to the latents after it and the state for the next."""


@dataclass(frozen=True)
class SolverSpec:
    """A solver and what its runs cost.

    Args:
        step: Function that makes one step.
        evaluations: Points of the schedule at which it asks for a velocity, by the number of steps.
    """

    step: Solver
    evaluations: Evaluations = once_a_step


def euler(
    velocity: Velocity, latents: AVTensors, step: Step, state: SolverState | None
) -> tuple[AVTensors, SolverState | None]:
    """First order, one evaluation: the reference's sampler (spec 3.9)."""
    return _euler_step(latents, velocity(latents, step.index), step), None


def heun(velocity: Velocity, latents: AVTensors, step: Step, state: SolverState | None) -> tuple[AVTensors, SolverState | None]:
    """Second order, two evaluations; the last step is Euler's (Karras et al. 2022, arXiv 2206.00364)."""
    first = velocity(latents, step.index)
    guess = _euler_step(latents, first, step)
    if step.index == step.num_steps - 1:
        return guess, None
    second = velocity(guess, step.index + 1)
    mean = AVTensors(0.5 * (first.video + second.video), 0.5 * (first.audio + second.audio))
    return _euler_step(latents, mean, step), None


def adams(
    velocity: Velocity, latents: AVTensors, step: Step, state: SolverState | None
) -> tuple[AVTensors, SolverState | None]:
    """Second order, one evaluation: Adams-Bashforth with uneven steps.

    ``v + (v - v_before) h / (2 h_before)``, with h the signed length of a step in sigma (Hairer, Norsett and
    Wanner, "Solving ordinary differential equations I", III.5). The first step is Euler's.
    """
    now = velocity(latents, step.index)
    if state is None:
        return _euler_step(latents, now, step), SolverState(step, now)
    slope = AVTensors(
        _extrapolated(now.video, state.prediction.video, step, state.step, part=0),
        _extrapolated(now.audio, state.prediction.audio, step, state.step, part=1),
    )
    return _euler_step(latents, slope, step), SolverState(step, now)


def dpmpp(
    velocity: Velocity, latents: AVTensors, step: Step, state: SolverState | None
) -> tuple[AVTensors, SolverState | None]:
    """Second order, one evaluation: DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095).

    With ``alpha = 1 - sigma`` its step is ``x (sigma_to / sigma_from) + (1 - sigma_to / sigma_from) D``, ``D =
    m + (m - m_before) h / (2 h_before)``, m the denoised latents and h a step's length in lambda; written here
    as Euler's step plus what the second order adds. The first step and the one to sigma 0 are Euler's, as is
    the one after a beginning at sigma 1, where ``h_before`` is infinite.
    """
    now = velocity(latents, step.index)
    kept = SolverState(step, _denoised(latents, now, step))
    moved = _euler_step(latents, now, step)
    if state is None:
        return moved, kept
    return _second_order_correction(moved, AVTensors(*(0.5 * _slope(kept, state, part) for part in (0, 1))), step), kept


def unipc(
    velocity: Velocity, latents: AVTensors, step: Step, state: SolverState | None
) -> tuple[AVTensors, SolverState | None]:
    """Third order inside the run, one evaluation: UniPC-2 with ``B(h) = e^h - 1``, in its data form (Zhao et al.
    2023, arXiv 2302.04867).

    The predictor is ``dpmpp``'s. The evaluation at its end first corrects that step, and the next one begins at
    the corrected latents. The last step, to sigma 0, is Euler's and has no corrector. The correction is added
    to the latents that come in, so that what a callback did to them stays.
    """
    now = velocity(latents, step.index)
    denoised = _denoised(latents, now, step)
    if state is None:
        return _euler_step(latents, now, step), SolverState(step, denoised)
    kept = SolverState(step, denoised, before=SolverState(state.step, state.prediction))
    corrections = AVTensors(*(_correction(denoised, state, part) for part in (0, 1)))
    corrected = _second_order_correction(latents, corrections, state.step)
    # the velocity was that of the uncorrected latents: the denoised ones stay, and with them the end of the way
    bends = AVTensors(*(0.5 * _slope(kept, state, part) + latents[part] - corrected[part] for part in (0, 1)))
    return _second_order_correction(_euler_step(corrected, now, step), bends, step), kept


SOLVERS: dict[str, SolverSpec] = {
    name: SolverSpec(step, EVALUATIONS[name])
    for name, step in {"euler": euler, "heun": heun, "adams": adams, "dpmpp": dpmpp, "unipc": unipc}.items()
}


def add_solver(name: str, spec: SolverSpec) -> None:
    """Make a solver known by name, to requests, plans and pipelines of this process.

    Raises:
        ValueError: If a solver of another kind has the name.
    """
    if SOLVERS.get(name, spec) != spec:
        raise ValueError(f"there is another solver named {name}.")
    SOLVERS[name], EVALUATIONS[name] = spec, spec.evaluations


def find_solver(solver: str | Solver | SolverSpec) -> SolverSpec:
    """The solver of a name; a step function is one that asks for one velocity a step.

    Raises:
        RequestError: If there is no solver of that name.
    """
    if isinstance(solver, SolverSpec):
        return solver
    if not isinstance(solver, str):
        return SolverSpec(solver)
    found = SOLVERS.get(solver) or load_solver(solver)
    if not isinstance(found, SolverSpec):
        raise RequestError(f"solver must be one of {', '.join(list_solvers())}; got {solver!r}.", field="solver")
    return found


def _euler_step(latents: AVTensors, velocity: AVTensors, step: Step) -> AVTensors:
    lengths = (end - start for start, end in zip(step.sigma_from, step.sigma_to, strict=True))
    # where a token does not move it stays to the bit, whatever the network said about it
    parts = zip(latents, velocity, lengths, strict=True)
    return AVTensors(*(torch.where(length == 0, x, x + speed.float() * length) for x, speed, length in parts))


def _extrapolated(now: Tensor, before: Tensor, step: Step, last: Step, *, part: int) -> Tensor:
    length = step.sigma_to[part] - step.sigma_from[part]
    length_before = last.sigma_to[part] - last.sigma_from[part]
    still = length_before == 0
    ratio = torch.where(still, 0.0, length / torch.where(still, 1.0, length_before))
    return now + (now - before) * (0.5 * ratio)


def _denoised(latents: AVTensors, velocity: AVTensors, step: Step) -> AVTensors:
    return AVTensors(
        latents.video - step.sigma_from.video * velocity.video.float(),
        latents.audio - step.sigma_from.audio * velocity.audio.float(),
    )


def _second_order_correction(latents: AVTensors, bends: AVTensors, step: Step) -> AVTensors:
    """``latents`` plus the share of each step that is new data: ``(1 - sigma_to / sigma_from) bend``."""
    return AVTensors(*(_corrected_part(latents[part], bends[part], step, part) for part in (0, 1)))


def _corrected_part(x: Tensor, bend: Tensor, step: Step, part: int) -> Tensor:
    start, end = step.sigma_from[part], step.sigma_to[part]
    # a step that begins at 0 has no data form: it is Euler's alone
    still = (start == end) | (start == 0)
    share = torch.where(still, 0.0, 1.0 - end / torch.where(still, 1.0, start))
    return torch.where(still, x, x + share * bend)


def _slope(now: SolverState, last: SolverState, part: int) -> Tensor:
    """How the denoised latents would change over ``now``'s step if they went on as over the last one."""
    reach, _ = _step_ratio(now.step, last.step, part)
    return reach * (now.prediction[part] - last.prediction[part])


def _correction(denoised: AVTensors, state: SolverState, part: int) -> Tensor:
    """UniC minus UniP for the step in memory, now that the denoised latents at its end are known.

    The two equations for the corrector's weights have the solution ``L / (h + h_before)`` (for the slope) and
    ``(1 + L) / 2`` less that (for the new value), with ``L = coth(h / 2) - 2 / h``; without a usable step
    before, 1/2 for the new value, as diffusers' ``UniPCMultistepScheduler`` has it.
    """
    new = denoised[part] - state.prediction[part]
    if state.before is None:
        return 0.5 * new
    _, usable = _step_ratio(state.step, state.before.step, part)
    length, length_before = _log_length(state.step, part), _log_length(state.before.step, part)
    langevin = _langevin(length / 2)
    first = torch.where(usable, langevin / (length + length_before), 0.0)
    second = torch.where(usable, (1.0 + langevin) / 2 - first, 0.5)
    return (first - 0.5) * _slope(state, state.before, part) + second * new


def _step_ratio(step: Step, last: Step, part: int) -> tuple[Tensor, Tensor]:
    """Length of a step in units of the one before, and where that one can be looked back to; 0 elsewhere.

    It cannot where a token did not move, where the step ends at sigma 0 (infinite), and where it was so much
    shorter that looking back would magnify rounding.
    """
    ratio = _log_length(step, part) / _log_length(last, part)
    usable = ratio.abs() <= MAX_STEP_RATIO  # false for what is not a number
    return torch.where(usable, ratio, 0.0), usable


def _log_length(step: Step, part: int) -> Tensor:
    """A step's length in lambda: infinite from sigma 1 or to sigma 0, not a number where a token stays there."""
    start, end = step.sigma_from[part], step.sigma_to[part]
    return torch.log1p((start - end) / (end * (1.0 - start)))


def _langevin(x: Tensor) -> Tensor:
    """``coth(x) - 1 / x``; by its series near 0, where the difference would cancel."""
    square = x * x
    series = x * (1 / 3 - square * (1 / 45 - square * (2 / 945 - square * (1 / 4725 - square * (2 / 93555)))))
    return torch.where(x.abs() < 0.5, series, 1.0 / torch.tanh(x) - 1.0 / x)
