"""The loop: from noise to latents, for every task, guidance and solver.

Both modalities are integrated together in float32. Each token has its own level: the schedule's level where
it is to be made, never above what its task allows, so that given tokens stay at 0 and as they are. The text,
and its keys and values in every block, are computed once a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from diffusers.models.cache_utils import CacheMixin
from torch import Tensor, nn

from mova.request.terms import Branch
from mova.sampling.guidance import Guider
from mova.sampling.schedule import Schedule
from mova.sampling.solvers import Solver, SolverSpec, SolverState, Step, find_solver
from mova.sampling.task import MAX_TIMESTEP, AVTensors, NetworkInput, Task, build_input, predict_velocity


class Progress(NamedTuple):
    """What a callback is given after each step.

    Args:
        step: Number of finished steps, from 1.
        num_steps: Steps of the run.
        timestep: Timestep of the video at the beginning of the step.
        latents: Latents after the step.
    """

    step: int
    num_steps: int
    timestep: float
    latents: AVTensors


OnStep = Callable[[Progress], AVTensors | None]

MAX_TOKENS_FOR_BATCHED_CFG = 1280
"""Up to so many tokens, the calls of a forward pass cost about as much as its arithmetic, and two branches of guidance
that share one are faster: with mova-base on one CPU core 1.57 times at 68 tokens, 1.12 at 390, 1.06 at 1,218, but 0.98
at 1,780. The memory of both at once is small at these sizes."""


@dataclass(frozen=True)
class Experts:
    """Networks that share a run: the first at high noise, the second below the boundary.

    Args:
        models: One or two joint networks.
        boundary: Sigma of the video below which the second takes over (spec 3.9).

    Raises:
        ValueError: If there are not one or two networks.
    """

    models: Sequence[nn.Module]
    boundary: float = 0.0

    def __post_init__(self) -> None:
        if len(self.models) not in (1, 2):
            raise ValueError(f"there must be one or two experts; got {len(self.models)}.")

    def model_at(self, video_timestep: float) -> nn.Module:
        """The expert that works at a timestep of the video's schedule."""
        return self.models[-1] if video_timestep < MAX_TIMESTEP * self.boundary else self.models[0]


@torch.no_grad()
def denoise(
    experts: Experts,
    task: Task,
    *,
    text_embeds: Tensor,
    negative_embeds: Tensor | None,
    audio_negative_embeds: Tensor | None = None,
    video_schedule: Schedule,
    audio_schedule: Schedule,
    guidance: Guider,
    video_fps: float,
    video_noise: Tensor,
    audio_noise: Tensor,
    solver: str | Solver | SolverSpec = "euler",
    on_forward: Callable[[], None] | None = None,
    on_step: OnStep | None = None,
    branches_per_forward: int = 1,
) -> AVTensors:
    """Integrate from noise to latents.

    Args:
        experts: The network, or two that share the run.
        task: What is given and what is to be made.
        text_embeds: ``[B, S, Dt]`` embeddings of the prompts.
        negative_embeds: ``[B, S, Dt]`` embeddings of the negative prompts; ``None`` only where the guidance needs no
            such evaluation.
        audio_negative_embeds: ``[B, S, Dt]`` embeddings of the negative prompts that the audio tower reads, where they are
            others.
        video_schedule: Noise levels of the video.
        audio_schedule: Noise levels of the audio, as many.
        guidance: Evaluations of the network and how they are combined.
        video_fps: Frames per second of the video.
        video_noise: ``[B, C, T, H, W]`` standard normal.
        audio_noise: ``[B, C, L]`` standard normal.
        solver: Name of a solver, a step function, or a ``SolverSpec``.
        on_forward: Callback before each forward pass; what it raises ends the run.
        on_step: Callback after each step; latents that it returns take the place of the loop's, and what it raises ends the
            run.
        branches_per_forward: Evaluations that share one forward pass; changes speed and memory only.

    Returns:
        float32 latents on the noise's device.

    Raises:
        RequestError: If there is no solver of that name.
        ValueError: If lengths or shapes do not fit, or a needed negative embedding is missing.
    """
    if video_schedule.num_steps != audio_schedule.num_steps:
        raise ValueError(f"the schedules have {video_schedule.num_steps} and {audio_schedule.num_steps} steps.")
    make_step = find_solver(solver).step
    levels = level_maps(task, video_noise, audio_noise)
    for model in experts.models:
        if isinstance(model, CacheMixin):  # what step caches keep of another run, or of the window before, is not of this one
            model._reset_stateful_cache()
    velocity = GuidedVelocity(
        experts=experts,
        guidance=guidance,
        sigmas=video_schedule.sigmas,
        timesteps=AVTensors(video_schedule.timesteps, audio_schedule.timesteps),
        max_timesteps=(MaxTimesteps.of(levels.video), MaxTimesteps.of(levels.audio)),
        texts=Texts(text_embeds, negative_embeds, audio_negative_embeds),
        video_condition=task.video_condition,
        video_fps=video_fps,
        branches_per_forward=branches_per_forward,
        on_forward=on_forward,
    )
    latents = AVTensors(
        _start(video_noise.float(), task.video, levels.video, video_schedule.sigmas[0]),
        _start(audio_noise.float(), task.audio, levels.audio, audio_schedule.sigmas[0]),
    )
    state: SolverState | None = None
    num_steps = video_schedule.num_steps
    for index in range(num_steps):
        step = Step(
            index=index,
            num_steps=num_steps,
            sigma_from=_limit(levels, float(video_schedule.sigmas[index]), float(audio_schedule.sigmas[index])),
            sigma_to=_limit(levels, float(video_schedule.sigmas[index + 1]), float(audio_schedule.sigmas[index + 1])),
        )
        latents, state = make_step(velocity, latents, step, state)
        if on_step is not None:
            progress = Progress(index + 1, num_steps, float(video_schedule.timesteps[index]), latents)
            replaced = on_step(progress)
            latents = latents if replaced is None else replaced
    return latents


def cfg_batch(num_tokens: int) -> int:
    """Evaluations that should share a forward pass, for a batch of so many video and audio tokens: two where they are few."""
    return 2 if num_tokens <= MAX_TOKENS_FOR_BATCHED_CFG else 1


def level_maps(task: Task, video_noise: Tensor, audio_noise: Tensor) -> AVTensors:
    """The task's levels as ``[1, 1, T, H, W]`` and ``[1, 1, L]`` on the noise's device.

    Raises:
        ValueError: If the noise has another grid than the task.
    """
    if video_noise.shape[2:] != task.video_level.shape or audio_noise.shape[2:] != task.audio_level.shape:
        raise ValueError(
            f"the noise has the grids {tuple(video_noise.shape[2:])} and {tuple(audio_noise.shape[2:])}; "
            f"the task has {tuple(task.video_level.shape)} and {tuple(task.audio_level.shape)}."
        )
    return AVTensors(
        task.video_level[None, None].to(video_noise.device, torch.float32),
        task.audio_level[None, None].to(audio_noise.device, torch.float32),
    )


@dataclass(frozen=True, eq=False)
class MaxTimesteps:
    """The highest timestep of each token, ``[1, 1, T, H, W]`` or ``[1, 1, L]``, and their range.

    The range is looked at once a run: every look waits for the device.
    """

    timesteps: Tensor
    lowest: float
    highest: float

    @classmethod
    def of(cls, level: Tensor) -> MaxTimesteps:
        """The highest timesteps of levels ``[1, 1, ...]``."""
        timesteps = MAX_TIMESTEP * level
        lowest, highest = torch.stack(torch.aminmax(timesteps)).tolist()
        return cls(timesteps, lowest, highest)

    def at(self, timestep: float, batch: int) -> Tensor:
        """``[B]`` where all tokens share a level at that point of the run, else a map ``[B, T, H, W]`` or ``[B, L]``."""
        if self.lowest == self.highest or timestep <= self.lowest:
            return self.timesteps.new_full((batch,), min(timestep, self.lowest))
        return self.timesteps.clamp(max=timestep)[:, 0].expand(batch, *self.timesteps.shape[2:])


@dataclass(frozen=True, eq=False)
class Texts:
    """What evaluations read: the prompts, or the negative prompts.

    Args:
        positive: ``[B, S, Dt]`` embeddings of the prompts.
        negative: ``[B, S, Dt]`` embeddings of the negative prompts, if an evaluation reads them.
        audio_negative: Those of the audio tower, where they are others.
    """

    positive: Tensor
    negative: Tensor | None
    audio_negative: Tensor | None
    _contexts: dict[tuple[bool, ...], Any] = field(default_factory=dict, repr=False)

    def context(self, model: Any, branches: Sequence[Branch]) -> Any:
        """The text of evaluations that share a forward pass, for every step of a run: see ``JointModel.encode_text``.

        Raises:
            ValueError: If negative prompts are needed and not given.
        """
        has_text = tuple(branch.has_text for branch in branches)
        # one context serves both experts: each adds its own keys and values
        if has_text not in self._contexts:
            video = [self.positive if positive else self.negative for positive in has_text]
            audio = [
                one if positive or self.audio_negative is None else self.audio_negative
                for one, positive in zip(video, has_text, strict=True)
            ]
            is_shared = all(one is other for one, other in zip(video, audio, strict=True))
            parts = (_join(video, model.dtype),) if is_shared else (_join(video, model.dtype), _join(audio, model.dtype))
            self._contexts[has_text] = model.encode_text(*parts)
        return self._contexts[has_text]


@dataclass(frozen=True)
class GuidedVelocity:
    """The guided velocity at a point of a run: one call of the network for each evaluation, or for a few that share one.

    Args:
        experts: The network, or two that share the run.
        guidance: Evaluations and how they are combined.
        sigmas: ``[n + 1]`` noise levels of the video.
        timesteps: ``[n + 1]`` timesteps of both modalities.
        max_timesteps: Highest timesteps of the tokens of both modalities.
        texts: What the evaluations read.
        video_condition: ``[C', T, H, W]`` or ``[B, C', T, H, W]`` condition channels.
        video_fps: Frames per second of the video.
        branches_per_forward: Evaluations that share a forward pass.
        on_forward: Callback before each forward pass.
    """

    experts: Experts
    guidance: Guider
    sigmas: Tensor
    timesteps: AVTensors
    max_timesteps: tuple[MaxTimesteps, MaxTimesteps]
    texts: Texts
    video_condition: Tensor | None
    video_fps: float
    branches_per_forward: int = 1
    on_forward: Callable[[], None] | None = None

    def __call__(self, latents: AVTensors, point: int, /) -> AVTensors:
        """Velocity of ``latents`` at a point of the schedule."""
        sigma = float(self.sigmas[point])
        model: Any = self.experts.model_at(float(self.timesteps.video[point]))
        velocities: dict[Branch, AVTensors] = {}
        for branches in group_branches(self.guidance.branches(sigma), self.branches_per_forward):
            if self.on_forward is not None:
                self.on_forward()
            network_input = self._input(latents, point, branches, model)
            # step caches that diffusers hooks in keep what they remember apart by this name
            with model.cache_context(f"{branches}"):
                velocity = predict_velocity(model, network_input)
            velocities |= split_branches(velocity, branches)
        return self.guidance.combine(velocities, sigma)

    def _input(self, latents: AVTensors, point: int, branches: Sequence[Branch], model: Any) -> NetworkInput:
        copies = len(branches)
        batch = copies * latents.video.shape[0]
        timesteps = (
            limits.at(float(timesteps[point]), batch)
            for limits, timesteps in zip(self.max_timesteps, self.timesteps, strict=True)
        )
        condition = self.video_condition
        bridge = _bridge_scale(branches, latents.video)
        return build_input(
            AVTensors(_repeat(latents.video, copies), _repeat(latents.audio, copies)),
            AVTensors(*timesteps),
            text=self.texts.context(model, branches),
            video_fps=self.video_fps,
            video_condition=condition if condition is None or condition.ndim == 4 else _repeat(condition, copies),
            a2v_scale=bridge,
            v2a_scale=bridge,
            perturbed_layers=model.middle_layers if branches[0].is_perturbed else (),
        )


def group_branches(branches: Sequence[Branch], size: int) -> Iterator[Sequence[Branch]]:
    """Evaluations that share a forward pass, at most ``size``. What is perturbed is so for a whole pass."""
    for is_perturbed in (False, True):
        alike = tuple(branch for branch in branches if branch.is_perturbed == is_perturbed)
        for first in range(0, len(alike), size):
            yield alike[first : first + size]


def split_branches(velocity: AVTensors, branches: Sequence[Branch]) -> dict[Branch, AVTensors]:
    """The velocities of evaluations that shared a forward pass."""
    parts = zip(velocity.video.chunk(len(branches)), velocity.audio.chunk(len(branches)), strict=True)
    return {branch: AVTensors(*part) for branch, part in zip(branches, parts, strict=True)}


def _start(noise: Tensor, given: Tensor | None, level: Tensor, first_sigma: Tensor) -> Tensor:
    if given is None:
        return noise
    clean = given.to(noise).expand_as(noise)
    sigma = torch.minimum(level, first_sigma.to(level))
    return torch.where(sigma == 0, clean, torch.lerp(clean, noise, sigma.expand_as(noise)))


def _limit(levels: AVTensors, video_sigma: float, audio_sigma: float) -> AVTensors:
    return AVTensors(levels.video.clamp(max=video_sigma), levels.audio.clamp(max=audio_sigma))


def _bridge_scale(branches: Sequence[Branch], like: Tensor) -> float | Tensor:
    scales = [1.0 if branch.has_bridge else 0.0 for branch in branches]
    if len(set(scales)) == 1:
        return scales[0]
    return torch.tensor(scales, device=like.device).repeat_interleave(like.shape[0])


def _join(embeds: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor:
    given = [one for one in embeds if one is not None]
    if len(given) < len(embeds):
        raise ValueError("this guidance needs negative_embeds.")
    return torch.cat(given).to(dtype)


def _repeat(x: Tensor, copies: int) -> Tensor:
    return x if copies == 1 else x.repeat(copies, *[1] * (x.ndim - 1))
