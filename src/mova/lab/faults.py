"""Damage a healthy clip in every way that the health gate must see: for its tests and for ``benchmarks/health.py``.

Each function takes a clip and a random generator and gives frames and audio with one fault, or None where the clip gives
no occasion for it: frames that repeat while nothing moves are no visible fault. Occasions are found from the
frames, not with the detectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from einops import reduce

from mova.media.clip import Clip

Damage = tuple[npt.NDArray[np.floating] | npt.NDArray[np.uint8], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Injector:
    """One way to damage a clip.

    Args:
        kind: The fault that must be found, one of :data:`mova.media.health.gate.KINDS`.
        damage: Clip and generator to frames and audio; None if the clip gives no occasion.
    """

    kind: str
    damage: Callable[[Clip, np.random.Generator], Damage | None]


def nan_in_picture(clip: Clip, rng: np.random.Generator) -> Damage:
    """A patch of one decoded frame is not a number."""
    frames = clip.frames.astype(np.float32) / 255.0
    patch = (int(rng.integers(clip.num_frames)), slice(0, clip.height // 4), slice(0, clip.width // 4))
    frames[patch] = np.nan
    return frames, clip.waveform


def infinity_in_audio(clip: Clip, rng: np.random.Generator) -> Damage:
    """One sample is infinite."""
    audio = clip.waveform.copy()
    audio[0, int(rng.integers(audio.shape[1]))] = np.inf
    return clip.frames, audio


def still_picture(clip: Clip, rng: np.random.Generator) -> Damage:
    """The whole video is its first frame."""
    del rng
    return np.repeat(clip.frames[:1], clip.num_frames, axis=0), clip.waveform


def freeze(clip: Clip, rng: np.random.Generator) -> Damage | None:
    """The picture stops for 4 to 9 frames amid movement, then goes on where it would have been."""
    length = int(rng.integers(4, 10))
    return _hold(clip, rng, length)


def duplicate(clip: Clip, rng: np.random.Generator) -> Damage | None:
    """One frame amid movement is shown twice, in place of the next."""
    return _hold(clip, rng, 1)


def black_frames(clip: Clip, rng: np.random.Generator) -> Damage:
    """One to five frames are black."""
    length = int(rng.integers(1, 6))
    first = int(rng.integers(clip.num_frames - length))
    frames = clip.frames.copy()
    frames[first : first + length] = 0
    return frames, clip.waveform


def black_video(clip: Clip, rng: np.random.Generator) -> Damage:
    """Everything is black but for a little noise."""
    noise = rng.integers(0, 4, size=clip.frames.shape, dtype=np.uint8)
    return noise, clip.waveform


def colour_step(clip: Clip, rng: np.random.Generator) -> Damage:
    """From one frame on, red and blue are weighed 30 to 60 percent apart."""
    first = int(rng.integers(clip.num_frames // 4, clip.num_frames * 3 // 4))
    warm = rng.uniform(0.3, 0.6) * rng.choice((-1.0, 1.0))
    gains = np.ones((clip.num_frames, 1, 1, 3))
    gains[first:, ..., 0] += 0.5 * warm
    gains[first:, ..., 2] -= 0.5 * warm
    return _tint(clip, gains), clip.waveform


def colour_drift(clip: Clip, rng: np.random.Generator) -> Damage:
    """Red and blue drift apart through the video, by 50 to 80 percent at its end."""
    warm = rng.uniform(0.5, 0.8) * rng.choice((-1.0, 1.0)) * np.linspace(0.0, 1.0, clip.num_frames)
    gains = np.ones((clip.num_frames, 1, 1, 3))
    gains[..., 0] += 0.5 * warm[:, None, None]
    gains[..., 2] -= 0.5 * warm[:, None, None]
    return _tint(clip, gains), clip.waveform


def tiles(clip: Clip, rng: np.random.Generator) -> Damage:
    """Tiles of 16 to 48 pixels are each a few levels too bright or too dark."""
    side = int(rng.choice((16, 24, 32, 48)))
    shape = (-(-clip.height // side), -(-clip.width // side))
    steps = rng.uniform(3.0, 9.0, size=shape) * rng.choice((-1.0, 1.0), size=shape)
    offset = np.kron(steps, np.ones((side, side)))[: clip.height, : clip.width, None]
    return np.clip(clip.frames + offset, 0.0, 255.0).round().astype(np.uint8), clip.waveform


def offset(clip: Clip, rng: np.random.Generator) -> Damage:
    """The audio is off zero by 2 to 20 percent of full scale."""
    return clip.frames, _limit(clip.waveform + rng.uniform(0.02, 0.2) * rng.choice((-1.0, 1.0)))


def clip_audio(clip: Clip, rng: np.random.Generator) -> Damage:
    """The audio is cut off at 20 to 60 percent of its peak and made as loud as it was."""
    peak = float(np.abs(clip.waveform).max())
    share = rng.uniform(0.2, 0.6)
    return clip.frames, _limit(np.clip(clip.waveform, -share * peak, share * peak) / share)


def pops(clip: Clip, rng: np.random.Generator) -> Damage:
    """One to three pops of one or two samples, 0.3 to 0.8 of full scale high."""
    audio = clip.waveform.copy()
    for place in rng.integers(64, audio.shape[1] - 64, size=int(rng.integers(1, 4))):
        width = int(rng.integers(1, 3))
        audio[:, place : place + width] += rng.uniform(0.3, 0.8) * rng.choice((-1.0, 1.0))
    return clip.frames, _limit(audio)


def no_audio(clip: Clip, rng: np.random.Generator) -> Damage:
    """Digital silence."""
    del rng
    return clip.frames, np.zeros_like(clip.waveform)


def dropout(clip: Clip, rng: np.random.Generator) -> Damage:
    """Nothing for 40 to 250 ms."""
    length = round(rng.uniform(0.04, 0.25) * clip.sample_rate)
    first = int(rng.integers(clip.waveform.shape[1] - length))
    audio = clip.waveform.copy()
    audio[:, first : first + length] = 0.0
    return clip.frames, audio


def audio_ends_early(clip: Clip, rng: np.random.Generator) -> Damage:
    """The last 10 to 40 percent of the audio are padding."""
    audio = clip.waveform.copy()
    audio[:, round(rng.uniform(0.6, 0.9) * audio.shape[1]) :] = 0.0
    return clip.frames, audio


def dull(clip: Clip, rng: np.random.Generator) -> Damage:
    """Everything above a frequency between 1 and 5 kHz is gone."""
    return clip.frames, _cut_band(clip, rng.uniform(1000.0, 5000.0), np.inf)


def hollow(clip: Clip, rng: np.random.Generator) -> Damage:
    """An octave between 500 Hz and 4 kHz is gone."""
    low_hz = rng.uniform(500.0, 2000.0)
    return clip.frames, _cut_band(clip, low_hz, 2.0 * low_hz)


def short_audio(clip: Clip, rng: np.random.Generator) -> Damage:
    """The audio stops 10 to 40 percent before the picture."""
    return clip.frames, clip.waveform[:, : round(rng.uniform(0.6, 0.9) * clip.waveform.shape[1])]


def long_audio(clip: Clip, rng: np.random.Generator) -> Damage:
    """The audio goes on for 10 to 40 percent after the picture."""
    extra = round(rng.uniform(0.1, 0.4) * clip.waveform.shape[1])
    return clip.frames, np.concatenate((clip.waveform, clip.waveform[:, :extra]), axis=1)


INJECTORS: Mapping[str, Injector] = {
    "nan in the picture": Injector("nonfinite", nan_in_picture),
    "infinity in the audio": Injector("nonfinite", infinity_in_audio),
    "still picture": Injector("frozen", still_picture),
    "frozen": Injector("frozen", freeze),
    "duplicated": Injector("duplicated", duplicate),
    "black frames": Injector("black", black_frames),
    "black video": Injector("black", black_video),
    "colour step": Injector("colour_shift", colour_step),
    "colour drift": Injector("colour_shift", colour_drift),
    "tiles": Injector("tile_grid", tiles),
    "offset": Injector("dc_offset", offset),
    "clipping": Injector("clipping", clip_audio),
    "pops": Injector("pop", pops),
    "no audio": Injector("silence", no_audio),
    "dropout": Injector("silence", dropout),
    "audio ends early": Injector("silence", audio_ends_early),
    "dull": Injector("lost_band", dull),
    "hollow": Injector("lost_band", hollow),
    "short audio": Injector("length", short_audio),
    "long audio": Injector("length", long_audio),
}

_MOVES = 4.0


def _hold(clip: Clip, rng: np.random.Generator, length: int) -> Damage | None:
    """Show a frame ``length`` frames longer, if the picture moves into it and would have moved on by the end of it."""
    cells = _coarse(clip.frames)

    def differ(one: int, other: int) -> bool:
        return bool(np.abs(cells[one] - cells[other]).max() > _MOVES)

    places = [
        first
        for first in range(3, clip.num_frames - length - 1)
        if differ(first, first - 1)
        and differ(first, first + length)
        and differ(first, first + length + 1)
        and differ(first - 1, first + length + 1)
    ]
    if not places:
        return None
    first = int(rng.choice(places))
    held = clip.frames.copy()
    held[first + 1 : first + length + 1] = clip.frames[first]
    return held, clip.waveform


def _coarse(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """``[T, h, w]`` brightness of about 12 x 12 cells: what differs there by ``_MOVES`` levels is seen to differ."""
    side = max(1, min(frames.shape[1:3]) // 12)
    height, width = (size // side * side for size in frames.shape[1:3])
    return np.stack(
        [reduce(frame[:height, :width].astype(np.float32), "(h a) (w b) c -> h w", "mean", a=side, b=side) for frame in frames]
    )


def _tint(clip: Clip, gains: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    return np.clip(clip.frames * gains, 0.0, 255.0).round().astype(np.uint8)


def _limit(audio: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    limited: npt.NDArray[np.float32] = np.clip(audio, -1.0, 1.0).astype(np.float32)
    return limited


def _cut_band(clip: Clip, low_hz: float, high_hz: float) -> npt.NDArray[np.float32]:
    """The audio with a band 60 dB down, with slopes of a twentieth of an octave."""
    spectrum = np.fft.rfft(clip.waveform, axis=1)
    frequencies = np.maximum(np.fft.rfftfreq(clip.waveform.shape[1], 1.0 / clip.sample_rate), 1e-9)
    inside = np.minimum(np.log2(frequencies / low_hz), np.log2(high_hz / frequencies))
    gain_db = -60.0 * np.clip(20.0 * inside, 0.0, 1.0)
    return _limit(np.fft.irfft(spectrum * 10.0 ** (gain_db / 20.0), n=clip.waveform.shape[1], axis=1))
