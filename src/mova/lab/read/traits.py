"""What a clip of a known family looks and sounds like besides its times: colours and voices.

Colours are the nearest of the family's own by CIEDE2000, taken from where its subject is. What audio tells by its
spectrum (floor, pad, key, vowel) is in the labels of what is heard already (:mod:`mova.lab.read.audio_events`); here
is only the pitch of a voice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mova.lab.read.attributes import read_colours
from mova.lab.read.colour import nearest_names
from mova.lab.read.readers import Reading, block_line, lit_glass, puck_colours, read_clip_events
from mova.media.clip import Clip
from mova.scenes.clapper.plans import LAMP_COLOURS, PUCK_COLOURS
from mova.scenes.clapper.scene import SHUTTER
from mova.scenes.palette import COLOURS, WHITE
from mova.scenes.raster import mix

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]
VOICES_HZ: Mapping[str, float] = {"low": 115.0, "high": 240.0}
"""Mean pitches of the voices of ``mouth``."""


@dataclass(frozen=True)
class Traits:
    """What was read from a clip, whatever it was asked to be.

    Args:
        reading: Events seen and heard.
        colours: Names of the colours of its subject; empty if it is not seen or its family has none.
        voices: Of each audio of ``mouth``, ``low``, ``high``, or empty where no pitch is heard; of other families nothing.
    """

    reading: Reading
    colours: frozenset[str] = frozenset()
    voices: tuple[str, ...] = ()


def read_traits(clip: Clip, *, family: str, shutter: float = SHUTTER) -> Traits:
    """Look at and listen to a clip for everything that a caption of its family may ask for.

    Args:
        clip: The clip.
        family: A name in :data:`~mova.scenes.clapper.families.FAMILIES`.
        shutter: As in :func:`~mova.lab.read.readers.read_clip_events`.

    Raises:
        ValueError: If there is no such family, or the shutter is not in (0, 1].
    """
    reading = read_clip_events(clip, family=family, shutter=shutter)
    colours = _COLOURS[family](_thinned(clip.frames)) if family in _COLOURS else frozenset()
    times_s = [one.time_s for one in reading.heard] if family == "mouth" else []
    return Traits(reading, colours, tuple(nearest_voice(clip.waveform, clip.sample_rate, time_s) for time_s in times_s))


def nearest_voice(waveform: npt.NDArray[np.float32], sample_rate: int, time_s: float) -> str:
    """``low`` or ``high``, whichever is nearer in octaves to the pitch of a syllable; empty if it has none.

    The pitch is the first high peak of the autocorrelation of 0.12 s. Its spectrum is compressed, so that a strong formant
    does not pass for the pitch (Tolonen and Karjalainen 2000, "A computationally efficient multipitch analysis model").

    Args:
        waveform: ``[channels, S]``.
        sample_rate: Samples per second.
        time_s: When the syllable begins.
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


_FRAMES = 24  # that a colour is looked for in
_SIDE = 128
_PITCH_HZ, _TOP_HZ = (70.0, 400.0), 5000.0


def _thinned(frames: Frames) -> Frames:
    """Every few frames and pixels: enough for a colour."""
    pixels = max(1, min(frames.shape[1:3]) // _SIDE)
    return frames[:: max(1, len(frames) // _FRAMES), ::pixels, ::pixels]


def _ball(frames: Frames) -> frozenset[str]:
    return read_colours(frames, kind="ball")


def _face(frames: Frames) -> frozenset[str]:
    return read_colours(frames, kind="mouth")


def _lamp(frames: Frames) -> frozenset[str]:
    """The glass of a lamp where it shines, against the colours that glass has then."""
    luma = frames.astype(np.float32).mean(axis=3) / 255.0
    glass = lit_glass(luma)
    if not glass.any():
        return frozenset()
    level = luma[:, glass].mean(axis=1)
    lit = frames[level > 0.5 * (level.max() + level.min())][:, glass] / 255.0
    named = {name: mix(COLOURS[name], WHITE, 0.2) for name in LAMP_COLOURS}
    return frozenset({str(nearest_names(np.median(lit, axis=(0, 1)), named))})


def _body(frames: Frames) -> frozenset[str]:
    """The glass in the dark body of ``moving_source`` while it shines: neither wall nor black."""
    light = frames.mean(axis=(1, 2, 3))
    lit = frames[light > 0.5 * (light.max() + light.min())] / 255.0
    if not lit.size:
        return frozenset()
    wall = np.median(lit, axis=2, keepdims=True)
    glass = lit[(np.linalg.norm(lit - wall, axis=3) > 0.25) & (lit.max(axis=3) > 0.5)]
    return _most_frequent(glass, LAMP_COLOURS, least=2 * len(lit))


def _pucks(frames: Frames) -> frozenset[str]:
    return frozenset(puck_colours(frames))


def _block(frames: Frames) -> frozenset[str]:
    line = block_line(frames)
    core = line[np.linalg.norm(line - np.median(line, axis=(0, 1)), axis=2) > 0.2]
    return _most_frequent(core, PUCK_COLOURS, least=2 * len(frames))


_COLOURS: Mapping[str, Callable[[Frames], frozenset[str]]] = {
    "bounce": _ball,
    "flash_beep": _lamp,
    "mouth": _face,
    "far_flash": _lamp,
    "moving_source": _body,
    "collision": _pucks,
    "scrape": _block,
}


def _most_frequent(pixels: Floats, colours: tuple[str, ...], *, least: int) -> frozenset[str]:
    """The colour that most of ``[N, 3]`` pixels are nearest to; none if there are fewer than ``least``."""
    if len(pixels) < least:
        return frozenset()
    names, counts = np.unique(nearest_names(pixels, {name: COLOURS[name] for name in colours}), return_counts=True)
    return frozenset({str(names[np.argmax(counts)])})
