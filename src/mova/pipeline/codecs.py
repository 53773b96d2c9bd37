"""Videos and audio to normalised latents and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mova.media.clip import NonFiniteError


@dataclass(frozen=True, eq=False)
class Codecs:
    """The two codecs of a model.

    Args:
        video_vae: Video codec.
        audio_vae: Audio codec.
        device: Device on which they work; a pipeline that offloads knows better than they do.
    """

    video_vae: Any
    audio_vae: Any
    device: torch.device | str = "cpu"

    @torch.no_grad()
    def encode_video(self, frames: Tensor) -> Tensor:
        """Normalised latents ``[B, C, t, h, w]`` of video ``[B, 3, T, H, W]`` in [-1, 1]; T = 1 + stride k."""
        return _encode(self.video_vae, frames, self.device)

    @torch.no_grad()
    def encode_audio(self, waveform: Tensor) -> Tensor:
        """Normalised latents ``[B, C, L]`` of audio ``[B, 1, S]`` in [-1, 1] at the codec's rate."""
        return _encode(self.audio_vae, waveform, self.device)

    @torch.no_grad()
    def decode_video(self, latents: Tensor) -> Tensor:
        """Video ``[B, 3, T, H, W]`` in [-1, 1], float32, of normalised latents.

        Raises:
            NonFiniteError: If the codec gives NaN or infinity.
        """
        return _check_finite(_decode(self.video_vae, latents), "video").clamp_(-1.0, 1.0)

    @torch.no_grad()
    def decode_audio(self, latents: Tensor) -> Tensor:
        """Audio ``[B, 1, S]`` in [-1, 1], float32, of normalised latents.

        Raises:
            NonFiniteError: If the codec gives NaN or infinity.
        """
        return _check_finite(_decode(self.audio_vae, latents), "audio").clamp(-1.0, 1.0)


def _encode(codec: Any, signal: Tensor, device: torch.device | str) -> Tensor:
    latents: Tensor = codec.encode(signal.to(device, codec.dtype)).latent_dist.mode().float()
    mean, std = _statistics(codec, latents)
    return (latents - mean) / std


def _decode(codec: Any, latents: Tensor) -> Tensor:
    mean, std = _statistics(codec, latents)
    signal: Tensor = codec.decode((latents * std + mean).to(codec.dtype)).sample
    return signal.to(torch.float32)


def _check_finite(decoded: Tensor, modality: Literal["audio", "video"]) -> Tensor:
    """Refuse NaN and infinity here: later nobody can tell, as infinity is clamped and whole numbers hide NaN."""
    if not all(bool(end.isfinite()) for end in decoded.aminmax()):  # NaN anywhere makes both of them NaN
        raise NonFiniteError(modality)
    return decoded


def _statistics(codec: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a codec's latent channels, shaped to its latents; 0 and 1 where it has none."""
    shape = (1, -1, *[1] * (latents.ndim - 2))
    mean, std = codec.config.get("latents_mean"), codec.config.get("latents_std")
    return (
        latents.new_tensor([0.0] if mean is None else mean).view(shape),
        latents.new_tensor([1.0] if std is None else std).view(shape),
    )
