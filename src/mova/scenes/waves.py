"""What every rendered sound is made of: damped partials, noise of a band, and harmonics of one phase.

All are closed-form functions of time, sampled, so an onset may lie between two samples, and the same scene
at another sample rate is the same sound. Noise is a random Fourier series on the clip's own clock: its
first coefficients do not depend on the rate, which only decides how many of them there are. Nothing is made
above ``MAX_OF_RATE`` times the sample rate, so nothing folds back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, gcd, isqrt

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft

Signal = npt.NDArray[np.float64]

MAX_OF_RATE = 0.45
BRIEF_HZ = 25
"""Spacing of noise lines for contact noise: it is long over before it repeats after 40 ms."""
_REFERENCE_HZ = 7200.0  # noise levels are stated for a 16 kHz clip, that is up to 0.45 of its rate


@dataclass(frozen=True)
class Window:
    """The samples of a clip during which one sound rings.

    Args:
        first: Index of the first sample at or after the sound's start (0 if it started before the clip).
        num_samples: Samples in the window; 0 if the sound lies outside the clip.
        lead_s: Time of sample ``first`` minus the start of the sound, in seconds; not negative.
        sample_rate: Samples per second.
    """

    first: int
    num_samples: int
    lead_s: float
    sample_rate: int

    @classmethod
    def after(cls, start_s: float, seconds: float, *, sample_rate: int, clip_samples: int) -> Window:
        """The samples in ``[start_s, start_s + seconds)`` inside a clip of ``clip_samples`` samples."""
        first = max(0, ceil(start_s * sample_rate))
        last = min(clip_samples, ceil((start_s + seconds) * sample_rate))
        return cls(first, max(0, last - first), first / sample_rate - start_s, sample_rate)

    @property
    def times_s(self) -> Signal:
        """``[num_samples]`` seconds since the sound started, first one in ``[0, 1 / sample_rate)``."""
        return self.lead_s + np.arange(self.num_samples) / self.sample_rate


@dataclass(frozen=True)
class Band:
    """A band of noise with Butterworth-like skirts: ``order`` times 6 dB per octave beyond each edge.

    Args:
        low_hz: Lower edge (-3 dB).
        high_hz: Upper edge (-3 dB).
        order: Steepness of both skirts.
        spacing_hz: Distance between the lines of the Fourier series: the noise repeats as often in a
            second. A blow that is over before it repeats needs no closer lines, and is faster to make.
    """

    low_hz: float
    high_hz: float
    order: int = 3
    spacing_hz: int = 5


def damped_modes(
    window: Window,
    frequencies_hz: Sequence[float] | Signal,
    *,
    decays_s: Sequence[float] | Signal,
    amplitudes: Sequence[float] | Signal,
) -> Signal:
    """Sum of ``amplitude * exp(-t / decay) * sin(2 pi frequency t)``: a struck body, by modal synthesis.

    ``exp(s (t_block + t_within))`` factors, so the sum over modes is one small matrix product instead of a
    sine for each mode and sample.

    Args:
        window: Samples to make; ``t`` is its ``times_s``.
        frequencies_hz: ``[K]``; those above ``MAX_OF_RATE`` of the rate are left out.
        decays_s: ``[K]`` time constants (to 1/e; -30 dB is reached after 3.45 of them).
        amplitudes: ``[K]``.

    Returns:
        ``[num_samples]`` float64.
    """
    frequencies = np.asarray(frequencies_hz, dtype=np.float64)
    heard = frequencies <= MAX_OF_RATE * window.sample_rate
    exponents = (-1.0 / np.asarray(decays_s) + 2j * np.pi * frequencies)[heard]
    gains = np.asarray(amplitudes)[heard]
    block = isqrt(window.num_samples) + 1
    offsets_s = np.arange(block) / window.sample_rate
    within = gains[:, None] * np.exp(exponents[:, None] * offsets_s)
    starts = np.exp((window.lead_s + block * offsets_s)[:, None] * exponents)
    imaginary = np.hstack((starts.real, starts.imag)) @ np.vstack((within.imag, within.real))
    samples: Signal = imaginary.reshape(-1)[: window.num_samples]
    return samples


def band_noise(window: Window, band: Band, rng: np.random.Generator) -> Signal:
    """Gaussian noise of ``band``, RMS 1 at 16 kHz, on the clip's clock; an envelope then places it.

    At another rate the power per Hz is the same.

    Args:
        window: Samples to make.
        band: Its spectrum.
        rng: Source of the Fourier coefficients, read from low to high frequency.

    Returns:
        ``[num_samples]`` float64.
    """
    # a step that divides both the rate and the spacing makes the period a whole number of samples
    step_hz = gcd(band.spacing_hz, window.sample_rate)
    period = window.sample_rate // step_hz
    lines = _band_lines(band, window.sample_rate, period)
    stride = band.spacing_hz // step_hz
    spectrum = np.zeros(period // 2 + 1, dtype=np.complex64)
    coefficients = rng.standard_normal(2 * lines.size, dtype=np.float32).view(np.complex64)
    spectrum[stride : stride * lines.size + 1 : stride] = coefficients * lines
    noise = irfft(spectrum, n=period)
    return np.take(noise, window.first + np.arange(window.num_samples), mode="wrap").astype(np.float64)


def harmonics(phase: Signal, weights: npt.NDArray[np.complex128]) -> Signal:
    """``Im(sum_n weights[n - 1] * exp(i n phase))`` for n = 1, 2, ...: a tone that follows ``phase``.

    Args:
        phase: ``[N]`` phase of the first harmonic in radians.
        weights: ``[H]`` complex amplitude of each harmonic; the caller leaves out those above
            ``MAX_OF_RATE``.

    Returns:
        ``[N]`` float64.
    """
    turn = np.exp(1j * phase)
    total = np.zeros_like(turn)
    for weight in weights[::-1]:  # Horner's rule: one complex product for each harmonic
        total += weight
        total *= turn
    return np.asarray(total.imag)


def strike(window: Window, decay_s: float, attack_s: float = 0.0003) -> Signal:
    """Envelope of a blow: a raised-cosine attack times ``exp(-t / decay_s)``."""
    block = isqrt(window.num_samples) + 1
    offsets_s = np.arange(block) / window.sample_rate
    starts, within = np.exp(-(window.lead_s + block * offsets_s) / decay_s), np.exp(-offsets_s / decay_s)
    envelope = np.outer(starts, within).reshape(-1)[: window.num_samples]
    attack = window.times_s[: ceil(attack_s * window.sample_rate)]
    envelope[: attack.size] *= rise(attack, attack_s)
    return envelope


def rise(times_s: Signal, seconds: float) -> Signal:
    """Raised cosine: 0 up to time 0, 1 from ``seconds`` on."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(times_s / seconds, 0.0, 1.0))


def glide(times_s: Signal, start_hz: float, end_hz: float, decay_s: float) -> Signal:
    """Phase in radians of a tone falling from ``start_hz`` to ``end_hz`` with time constant ``decay_s``."""
    fallen = (start_hz - end_hz) * decay_s * (1.0 - np.exp(-times_s / decay_s))
    return 2.0 * np.pi * (end_hz * times_s + fallen)


def together(*layers: Signal) -> Signal:
    """Sum of signals that start at the same sample and may end at different ones."""
    total = np.zeros(max(layer.size for layer in layers))
    for layer in layers:
        total[: layer.size] += layer
    return total


@lru_cache(maxsize=128)
def _band_lines(band: Band, sample_rate: int, period: int) -> npt.NDArray[np.float32]:
    """``[K]`` gains of the lines at 1 ... K times the spacing, scaled for ``irfft`` (half the period)."""

    def gain(highest_hz: float) -> Signal:
        frequencies = band.spacing_hz * np.arange(1.0, int(highest_hz / band.spacing_hz) + 1.0)
        power = 2 * band.order
        skirts = (1.0 + (band.low_hz / frequencies) ** power) * (1.0 + (frequencies / band.high_hz) ** power)
        return np.asarray(skirts**-0.5)

    lines = gain(MAX_OF_RATE * sample_rate) / np.sqrt(np.sum(gain(_REFERENCE_HZ) ** 2))
    # what lies 60 dB down on the high side is not heard: fewer coefficients to draw
    audible = np.flatnonzero(lines > 1e-3 * lines.max())
    return np.asarray(lines[: audible[-1] + 1] * (period / 2), dtype=np.float32)
