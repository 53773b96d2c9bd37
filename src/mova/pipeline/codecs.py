"""Videos and sounds to normalised latents and back: the part of the pipeline that uses the codecs."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from mova.media.clip import NonFiniteError


class CodecPipelineMixin:
    """Adds encoding and decoding to a pipeline that has ``video_vae`` and ``audio_vae``."""

    video_vae: Any
    audio_vae: Any
    _execution_device: torch.device

    @torch.no_grad()
    def encode_video(self, frames: Tensor) -> Tensor:
        """Normalised latents ``[B, C, t, h, w]`` of video ``[B, 3, T, H, W]`` in [-1, 1]; T = 1 + stride k."""
        codec = self.video_vae
        latents: Tensor = codec.encode(frames.to(self._execution_device, codec.dtype)).latent_dist.mode().float()
        mean, std = _statistics(codec, latents)
        return (latents - mean) / std

    @torch.no_grad()
    def encode_audio(self, waveform: Tensor) -> Tensor:
        """Normalised latents ``[B, C, L]`` of audio ``[B, 1, S]`` in [-1, 1] at the codec's rate."""
        codec = self.audio_vae
        latents: Tensor = codec.encode(waveform.to(self._execution_device, codec.dtype)).latent_dist.mode().float()
        mean, std = _statistics(codec, latents)
        return (latents - mean) / std

    @torch.no_grad()
    def decode_video(self, latents: Tensor) -> Tensor:
        """Video ``[B, 3, T, H, W]`` in [-1, 1], float32, of normalised latents.

        Raises:
            NonFiniteError: If the codec gives NaN or infinity.
        """
        mean, std = _statistics(self.video_vae, latents)
        video: Tensor = self.video_vae.decode((latents * std + mean).to(self.video_vae.dtype)).sample
        return _finite(video.to(torch.float32), "video").clamp_(-1.0, 1.0)

    @torch.no_grad()
    def decode_audio(self, latents: Tensor) -> Tensor:
        """Audio ``[B, 1, S]`` in [-1, 1], float32, of normalised latents.

        Raises:
            NonFiniteError: If the codec gives NaN or infinity.
        """
        mean, std = _statistics(self.audio_vae, latents)
        audio: Tensor = self.audio_vae.decode((latents * std + mean).to(self.audio_vae.dtype)).sample
        return _finite(audio.to(torch.float32), "audio").clamp(-1.0, 1.0)


def _finite(decoded: Tensor, modality: Literal["audio", "video"]) -> Tensor:
    """What a codec gave, refused if it is broken: later nobody can tell, as infinity is clamped and whole numbers hide NaN."""
    if not all(bool(end.isfinite()) for end in decoded.aminmax()):  # NaN anywhere makes both of them NaN
        raise NonFiniteError(modality)
    return decoded


def _statistics(codec: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread of a codec's latent channels, shaped to its latents; 0 and 1 where it has none."""
    shape = (1, -1, *[1] * (latents.ndim - 2))
    mean, std = codec.config.get("latents_mean"), codec.config.get("latents_std")
    return (
        latents.new_tensor([0.0] if mean is None else mean).view(shape),
        latents.new_tensor([1.0] if std is None else std).view(shape),
    )
