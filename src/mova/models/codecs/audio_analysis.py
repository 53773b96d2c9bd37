"""From stereo audio to its maps (:mod:`mova.models.codecs.audio_maps`), without anything trained.

Frequencies are reassigned (Auger and Flandrin 1995): a bin goes to the band of its frequency, so that a steady tone is whole in
one band. What lies between the peaks of a long spectrum is noise, and so is what a short window has beyond the partials.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mova.models.codecs.audio_maps import (
    FINE,
    GROUP_HZ,
    NUM_GROUPS,
    NUM_NOISE,
    NUM_PARTIALS,
    PARTIAL_HZ,
    SAMPLE_RATE,
    SLOW,
    AudioMaps,
    group_of_noise,
    log_level,
    noise_triangles,
)

LONG, SHORT = 2048, 192
"""Windows in samples: for partials, for onsets."""
REACH = 2
"""Fine frames over which a short window smears an onset, to each side."""
HOLD = 8  # fine frames (13 ms) for which a short window's level is held, so that beats of partials are no onsets
LOW_HOLD = 12  # the same below 400 Hz: half a turn of 24 Hz
DEAD = 0.12  # gains of less than this (in log) are none


@torch.no_grad()
def analyse(waveform: Tensor) -> AudioMaps:
    """Maps of ``[B, 2, S]`` audio, S a multiple of ``SLOW``."""
    power, hz = _long_spectrum(waveform)
    noise_power = _noise_floor(power)
    tonal = (power - 4.0 * noise_power).clamp(min=0.0)
    level, pitch = _gather_partials(tonal, hz)
    held = _future_max(level)
    pitch = _hold_pitch(level, held, pitch)
    short_left, short_right, cross = _short_spectrum(waveform, SHORT)
    short = short_left + short_right
    tonal_short = _to_fine(_future_max(torch.einsum("mk,bkt->bmt", _smear(waveform.device), tonal)))
    noise_short = _to_fine(torch.einsum("mk,bkt->bmt", _smear(waveform.device), noise_power))
    share = noise_short / (noise_short + tonal_short + 1e-12)
    before, after = _onsets(short)
    gain = _gains(short, held, before, after)
    per_bin = gain.exp().square()[:, _group_of_bins(SHORT)]
    weights = _noise_weights(SHORT, waveform.device)
    groups = list(group_of_noise())
    energy = torch.einsum("nm,bmu->bnu", weights, short)
    sharp = torch.where(before[:, groups], _past(energy), torch.where(after[:, groups], _coming(energy), energy))
    tones = torch.einsum("nm,bmu->bnu", weights, per_bin * tonal_short)
    share = torch.einsum("nm,bmu->bnu", weights, share * short) / (energy + 1e-12)
    noise = torch.maximum(share * sharp, sharp - 2.0 * tones)
    gain, noise = _balance(short, held, gain, noise)
    angle, coherence = _places(short_left, short_right, cross)
    return AudioMaps(log_level(held), pitch, log_level(noise), gain, angle, coherence)


def _frames(waveform: Tensor, size: int, hop: int) -> Tensor:
    """``[..., S]`` to ``[..., S / hop, size]``; frame t is centred on sample ``t hop + hop / 2``."""
    left = (size - hop) // 2
    return F.pad(waveform, (left, size - hop - left)).unfold(-1, size, hop)


def _long_spectrum(waveform: Tensor) -> tuple[Tensor, Tensor]:
    """Power (mean square per bin, both channels together) and reassigned frequency in Hz, ``[B, K, T]``."""
    frames = _frames(waveform, LONG, SLOW)
    window = torch.hann_window(LONG, device=waveform.device)
    turn = torch.arange(LONG, device=waveform.device) * (2.0 * math.pi / LONG)
    slope = 0.5 * torch.sin(turn) * (2.0 * math.pi / LONG)  # of the window, per sample
    spectrum, slanted = torch.fft.rfft(frames * window), torch.fft.rfft(frames * slope)
    power = spectrum.abs().square().sum(dim=1)
    bend = (slanted * spectrum.conj()).imag.sum(dim=1) / (power + 1e-9)
    bins = torch.arange(LONG // 2 + 1, device=waveform.device) * (SAMPLE_RATE / LONG)
    hz = bins - bend * (SAMPLE_RATE / (2.0 * math.pi))
    scale = 2.0 / (LONG * window.square().sum())
    return (scale * power).mT, hz.mT


def _short_spectrum(waveform: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean squares per bin of the left and right channel and (complex) of both, ``[B, K, U]``, of a window of ``size``."""
    window = torch.hann_window(size, device=waveform.device)
    spectrum = torch.fft.rfft(_frames(waveform, size, FINE) * window)
    scale = 2.0 / (size * window.square().sum())
    left, right = spectrum[:, 0], spectrum[:, 1]
    cross = left * right.conj()
    return (scale * left.abs().square()).mT, (scale * right.abs().square()).mT, (scale * cross).mT


def _noise_floor(power: Tensor) -> Tensor:
    """The power per bin that lies between partials: a low quantile over frequency, scaled to the mean of noise."""
    smooth = F.avg_pool1d(F.pad(power, (1, 1), mode="replicate"), 3, 1)
    near = F.pad(smooth.mT, (12, 19), mode="replicate").unfold(-1, 32, 8)  # [B, T, K / 8, 32]
    low = near.sort(dim=-1).values[..., 5:8].mean(dim=-1) / 0.27
    return torch.minimum(F.interpolate(low, size=power.shape[1], mode="linear").mT, smooth)


def _gather_partials(tonal: Tensor, hz: Tensor) -> tuple[Tensor, Tensor]:
    """Mean square and place in the band, ``[B, P, T]``, of what is tonal: each bin goes to the band of its frequency."""
    edges = torch.tensor(PARTIAL_HZ, device=tonal.device)
    band = torch.bucketize(hz.contiguous(), edges) - 1
    heard = (band >= 0) & (band < NUM_PARTIALS) & (tonal > 0)
    band = band.clamp(0, NUM_PARTIALS - 1)
    shape = (tonal.shape[0], NUM_PARTIALS, tonal.shape[2])
    kept = torch.where(heard, tonal, 0.0)
    power = torch.zeros(shape, device=tonal.device).scatter_add_(1, band, kept)
    sharp = kept.square()  # the strongest decides
    weight = torch.zeros(shape, device=tonal.device).scatter_add_(1, band, sharp)
    mean_hz = torch.zeros(shape, device=tonal.device).scatter_add_(1, band, sharp * hz) / (weight + 1e-24)
    low, high = edges[:-1, None], edges[1:, None]
    place = (2.0 * mean_hz - low - high) / (high - low)
    return power, torch.where(weight > 1e-20, place.clamp(-1.0, 1.0), 0.0)


def _future_max(power: Tensor) -> Tensor:
    """The largest value from here to half a window later: a centred window is full only half a window after an onset."""
    held = power
    for shift in range(1, LONG // 2 // SLOW + 1):
        held = torch.maximum(held, F.pad(power, (0, shift))[..., shift:])
    return held


def _hold_pitch(level: Tensor, held: Tensor, pitch: Tensor) -> Tensor:
    """Where the level is that of a later frame, its frequency, too."""
    out = pitch
    for shift in range(1, LONG // 2 // SLOW + 1):
        later = F.pad(level, (0, shift))[..., shift:]
        out = torch.where((later >= held) & (held > 1.2 * level), F.pad(pitch, (0, shift))[..., shift:], out)
    return out


def _onsets(short: Tensor) -> tuple[Tensor, Tensor]:
    """Where each group is just before and just after an onset, ``[B, G, U]``: a window rises slower than what it sees."""
    weights = torch.stack([_group_weights(SHORT, group, short.device) for group in range(NUM_GROUPS)])
    energy = torch.einsum("gk,bku->bgu", weights, short) + 1e-9
    past, coming = _past(energy), _coming(energy)
    jump = coming > 6.0 * past
    late = energy > 0.5 * coming
    return jump & ~late, jump & late


def _past(energy: Tensor) -> Tensor:
    return -F.max_pool1d(F.pad(-energy, (REACH, 0), value=-math.inf), REACH + 1, 1)


def _coming(energy: Tensor) -> Tensor:
    return F.max_pool1d(F.pad(energy, (0, REACH), value=-math.inf), REACH + 1, 1)


def _gains(short: Tensor, held: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """``[B, G, U]`` logarithms of gains: what the short windows hold over what the partials come to."""
    gains = []
    for group in range(NUM_GROUPS):
        weights = _group_weights(SHORT, group, short.device)
        spread = _line_weights(SHORT, group, short.device)
        energy = torch.einsum("k,bku->bu", weights, short)
        hold = HOLD if group else LOW_HOLD
        energy = torch.where(before[:, group], _past(energy), torch.where(after[:, group], _coming(energy), energy))
        recent = F.max_pool1d(F.pad(energy, (hold - 1, 0)), hold, 1)
        expected = _to_fine((spread[:, None] * held).sum(dim=1, keepdim=True))[:, 0]
        gain = 0.5 * torch.log((recent + 1e-9) / (expected + 1e-9))
        gains.append(torch.where(expected > 1e-8, gain, 0.0).clamp(-6.0, 1.5))
    return torch.stack(gains, dim=1)


def _balance(short: Tensor, held: Tensor, gain: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Gains and noise (mean squares) such that over 40 ms each group comes to the energy that it had."""
    weights = torch.stack([_group_weights(SHORT, group, short.device) for group in range(NUM_GROUPS)])
    lines = torch.stack([_line_weights(SHORT, group, short.device, False) for group in range(NUM_GROUPS)])
    in_group = torch.zeros(NUM_GROUPS, NUM_NOISE, device=short.device)
    in_group[list(group_of_noise()), list(range(NUM_NOISE))] = 1.0
    found = torch.einsum("gk,bku->bgu", weights, short)
    tones = gain.exp().square() * _to_fine(torch.einsum("gp,bpt->bgt", lines, held))
    made = tones + torch.einsum("gn,bnu->bgu", in_group, noise)
    found, made = (F.avg_pool1d(F.pad(x, (12, 12), mode="replicate"), 25, 1) for x in (found, made))
    ratio = ((found + 1e-9) / (made + 1e-9)).clamp(0.2, 3.0)
    gain = torch.where(gain == 0.0, gain, gain + 0.5 * ratio.log())
    return (gain - gain.clamp(-DEAD, DEAD)).clamp(-6.0, 2.0), noise * ratio[:, list(group_of_noise())]


def _places(left: Tensor, right: Tensor, cross: Tensor) -> tuple[Tensor, Tensor]:
    """Angle and coherence, ``[B, G, T]``, from short spectra."""
    weights = torch.stack([_group_weights(SHORT, group, left.device) for group in range(NUM_GROUPS)])
    ratio = SLOW // FINE

    def smooth(x: Tensor) -> Tensor:
        grouped = torch.einsum("gk,bku->bgu", weights, x)
        return F.avg_pool1d(F.pad(grouped, (2, 2), mode="replicate"), 2 * ratio - 1, ratio)

    a, b = smooth(left), smooth(right)
    both = (smooth(cross.real).square() + smooth(cross.imag).square()).sqrt()
    return torch.atan2((b + 1e-10).sqrt(), (a + 1e-10).sqrt()), (both / ((a + 1e-10) * (b + 1e-10)).sqrt()).clamp(0.0, 1.0)


def _to_fine(slow: Tensor) -> Tensor:
    return F.interpolate(slow, scale_factor=SLOW // FINE, mode="linear")


@lru_cache(maxsize=8)
def _smear(device: torch.device) -> Tensor:
    """``[K short, K long]``: what a line in each long bin adds to the short bins."""
    lines = np.arange(LONG // 2 + 1) * SHORT / LONG
    return torch.from_numpy(_main_lobe(lines[None, :] - np.arange(SHORT // 2 + 1)[:, None])).float().to(device)


def _main_lobe(offset: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of a line's power that falls into a bin ``offset`` bins away, for a Hann window (all bins: 1)."""
    x = np.where(np.abs(np.abs(offset) - 1.0) < 1e-6, offset + 1e-5, offset)
    response = np.sinc(x) / (1.0 - x**2)
    return response**2 / 1.5


def _edges_weight(hz: npt.NDArray[np.float64], group: int) -> npt.NDArray[np.float64]:
    return ((hz >= GROUP_HZ[group]) & (hz < GROUP_HZ[group + 1])).astype(np.float64)


@lru_cache(maxsize=32)
def _group_weights(size: int, group: int, device: torch.device) -> Tensor:
    weights = _edges_weight(np.arange(size // 2 + 1) * SAMPLE_RATE / size, group)
    weights[0] *= 0.5  # a spectrum has every bin twice, but the first
    return torch.from_numpy(weights).float().to(device)


@lru_cache(maxsize=32)
def _line_weights(size: int, group: int, device: torch.device, beats: bool = True) -> Tensor:
    """``[P]``: share of the power of each partial that falls into a group's bins of a short spectrum."""
    centres = 0.5 * (np.array(PARTIAL_HZ[:-1]) + np.array(PARTIAL_HZ[1:])) * size / SAMPLE_RATE
    bins = np.arange(size // 2 + 1)
    lobes = _main_lobe(centres[None, :] - bins[:, None])
    turn = 2.0 * np.pi * 2.0 * centres / size * np.arange(size)[:, None]
    square = np.hanning(size)[:, None] ** 2
    beat = np.abs((square * np.exp(1j * turn)).sum(axis=0)) / square.sum()
    if beats:
        lobes = lobes * (1.0 + beat)  # of a slow sinusoid a short window holds more or less, and the most is what is held
    return torch.from_numpy(_edges_weight(bins * SAMPLE_RATE / size, group) @ lobes).float().to(device)


@lru_cache(maxsize=8)
def _group_of_bins(size: int) -> Tensor:
    hz = torch.arange(size // 2 + 1) * (SAMPLE_RATE / size)
    return (torch.bucketize(hz, torch.tensor(GROUP_HZ), right=True) - 1).clamp(0, NUM_GROUPS - 1)


@lru_cache(maxsize=8)
def _noise_weights(size: int, device: torch.device) -> Tensor:
    return torch.from_numpy(noise_triangles(np.arange(size // 2 + 1) * SAMPLE_RATE / size)).float().to(device)
