"""The audio codec: log magnitudes weighted by loudness, low frequencies and their slopes (pitch), transients at short windows
(onsets), the spectra of the waveform itself, and a small KL.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mova.data.shards import Shard, open_shards
from mova.models.codecs.audio import LOG_FLOOR, AudioCodec
from mova.training.objective import Objective, draw_below
from mova.training.recipe import TrainRecipe, digest_scenes


class AudioCodecRecipe(TrainRecipe):
    """The audio codec."""

    stage: Literal["audio_codec"] = "audio_codec"
    codec: dict[str, Any] = Field(default={}, description="Overrides of the codec's sizes.")
    batch_size: int = Field(default=6, ge=1, description="Clips per process.")
    kl_weight: float = 5e-4

    def digest_inputs(self) -> dict[str, str]:
        """The rendered clips of the run."""
        return {"scenes": digest_scenes(self.folder)}

    def build(self, device: str) -> AudioCodecObjective:
        """A fresh codec on the rendered clips of the run."""
        return AudioCodecObjective(
            AudioCodec(**self.codec),
            open_shards(self.folder / "scenes" / "train"),
            open_shards(self.folder / "scenes" / "held_out"),
            batch_size=self.batch_size,
            kl_weight=self.kl_weight,
            device=device,
        )


class AudioCodecObjective(Objective):
    """Reconstruction of whole rendered sounds.

    Args:
        codec: The codec to train.
        train: Rendered shards.
        held_out: Shards for validation.
        batch_size: Sounds per process and step.
        kl_weight: Weight of the KL term.
        device: Where to train.
    """

    not_matrices = ("conv_in", "conv_out", "to_latent", "to_magnitude", "to_phase", "finish")

    def __init__(
        self,
        codec: AudioCodec,
        train: Sequence[Shard],
        held_out: Sequence[Shard],
        *,
        batch_size: int,
        kl_weight: float = 5e-4,
        device: str = "cpu",
    ) -> None:
        self.codec = codec.to(device)
        self.modules = nn.ModuleDict({"codec": codec})
        self.train, self.held_out = train, held_out
        self.batch_size, self.kl_weight, self.device = batch_size, kl_weight, device

    def loss(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch of sounds."""
        sounds = []
        for _ in range(self.batch_size):
            shard = self.train[draw_below(len(self.train), generator)]
            sounds.append(torch.from_numpy(np.array(shard.waveforms[draw_below(len(shard.waveforms), generator)])))
        target = (torch.stack(sounds).float() / 32767.0).to(self.device)
        decoded, log_mag, mean, logvar = self.codec(target[:, None], generator)
        kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
        terms = audio_terms(self.codec, decoded[:, : target.shape[1]], log_mag, target)
        total = terms["magnitude"] + 3.0 * terms["pitch"] + terms["wave"] + 0.4 * terms["transient"] + self.kl_weight * kl
        return total, {name: term.item() for name, term in terms.items()} | {"kl": kl.item()}

    @torch.no_grad()
    def validate(self, step: int, averaged: nn.ModuleDict, folder: Path) -> dict[str, float]:
        """The same terms on held-out sounds, through the decoder that is used after training."""
        codec = averaged["codec"]
        assert isinstance(codec, AudioCodec)
        sounds = torch.from_numpy(np.array(self.held_out[0].waveforms[:32])).float().to(self.device) / 32767.0
        latents = codec.encode(sounds[:, None]).latent_dist.mode()
        log_mag, _ = codec.decode_spectrum(latents)
        decoded = codec.decode(latents).sample[:, 0, : sounds.shape[1]]
        terms = audio_terms(codec, decoded, log_mag, sounds)
        return {name: term.item() for name, term in terms.items()}


def audio_terms(codec: AudioCodec, decoded: Tensor, log_mag: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The parts of the audio loss for sounds ``[B, S]`` and decoded log magnitudes ``[B, K, F]``."""
    padded = F.pad(target, (0, -target.shape[-1] % codec.config.hop_length))
    wanted = codec.log_magnitude(padded)
    bins_hz = torch.linspace(0, codec.config.sample_rate / 2, wanted.shape[1], device=wanted.device)[None, :, None]
    loudness = ((wanted + 6.0) / 6.0).clamp(0.0, 1.0)
    magnitude = ((1.0 + 6.0 * loudness) * (log_mag - wanted).abs()).mean() / 3.0
    low = 1.0 / (1.0 + (bins_hz / 700.0).square())
    slope = (log_mag.diff(dim=1) - wanted.diff(dim=1)).abs()
    pitch = (low * (log_mag - wanted).abs()).mean() + (low[:, 1:] * slope).mean()
    wave = sum(_spectral_distance(decoded, target, n) for n in (256, 2048)) * 0.5
    transient = sum(_transient_distance(decoded, target, n, hop) for n, hop in ((128, 32), (256, 80))) * 0.5
    return {
        "magnitude": magnitude,
        "pitch": pitch,
        "wave": torch.as_tensor(wave),
        "transient": torch.as_tensor(transient),
    }


def _log_spectrum(x: Tensor, n_fft: int, hop: int) -> Tensor:
    window = torch.hann_window(n_fft, device=x.device)
    return torch.log(torch.stft(x, n_fft, hop, window=window, return_complex=True).abs() + LOG_FLOOR * (n_fft / 1024) ** 0.5)


def _spectral_distance(decoded: Tensor, target: Tensor, n_fft: int) -> Tensor:
    a, b = _log_spectrum(decoded, n_fft, n_fft // 4), _log_spectrum(target, n_fft, n_fft // 4)
    loudness = ((b + 6.0) / 6.0).clamp(0.0, 1.0)
    return ((1.0 + 6.0 * loudness) * (a - b).abs()).mean() / 3.0


def _transient_distance(decoded: Tensor, target: Tensor, n_fft: int, hop: int) -> Tensor:
    """L1 of the two-frame rise of band levels, rises of the target counting more: what an onset is."""
    a, b = (_bands(_log_spectrum(x, n_fft, hop)) for x in (decoded, target))
    rise_a, rise_b = a[..., 2:] - a[..., :-2], b[..., 2:] - b[..., :-2]
    weight = 1.0 + 8.0 * rise_b.clamp(0.0, 1.0)
    return (weight * (rise_a - rise_b).abs()).mean() + 0.5 * (a - b).abs().mean()


def _bands(log_spectrum: Tensor) -> Tensor:
    """The lowest eight bins one by one, the rest as means of eight."""
    low, high = log_spectrum[:, 1:9], log_spectrum[:, 9:]
    high = high[:, : high.shape[1] // 8 * 8].unflatten(1, (-1, 8)).mean(dim=2)
    return torch.cat([low, high], dim=1)
