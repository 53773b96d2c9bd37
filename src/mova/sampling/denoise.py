"""The loop: from noise to latents, for every task, guidance and solver.

Both modalities are integrated together in float32. Each token has its own level: the schedule's level where
it is to be made, never above what its task allows, so that given tokens stay at 0 and as they are. The text,
and its keys and values in every block, are computed once a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from diffusers.models.cache_utils import CacheMixin
from torch import Tensor, nn

from mova.sampling.av_tensors import AVTensors
from mova.sampling.guidance import Branch, Guider
from mova.sampling.schedule import Schedule
from mova.sampling.solvers import Solver, SolverState, Step, euler
from mova.sampling.task import Task


class Progress(NamedTuple):
    """What a step's callback is told.

    Args:
        step: Steps done, 1 after the first.
        num_steps: Steps of the run.
        timestep: The video's timestep at which the step began.
        latents: The latents after the step.
    """

    step: int
    num_steps: int
    timestep: float
    latents: AVTensors


OnStep = Callable[[Progress], AVTensors | None]

# Up to so many tokens, the calls of a forward pass cost about as much as its arithmetic, and two branches of guidance
# that share one are faster: with mova-base on one CPU core 1.57 times at 68 tokens, 1.12 at 390, 1.06 at 1,218, but 0.98
# at 1,780. The memory of both at once is small at these sizes.
MAX_TOKENS_FOR_BATCHED_CFG = 1280


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
        return self.models[-1] if video_timestep < 1000.0 * self.boundary else self.models[0]


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
    solver: Solver = euler,
    on_step: OnStep | None = None,
    branches_per_forward: int = 1,
) -> AVTensors:
    """Integrate from noise to latents.

    Args:
        experts: The network, or two that share the run.
        task: What is given and what is to be made.
        text_embeds: ``[B, S, Dt]`` embeddings of the prompts.
        negative_embeds: ``[B, S, Dt]`` of the negative prompts; ``None`` only where the guidance needs no
            such branch.
        audio_negative_embeds: ``[B, S, Dt]`` of the negative prompts that the audio tower reads, where they are others.
        video_schedule: The video's levels.
        audio_schedule: The audio's levels, as many.
        guidance: Strengths.
        video_fps: Frames per second of the video.
        video_noise: ``[B, C, T, H, W]`` standard normal.
        audio_noise: ``[B, C, L]`` standard normal.
        solver: Step function.
        on_step: Called after each step; latents that it returns take the place of the loop's.
        branches_per_forward: Guidance branches that share one forward pass; changes speed and memory only.

    Returns:
        float32 latents on the noise's device.

    Raises:
        ValueError: If lengths or shapes do not fit, or a needed negative embedding is missing.
    """
    if video_schedule.num_steps != audio_schedule.num_steps:
        raise ValueError(f"the schedules have {video_schedule.num_steps} and {audio_schedule.num_steps} steps.")
    levels = level_maps(task, video_noise, audio_noise)
    for model in experts.models:
        if isinstance(model, CacheMixin):  # what step caches keep of another run, or of the window before, is not of this one
            model._reset_stateful_cache()
    evaluate = _Evaluation(
        experts=experts,
        task=task,
        max_timesteps=(_MaxTimesteps.of(levels.video), _MaxTimesteps.of(levels.audio)),
        timesteps=AVTensors(video_schedule.timesteps, audio_schedule.timesteps),
        sigmas=video_schedule.sigmas,
        embeds={True: text_embeds, False: negative_embeds},
        audio_negative_embeds=audio_negative_embeds,
        guidance=guidance,
        video_fps=video_fps,
        branches_per_forward=branches_per_forward,
        contexts={},
    )
    latents = AVTensors(
        _begin(video_noise.float(), task.video, levels.video, video_schedule.sigmas[0]),
        _begin(audio_noise.float(), task.audio, levels.audio, audio_schedule.sigmas[0]),
    )
    memory: SolverState | None = None
    num_steps = video_schedule.num_steps
    for index in range(num_steps):
        step = Step(
            index=index,
            num_steps=num_steps,
            sigma_from=_limited(levels, float(video_schedule.sigmas[index]), float(audio_schedule.sigmas[index])),
            sigma_to=_limited(levels, float(video_schedule.sigmas[index + 1]), float(audio_schedule.sigmas[index + 1])),
        )
        latents, memory = solver(evaluate, latents, step, memory)
        if on_step is not None:
            progress = Progress(index + 1, num_steps, float(video_schedule.timesteps[index]), latents)
            replaced = on_step(progress)
            latents = latents if replaced is None else replaced
    return latents


def cfg_batch(num_tokens: int) -> int:
    """``branches_per_forward`` for a batch of so many video and audio tokens: two where they are few."""
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
class _MaxTimesteps:
    """The highest timesteps of a clip's tokens ``[1, 1, T, H, W]`` or ``[1, 1, L]``, and their range.

    The range is looked at once a run: every look waits for the device.
    """

    timesteps: Tensor
    lowest: float
    highest: float

    @classmethod
    def of(cls, level: Tensor) -> _MaxTimesteps:
        timesteps = 1000.0 * level
        lowest, highest = torch.stack(torch.aminmax(timesteps)).tolist()
        return cls(timesteps, lowest, highest)

    def at(self, timestep: float, batch: int) -> Tensor:
        """``[B]`` where all tokens share a level at that point of the run, else a map ``[B, T, H, W]`` or ``[B, L]``."""
        if self.lowest == self.highest or timestep <= self.lowest:
            return self.timesteps.new_full((batch,), min(timestep, self.lowest))
        return self.timesteps.clamp(max=timestep)[:, 0].expand(batch, *self.timesteps.shape[2:])


@dataclass(frozen=True)
class _Evaluation:
    """The guided velocity at a point of the run; ``contexts`` is filled as experts and branches come up."""

    experts: Experts
    task: Task
    max_timesteps: tuple[_MaxTimesteps, _MaxTimesteps]
    timesteps: AVTensors
    sigmas: Tensor
    embeds: dict[bool, Tensor | None]
    audio_negative_embeds: Tensor | None
    guidance: Guider
    video_fps: float
    branches_per_forward: int
    contexts: dict[tuple[bool, ...], Any]

    def __call__(self, latents: AVTensors, point: int, /) -> AVTensors:
        sigma = float(self.sigmas[point])
        branches = self.guidance.branches(sigma)
        velocities: dict[Branch, AVTensors] = {}
        for group in _groups(branches, self.branches_per_forward):
            velocities |= self._forward(latents, point, group)
        return self.guidance.combine(velocities, sigma)

    def _forward(self, latents: AVTensors, point: int, branches: Sequence[Branch]) -> dict[Branch, AVTensors]:
        copies = len(branches)
        batch = copies * latents.video.shape[0]
        model: Any = self.experts.model_at(float(self.timesteps.video[point]))
        dtype = model.dtype
        bridge = _bridge_scale(branches, latents.video)
        video = _with_condition(latents.video, self.task.video_condition)
        # step caches that diffusers hooks in keep what they remember apart by this name
        with model.cache_context(f"{branches}"):
            output = model(
                _repeated(video, copies).to(dtype),
                _repeated(latents.audio, copies).to(dtype),
                video_timestep=self.max_timesteps[0].at(float(self.timesteps.video[point]), batch),
                audio_timestep=self.max_timesteps[1].at(float(self.timesteps.audio[point]), batch),
                text_context=self._context(model, tuple(branch.has_text for branch in branches)),
                video_fps=self.video_fps,
                a2v_scale=bridge,
                v2a_scale=bridge,
                perturbed_layers=model.middle_layers if branches[0].is_perturbed else (),
                return_dict=True,
            )
        video_parts, audio_parts = output.video.float().chunk(copies), output.audio.float().chunk(copies)
        return {branch: AVTensors(video_parts[i], audio_parts[i]) for i, branch in enumerate(branches)}

    def _context(self, model: Any, texts: tuple[bool, ...]) -> Any:
        # one keeper serves both experts: each adds its own keys and values (see JointModel.encode_text)
        if texts not in self.contexts:
            given = [embed for embed in (self.embeds[has_text] for has_text in texts) if embed is not None]
            if len(given) < len(texts):
                raise ValueError("this guidance needs negative_embeds.")
            text_embeds = torch.cat(given).to(model.dtype)
            other = self.audio_negative_embeds
            if other is None or all(texts):
                self.contexts[texts] = model.encode_text(text_embeds)
            else:
                audio_text_embeds = [embed if has_text else other for embed, has_text in zip(given, texts, strict=True)]
                self.contexts[texts] = model.encode_text(text_embeds, torch.cat(audio_text_embeds).to(model.dtype))
        return self.contexts[texts]


def _groups(branches: Sequence[Branch], size: int) -> Iterator[Sequence[Branch]]:
    """Branches that share a forward pass. What is perturbed is so for a whole pass."""
    for is_perturbed in (False, True):
        alike = tuple(branch for branch in branches if branch.is_perturbed == is_perturbed)
        for first in range(0, len(alike), size):
            yield alike[first : first + size]


def _begin(noise: Tensor, given: Tensor | None, level: Tensor, first_sigma: Tensor) -> Tensor:
    if given is None:
        return noise
    clean = given.to(noise).expand_as(noise)
    sigma = torch.minimum(level, first_sigma.to(level))
    return torch.where(sigma == 0, clean, torch.lerp(clean, noise, sigma.expand_as(noise)))


def _limited(levels: AVTensors, video_sigma: float, audio_sigma: float) -> AVTensors:
    return AVTensors(levels.video.clamp(max=video_sigma), levels.audio.clamp(max=audio_sigma))


def _bridge_scale(branches: Sequence[Branch], like: Tensor) -> float | Tensor:
    scales = [1.0 if branch.has_bridge else 0.0 for branch in branches]
    if len(set(scales)) == 1:
        return scales[0]
    return torch.tensor(scales, device=like.device).repeat_interleave(like.shape[0])


def _with_condition(video: Tensor, condition: Tensor | None) -> Tensor:
    if condition is None:
        return video
    channels = condition.shape[-4]
    return torch.cat([video, condition.to(video).expand(video.shape[0], channels, *video.shape[2:])], dim=1)


def _repeated(x: Tensor, copies: int) -> Tensor:
    return x if copies == 1 else x.repeat(copies, *[1] * (x.ndim - 1))
