"""Spoken words with the times of their phones, made by eSpeak NG.

The library is the package ``espeakng-loader`` of the extra ``speech``: it is no part of this package, has a licence of its own
(GPL 3 or later), and is needed only to render the kind ``speech``. Its noise goes on from one word to the next, so all words of
all voices are made together, in one order, when the first is asked for; then every process has the same samples.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from threading import Lock

import numpy as np

from mova.errors import MissingExtraError
from mova.scenes.waves import Signal, rise

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "yes", "no", "go", "stop")
EXTRA = "speech"
LONGEST_S = 0.5
"""No word lasts longer."""


@dataclass(frozen=True)
class Voice:
    """A voice of eSpeak NG.

    Args:
        name: Language and variant.
        words_per_minute: Pace.
        pitch: 0 to 99.
        pitch_range: 0 (monotonous) to 99.
    """

    name: str
    words_per_minute: int
    pitch: int
    pitch_range: int


VOICES: Mapping[str, Voice] = {
    "woman": Voice("en-us+f2", 175, 52, 45),
    "man": Voice("en-us+edward", 175, 50, 45),
    "girl": Voice("en-us+f5", 185, 66, 45),
    "boy": Voice("en-us+m1", 175, 99, 45),
}


@dataclass(frozen=True, eq=False)
class Spoken:
    """A word as a voice says it, from its first audible sample to its last.

    Args:
        samples: ``[N]`` float64, loudest stretch of 40 ms at RMS 0.2.
        sample_rate: Samples per second.
        phones: Start of each phone in seconds, the first at 0, and its name in eSpeak's own notation without stress.
    """

    samples: Signal
    sample_rate: int
    phones: tuple[tuple[float, str], ...]

    @property
    def seconds(self) -> float:
        """Length."""
        return float(self.samples.size / self.sample_rate)


def speak(word: str, voice: str) -> Spoken:
    """A word of :data:`WORDS` in a voice of :data:`VOICES`.

    Raises:
        ValueError: If there is no such word or voice.
        MissingExtraError: If the library is not installed.
    """
    if word not in WORDS or voice not in VOICES:
        raise ValueError(f"a word is one of {', '.join(WORDS)}, a voice one of {', '.join(VOICES)}; got {word!r}, {voice!r}.")
    with _LOCK:
        return _all_words()[word, voice]


_LOCK = Lock()


class _Event(ctypes.Structure):
    """``espeak_EVENT`` of speak_lib.h; the name of a phone is in the last field."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_RETRIEVAL, _PHONEME_EVENTS, _DONT_EXIT = 1, 1, 0x8000
_LIST_END, _PHONEME = 0, 7
_SEED = 1
_PARAMETERS = {"words_per_minute": 1, "pitch": 3, "pitch_range": 4}


@cache
def _all_words() -> Mapping[tuple[str, str], Spoken]:
    try:
        from espeakng_loader import get_data_path, get_library_path
    except ModuleNotFoundError as error:
        raise MissingExtraError("espeakng-loader", EXTRA) from error
    library = ctypes.CDLL(get_library_path())
    rate = library.espeak_Initialize(_RETRIEVAL, 0, get_data_path().encode(), _PHONEME_EVENTS | _DONT_EXIT)
    if rate <= 0:
        raise OSError(f"eSpeak NG could not be initialised from {get_data_path()}.")
    try:
        return {
            (word, name): _trim(*_synthesise(library, word, voice), rate) for name, voice in VOICES.items() for word in WORDS
        }
    finally:
        library.espeak_Terminate()


def _synthesise(library: ctypes.CDLL, word: str, voice: Voice) -> tuple[Signal, list[tuple[int, str]]]:
    """Samples in -1..1, and the first sample of each phone with its name."""
    blocks: list[Signal] = []
    phones: list[tuple[int, str]] = []

    @_Callback
    def receive(samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if count > 0:
            blocks.append(np.ctypeslib.as_array(samples, (count,)) / 32768.0)
        index = 0
        while events[index].type != _LIST_END:
            if events[index].type == _PHONEME:
                phones.append((events[index].sample, events[index].name.decode()))
            index += 1
        return 0

    library.espeak_SetSynthCallback(receive)
    library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))  # of breath; the time of day otherwise
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise OSError(f"eSpeak NG has no voice {voice.name!r}.")
    for name, number in _PARAMETERS.items():
        library.espeak_SetParameter(number, getattr(voice, name), 0)
    text = word.encode()
    library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 1, 0, 1, None, None)
    library.espeak_Synchronize()
    return np.concatenate(blocks), phones


def _trim(samples: Signal, phones: list[tuple[int, str]], rate: int) -> Spoken:
    """Make a weak first consonant audible, and cut the silence off both ends."""
    spoken = [(first, name.strip("'`,%=")) for first, name in phones if not name.startswith("_")]
    after = spoken[1][0] if len(spoken) > 1 else samples.size
    loudest = _levels(samples, round(0.04 * rate)).max()
    first = float(_levels(samples[: after - round(0.008 * rate)], round(0.012 * rate)).max())
    gain = min(max(_FIRST_LEVEL * loudest / max(first, 1e-6), 1.0), _MOST_GAIN)
    times = np.arange(samples.size) / rate
    raised = samples * (1.0 + (gain - 1.0) * (1.0 - rise(times - after / rate + 0.02, 0.03)))
    levels = _levels(raised, round(0.004 * rate))
    start = int(np.flatnonzero(levels > _START_LEVEL * loudest)[0])
    end = min(int(np.flatnonzero(levels > _END_LEVEL * loudest)[-1]) + 1, start + round(LONGEST_S * rate))
    cut = raised[start:end] * (0.2 / loudest)
    since = np.arange(cut.size) / rate
    cut *= rise(since, 0.002) * rise(since[::-1], 0.02)
    return Spoken(
        cut, rate, tuple((max(0.0, (at - start) / rate) if index else 0.0, name) for index, (at, name) in enumerate(spoken))
    )


_FIRST_LEVEL, _MOST_GAIN = 0.2, 6.0
_START_LEVEL, _END_LEVEL = 0.06, 0.02


def _levels(samples: Signal, width: int) -> Signal:
    """``[N]`` RMS of the ``width`` samples around each."""
    energy = np.convolve(np.square(samples), np.ones(width) / width, mode="same")
    return np.asarray(np.sqrt(np.maximum(energy, 0.0)))
