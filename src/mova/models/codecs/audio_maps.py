"""Audio as maps over time: partials, noise bands, onsets and places; analysis of stereo audio, and synthesis from the maps.

A clip is the sum of partials (one in each of about seventy narrow bands: level and frequency, 120 times a second) and noise
(in about twenty wide bands: level, 600 times a second). A long window tells partials from noise, and cannot say when they
start. So each group of bands has a gain, 600 times a second, by which the level within a short window differs from what the
partials sum up to: nearly nothing before an onset, then one. The phase of a partial is the integral of its frequency
(sinusoids and noise: Serra and Smith 1990; frequencies by reassignment: Auger and Flandrin 1995).

Each group also has a place, as the angle whose cosine and sine are the gains left and right, and a coherence of the channels.

Shape suffixes: B batch, C channels, S samples, K frequency bins, T slow frames, U fine frames, P partials, N noise bands,
G groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE = 48000
SLOW, FINE = 400, 80  # samples from a frame to the next: 120 and 600 frames a second
LONG, SHORT = 2048, 192  # windows in samples: for partials, for onsets
FLOOR = 1e-4
"""Added to levels (root mean squares) before the logarithm; a level of the floor is silence."""
LOG_FLOOR = math.log(FLOOR)
GROUP_HZ = (0.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 24000.0)
NUM_GROUPS = len(GROUP_HZ) - 1
NOISE_HZ = (
    60.0, 250.0, 500.0, 800.0, 1150.0, 1550.0, 2000.0, 2500.0, 3100.0, 3800.0, 4600.0, 5500.0, 6500.0, 7700.0, 9000.0,
    10500.0, 12500.0, 15000.0, 18000.0, 21500.0,
)  # fmt: skip
"""Centres of the noise bands, which are triangles from one centre to the next."""
HOLD = 8  # fine frames (13 ms) for which a short window's level is held, so that beats of partials are no onsets
LOW_HOLD = 12  # the same below 400 Hz: half a turn of 24 Hz
DEAD = 0.12  # gains of less than this (in log) are none


def _partial_edges() -> tuple[float, ...]:
    edges = [30.0]
    while edges[-1] < 12000.0:
        edges.append(edges[-1] + max(48.0, 0.04 * edges[-1]) * (1.0 if edges[-1] < 4000.0 else 2.0))
    return tuple(edges)


PARTIAL_HZ = _partial_edges()
"""Edges of the bands with one partial each."""
NUM_PARTIALS, NUM_NOISE = len(PARTIAL_HZ) - 1, len(NOISE_HZ)


@dataclass(frozen=True)
class AudioMaps:
    """What a clip is made of; levels are natural logarithms of ``root mean square + FLOOR``.

    Args:
        partial: ``[B, P, T]`` levels of the partials.
        pitch: ``[B, P, T]`` their frequencies, as a place in the band: -1 is its lower edge, 1 the upper.
        noise: ``[B, N, U]`` levels of the noise bands.
        gain: ``[B, G, U]`` logarithms of gains of the groups' partials, from -6 to 2.
        angle: ``[B, G, T]`` places, in radians; 0 is left and pi / 2 right.
        coherence: ``[B, G, T]`` 1 where both channels are the same up to their levels, 0 where they are independent.
    """

    partial: Tensor
    pitch: Tensor
    noise: Tensor
    gain: Tensor
    angle: Tensor
    coherence: Tensor


@torch.no_grad()
def analyse(waveform: Tensor) -> AudioMaps:
    """Maps of ``[B, 2, S]`` audio, S a multiple of ``SLOW``."""
    power, hz = _long_spectrum(waveform)
    noise_power = _noise_floor(power)
    tonal = (power - 4.0 * noise_power).clamp(min=0.0)
    level, pitch = _gather_partials(tonal, hz)
    held = level
    for shift in range(1, LONG // 2 // SLOW + 1):  # a centred window is full only half a window after an onset
        held = torch.maximum(held, F.pad(level, (0, shift))[..., shift:])
    pitch = _hold_pitch(level, held, pitch)
    short_left, short_right, cross = _short_spectrum(waveform, SHORT)
    short = short_left + short_right
    expected = torch.einsum("mk,bkt->bmt", _smear(waveform.device), tonal)
    expected = _future_max(expected)
    tonal_short = _to_fine(expected)
    noise_short = _to_fine(torch.einsum("mk,bkt->bmt", _smear(waveform.device), noise_power))
    share = noise_short / (noise_short + tonal_short + 1e-12)
    before, after = _onsets(short)
    gain = _gains(short, held, before, after)
    per_bin = gain.exp().square()[:, _group_of_bins(SHORT)]
    weights = _noise_weights(SHORT, waveform.device)
    groups = list(_group_of_noise())
    energy = torch.einsum("nm,bmu->bnu", weights, short)
    sharp = torch.where(before[:, groups], _past(energy), torch.where(after[:, groups], _coming(energy), energy))
    tones = torch.einsum("nm,bmu->bnu", weights, per_bin * tonal_short)
    share = torch.einsum("nm,bmu->bnu", weights, share * short) / (energy + 1e-12)
    noise = torch.maximum(share * sharp, sharp - 2.0 * tones)
    gain, noise = _balance(short, held, gain, noise)
    angle, coherence = _places(short_left, short_right, cross)
    return AudioMaps(_log_level(held), pitch, _log_level(noise), gain, angle, coherence)


def synthesise(maps: AudioMaps) -> Tensor:
    """``[B, 2, T SLOW]`` audio of maps, not limited."""
    groups = _group_of_partials()
    samples = maps.partial.shape[-1] * SLOW
    gain = _to_samples(maps.gain.exp(), samples)
    starts = _starts(maps.gain, samples)
    angle, coherent = _to_samples(maps.angle, samples), _to_samples(maps.coherence, samples)
    left, right = angle.cos(), angle.sin()
    out = torch.zeros(maps.partial.shape[0], 2, samples, dtype=maps.partial.dtype, device=maps.partial.device)
    for group in range(NUM_GROUPS):
        own = [index for index, number in enumerate(groups) if number == group]
        tone = gain[:, group] * _oscillators(maps.partial[:, own], maps.pitch[:, own], own, starts[:, group])
        out[:, 0] += left[:, group] * tone
        out[:, 1] += right[:, group] * tone
    common, side = _noise_bank(samples, maps.partial.device)
    levels = _level(maps.noise)
    for band, group in enumerate(_group_of_noise()):
        level = _to_samples(levels[:, band : band + 1], samples)[:, 0]
        same, other = ((0.5 + 0.5 * coherent[:, group]).sqrt(), (0.5 - 0.5 * coherent[:, group]).clamp(min=0.0).sqrt())
        middle, apart = same * common[band], other * side[band]
        out[:, 0] += left[:, group] * level * (middle + apart)
        out[:, 1] += right[:, group] * level * (middle - apart)
    return out


def _log_level(power: Tensor) -> Tensor:
    return torch.log(power.clamp(min=0.0).sqrt() + FLOOR)


def _level(log_level: Tensor) -> Tensor:
    return (log_level.exp() - FLOOR).clamp(min=0.0)


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
    in_group[list(_group_of_noise()), list(range(NUM_NOISE))] = 1.0
    found = torch.einsum("gk,bku->bgu", weights, short)
    made = gain.exp().square() * _to_fine(torch.einsum("gp,bpt->bgt", lines, held)) + torch.einsum("gn,bnu->bgu", in_group, noise)
    found, made = (F.avg_pool1d(F.pad(x, (12, 12), mode="replicate"), 25, 1) for x in (found, made))
    ratio = ((found + 1e-9) / (made + 1e-9)).clamp(0.2, 3.0)
    gain = torch.where(gain == 0.0, gain, gain + 0.5 * ratio.log())
    return (gain - gain.clamp(-DEAD, DEAD)).clamp(-6.0, 2.0), noise * ratio[:, list(_group_of_noise())]


def _onsets(short: Tensor) -> tuple[Tensor, Tensor]:
    """Where each group is just before and just after an onset, ``[B, G, U]``: a window rises slower than what it sees."""
    weights = torch.stack([_group_weights(SHORT, group, short.device) for group in range(NUM_GROUPS)])
    energy = torch.einsum("gk,bku->bgu", weights, short) + 1e-9
    past, coming = _past(energy), _coming(energy)
    jump = coming > 6.0 * past
    late = energy > 0.5 * coming
    return jump & ~late, jump & late


REACH = 2


def _past(energy: Tensor) -> Tensor:
    return -F.max_pool1d(F.pad(-energy, (REACH, 0), value=-math.inf), REACH + 1, 1)


def _coming(energy: Tensor) -> Tensor:
    return F.max_pool1d(F.pad(energy, (0, REACH), value=-math.inf), REACH + 1, 1)


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


def _to_samples(frames: Tensor, samples: int) -> Tensor:
    return F.interpolate(frames, size=samples, mode="linear")


def _starts(gain: Tensor, samples: int) -> Tensor:
    """``[B, G, S]`` index of the sample at which the phases of each group were last set to zero: where its gain jumps up."""
    before = F.pad(gain, (1, 0), value=0.0)[..., :-1]
    jump = (gain - before > 1.0) & (before < -1.0)
    at = torch.arange(gain.shape[-1], device=gain.device) * FINE
    marks = torch.where(jump, at, 0).repeat_interleave(FINE, dim=-1)
    return marks.cummax(dim=-1).values[..., :samples]


def _oscillators(partial: Tensor, pitch: Tensor, bands: list[int], starts: Tensor) -> Tensor:
    """Sum ``[B, S]`` of sinusoids whose phases are the integrals of their frequencies; only where they sound.

    Args:
        partial: ``[B, P, T]`` levels of the partials of ``bands``.
        pitch: ``[B, P, T]`` their places in their bands.
        bands: Which bands they are.
        starts: ``[B, S]`` index of the sample at which the phases were last zero.
    """
    edges = torch.tensor(PARTIAL_HZ, device=partial.device, dtype=torch.float64)
    low, high = edges[:-1][bands][:, None], edges[1:][bands][:, None]
    turns = (0.5 * (low + high) + 0.5 * (high - low) * pitch.double()) / SAMPLE_RATE  # cycles per sample
    # stretches of SLOW samples from the middle of a frame to that of the next, with half a frame too much at both ends
    amplitude = F.pad(math.sqrt(2.0) * _level(partial), (1, 1), mode="replicate")
    turns = F.pad(turns, (1, 1), mode="replicate")
    cycles = F.pad(torch.cumsum(0.5 * SLOW * (turns[..., 1:] + turns[..., :-1]), dim=-1), (1, 0))
    cycles, turns = (cycles - cycles.floor()).to(partial.dtype), turns.to(partial.dtype)
    starts = F.pad(starts, (SLOW // 2, SLOW // 2), mode="replicate").unflatten(-1, (-1, SLOW)) + SLOW // 2
    ratio = (torch.arange(SLOW, device=partial.device) + 0.5) / SLOW
    total = torch.zeros(starts.shape, device=partial.device, dtype=partial.dtype)
    for band in range(len(bands)):
        level, speed, since = amplitude[:, band], turns[:, band], cycles[:, band]
        where = _sounding(level)
        row, frame = where[0][:, None], where[1][:, None]
        start = starts[where]
        zero_frame, zero = start // SLOW, (start % SLOW + 0.5) / SLOW
        phase = since[row, frame] + SLOW * ratio * _middle(speed, row, frame, 0.5 * ratio)
        phase = phase - since[row, zero_frame] - SLOW * zero * _middle(speed, row, zero_frame, 0.5 * zero)
        total[where] += torch.sin(2.0 * math.pi * torch.frac(phase)) * _middle(level, row, frame, ratio)
    return total.flatten(1)[:, SLOW // 2 : -SLOW // 2]


def _middle(frames: Tensor, row: Tensor, frame: Tensor, ratio: Tensor) -> Tensor:
    """What ``frames`` ``[B, T]`` are at ``ratio`` of the way from ``frame`` to the next."""
    first = frames[row, frame]
    return first + ratio * (frames[row, frame + 1] - first)


def _sounding(level: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and frames from which on to the next something sounds; on the meta device, where cost is measured, all."""
    heard = (level[:, 1:] > 0) | (level[:, :-1] > 0)
    if heard.is_meta:
        count = torch.empty(heard.numel(), dtype=torch.long, device="meta")
        return count, count
    row, frame = torch.nonzero(heard, as_tuple=True)
    return row, frame


@lru_cache(maxsize=8)
def _smear(device: torch.device) -> Tensor:
    """``[K short, K long]``: what a line in each long bin adds to the short bins."""
    lines = np.arange(LONG // 2 + 1) * SHORT / LONG
    return torch.from_numpy(_main_lobe(lines[None, :] - np.arange(SHORT // 2 + 1)[:, None])).float().to(device)


def _main_lobe(offset: np.ndarray) -> np.ndarray:
    """Share of a line's power that falls into a bin ``offset`` bins away, for a Hann window (all bins: 1)."""
    x = np.where(np.abs(np.abs(offset) - 1.0) < 1e-6, offset + 1e-5, offset)
    response = np.sinc(x) / (1.0 - x**2)
    return response**2 / 1.5


def _edges_weight(hz: np.ndarray, group: int) -> np.ndarray:
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


def _group_of(hz: float) -> int:
    return max(index for index in range(NUM_GROUPS) if hz >= GROUP_HZ[index])


@lru_cache(maxsize=1)
def _group_of_partials() -> tuple[int, ...]:
    return tuple(_group_of(0.5 * (low + high)) for low, high in zip(PARTIAL_HZ[:-1], PARTIAL_HZ[1:], strict=True))


@lru_cache(maxsize=1)
def _group_of_noise() -> tuple[int, ...]:
    return tuple(_group_of(hz) for hz in NOISE_HZ)


def _triangles(hz: np.ndarray) -> np.ndarray:
    """``[N, len(hz)]`` weights that add up to 1 between the outer centres."""
    eye = np.eye(NUM_NOISE)
    weights = np.stack([np.interp(hz, NOISE_HZ, row) for row in eye])
    weights[:, hz < 20.0] = 0.0
    return weights


@lru_cache(maxsize=8)
def _noise_weights(size: int, device: torch.device) -> Tensor:
    return torch.from_numpy(_triangles(np.arange(size // 2 + 1) * SAMPLE_RATE / size)).float().to(device)


PERIOD = 2**16


@lru_cache(maxsize=2)
def _noise_period() -> np.ndarray:
    """``[2, N, PERIOD]``: noise of every band, of root mean square 1, for what channels share and what tells them apart."""
    rng = np.random.default_rng(48000)
    hz = np.fft.rfftfreq(PERIOD, 1.0 / SAMPLE_RATE)
    shapes = np.sqrt(_triangles(hz))
    lines = rng.standard_normal((2, NUM_NOISE, hz.size)) + 1j * rng.standard_normal((2, NUM_NOISE, hz.size))
    noise = np.fft.irfft(lines * shapes, n=PERIOD)
    return (noise / noise.std(axis=-1, keepdims=True)).astype(np.float32)


def _noise_bank(samples: int, device: torch.device) -> Tensor:
    period = torch.from_numpy(_noise_period()).to(device)
    return period.repeat(1, 1, -(-samples // PERIOD))[..., :samples]
