"""What a run gives back: decoded video and audio, in the form that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from diffusers.utils import BaseOutput
from einops import rearrange
from torch import Tensor

from mova.media.clip import Clip


@dataclass
class MOVAPipelineOutput(BaseOutput):
    """What a run gives.

    Attributes:
        frames: ``[B, T, H, W, 3]`` float32 in [0, 1] ("np"), ``[B, T, 3, H, W]`` ("pt"), lists of images
            ("pil"), normalised latents ``[B, C, T, H, W]`` ("latent"), or ``None`` ("clips": the clips are all).
        audio: ``[B, channels, samples]`` float32 in [-1, 1], an array or ("pt") a tensor; or latents ``[B, C,
            L]``.
        fps: Frames per second, exact.
        sample_rate: Sample rate of the audio in Hz.
        cues: What happens when, a list of (seconds, label) a clip: as given or planned; empty where it was left open.
        clips: One :class:`~mova.media.clip.Clip` a prompt; empty for latents.
    """

    frames: Any
    audio: Any
    fps: Fraction
    sample_rate: int
    clips: list[Clip]
    cues: Sequence[Sequence[tuple[float, str]]] = ()

    @property
    def clip(self) -> Clip:
        """The first clip."""
        return self.clips[0]


def pack_output(
    video: Tensor,
    audio: Tensor,
    output_type: str,
    *,
    fps: Fraction,
    rate: int,
    only: Literal["audio", "video"] | None = None,
    cues: Sequence[Sequence[tuple[float, str]]] = (),
) -> MOVAPipelineOutput:
    """The output of a decoded run.

    Args:
        video: ``[B, 3, T, H, W]`` float32 in [-1, 1].
        audio: ``[B, channels, S]`` float32 in [-1, 1].
        output_type: ``"np"``, ``"pt"``, ``"pil"`` or ``"clips"``.
        fps: Frames per second.
        rate: Samples per second.
        only: The one modality that the clips are to write.
        cues: What happens when, a list a clip.
    """
    video, audio = video.cpu(), audio.cpu().contiguous()
    pixels = _pixels(video)
    waves: Any = audio.numpy()
    clips = [Clip(frames, wave, fps, rate, only=only) for frames, wave in zip(pixels, waves, strict=True)]
    frames: Any = None
    if output_type == "pil":
        from PIL import Image

        frames = [[Image.fromarray(picture) for picture in frames] for frames in pixels]
    elif output_type == "pt":
        frames, waves = rearrange(video / 2 + 0.5, "b c t h w -> b t c h w"), audio
    elif output_type == "np":
        frames = np.ascontiguousarray(rearrange(video / 2 + 0.5, "b c t h w -> b t h w c").numpy())
    return MOVAPipelineOutput(frames=frames, audio=waves, fps=fps, sample_rate=rate, clips=clips, cues=cues)


def _pixels(video: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """``[B, T, H, W, 3]`` of a video in [-1, 1], frame by frame: a long video in 32 bits is large enough once."""
    batch, channels, length, height, width = video.shape
    pixels = torch.empty(batch, length, height, width, channels, dtype=torch.uint8)
    for index in range(length):
        pixels[:, index] = rearrange((video[:, :, index] / 2 + 0.5) * 255.0, "b c h w -> b h w c").round().to(torch.uint8)
    return pixels.numpy()
