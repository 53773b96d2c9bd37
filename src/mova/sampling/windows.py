"""Clips longer than a model was trained for: windows of its own length, each going on from the one before.

The latents that a window shares with the one before are given to it, clean, as in the task "extend"; it makes the rest. So
things keep their looks, their places and their motion from window to window; there is no codec between windows, the memory
is that of one window however long the clip, and the first window is the short clip itself.

A causal codec's first latent stands for one frame and all others for ``stride``. A window that begins at latent ``a`` has
its time 0 at frame ``stride a``, the last of that latent, which it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from mova.sampling.denoise import OnStep, Progress, cfg_batch
from mova.sampling.task import AVTensors, Grid, Task
from mova.timeline import Timeline

Run = Callable[..., AVTensors]
"""Denoises one window: :func:`mova.sampling.denoise.denoise` with all but the task, the two noises and ``on_step``."""


@dataclass(frozen=True)
class Window:
    """One window of a long clip.

    Args:
        video: First latent frame and the one after the last.
        audio: First audio latent and the one after the last.
    """

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
