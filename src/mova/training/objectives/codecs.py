"""What the two codecs of ``mova-base`` are trained for.

Video: L1, gradient and squared error with moving pixels counted five times, and a small KL; the last part of the steps
trains the decoder alone. Audio: log magnitudes weighted by loudness, low frequencies and their slopes (pitch), transients
at short windows (onsets), the spectra of the waveform itself, and a small KL.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mova.data.shards import Shard
from mova.models.codecs.audio import LOG_FLOOR, AudioCodec
from mova.models.codecs.video import VideoCodec

MOVING_THRESHOLD = 0.06  # of [-1, 1]: a pixel that leaves its median by more is part of something moving
NOT_MATRICES = ("conv_in", "conv_out", "to_latent", "to_magnitude", "to_phase", "finish")


class VideoCodecObjective:
    """Reconstruction of random crops of random spans of rendered clips.

    Args:
        codec: The codec to train.
        train: Rendered shards.
        held_out: Shards for validation.
        batch_size: Crops per process and step.
        num_frames: Frames per crop, 1 + 4k.
        crop: Side of a crop in pixels.
        kl_weight: Weight of the KL term.
        decoder_only_from: Share of the steps after which the encoder is frozen.
        latent_noise: Standard deviation of the noise that the decoder learns to bear in the decoder-only part,
            in units of each channel's own spread.
        device: Where to train.
    """

    def __init__(
        self,
        codec: VideoCodec,
        train: Sequence[Shard],
        held_out: Sequence[Shard],
        *,
        batch_size: int,
        num_frames: int = 17,
        crop: int = 64,
        kl_weight: float = 3e-4,
        decoder_only_from: float = 0.8,
        latent_noise: float = 0.0,
        device: str = "cpu",
    ) -> None:
        self.codec = codec.to(device)
        self.modules = nn.ModuleDict({"codec": codec})
        self.train, self.held_out = train, held_out
        self.batch_size, self.num_frames, self.crop = batch_size, num_frames, crop
        self.kl_weight, self.decoder_only_from, self.latent_noise = kl_weight, decoder_only_from, latent_noise
        self.device = device

    def is_matrix(self, name: str) -> bool:
        """Muon takes the inner weights; doors and norms go to AdamW."""
        return not any(part in name for part in NOT_MATRICES)

    def loss(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch of crops."""
        video, weight = self._batch(generator)
        if step < self.decoder_only_from * num_steps:
            decoded, mean, logvar = self.codec(video, generator)
            kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
        else:
            with torch.no_grad():
                posterior = self.codec.encode(video).latent_dist
                spread = posterior.mean.std(dim=(0, 2, 3, 4), keepdim=True)
                noise = torch.randn(posterior.mean.shape, generator=generator, device=self.device)
                latents = posterior.sample(generator) + self.latent_noise * spread * noise
            decoded, kl = self.codec.decode(latents).sample, torch.zeros((), device=self.device)
        pixels = (weight * (decoded - video).abs()).mean()
        squares = (weight * (decoded - video).square()).mean()
        slopes = sum(
            (weight.narrow(d, 1, video.shape[d] - 1) * (decoded.diff(dim=d) - video.diff(dim=d)).abs()).mean() for d in (3, 4)
        )
        total = pixels + 0.5 * slopes + 0.5 * squares + self.kl_weight * kl
        return total, {"pixels": pixels.item(), "kl": float(kl.detach())}

    @torch.no_grad()
    def validate(self, step: int, ema: nn.ModuleDict, folder: Path) -> dict[str, float]:
        """PSNR over all pixels and over moving pixels on held-out clips, whole pictures; draws a sheet."""
        codec = ema["codec"]
        assert isinstance(codec, VideoCodec)
        errors, moving_errors, count = 0.0, 0.0, 0.0
        rows = []
        clips = self.held_out[0].frames[:24]
        for index in range(len(clips)):
            video = to_video(torch.from_numpy(np.array(clips[index]))[None]).to(self.device)
            decoded = codec.decode(codec.encode(video).latent_dist.mode()).sample.clamp(-1, 1)
            square = ((decoded - video) / 2).square().mean(dim=1)
            moving = moving_mask(video)[:, 0].float()
            errors += square.mean().item() / len(clips)
            moving_errors += (square * moving).sum().item()
            count += moving.sum().item()
            if index < 8:
                rows.append(torch.cat([video[0, :, ::4], decoded[0, :, ::4]], dim=2))
        draw_rows(rows, folder / f"sheet-{step:06d}.png")
        return {"psnr": -10 * np.log10(errors), "moving_psnr": -10 * np.log10(moving_errors / max(1.0, count))}

    def _batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        videos = []
        for _ in range(self.batch_size):
            shard = self.train[_below(len(self.train), generator)]
            clip = shard.frames[_below(len(shard.frames), generator)]
            frames, height, width, _ = clip.shape
            start = _below(frames - self.num_frames + 1, generator)
            span = clip[start : start + self.num_frames]
            top, left = self._place(span, height, width, generator)
            videos.append(torch.from_numpy(np.array(span[:, top : top + self.crop, left : left + self.crop])))
        video = to_video(torch.stack(videos)).to(self.device)
        return video, 1.0 + 4.0 * moving_mask(video).float()

    def _place(self, span: np.ndarray, height: int, width: int, generator: torch.Generator) -> tuple[int, int]:
        """Corner of a crop: four times in five around a pixel that changes."""
        if _below(5, generator) > 0:
            change = np.ptp(span[:, ::4, ::4].max(axis=-1), axis=0) > 24
            rows, columns = np.nonzero(change)
            if len(rows):
                pick = _below(len(rows), generator)
                centre = 4 * int(rows[pick]), 4 * int(columns[pick])
                shift = [_below(self.crop // 2, generator) - self.crop // 4 for _ in range(2)]
                top = min(max(centre[0] + shift[0] - self.crop // 2, 0), height - self.crop)
                left = min(max(centre[1] + shift[1] - self.crop // 2, 0), width - self.crop)
                return top, left
        return _below(height - self.crop + 1, generator), _below(width - self.crop + 1, generator)


class AudioCodecObjective:
    """Reconstruction of whole rendered sounds.

    Args:
        codec: The codec to train.
        train: Rendered shards.
        held_out: Shards for validation.
        batch_size: Sounds per process and step.
        kl_weight: Weight of the KL term.
        device: Where to train.
    """

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

    def is_matrix(self, name: str) -> bool:
        """Muon takes the inner weights; doors and norms go to AdamW."""
        return not any(part in name for part in NOT_MATRICES)

    def loss(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch of sounds."""
        sounds = []
        for _ in range(self.batch_size):
            shard = self.train[_below(len(self.train), generator)]
            sounds.append(torch.from_numpy(np.array(shard.waveforms[_below(len(shard.waveforms), generator)])))
        target = (torch.stack(sounds).float() / 32767.0).to(self.device)
        decoded, log_mag, mean, logvar = self.codec(target[:, None], generator)
        kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
        terms = audio_terms(self.codec, decoded[:, : target.shape[1]], log_mag, target)
        total = terms["magnitude"] + 3.0 * terms["pitch"] + terms["wave"] + 0.4 * terms["transient"] + self.kl_weight * kl
        return total, {name: term.item() for name, term in terms.items()} | {"kl": kl.item()}

    @torch.no_grad()
    def validate(self, step: int, ema: nn.ModuleDict, folder: Path) -> dict[str, float]:
        """The same terms on held-out sounds, through the decoder that is used after training."""
        codec = ema["codec"]
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


def to_video(frames: Tensor) -> Tensor:
    """uint8 ``[B, T, H, W, 3]`` to float ``[B, 3, T, H, W]`` in [-1, 1]."""
    return frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0


def moving_mask(video: Tensor) -> Tensor:
    """``[B, 1, T, H, W]`` bool: pixels of which a colour differs from its median over time."""
    still = video[:, :, ::2].median(dim=2, keepdim=True).values
    return (video - still).abs().amax(dim=1, keepdim=True) > MOVING_THRESHOLD


def draw_rows(rows: list[Tensor], path: Path) -> None:
    """Save videostrips ``[3, T, H, W]`` in [-1, 1] below one another as one PNG."""
    from PIL import Image

    strips = [torch.cat(list(row.unbind(dim=1)), dim=2) for row in rows]
    sheet = torch.cat(strips, dim=1).clamp(-1, 1).add(1).mul(127.5).round().byte()
    Image.fromarray(sheet.permute(1, 2, 0).cpu().numpy()).save(path)


def _below(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=generator, device=generator.device))
