"""Noise by (seed, modality, absolute latent index) and nothing else.

The noise of an instant is the same whatever else is made: a longer clip, another batch size, another device
or re-rolled audio leave it as it is. A counter-based generator gives each latent index its own stream:
Philox 4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), key = (seed, modality),
counter = latent index. The normal deviates are made here (Box and Muller 1958) from the generator's raw bits,
whose stream numpy guarantees across versions, unlike that of its ready-made normals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
