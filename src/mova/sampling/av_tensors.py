"""Two tensors that travel together: the video's and the audio's."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class AVTensors(NamedTuple):
    """Latents, velocities or noise levels of both modalities.

    Args:
        video: ``[B, C, T, H, W]``, or levels that broadcast to it.
        audio: ``[B, C, L]``, or levels that broadcast to it.
    """

    video: Tensor
    audio: Tensor
