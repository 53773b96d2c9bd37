"""The sound of a scene: every event's voice at its own instant, placed left and right, over a faint floor.

Levels are absolute: a clip is never normalised. In stereo a source at ``x`` (0 left, 1 right) has the gains
``cos(pi x / 2)`` and ``sin(pi x / 2)``, whose squares add up to 1; mono gives every source the gain 1. So
both carry the same power, and a source at the very left has in the left channel the level it has in mono.
The floor (room noise, or rain in a storm) is as loud in each channel as in mono, and independent between
channels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mova.scenes.kind import Noise
from mova.scenes.kinds import definition_of
from mova.scenes.script import Script, generator
from mova.scenes.waves import Signal, Window, band_noise

SAMPLE_RATES = (8000, 96000)


def synthesise(script: Script, *, sample_rate: int, num_samples: int, channels: int = 1) -> npt.NDArray[np.float32]:
    """Render the sound of a scene.

    Each sound starts at its event's ``audio_time_s``, between samples if need be: a sample before that
    instant has nothing of it. The same arguments give the same bytes; a longer clip begins with the shorter
    one; another sample rate is the same sound, less what lies above 0.45 of the rate.

    Args:
        script: What happens, and when.
        sample_rate: Samples per second, 8000 to 96000.
        num_samples: Samples to make; they start at time 0.
        channels: 1 or 2 (left, right).

    Returns:
        ``[channels, num_samples]`` float32 in (-1, 1). Up to 0.8 the sum is exact; where overlapping sounds
        would go beyond, it bends smoothly (``tanh``) and stays below 1.

    Raises:
        ValueError: If an argument is out of range, or a label has no sound.
        RequestError: If there is no such kind.
    """
    if not SAMPLE_RATES[0] <= sample_rate <= SAMPLE_RATES[1]:
        raise ValueError(f"sample_rate must be in {SAMPLE_RATES[0]}..{SAMPLE_RATES[1]}; got {sample_rate}.")
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1; got {num_samples}.")
    if channels not in (1, 2):
        raise ValueError(f"channels must be 1 or 2; got {channels}.")
    kind = definition_of(script)
    waveform = _background(script, kind.background, sample_rate, num_samples, channels)
    for first, samples, place_x in kind.sound(script, sample_rate, num_samples):
        waveform[:, first : first + samples.size] += _pan(place_x, channels) * samples
    return _limit(waveform).astype(np.float32)


def _background(script: Script, noise: Noise, sample_rate: int, num_samples: int, channels: int) -> Signal:
    """``[channels, num_samples]`` of steady noise; by the second, so that a longer clip starts the same."""
    floor = np.zeros((channels, num_samples))
    for channel in range(channels):
        for second, start in enumerate(range(0, num_samples, sample_rate)):
            window = Window(start, min(sample_rate, num_samples - start), 0.0, sample_rate)
            rng = generator(script.kind, script.seed, f"floor of channel {channel}, second {second}")
            floor[channel, start : start + window.num_samples] = noise.rms * band_noise(window, noise.band, rng)
    return floor


def _pan(place_x: float | Signal, channels: int) -> Signal:
    """``[channels, 1]`` or ``[channels, N]`` gains of a source at ``place_x``."""
    if channels == 1:
        return np.ones((1, 1))
    angle = np.atleast_1d(np.clip(place_x, 0.0, 1.0)) * (np.pi / 2.0)
    return np.stack((np.cos(angle), np.sin(angle)))


def _limit(waveform: Signal) -> Signal:
    """Leave everything up to 0.8 as it is and bend what is beyond towards 0.99."""
    knee, room = 0.8, 0.19
    size = np.abs(waveform)
    if size.max() <= knee:
        return waveform
    bent = knee + room * np.tanh((size - knee) / room)
    return np.where(size <= knee, waveform, np.sign(waveform) * bent)
