"""Phase of steady tones from the peaks of a magnitude spectrogram.

A sinusoid of frequency ``f`` (in bins) under a periodic Hann window of N points gives, at every bin k of its main lobe,
the phase ``theta - pi k``, theta being its phase at the window's centre. So "centred" phases ``psi[k] = phase[k] + pi k``
are equal over a lobe, and advance by ``2 pi f hop / N`` from a frame to the next (the phase vocoder with rigid phase
locking, Laroche and Dolson 1999).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
