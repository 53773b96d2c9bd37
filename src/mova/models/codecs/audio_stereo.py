"""The audio codec at 48 kHz in stereo: 1,600 samples to one latent of 32 numbers, and back.

The network sees and gives maps (:mod:`mova.models.codecs.audio_maps`), not samples: what sounds like a tone is made from a
level and a frequency, what does not from noise, and an onset is where a gain jumps. So a tone that is steady in the latents is
steady to the ear, and no latent needs to know a phase.

The same interface as :mod:`mova.models.codecs.audio`: ``encode(x).latent_dist``, ``decode(z).sample``, ``latents_mean/std``.
Shape suffixes: B batch, S samples, L latents, D latent channels, M numbers of the maps per latent.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from mova.models.codecs import audio_maps
from mova.models.codecs.audio import ResidualBlock1d, SequenceGaussian
from mova.models.codecs.audio_analysis import analyse
from mova.models.codecs.audio_maps import LOG_FLOOR, NUM_GROUPS, NUM_NOISE, NUM_PARTIALS, AudioMaps
from mova.models.codecs.audio_synthesis import synthesise

HOP = 1600
SLOW, FINE = HOP // audio_maps.SLOW, HOP // audio_maps.FINE
SIZES = (NUM_PARTIALS * SLOW, NUM_PARTIALS * SLOW, NUM_NOISE * FINE, NUM_GROUPS * FINE, NUM_GROUPS * SLOW, NUM_GROUPS * SLOW)
NUM_NUMBERS = sum(SIZES)
QUIET_GAIN = 0.06
"""Decoded gains of less than this (in log) are none, so that steady tones stay so."""


class StereoAudioCodec(ModelMixin, ConfigMixin):
    """Encodes ``[B, 2, S]`` audio in [-1, 1] to ``[B, latent_channels, S / 1600]``.

    Args:
        latent_channels: Numbers per latent.
        encoder_width: Channels inside the encoder.
        decoder_width: Channels inside the decoder.
        encoder_blocks: Residual blocks of the encoder.
        decoder_blocks: Residual blocks of the decoder.
        hop_length: Samples per latent: 1600.
        sample_rate: Samples per second: 48000.
        channels: Channels of the audio: 2.
        latents_mean: Mean of each latent channel over the training sounds, for the pipeline's normalisation.
        latents_std: Standard deviation of each.

    Raises:
        ValueError: If the last three are others.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        encoder_width: int = 256,
        decoder_width: int = 320,
        encoder_blocks: int = 3,
        decoder_blocks: int = 4,
        hop_length: int = HOP,
        sample_rate: int = audio_maps.SAMPLE_RATE,
        channels: int = 2,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ) -> None:
        super().__init__()
        if (hop_length, sample_rate, channels) != (HOP, audio_maps.SAMPLE_RATE, 2):
            raise ValueError(f"hop, rate and channels must be {HOP}, 48000 and 2; got {hop_length}, {sample_rate}, {channels}.")
        self.conv_in = nn.Conv1d(NUM_NUMBERS, encoder_width, 3, padding=1)
        self.encoder = nn.Sequential(*[ResidualBlock1d(encoder_width) for _ in range(encoder_blocks)])
        self.to_latent = nn.Conv1d(encoder_width, 2 * latent_channels, 1)
        self.from_latent = nn.Conv1d(latent_channels, decoder_width, 3, padding=1)
        self.decoder = nn.Sequential(*[ResidualBlock1d(decoder_width) for _ in range(decoder_blocks)])
        self.to_maps = nn.Conv1d(decoder_width, NUM_NUMBERS, 1)

    @apply_forward_hook
    def encode(self, waveform: Tensor) -> AutoencoderKLOutput:
        """Distribution of the latents of ``[B, 2, S]``; the end is padded with silence to a multiple of the hop.

        One channel is taken as a source in the middle, of the same power.
        """
        stereo = waveform.float() if waveform.shape[1] == 2 else waveform.float().expand(-1, 2, -1) * math.sqrt(0.5)
        audio = F.pad(stereo, (0, -stereo.shape[-1] % HOP))
        return AutoencoderKLOutput(latent_dist=self.encode_maps(analyse(audio)))

    def encode_maps(self, maps: AudioMaps) -> SequenceGaussian:
        """The same of maps that have been made before."""
        return SequenceGaussian(self.to_latent(self.encoder(self.conv_in(fold_maps(maps).to(self.dtype)))))

    @apply_forward_hook
    def decode(self, latents: Tensor) -> DecoderOutput:
        """Audio ``[B, 2, L hop_length]`` of latents ``[B, D, L]``, limited to [-1, 1]."""
        maps = self.decode_maps(latents)
        gain = torch.where(maps.gain.abs() < QUIET_GAIN, 0.0, maps.gain)
        maps = AudioMaps(maps.partial, maps.pitch, maps.noise, gain, maps.angle, maps.coherence)
        return DecoderOutput(sample=synthesise(maps).clamp(-1.0, 1.0).to(latents.dtype))

    def decode_maps(self, latents: Tensor) -> AudioMaps:
        """Maps of latents ``[B, D, L]``."""
        return unfold_maps(self.to_maps(F.silu(self.decoder(self.from_latent(latents)))).float())

    def forward(self, maps: AudioMaps, generator: torch.Generator | None = None) -> tuple[AudioMaps, Tensor, Tensor]:
        """Encode, sample, decode (training): maps, and mean and log variance of the latents."""
        posterior = self.encode_maps(maps)
        return self.decode_maps(posterior.sample(generator)), posterior.mean, posterior.logvar


def fold_maps(maps: AudioMaps) -> Tensor:
    """``[B, M, L]`` numbers near 1; a frequency counts where something sounds."""
    heard = ((maps.partial - LOG_FLOOR) / 3.0).clamp(0.0, 1.0)
    parts = (
        (_scale_level(maps.partial), SLOW),
        (maps.pitch * heard, SLOW),
        (_scale_level(maps.noise), FINE),
        (0.5 * maps.gain, FINE),
        (maps.angle - math.pi / 4, SLOW),
        (maps.coherence - 0.5, SLOW),
    )
    return torch.cat([part.unflatten(-1, (-1, fold)).transpose(-1, -2).flatten(1, 2) for part, fold in parts], dim=1)


def unfold_maps(numbers: Tensor) -> AudioMaps:
    """Maps of ``[B, M, L]`` numbers as the decoder gives them."""
    parts = []
    for part, fold in zip(numbers.split(SIZES, dim=1), (SLOW, SLOW, FINE, FINE, SLOW, SLOW), strict=True):
        parts.append(part.unflatten(1, (-1, fold)).transpose(-1, -2).flatten(-2))
    partial, pitch, noise, gain, angle, coherence = parts
    return AudioMaps(
        (LEVEL_STD * (partial + 1.0)).clamp(-1.0, 10.0) + LOG_FLOOR,
        pitch.clamp(-1.2, 1.2),
        (LEVEL_STD * (noise + 1.0)).clamp(-1.0, 10.0) + LOG_FLOOR,
        (2.0 * gain).clamp(-6.0, 2.0),
        (angle + math.pi / 4).clamp(0.0, math.pi / 2),
        (coherence + 0.5).clamp(0.0, 1.0),
    )


LEVEL_STD = 2.5


def _scale_level(level: Tensor) -> Tensor:
    return (level - LOG_FLOOR) / LEVEL_STD - 1.0
