"""From maps (:mod:`mova.models.codecs.audio_maps`) to stereo audio, without anything trained."""

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
    NUM_GROUPS,
    NUM_NOISE,
    PARTIAL_HZ,
    SAMPLE_RATE,
    SLOW,
    AudioMaps,
    group_of_noise,
    group_of_partials,
    noise_triangles,
    root_mean_square,
)

PERIOD = 2**16
"""Samples after which the noise repeats."""


def synthesise(maps: AudioMaps) -> Tensor:
    """``[B, 2, T SLOW]`` audio of maps, not limited."""
    samples = maps.partial.shape[-1] * SLOW
    out = torch.zeros(maps.partial.shape[0], 2, samples, dtype=maps.partial.dtype, device=maps.partial.device)
    noise = torch.from_numpy(_noise_period()).to(out.device)
    for group in range(NUM_GROUPS):
        own = [band for band, number in enumerate(group_of_partials()) if number == group]
        tone = _oscillators(maps.partial[:, own], maps.pitch[:, own], own, _starts(maps.gain[:, group]))
        tone *= _to_samples(maps.gain[:, group].exp(), samples)
        angle, coherence = (_to_samples(x[:, group], samples) for x in (maps.angle, maps.coherence))
        # two channels, each the sum or the difference of what they share and what tells them apart
        shared, apart = (0.5 + 0.5 * coherence).sqrt(), (0.5 - 0.5 * coherence).sqrt()
        left, right = tone, tone.clone()
        for band in (band for band, number in enumerate(group_of_noise()) if number == group):
            level = _to_samples(root_mean_square(maps.noise[:, band]), samples)
            middle, side = (
                level * share * _repeat(wave, samples) for share, wave in zip((shared, apart), noise[:, band], strict=True)
            )
            left += middle + side
            right += middle - side
        out[:, 0] += angle.cos() * left
        out[:, 1] += angle.sin() * right
    return out


def _starts(gain: Tensor) -> Tensor:
    """``[B, S]`` index of the sample at which the phases were last set to zero: where a gain ``[B, U]`` jumps up."""
    before = F.pad(gain, (1, 0))[:, :-1]
    jump = (gain - before > 1.0) & (before < -1.0)
    at = torch.arange(gain.shape[-1], device=gain.device) * FINE
    return torch.where(jump, at, 0).cummax(dim=-1).values.repeat_interleave(FINE, dim=-1)


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
    amplitude = F.pad(math.sqrt(2.0) * root_mean_square(partial), (1, 1), mode="replicate")
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


def _to_samples(frames: Tensor, samples: int) -> Tensor:
    """``[B, frames]`` to ``[B, samples]``, straight from the middle of a frame to that of the next."""
    return F.interpolate(frames[:, None], size=samples, mode="linear")[:, 0]


def _repeat(period: Tensor, samples: int) -> Tensor:
    return period.repeat(-(-samples // PERIOD))[:samples]


@lru_cache(maxsize=1)
def _noise_period() -> npt.NDArray[np.float32]:
    """``[2, N, PERIOD]``: noise of every band, of root mean square 1, for what channels share and what tells them apart."""
    rng = np.random.default_rng(48000)
    hz = np.fft.rfftfreq(PERIOD, 1.0 / SAMPLE_RATE)
    shapes = np.sqrt(noise_triangles(hz.astype(np.float64)))
    lines = rng.standard_normal((2, NUM_NOISE, hz.size)) + 1j * rng.standard_normal((2, NUM_NOISE, hz.size))
    noise = np.fft.irfft(lines * shapes, n=PERIOD)
    period: npt.NDArray[np.float32] = (noise / noise.std(axis=-1, keepdims=True)).astype(np.float32)
    return period
