"""Detect faults of audio without a reference: offset, clipping, pops, silence, a missing band.

A drum stroke is as sudden as a pop, and a room before the first event is nearly as quiet as missing audio. The detectors
tell them apart as follows:

* a *pop* is isolated: its high frequencies are far above those before *and* after it, while a stroke decays slowly;
* *missing audio* starts abruptly; sounds decay, and a quiet room has a noise floor;
* a *missing band* has a steep edge in the quietest tenth of the clip, where no tone is; rooms have gentle slopes;
* a *clipped* peak is flat, repeatedly at the same value; a loud peak is round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from mova.media.health.video import Finding

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AudioLimits:
    """Limits of the audio detectors.

    Args:
        offset: Largest mean of the samples; full scale is 1.
        flat: Largest number of pairs of equal neighbouring samples at a peak; the top of a low tone may be flat to the last
            bit.
        pop: Height of the smallest pop; full scale is 1.
        pop_ratio: Ratio of a pop to the samples around it.
        silent_db: Peak below which audio is silent, in dB relative to full scale.
        gap_s: Longest allowed stretch of digital silence, in seconds.
        wall_db: Steepest allowed fall of the noise floor within a sixth of an octave, in dB.
    """

    offset: float = 0.01
    flat: float = 3.0
    pop: float = 0.1
    pop_ratio: float = 14.0
    silent_db: float = -60.0
    gap_s: float = 0.015
    wall_db: float = 20.0


def find_offset(audio: Floats, sample_rate: int, limits: AudioLimits) -> list[Finding]:
    """Find a mean that is not zero."""
    del sample_rate
    mean = float(np.abs(audio.mean(axis=1)).max())
    if mean <= limits.offset:
        return []
    return [Finding("dc_offset", 0.0, mean, limits.offset, "mean of the samples, of full scale")]


def find_clipping(audio: Floats, sample_rate: int, limits: AudioLimits) -> list[Finding]:
    """Find flat peaks: neighbouring samples that are both exactly the highest, or the lowest, value of a channel."""
    most, at = 0, 0
    for channel in audio:
        for side in (channel, -channel):
            peak = float(side.max())
            if peak < _CLIPS_ABOVE:
                continue
            top = side >= peak * (1.0 - 1e-6)
            flat = top[:-1] & top[1:]
            if flat.sum() > most:
                most, at = int(flat.sum()), int(flat.argmax())
    if most <= limits.flat:
        return []
    return [Finding("clipping", at / sample_rate, float(most), limits.flat, "pairs of samples in flat tops")]


def find_pops(audio: Floats, sample_rate: int, limits: AudioLimits) -> list[Finding]:
    """Find samples that stand out from those just before and just after them, by fourth differences."""
    near, wide = max(3, round(0.0005 * sample_rate)), max(16, round(0.004 * sample_rate))
    if audio.shape[1] < 4 * wide:
        return []
    strongest, at, count = 0.0, 0, 0
    for channel in audio:
        edge = np.zeros_like(channel)  # fourth differences are undefined at the first and the last two samples
        edge[2:-2] = np.abs(np.convolve(channel, _FOURTH, mode="valid"))
        # an impulse of height 1 gives 0.375, a step of height 1 gives 0.19
        height = edge / 0.375
        last = -wide
        places = [
            place
            for place in np.flatnonzero(height > limits.pop).tolist()
            if edge[place] >= edge[max(0, place - near) : place + near + 1].max()
        ]
        for place, around in zip(places, _levels_around(edge, places, near, wide), strict=True):
            if place - last < wide:
                continue
            ratio = float(edge[place]) / max(float(around), 1e-5)
            if ratio > limits.pop_ratio:
                last, count = place, count + 1
                if height[place] > strongest:
                    strongest, at = float(height[place]), place
    if not count:
        return []
    return [Finding("pop", at / sample_rate, strongest, limits.pop, f"height of the strongest of {count}, of full scale")]


def _levels_around(edge: Floats, places: list[int], near: int, wide: int) -> Floats:
    """The higher of the levels (nine tenths of samples are below) before and after each place of ``edge [S]``."""
    levels = np.zeros(len(places), edge.dtype)
    for first, last in ((-2 * wide, -near), (near + 1, near + 1 + wide)):
        spans = {index: (max(0, place + first), max(0, min(place + last, len(edge)))) for index, place in enumerate(places)}
        for size in {end - begin for begin, end in spans.values() if end - begin > near}:
            chosen = [index for index, (begin, end) in spans.items() if end - begin == size]
            windows = edge[np.array([spans[index][0] for index in chosen])[:, None] + np.arange(size)]
            levels[chosen] = np.maximum(levels[chosen], np.quantile(windows, 0.9, axis=1))
    return levels


def find_silence(audio: Floats, sample_rate: int, limits: AudioLimits) -> list[Finding]:
    """Find silent audio, a silent channel of stereo, or a stretch of digital silence that begins abruptly.

    Of more than two channels some may be silent: a surround or the low frequency channel is not used all the time.
    """
    peaks = np.abs(audio).max(axis=1)
    quiet = 10.0 ** (limits.silent_db / 20.0)
    if (peaks.min() if len(peaks) <= _STEREO else peaks.max()) < quiet:
        level = 20.0 * np.log10(max(float(peaks.min()), 1e-6))
        which = "whole audio" if peaks.max() < quiet else f"channel {int(peaks.argmin())}"
        detail = f"the {which}: dB below the quietest peak allowed"
        return [Finding("silence", 0.0, limits.silent_db - level, 0.0, detail, is_whole=True)]
    longest, at = 0, 0
    nothing = np.abs(audio).max(axis=0) < _NOTHING
    edges = np.flatnonzero(np.diff(np.concatenate(([False], nothing, [False])).astype(np.int8)))
    beside = max(1, round(0.002 * sample_rate))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        fell = first > 0 and np.abs(audio[:, max(0, first - beside) : first]).max() > _SOMETHING
        rose = last < audio.shape[1] and first == 0 and np.abs(audio[:, last : last + beside]).max() > _SOMETHING
        if (fell or rose) and last - first > longest:
            longest, at = int(last - first), int(first)
    if longest <= limits.gap_s * sample_rate:
        return []
    return [Finding("silence", at / sample_rate, longest / sample_rate, limits.gap_s, "seconds of nothing, begun at once")]


def find_lost_band(audio: Floats, sample_rate: int, limits: AudioLimits) -> list[Finding]:
    """Find a steep edge in the noise floor of the spectrum, within a sixth of an octave.

    Checked is 250 Hz to 6.9 kHz, which audio generated at 16 kHz covers completely, whatever the rate of the file: a file
    written at a higher rate has the bandwidth of the audio it was made from, and that is no fault.
    """
    size = 1 << max(8, round(0.064 * sample_rate).bit_length() - 1)
    if audio.shape[1] < 4 * size:
        return []
    frames = np.lib.stride_tricks.sliding_window_view(audio.mean(axis=0), size)[:: size // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)) ** 2
    floor = np.quantile(power, _QUIET_PART, axis=0)
    # a median over frequency removes single tones; the last term is the rounding of 16-bit samples
    level = 10.0 * np.log10(median_filter(floor, _SMOOTH, mode="nearest") + 1e-12 * size)
    frequencies = np.fft.rfftfreq(size, 1.0 / sample_rate)
    low = max(_LOWEST_HZ, 2 * _SMOOTH * sample_rate / size)
    top = int(np.searchsorted(frequencies, _TOP_OF_RATE * min(sample_rate, _LOWEST_RATE)))
    inside = np.flatnonzero(frequencies[:top] >= low)
    upper = np.searchsorted(frequencies, frequencies[inside] * 2.0 ** (1.0 / 6.0)) + _SMOOTH // 2
    inside, upper = inside[upper < top], upper[upper < top]
    if not inside.size:
        return []
    fall = np.abs(level[inside] - level[upper])
    steepest = int(np.argmax(fall))
    if fall[steepest] <= limits.wall_db:
        return []
    hertz = float(frequencies[inside[steepest]])
    return [Finding("lost_band", 0.0, float(fall[steepest]), limits.wall_db, f"dB of a wall in the spectrum at {hertz:.0f} Hz")]


_FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0], np.float32) / 16.0
_STEREO = 2
_CLIPS_ABOVE = 0.05
_NOTHING, _SOMETHING = 3e-6, 5e-5  # below and well above the last bit of 16
_QUIET_PART = 0.1
_SMOOTH = 9
_LOWEST_HZ = 250.0
_TOP_OF_RATE = 0.43  # the filters of converters lie above
# audio generated at 16 kHz has no more than that band in a file at any rate, and Opus files are always at 48 kHz
_LOWEST_RATE = 16_000
