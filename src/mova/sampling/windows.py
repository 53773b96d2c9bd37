"""Clips longer than a model was trained for: overlapping windows, blended in velocity at every step.

All windows are denoised together, each as a clip of the model's own length; where they overlap their velocities are
averaged with weights that cross over (Bar-Tal et al. 2023, "MultiDiffusion", arXiv 2302.08113, along time). There is no
seam, no codec between windows, and the memory of a step is that of one window.

A causal codec's first latent stands for one frame and all others for ``stride``. So a window that begins at latent ``a``
has its time 0 at frame ``stride a``, the last of that latent; its own first latent only lends context (weight 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from mova.timeline import Timeline


@dataclass(frozen=True, eq=False)
class Window:
    """One window of a long clip.

    Args:
        video: First latent frame and the one after the last.
        audio: First audio latent and the one after the last.
        video_weight: ``[T]`` float32, 0 to 1.
        audio_weight: ``[L]`` float32, 0 to 1.
    """

    video: tuple[int, int]
    audio: tuple[int, int]
    video_weight: Tensor
    audio_weight: Tensor


def plan_windows(num_video: int, num_audio: int, *, timeline: Timeline, max_video: int) -> tuple[Window, ...]:
    """Windows that cover a clip.

    Args:
        num_video: Latent frames of the clip.
        num_audio: Its audio latents.
        timeline: Its clock.
        max_video: Latent frames of the longest window.

    Returns:
        Windows in order; one with weights of 1 if the clip is short enough. Neighbours overlap by about a third.

    Raises:
        ValueError: If the two grids never meet at a whole audio latent within a window.
    """
    if num_video <= max_video:
        return (Window((0, num_video), (0, num_audio), torch.ones(num_video), torch.ones(num_audio)),)
    per_latent = timeline.video_stride / timeline.fps * timeline.audio_latents_per_second
    # windows may begin only where a video latent and an audio latent begin together
    step = Fraction(per_latent).denominator
    hop = (2 * max_video // 3) // step * step
    if hop < 1:
        raise ValueError(f"picture and sound meet only every {step} latent frames; a window has {max_video}.")
    last = num_video - max_video
    starts = [*range(0, last, hop), -(-last // step) * step]
    spans = [(start, min(start + max_video, num_video)) for start in starts]
    length = timeline.audio_latents(timeline.frames_of_latents(max_video))
    sounds = [(int(start * per_latent), min(int(start * per_latent) + length, num_audio)) for start in starts]
    sounds[-1] = (sounds[-1][0], num_audio)
    return tuple(
        Window(span, sound, _weights(spans, index), _weights(sounds, index))
        for index, (span, sound) in enumerate(zip(spans, sounds, strict=True))
    )


def _weights(spans: list[tuple[int, int]], index: int) -> Tensor:
    """Rising over the overlap with the window before, falling over that with the next; neighbours sum to 1 where two meet."""
    start, stop = spans[index]
    position = torch.arange(start, stop, dtype=torch.float32)
    weight = torch.ones(stop - start)
    if index > 0:
        shared = spans[index - 1][1] - start
        weight = torch.minimum(weight, ((position - start) / shared).clamp(0.0, 1.0))
    if index + 1 < len(spans):
        begin = spans[index + 1][0]
        shared = stop - begin
        weight = torch.minimum(weight, (1.0 - (position - begin) / shared).clamp(0.0, 1.0))
    return weight
