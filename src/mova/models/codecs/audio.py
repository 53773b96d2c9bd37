"""The small audio codec of ``mova-base``: 500 samples of mono audio to one latent of 24 numbers, and back.

The encoder sees log magnitudes of a short-time Fourier transform, two frames a latent. The decoder gives log magnitudes
and a phase back. A latent does not know the absolute phase of a steady tone, so that tones get their phase from the
spectral peaks of the decoded magnitudes, and onsets from the decoder.

A sinusoid of frequency ``f`` (in bins) under a periodic Hann window of N points gives, at every bin k of its main lobe,
the phase ``theta - pi k``, theta being its phase at the window's centre. So "centred" phases ``psi[k] = phase[k] + pi k``
are equal over a lobe, and advance by ``2 pi f hop / N`` from a frame to the next (the phase vocoder with rigid phase
locking, Laroche and Dolson 1999).

The same interface as ``mova.models.codecs.video``: ``encode(x).latent_dist``, ``decode(z).sample``, ``latents_mean/std``.
Shape suffixes: B batch, S samples, F transform frames, K frequency bins, L latents, D latent channels.
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
from einops import rearrange
from torch import Tensor, nn

LOG_FLOOR = 1e-3  # added to magnitudes before the logarithm: about -75 dB below a full-scale tone at 1024 points
LOG_MEAN, LOG_STD = (
    -3.0,
    2.5,
)  # rough statistics of log magnitudes of the rendered world, to feed the network numbers near 1


class AudioCodec(ModelMixin, ConfigMixin):
    """Encodes ``[B, 1, S]`` audio in [-1, 1] to ``[B, latent_channels, S / hop_length]``.

    Args:
        latent_channels: Numbers per latent.
        width: Channels inside.
        num_blocks: Residual blocks on each side.
        n_fft: Points of the Fourier transform (periodic Hann window of the same length).
        frames_per_latent: Transform frames folded into a latent.
        hop_length: Samples per latent; a multiple of ``frames_per_latent``.
        sample_rate: Samples per second.
        latents_mean: Mean of each latent channel over the training sounds, for the pipeline's normalisation.
        latents_std: Standard deviation of each.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 24,
        width: int = 256,
        num_blocks: int = 2,
        n_fft: int = 1024,
        frames_per_latent: int = 2,
        hop_length: int = 500,
        sample_rate: int = 16000,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ) -> None:
        super().__init__()
        if hop_length % frames_per_latent:
            raise ValueError(f"frames_per_latent must divide hop_length; got {frames_per_latent}, {hop_length}.")
        self.hop = hop_length // frames_per_latent
        bins = n_fft // 2 + 1
        folded = bins * frames_per_latent
        self.conv_in = nn.Conv1d(folded, width, 3, padding=1)
        self.encoder = nn.Sequential(*[ResidualBlock1d(width) for _ in range(num_blocks)])
        self.to_latent = nn.Conv1d(width, 2 * latent_channels, 1)
        self.from_latent = nn.Conv1d(latent_channels, width, 3, padding=1)
        self.decoder = nn.Sequential(*[ResidualBlock1d(width) for _ in range(num_blocks)])
        self.to_magnitude = nn.Conv1d(width, folded, 1)
        self.to_phase = nn.Conv1d(width, 2 * folded, 1)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def log_magnitude(self, waveform: Tensor) -> Tensor:
        """``[B, S]`` to natural-log magnitudes ``[B, K, F]``, F = S / hop; frame f is centred on sample ``f hop + hop / 2``."""
        n_fft = self.config.n_fft
        left = (n_fft - self.hop) // 2
        padded = F.pad(waveform, (left, n_fft - self.hop - left))
        spectrum = torch.stft(padded, n_fft, self.hop, window=self.window, center=False, return_complex=True)
        return torch.log(spectrum.abs() + LOG_FLOOR)

    def synthesise(self, log_magnitude: Tensor, phase: Tensor) -> Tensor:
        """Overlap-add of spectra ``[B, K, F]`` (log magnitude, phase in radians): ``[B, F hop]`` samples."""
        n_fft, hop = self.config.n_fft, self.hop
        magnitude = torch.clamp(log_magnitude.exp() - LOG_FLOOR, min=0.0)
        frames = torch.fft.irfft(torch.polar(magnitude, phase), n=n_fft, dim=1) * self.window[None, :, None]
        length = frames.shape[-1] * hop
        size = (1, length - hop + n_fft)
        total = F.fold(frames, size, (1, n_fft), stride=(1, hop))[:, 0, 0]
        weight = self.window.square()[None, :, None].expand(1, -1, frames.shape[-1])
        envelope = F.fold(weight, size, (1, n_fft), stride=(1, hop))[:, 0, 0]
        left = (n_fft - hop) // 2
        return total[:, left : left + length] / envelope[:, left : left + length].clamp(min=1e-3)

    @apply_forward_hook
    def encode(self, waveform: Tensor) -> AutoencoderKLOutput:
        """Distribution of the latents of ``[B, 1, S]``; the end is padded with silence to a multiple of the hop."""
        audio = waveform[:, 0]
        audio = F.pad(audio, (0, -audio.shape[-1] % self.config.hop_length))
        log_mag = (self.log_magnitude(audio) - LOG_MEAN) / LOG_STD
        h = self.conv_in(rearrange(log_mag, "b k (l s) -> b (k s) l", s=self.config.frames_per_latent))
        moments = self.to_latent(self.encoder(h))
        return AutoencoderKLOutput(latent_dist=SequenceGaussian(moments))

    def decode_spectrum(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Log magnitudes and the decoder's own phase, both ``[B, K, F]``, of latents ``[B, D, L]``."""
        fold = self.config.frames_per_latent
        h = F.silu(self.decoder(self.from_latent(latents)))
        log_mag = rearrange(self.to_magnitude(h), "b (k s) l -> b k (l s)", s=fold) * LOG_STD + LOG_MEAN
        real, imag = rearrange(self.to_phase(h), "b (c k s) l -> c b k (l s)", c=2, s=fold)
        return log_mag.clamp(max=8.0), uncentre_phase(torch.atan2(imag, real + 1e-7))

    @apply_forward_hook
    def decode(self, latents: Tensor) -> DecoderOutput:
        """Audio ``[B, 1, L hop_length]`` of latents ``[B, D, L]``, limited to [-1, 1]."""
        log_mag, phase = self.decode_spectrum(latents)
        steady = peak_phase(log_mag.exp(), centre_phase(phase), hop=self.hop, n_fft=self.config.n_fft)
        audio = self.synthesise(log_mag, uncentre_phase(steady))
        return DecoderOutput(sample=audio[:, None].clamp(-1.0, 1.0))

    def forward(self, waveform: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode, sample, decode (training): audio ``[B, S]``, log magnitudes, and mean and log variance of the latents."""
        posterior = self.encode(waveform).latent_dist
        log_mag, phase = self.decode_spectrum(posterior.sample(generator))
        return self.synthesise(log_mag, phase), log_mag, posterior.mean, posterior.logvar


class SequenceGaussian:
    """Diagonal Gaussian over ``[B, 2 D, L]`` moments, with the interface of diffusers' image distribution."""

    def __init__(self, moments: Tensor) -> None:
        self.mean, logvar = moments.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)

    def mode(self) -> Tensor:
        """The mean ``[B, D, L]``."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A draw ``[B, D, L]``."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + torch.exp(0.5 * self.logvar) * noise


class ResidualBlock1d(nn.Module):
    """LayerNorm over channels, SiLU, 3-tap, SiLU, 1x1, added to the input; the last starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv_1 = nn.Conv1d(width, width, 3, padding=1)
        self.conv_2 = nn.Conv1d(width, width, 1)
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.norm(x.transpose(1, 2)).transpose(1, 2))
        out: Tensor = x + self.conv_2(F.silu(self.conv_1(h)))
        return out


def centre_phase(phase: Tensor) -> Tensor:
    """``psi[k] = phase[k] + pi k`` for ``[B, K, F]`` radians."""
    return phase + _half_turns(phase)


def uncentre_phase(psi: Tensor) -> Tensor:
    """The inverse of :func:`centre_phase`."""
    return psi - _half_turns(psi)


def peak_phase(magnitude: Tensor, onset_psi: Tensor, *, hop: int, n_fft: int, rise: float = 1.5) -> Tensor:
    """Centred phases that keep every spectral peak turning at its interpolated frequency.

    Args:
        magnitude: ``[B, K, F]`` magnitudes, non-negative.
        onset_psi: ``[B, K, F]`` centred phases to start from, in radians; they are used in the first frame and at each
            bin whose magnitude grows by more than ``rise`` from a frame to the next.
        hop: Samples from a frame to the next.
        n_fft: Points of the transform.
        rise: Growth that counts as an onset.

    Returns:
        ``[B, K, F]`` centred phases in radians.
    """
    owner, frequency = _peaks(magnitude)
    advance = 2.0 * math.pi * hop / n_fft * frequency
    onset = magnitude[..., 1:] > rise * magnitude[..., :-1]
    psi = onset_psi[..., 0]
    frames = [psi]
    for index in range(1, magnitude.shape[-1]):
        own = owner[..., index]
        steady = torch.gather(psi, 1, own) + torch.gather(advance[..., index], 1, own)
        psi = torch.where(onset[..., index - 1], onset_psi[..., index], steady)
        frames.append(psi)
    return torch.stack(frames, dim=-1)


def _peaks(magnitude: Tensor) -> tuple[Tensor, Tensor]:
    """The bin of the peak that each bin belongs to (the nearest one), and each bin's interpolated frequency in bins."""
    log_mag = torch.log(magnitude + 1e-7)
    below, here, above = log_mag[:, :-2], log_mag[:, 1:-1], log_mag[:, 2:]
    is_peak = torch.zeros_like(magnitude, dtype=torch.bool)
    is_peak[:, 1:-1] = (here > below) & (here >= above)
    curvature = below - 2.0 * here + above
    shift = torch.zeros_like(magnitude)
    # parabola through three log magnitudes; on a peak the vertex lies within half a bin
    shift[:, 1:-1] = (0.5 * (below - above) / torch.where(curvature.abs() < 1e-6, -1e-6, curvature)).clamp(-0.5, 0.5)
    bins = torch.arange(magnitude.shape[1], device=magnitude.device)[None, :, None]
    last = torch.where(is_peak, bins, -(10**6)).cummax(dim=1).values
    following = torch.where(is_peak, bins, 10**6).flip(1).cummin(dim=1).values.flip(1)
    owner = torch.where(bins - last <= following - bins, last, following)
    owner = torch.where((owner < 0) | (owner >= magnitude.shape[1]), bins.expand_as(owner), owner)
    return owner, bins + torch.where(is_peak, shift, torch.zeros_like(shift))


def _half_turns(like: Tensor) -> Tensor:
    return math.pi * torch.arange(like.shape[1], device=like.device, dtype=like.dtype)[None, :, None]
