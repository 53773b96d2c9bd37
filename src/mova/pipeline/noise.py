"""Where a run begins: latent grids, noise from seeds, and how many guidance branches share a forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from mova.errors import RequestError
from mova.request.capabilities import Capabilities, grid_frames
from mova.sampling.av_tensors import AVTensors
from mova.sampling.denoise import cfg_batch
from mova.sampling.noise import audio_noise, video_noise
from mova.sampling.task import Grid
from mova.sampling.windows import Window


def latent_grid(capabilities: Capabilities, scale: int, *, height: int, width: int, num_frames: int, fps: Fraction) -> Grid:
    """The latent grids of a clip of a size and length.

    Args:
        capabilities: What the model can make.
        scale: Pixels per latent in height and width.
        height: Height in pixels.
        width: Width in pixels.
        num_frames: Length in frames; the next legal length is made.
        fps: Frames per second.
    """
    frames = grid_frames(capabilities, num_frames)
    timeline = capabilities.timeline(fps)
    return Grid(
        frames=timeline.video_latents(frames),
        height=height // scale,
        width=width // scale,
        audio_length=timeline.audio_latents(frames),
    )


def draw_noise(
    network: Any,
    grid: Grid,
    seeds: Sequence[int],
    audio_seeds: Sequence[int],
    *,
    latents: Tensor | None = None,
    audio_latents: Tensor | None = None,
) -> AVTensors:
    """Noise of a batch: what is given in its place, else that of the seeds, one a clip.

    Args:
        network: The joint network.
        grid: Latent grids.
        seeds: Seeds of the video.
        audio_seeds: Seeds of the audio.
        latents: In place of the video's noise, ``[B, C, T, H, W]``.
        audio_latents: In place of the audio's noise, ``[B, C, L]``.

    Raises:
        RequestError: If what is given has another shape.
    """
    video = (network.config["video"]["out_dim"], grid.frames, grid.height, grid.width)
    audio = (network.config["audio"]["out_dim"], grid.audio_length)
    noise = AVTensors(
        torch.stack([video_noise(seed, video) for seed in seeds]) if latents is None else latents,
        torch.stack([audio_noise(seed, audio) for seed in audio_seeds]) if audio_latents is None else audio_latents,
    )
    _check_shape(noise.video, (len(seeds), *video), "latents")
    _check_shape(noise.audio, (len(seeds), *audio), "audio_latents")
    return noise


def cfg_batch_of(network: Any, batch: int, grid: Grid, windows: Sequence[Window]) -> int:
    """Guidance branches that share a pass: see :data:`mova.sampling.denoise.MAX_TOKENS_FOR_BATCHED_CFG`."""
    frames = max(window.video[1] - window.video[0] for window in windows)
    audio = max(window.audio[1] - window.audio[0] for window in windows)
    video = frames * grid.height * grid.width // math.prod(network.video_embed.patch_size)
    return cfg_batch(batch * (video + audio))


def _check_shape(noise: Tensor, shape: tuple[int, ...], field: str) -> None:
    if tuple(noise.shape) != shape:
        raise RequestError(f"{field} must have the shape {list(shape)}; got {list(noise.shape)}.", field=field)
