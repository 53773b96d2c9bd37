"""What each thing in a scene sounds like: one function from a hit to its samples.

A voice is a fixed patch: its gain, its partials and its bands are constants, so a louder hit is louder in
the clip and nothing is normalised. The peak of a hit of strength 1 is about 0.3 to 0.75. Percussive voices
attack within 0.5 ms, the human voice within 8 ms, far thunder within 15 ms. Everything struck is 30 dB down
within 0.35 s, except thunder (0.8 s), so hits 0.22 s apart are heard apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from einops import rearrange

from mova.scenes.waves import (
    MAX_OF_RATE,
    Band,
    Signal,
    Window,
    band_noise,
    damped_modes,
    glide,
    harmonics,
    rise,
    strike,
    together,
)


@dataclass(frozen=True)
class Hit:
    """One sounding event, as a voice needs it.

    Args:
        label: What is struck or said: a material, a drum, a note, a vowel, near or far.
        strength: 0 to 1.
        attributes: Attributes of the scene.
        start_s: When the sound starts, in seconds from the start of the clip; may lie between samples.
        sample_rate: Samples per second.
        clip_samples: Samples in the clip.
        rng: Source of the noise of this hit alone; a voice is called once.
    """

    label: str
    strength: float
    attributes: Mapping[str, object]
    start_s: float
    sample_rate: int
    clip_samples: int
    rng: np.random.Generator

    @property
    def level(self) -> float:
        """Gain from strength: ``strength ** 1.2``."""
        return float(max(self.strength, 0.0) ** 1.2)

    def window(self, seconds: float, *, delay_s: float = 0.0) -> Window:
        """The samples from ``delay_s`` after the start of the sound, for ``seconds``."""
        return Window.after(self.start_s + delay_s, seconds, sample_rate=self.sample_rate, clip_samples=self.clip_samples)


Voice = Callable[[Hit], tuple[int, Signal]]
Value = TypeVar("Value")


def ball(hit: Hit) -> tuple[int, Signal]:
    """A ball on wood, metal, glass or stone; a harder hit is louder and brighter, a small ball higher.

    Returns:
        First sample and ``[N]`` samples, as every voice does.
    """
    floor = _choose(_FLOORS, hit.label, "floor material")
    window = hit.window(8.0 * max(floor.decays_s))
    frequencies = np.asarray(floor.frequencies_hz)
    softness = 1.0 - min(max(hit.strength, 0.0), 1.0)
    amplitudes = np.asarray(floor.amplitudes) * (frequencies / frequencies[0]) ** (-0.8 * softness)
    thud_hz = 250.0 if hit.attributes.get("size") == "small" else 165.0
    body = damped_modes(
        window,
        np.append(frequencies, thud_hz),
        decays_s=np.append(floor.decays_s, 0.018),
        amplitudes=np.append(amplitudes, floor.thud),
    )
    touch = hit.window(0.03)
    contact = band_noise(touch, floor.contact_band, hit.rng) * strike(touch, floor.contact_decay_s)
    return window.first, hit.level * together(body, floor.contact * (1.0 - 0.5 * softness) * contact)


def drum(hit: Hit) -> tuple[int, Signal]:
    """One pad of a drum kit: red kick, yellow hi-hat, green snare, blue tom."""
    return hit.window(0.0).first, hit.level * _choose(_PADS, hit.label, "drum")(hit)


def piano(hit: Hit) -> tuple[int, Signal]:
    """One key of the octave C5 to B5, equal temperament, A4 = 440 Hz.

    The partials are a stiff string's, ``f_n = n f sqrt(1 + B n^2)``:
    Fletcher, Blackham and Stratton 1962, "Quality of piano tones".
    """
    pitch_hz = 440.0 * 2.0 ** (_choose(_SEMITONES_ABOVE_A4, hit.label, "key") / 12.0)
    number = np.arange(1.0, 9.0)
    window = hit.window(0.7)
    string = damped_modes(
        window,
        pitch_hz * number * np.sqrt(1.0 + 4e-4 * number**2),
        decays_s=0.087 / (1.0 + 0.35 * (number - 1.0)),
        amplitudes=0.34 / number,
    )
    blow = hit.window(0.008)
    hammer = band_noise(blow, Band(1200.0, 5000.0, 3, _BRIEF), hit.rng) * strike(blow, 0.0009)
    return window.first, hit.level * together(string, 0.16 * hammer)


def mouth(hit: Hit) -> tuple[int, Signal]:
    """One sung syllable of 0.18 s, "ah", "oh" or "ee", in a low or a high voice whose pitch falls by a tenth.

    A buzz through three formants in parallel, of alternating sign (Klatt 1980, "Software for a
    cascade/parallel formant synthesizer"), taken at the syllable's mean pitch.
    """
    voice = str(hit.attributes.get("voice", "low"))
    pitch_hz = _choose(_PITCHES_HZ, voice, "voice")
    formants_hz = _choose(_choose(_FORMANTS_HZ, voice, "voice"), hit.label, "vowel")
    window = hit.window(_SYLLABLE_S)
    times = window.times_s
    phase = 2.0 * np.pi * pitch_hz * (1.05 * times - 0.05 * times**2 / _SYLLABLE_S)
    tone = harmonics(phase, _vowel_weights(pitch_hz, formants_hz, hit.sample_rate))
    envelope = rise(times, 0.008) * rise(_SYLLABLE_S - times, 0.06)
    return window.first, 0.15 * hit.level * envelope * tone


def metronome(hit: Hit) -> tuple[int, Signal]:
    """A wooden tick of 30 ms."""
    window = hit.window(0.07)
    body = damped_modes(window, (1200.0, 2410.0, 3720.0), decays_s=(0.0085, 0.006, 0.003), amplitudes=(0.36, 0.27, 0.1))
    blow = hit.window(0.01)
    knock = band_noise(blow, Band(900.0, 5000.0, 3, _BRIEF), hit.rng) * strike(blow, 0.0012)
    return window.first, hit.level * together(body, 0.13 * knock)


def thunder(hit: Hit) -> tuple[int, Signal]:
    """Thunder: near is a sharp crack and then a rumble, far is a softer, lower rumble alone."""
    near = _choose({"near": True, "far": False}, hit.label, "thunder")
    window = hit.window(1.6)
    if not near:
        rumble = 0.1 * band_noise(window, _FAR_RUMBLE, hit.rng) * strike(window, 0.22, 0.015)
        return window.first, hit.level * rumble
    rumble = 0.13 * band_noise(window, _NEAR_RUMBLE, hit.rng) * strike(window, 0.22, 0.012)
    flash = hit.window(0.3)
    crack = 0.2 * band_noise(flash, Band(350.0, 6000.0, 2), hit.rng) * strike(flash, 0.04)
    return window.first, hit.level * together(rumble, crack)


def firework(hit: Hit) -> tuple[int, Signal]:
    """A bursting rocket: a low thump, a burst of noise, and half a second of faint crackle."""
    window = hit.window(0.5)
    thump = 0.3 * damped_modes(window, (70.0, 113.0), decays_s=(0.058, 0.04), amplitudes=(1.0, 0.4))
    burst = 0.15 * band_noise(window, Band(180.0, 5000.0, 1, 2), hit.rng) * strike(window, 0.055)
    return window.first, hit.level * (thump + burst + _crackle(hit, window))


def siren(switches: Sequence[tuple[float, str]], *, sample_rate: int, num_samples: int) -> Signal:
    """A two-tone siren through a whole clip, without a break of phase.

    Args:
        switches: ``(time in seconds, "high" or "low")`` in order of time. Before the first, the other tone
            sounds.
        sample_rate: Samples per second.
        num_samples: Samples in the clip.

    Returns:
        ``[num_samples]`` float64. The frequency slides for 5 ms from each switch on, and the level, otherwise
        constant, starts there at 1.5 times its value and settles within 80 ms: the accent by which a switch
        is heard.
    """
    times = np.arange(num_samples) / sample_rate
    tones_hz = [_choose(_SIREN_HZ, label, "siren tone") for _, label in switches]
    other_hz = sum(_SIREN_HZ.values()) - tones_hz[0] if tones_hz else _SIREN_HZ["low"]
    cycles = other_hz * times
    accent = np.zeros(num_samples)
    for (switch_s, _), before_hz, after_hz in zip(switches, [other_hz, *tones_hz], tones_hz, strict=False):
        first = max(0, ceil(switch_s * sample_rate))
        since = times[first:] - switch_s
        sliding = np.minimum(since, _SLIDE_S)
        cycles[first:] += (after_hz - before_hz) * (sliding**2 / (2.0 * _SLIDE_S) + since - sliding)
        loud = Window.after(switch_s, 0.2, sample_rate=sample_rate, clip_samples=num_samples)
        accent[loud.first : loud.first + loud.num_samples] = strike(loud, 0.025, 0.002)
    sine, cosine = np.sin(2.0 * np.pi * cycles), np.cos(2.0 * np.pi * cycles)
    # sin 2x = 2 sin x cos x and sin 3x = sin x (4 cos^2 x - 1): harmonics of 1, 0.4 and 0.2
    tone = sine * (1.0 + 0.8 * cosine + 0.2 * (4.0 * cosine**2 - 1.0))
    return 0.2 * (1.0 + 0.5 * accent) * tone


@dataclass(frozen=True)
class _Floor:
    """How a floor rings: its modes, the ball's own thud on it, and the noise of the contact."""

    frequencies_hz: tuple[float, ...]
    decays_s: tuple[float, ...]
    amplitudes: tuple[float, ...]
    thud: float
    contact: float
    contact_decay_s: float
    contact_band: Band


# Mode ratios from Fletcher and Rossing, "The Physics of Musical Instruments": wood is a supported
# rectangular plate (m^2 + 1.96 n^2), metal a free bar (1, 2.756, 5.404, 8.933) with a plate's modes
# between, glass a free circular plate (1, 1.73, 2.33, 3.91, 4.11); stone is dense and damped, its modes are
# lost in the click
_BRIEF = 25  # spacing of noise lines in Hz: contact noise is over long before it repeats after 40 ms

_FLOORS = {
    "wood": _Floor(
        (190.0, 382.0, 568.0, 703.0, 760.0, 890.0),
        (0.042, 0.034, 0.026, 0.022, 0.02, 0.016),
        (0.3, 0.18, 0.11, 0.07, 0.06, 0.05),
        0.13, 0.06, 0.002, Band(250.0, 1400.0, 2, _BRIEF),
    ),
    "metal": _Floor(
        (430.0, 1010.0, 1185.0, 1730.0, 2324.0, 3060.0, 3841.0),
        (0.1, 0.1, 0.095, 0.085, 0.075, 0.06, 0.05),
        (0.13, 0.1, 0.15, 0.1, 0.12, 0.07, 0.06),
        0.07, 0.1, 0.002, Band(600.0, 6000.0, 2, _BRIEF),
    ),
    "glass": _Floor(
        (1500.0, 2595.0, 3495.0, 4310.0, 5865.0, 6165.0),
        (0.055, 0.05, 0.045, 0.035, 0.028, 0.025),
        (0.1, 0.17, 0.16, 0.12, 0.1, 0.06),
        0.03, 0.13, 0.0015, Band(2000.0, 7500.0, 2, _BRIEF),
    ),
    "stone": _Floor(
        (260.0, 455.0, 690.0, 985.0, 1240.0, 1500.0),
        (0.016, 0.014, 0.012, 0.01, 0.009, 0.008),
        (0.12, 0.13, 0.13, 0.12, 0.11, 0.1),
        0.08, 0.1, 0.004, Band(400.0, 3200.0, 1, _BRIEF),
    ),
}  # fmt: skip


def _kick(hit: Hit) -> Signal:
    skin, beater = hit.window(0.5), hit.window(0.012)
    tone = np.sin(glide(skin.times_s, 120.0, 50.0, 0.035)) * strike(skin, 0.068)
    click = band_noise(beater, Band(700.0, 3500.0, 3, _BRIEF), hit.rng) * strike(beater, 0.0015)
    return together(0.64 * tone, 0.13 * click)


def _hi_hat(hit: Hit) -> Signal:
    window = hit.window(0.2)
    return 0.2 * band_noise(window, Band(5200.0, 9000.0, 4), hit.rng) * strike(window, 0.023)


def _snare(hit: Hit) -> Signal:
    window = hit.window(0.3)
    wires = band_noise(window, Band(1200.0, 5500.0), hit.rng) * strike(window, 0.042)
    skin = damped_modes(window, (190.0, 331.0), decays_s=(0.04, 0.03), amplitudes=(0.22, 0.1))
    return 0.13 * wires + skin


def _tom(hit: Hit) -> Signal:
    skin, stick = hit.window(0.55), hit.window(0.016)
    fall = glide(skin.times_s, 260.0, 180.0, 0.05)
    # 1.59 is the second mode of a circular membrane
    tone = np.sin(fall) * strike(skin, 0.08) + 0.3 * np.sin(1.59 * fall) * strike(skin, 0.04)
    tap = band_noise(stick, Band(500.0, 2500.0, 3, _BRIEF), hit.rng) * strike(stick, 0.002)
    return together(0.43 * tone, 0.07 * tap)


_PADS = {"red": _kick, "yellow": _hi_hat, "green": _snare, "blue": _tom}

_SEMITONES_ABOVE_A4 = {"C": 3, "D": 5, "E": 7, "F": 8, "G": 10, "A": 12, "B": 14}

_SYLLABLE_S = 0.18
_PITCHES_HZ = {"high": 240.0, "low": 115.0}
# Peterson and Barney 1952, table II: means for women and for men ("oh" is their open o)
_FORMANTS_HZ = {
    "high": {"ah": (850.0, 1220.0, 2810.0), "oh": (590.0, 920.0, 2710.0), "ee": (310.0, 2790.0, 3310.0)},
    "low": {"ah": (730.0, 1090.0, 2440.0), "oh": (570.0, 840.0, 2410.0), "ee": (270.0, 2290.0, 3010.0)},
}
_BANDWIDTHS_HZ = (110.0, 140.0, 200.0)
_FORMANT_GAINS = (1.0, -0.6, 0.3)

_NEAR_RUMBLE, _FAR_RUMBLE = Band(35.0, 220.0, 3, 1), Band(35.0, 160.0, 3, 1)


def _crackle(hit: Hit, window: Window) -> Signal:
    """``[num_samples]``: 14 snaps of 5 ms, strewn over the half second of ``window``."""
    snaps = hit.rng.uniform((0.05, 2000.0, 0.008), (0.48, 6500.0, 0.024), size=(14, 3))
    delay_s, frequency_hz, amplitude = rearrange(snaps, "snap part -> part snap 1")
    start_s = hit.start_s + delay_s
    sample = np.ceil(start_s * hit.sample_rate) + np.arange(ceil(0.005 * hit.sample_rate))
    since = sample / hit.sample_rate - start_s
    pulses = amplitude * np.exp(-since / 0.001) * np.sin(2.0 * np.pi * frequency_hz * since)
    position = sample.astype(np.int64) - window.first
    inside = (position >= 0) & (position < window.num_samples)
    heard = inside & (frequency_hz <= MAX_OF_RATE * hit.sample_rate)
    crackle = np.zeros(window.num_samples)
    np.add.at(crackle, position[heard], pulses[heard])
    return crackle


_SIREN_HZ = {"high": 960.0, "low": 720.0}
_SLIDE_S = 0.005


@lru_cache(maxsize=64)
def _vowel_weights(pitch_hz: float, formants_hz: tuple[float, float, float], sample_rate: int) -> npt.NDArray[np.complex128]:
    """``[H]`` complex harmonic amplitudes of a vowel, RMS 1 up to 5 kHz whatever the sample rate."""
    frequencies = pitch_hz * np.arange(1, int(5000.0 / pitch_hz) + 1)
    weights = np.zeros(frequencies.size, dtype=np.complex128)
    for centre, width, gain in zip(formants_hz, _BANDWIDTHS_HZ, _FORMANT_GAINS, strict=True):
        weights += gain * 1j * width * frequencies / (centre**2 - frequencies**2 + 1j * width * frequencies)
    weights /= np.sqrt(np.sum(np.abs(weights) ** 2) / 2.0)
    # the pitch starts 5 % above its mean
    return weights[1.05 * frequencies <= MAX_OF_RATE * sample_rate]


def _choose(table: Mapping[str, Value], label: str, what: str) -> Value:
    """Look a label up, or say which there are.

    Raises:
        ValueError: If ``label`` is not in ``table``.
    """
    if label not in table:
        raise ValueError(f"{what} must be one of {', '.join(table)}; got {label!r}.")
    return table[label]
