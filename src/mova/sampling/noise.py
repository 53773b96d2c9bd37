"""Seeds, and noise by (seed, modality, absolute latent index) and nothing else.

The noise of an instant is the same whatever else is made: a longer clip, another batch size, another device
or re-rolled audio leave it as it is. A counter-based generator gives each latent index its own stream:
Philox 4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), key = (seed, modality),
counter = latent index. The normal deviates are made here (Box and Muller 1958) from the generator's raw bits,
whose stream numpy guarantees across versions, unlike that of its ready-made normals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mova.errors import RequestError
from mova.sampling.av_tensors import AVTensors
from mova.sampling.task import Grid

VIDEO_KEY = 1
AUDIO_KEY = 2
MAX_SEED = 2**63 - 1


def video_noise(seed: int, shape: Sequence[int], *, start: int = 0) -> Tensor:
    """Standard normal ``[C, T, H, W]`` float32 on the CPU.

    Args:
        seed: Seed of the video, 0 to 2^63 - 1.
        shape: ``(C, T, H, W)``.
        start: Absolute index of the first latent frame.

    Raises:
        ValueError: If the seed or the shape is out of range.
    """
    channels, frames, height, width = shape
    columns = [_normals(seed, VIDEO_KEY, start + index, channels * height * width) for index in range(frames)]
    return torch.from_numpy(np.stack(columns).reshape(frames, channels, height, width)).transpose(0, 1).contiguous()


def audio_noise(seed: int, shape: Sequence[int], *, start: int = 0) -> Tensor:
    """Standard normal ``[C, L]`` float32 on the CPU.

    Args:
        seed: Seed of the audio, 0 to 2^63 - 1; the same number as the video's gives other noise.
        shape: ``(C, L)``.
        start: Absolute index of the first audio latent.

    Raises:
        ValueError: If the seed or the shape is out of range.
    """
    channels, length = shape
    columns = [_normals(seed, AUDIO_KEY, start + index, channels) for index in range(length)]
    return torch.from_numpy(np.stack(columns, axis=1))


def _normals(seed: int, modality: int, index: int, count: int) -> NDArray[np.float32]:
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be between 0 and {MAX_SEED}; got {seed}.")
    if index < 0:
        raise ValueError(f"start must not be negative; got {index}.")
    key = np.array([seed, modality], dtype=np.uint64)
    # the lowest word counts blocks inside the latent, the second is the latent itself
    counter = np.array([0, index, 0, 0], dtype=np.uint64)
    pairs = (count + 1) // 2
    bits = np.random.Philox(key=key, counter=counter).random_raw(2 * pairs) >> np.uint64(11)
    radius_from, angle_from = bits.astype(np.float64).reshape(2, pairs) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(1.0 - radius_from))  # 1 - u lies in (0, 1]: the logarithm is finite
    angle = 2.0 * np.pi * angle_from
    normals = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return normals.astype(np.float32)


Generator = torch.Generator | Sequence[torch.Generator]


def draw_seeds(
    batch: int,
    seed: int | Sequence[int] | None,
    audio_seed: int | Sequence[int] | None,
    generator: Generator | None,
) -> tuple[list[int], list[int]]:
    """Seeds of video and audio, one a clip.

    Raises:
        RequestError: If there are not as many as clips, or a seed is out of range, or both kinds are given.
    """
    if seed is not None and generator is not None:
        raise RequestError("seed and generator are both given.", "Give one of the two.", field="seed")
    if seed is None:
        generators = [generator] * batch if isinstance(generator, torch.Generator | None) else list(generator)
        if len(generators) != batch:
            raise RequestError(f"there are {len(generators)} generators for {batch} clips.", field="generator")
        seed = [int(torch.randint(2**32, (), generator=g, device=g.device if g else None)) for g in generators]
    seeds = _one_each(batch, seed, "seed")
    return seeds, seeds if audio_seed is None else _one_each(batch, audio_seed, "audio_seed")


def _one_each(batch: int, seed: int | Sequence[int], field: str) -> list[int]:
    seeds = [seed + index for index in range(batch)] if isinstance(seed, int) else list(seed)
    if len(seeds) != batch:
        raise RequestError(f"there are {len(seeds)} values of {field} for {batch} clips.", field=field)
    if not all(0 <= value < 2**63 for value in seeds):
        raise RequestError(f"{field} must be between 0 and 2^63 - 1; got {seeds}.", field=field)
    return seeds


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


def _check_shape(noise: Tensor, shape: tuple[int, ...], field: str) -> None:
    if tuple(noise.shape) != shape:
        raise RequestError(f"{field} must have the shape {list(shape)}; got {list(noise.shape)}.", field=field)
