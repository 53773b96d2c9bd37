"""Read a clip of a known scene: what is seen, what is heard, when, in which colours and voices.

Only the kinds of a scene's video and audio are used, and nothing of its times. The clip may come from the renderer, through a
codec, or from a model that was given the scene's caption.

What single sounds are like is read here, too: how long they ring, how bright they are, how low the body that strikes is, whose
voice it is. All are of one audio that begins at a known instant and ends, at the latest, where the next begins. The window
falls from 1 at that instant, so that what is over soon counts in full.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mova.lab.read.attributes import COLOURED, read_colours
from mova.lab.read.audio_events import hear
from mova.lab.read.events import Reading
from mova.lab.read.video_events import see
from mova.media.clip import Clip
from mova.scenes.clapper.scene import ClapperScene


def read_events(clip: Clip, scene: ClapperScene) -> Reading:
    """Read what happens in a clip, and when.

    Args:
        clip: The clip.
        scene: Scene that it shows. Its shutter is that of the pictures: ``replace(scene, shutter=0.75)`` for what a model made
            that learnt from the rendered world.

    Raises:
        ValueError: If the shutter is not in (0, 1].
    """
    drawn, sounding = (script.definition or script.kind for script in (scene.picture, scene.audio))
    seen = see(clip.frames, float(clip.fps), kind=drawn, shutter=scene.shutter)
    return Reading(tuple(seen), tuple(hear(clip.waveform, clip.sample_rate, kind=sounding)))


def read_all(clip: Clip, scene: ClapperScene) -> Reading:
    """Read everything that the caption of a scene may ask for; arguments and errors as for :func:`read_events`."""
    events, kind = read_events(clip, scene), scene.picture.kind
    colours = read_colours(clip.frames, kind=kind) if kind in COLOURED else frozenset()
    times_s = events.heard_s if scene.audio.kind == "mouth" else ()
    voices = tuple(nearest_voice(clip.waveform, clip.sample_rate, time_s) for time_s in times_s)
    return Reading(events.seen, events.heard, colours, voices)


Floats = npt.NDArray[np.float64]
Waveform = npt.NDArray[np.float32]
RING_DB = 20.0
VOICES_HZ: Mapping[str, float] = {"low": 115.0, "high": 240.0}
"""Mean pitches of the voices of ``mouth``."""


def ring_s(waveform: Waveform, sample_rate: int, time_s: float, *, until_s: float) -> float:
    """Seconds until what is left of audio's energy is ``RING_DB`` below all of it; nan if there is none.

    Backward integration (Schroeder 1965, "New method of measuring reverberation time").

    Args:
        waveform: ``[channels, S]``.
        sample_rate: Samples per second.
        time_s: Start of the sound.
        until_s: Start of the next, or end of the clip.
    """
    power = np.square(_piece(waveform, sample_rate, time_s, until_s, most_s=0.6))
    if power.size < 2 or power.sum() < _LEAST:
        return float("nan")
    left = np.cumsum(power[::-1])[::-1]
    return float(np.argmax(left < left[0] * 10.0 ** (-RING_DB / 10.0)) or power.size) / sample_rate


def centroid_hz(waveform: Waveform, sample_rate: int, time_s: float, *, until_s: float) -> float:
    """Mean frequency of the power of audio's first 0.12 s; nan if there is none. Arguments as :func:`ring_s`."""
    return _centre(_piece(waveform, sample_rate, time_s, until_s, most_s=0.12), sample_rate, low_hz=60.0, high_hz=7600.0)


def body_hz(waveform: Waveform, sample_rate: int, time_s: float, *, until_s: float) -> float:
    """Mean frequency of the power from 100 to 330 Hz, where a ball thuds whatever it falls on; nan if there is none."""
    return _centre(_piece(waveform, sample_rate, time_s, until_s, most_s=0.08), sample_rate, low_hz=100.0, high_hz=330.0)


def nearest_voice(waveform: Waveform, sample_rate: int, time_s: float) -> str:
    """``low`` or ``high``, whichever is nearer in octaves to the pitch of a syllable; empty if it has none.

    The pitch is the first high peak of the autocorrelation of 0.12 s. Its spectrum is compressed, so that a strong formant
    does not pass for the pitch (Tolonen and Karjalainen 2000, "A computationally efficient multipitch analysis model").

    Args:
        waveform: ``[channels, S]``.
        sample_rate: Samples per second.
        time_s: Start of the syllable.
    """
    first = max(0, round((time_s + 0.02) * sample_rate))
    piece = waveform.mean(axis=0, dtype=np.float64)[first : first + round(0.12 * sample_rate)]
    if piece.size < 0.04 * sample_rate or np.abs(piece).max() < 1e-3:
        return ""
    size = 1 << (2 * piece.size - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(piece.size), size))
    spectrum[np.fft.rfftfreq(size, 1.0 / sample_rate) > _TOP_HZ] = 0.0
    alike = np.fft.irfft(spectrum**0.67)
    shortest, longest = (round(sample_rate / pitch_hz) for pitch_hz in (_PITCH_HZ[1], _PITCH_HZ[0]))
    lags = np.arange(shortest, longest)
    peaks = lags[(alike[lags] >= alike[lags - 1]) & (alike[lags] > alike[lags + 1])]
    if not peaks.size or alike[peaks].max() < 0.1 * alike[0]:
        return ""
    lag = peaks[alike[peaks] > 0.85 * alike[peaks].max()][0]
    return min(VOICES_HZ, key=lambda name: abs(float(np.log(VOICES_HZ[name] * lag / sample_rate))))


_PITCH_HZ, _TOP_HZ = (70.0, 400.0), 5000.0
_LEAST = 1e-7


def _piece(waveform: Waveform, sample_rate: int, time_s: float, until_s: float, *, most_s: float) -> Floats:
    first = max(0, round(time_s * sample_rate))
    last = round(min(until_s - 0.005, time_s + most_s) * sample_rate)
    return np.asarray(waveform[:, first : max(first, last)].mean(axis=0, dtype=np.float64))


def _centre(piece: Floats, sample_rate: int, *, low_hz: float, high_hz: float) -> float:
    if piece.size < 0.01 * sample_rate or np.square(piece).sum() < _LEAST:
        return float("nan")
    size = 1 << max(14, (2 * piece.size - 1).bit_length())
    power = np.abs(np.fft.rfft(piece * np.hanning(2 * piece.size)[piece.size :], size)) ** 2
    frequencies = np.fft.rfftfreq(size, 1.0 / sample_rate)
    inside = (frequencies >= low_hz) & (frequencies <= high_hz)
    return float(frequencies[inside] @ power[inside] / max(float(power[inside].sum()), 1e-30))
