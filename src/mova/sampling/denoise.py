"""The loop: from noise to latents, for every task, guidance and solver; a long clip window after window.

Both modalities are integrated together in float32. Each token has its own level: the schedule's level where
it is to be made, never above what its task allows, so that given tokens stay at 0 and as they are. The text,
and its keys and values in every block, are computed once a run.

A clip that is longer than those of training is made in windows of the model's own length. The latents that a window shares
with the one before are given to it, clean, as in the task "extend"; it makes the rest. So things keep their looks, their places
and their motion from window to window; there is no codec between windows, the memory is that of one window however long the
clip, and the first window is the short clip itself. A causal codec's first latent stands for one frame and all others for
``stride``: a window that begins at latent ``a`` has its time 0 at frame ``stride a``, the last of that latent, which is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from diffusers.models.cache_utils import CacheMixin
from torch import Tensor

from mova.sampling.guidance import Experts, GuidedVelocity, Guider, MaxTimesteps, Texts
from mova.sampling.schedule import Schedule
from mova.sampling.solvers import Solver, SolverSpec, SolverState, Step, find_solver
from mova.sampling.task import AVTensors, Grid, Task
from mova.timeline import Timeline


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


def _start(noise: Tensor, given: Tensor | None, level: Tensor, first_sigma: Tensor) -> Tensor:
    if given is None:
        return noise
    clean = given.to(noise).expand_as(noise)
    sigma = torch.minimum(level, first_sigma.to(level))
    return torch.where(sigma == 0, clean, torch.lerp(clean, noise, sigma.expand_as(noise)))


def _limit(levels: AVTensors, video_sigma: float, audio_sigma: float) -> AVTensors:
    return AVTensors(levels.video.clamp(max=video_sigma), levels.audio.clamp(max=audio_sigma))


Run = Callable[..., AVTensors]
"""Denoises one window: :func:`mova.sampling.denoise.denoise` with all but the task, the two noises and ``on_step``."""


@dataclass(frozen=True)
class Window:
    """One window of a long clip."""

    video: tuple[int, int]
    audio: tuple[int, int]


def plan_windows(num_video: int, num_audio: int, *, timeline: Timeline, max_video: int) -> tuple[Window, ...]:
    """Windows that cover a clip.

    Args:
        num_video: Latent frames of the clip.
        num_audio: Its audio latents.
        timeline: Its clock.
        max_video: Latent frames of the longest window.

    Returns:
        Windows in order; one if the clip is short enough. Neighbours overlap by about a third.

    Raises:
        ValueError: If the two grids never meet at a whole audio latent within a window.
    """
    if num_video <= max_video:
        return (Window((0, num_video), (0, num_audio)),)
    per_latent = timeline.video_stride / timeline.fps * timeline.audio_latents_per_second
    # windows may begin only where a video latent and an audio latent begin together
    step = Fraction(per_latent).denominator
    hop = (2 * max_video // 3) // step * step
    if hop < 1:
        raise ValueError(f"video and audio latents coincide only every {step} latent frames; a window has {max_video}.")
    last = num_video - max_video
    starts = [*range(0, last, hop), -(-last // step) * step]
    spans = [(start, min(start + max_video, num_video)) for start in starts]
    length = timeline.audio_latents(timeline.frames_of_latents(max_video))
    sounds = [(int(start * per_latent), min(int(start * per_latent) + length, num_audio)) for start in starts]
    sounds[-1] = (sounds[-1][0], num_audio)
    return tuple(Window(span, audio) for span, audio in zip(spans, sounds, strict=True))


def denoise_windows(
    run: Run, task: Task, windows: Sequence[Window], noise: AVTensors, *, on_step: OnStep | None = None
) -> AVTensors:
    """A clip, window after window.

    Args:
        run: Denoises a window.
        task: Task of the whole clip; what it gives of a window is given to that.
        windows: In order.
        noise: Noise of the whole clip: video ``[B, C, T, H, W]``, audio ``[B, C, L]``.
        on_step: Callback after every step of every window, with the clip so far: noise where nothing is made yet.

    Returns:
        float32 latents of the whole clip.
    """
    clip = AVTensors(noise.video.float().clone(), noise.audio.float().clone())
    done = (0, 0)
    for number, window in enumerate(windows):
        video, audio = slice(*window.video), slice(*window.audio)

        def tell(progress: Progress, video: slice = video, audio: slice = audio, number: int = number) -> AVTensors | None:
            assert on_step is not None
            clip.video[:, :, video], clip.audio[:, :, audio] = progress.latents
            step, num_steps = number * progress.num_steps + progress.step, len(windows) * progress.num_steps
            replaced = on_step(Progress(step, num_steps, progress.timestep, clip))
            return None if replaced is None else AVTensors(replaced.video[:, :, video], replaced.audio[:, :, audio])

        part = _part(task, clip, video, audio, done)
        clip.video[:, :, video], clip.audio[:, :, audio] = run(
            part,
            video_noise=noise.video[:, :, video],
            audio_noise=noise.audio[:, :, audio],
            on_step=None if on_step is None else tell,
        )
        done = (window.video[1], window.audio[1])
    return clip


def _part(task: Task, clip: AVTensors, video: slice, audio: slice, done: tuple[int, int]) -> Task:
    """The task of a window: what the clip's task gives of it, and what is made already."""
    given_video = None if task.video is None else task.video[..., video, :, :]
    given_audio = None if task.audio is None else task.audio[..., audio]
    video_made = torch.arange(video.start, video.stop) < done[0]
    audio_made = torch.arange(audio.start, audio.stop) < done[1]
    return replace(
        task,
        video_level=task.video_level[video].masked_fill(video_made[:, None, None].to(task.video_level.device), 0.0),
        audio_level=task.audio_level[audio].masked_fill(audio_made.to(task.audio_level.device), 0.0),
        video=_given(given_video, clip.video[:, :, video], video_made[:, None, None]),
        audio=_given(given_audio, clip.audio[:, :, audio], audio_made),
        video_condition=None if task.video_condition is None else task.video_condition[..., video, :, :],
        only=None,
    )


def _given(given: Tensor | None, clip: Tensor, made: Tensor) -> Tensor | None:
    if not bool(made.any()):
        return given
    rest = torch.zeros_like(clip) if given is None else given.to(clip)
    return torch.where(made.to(clip.device), clip, rest)


def cfg_batch_of(network: Any, batch: int, grid: Grid, windows: Sequence[Window]) -> int:
    """Guidance branches that share a pass: see :data:`mova.sampling.denoise.MAX_TOKENS_FOR_BATCHED_CFG`."""
    frames = max(window.video[1] - window.video[0] for window in windows)
    audio = max(window.audio[1] - window.audio[0] for window in windows)
    video = frames * grid.height * grid.width // math.prod(network.video_embed.patch_size)
    return cfg_batch(batch * (video + audio))
