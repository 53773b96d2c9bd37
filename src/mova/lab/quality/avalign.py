"""AV-Align (TempoTokens, arXiv 2309.16429), for comparison with published numbers only.

It counts peaks of loudness and of motion that fall within a frame of each other. On natural videos it hardly tells a video
from the same video with another one's audio (0.214 against 0.181, and 0.177 for random onsets), and a click every 80 ms scores
highest of all (0.357): it says how many peaks there are. So it is never given without its own chance level, and nothing
here is trained, filtered or ranked by it.

Numbers differ between repositories: this is TempoTokens' version (22,050 Hz, peaks of at least 0.1 pixels, one to one; onsets
by librosa's ``onset_detect`` and flow by OpenCV's Farneback, both with its defaults).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mova.lab.quality import from_extra
from mova.lab.quality.audio import mono
from mova.lab.quality.video import grey_pictures, optical_flow
from mova.media.resample import resample

Frames = npt.NDArray[np.uint8]
Waveform = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
SAMPLE_RATE = 22050
LEAST_MOTION_PX = 0.1


@dataclass(frozen=True)
class AVAlign:
    """A score and what it is worth.

    Args:
        score: Intersection over union of the peaks; nan without any.
        chance: Mean score with the same audio turned round in time by a random amount: what a score of this many peaks is
            without any relation.
    """

    score: float
    chance: float


def av_align(
    frames: Frames, waveform: Waveform, *, fps: float, sample_rate: int, num_shifts: int = 200, seed: int = 0
) -> AVAlign:
    """AV-Align of a video, with its chance level.

    Args:
        frames: ``[T, H, W, 3]`` uint8, at least three frames.
        waveform: ``[channels, S]`` float32.
        fps: Frames per second.
        sample_rate: In Hz.
        num_shifts: Random turns of the audio for the chance level.
        seed: Seed of the turns.

    Raises:
        MissingExtraError: If librosa or OpenCV is not installed.
    """
    seen = motion_peaks_s(frames, fps)
    heard = onsets_s(mono(resample(waveform, sample_rate, to_rate=SAMPLE_RATE)), SAMPLE_RATE)
    seconds = len(frames) / fps
    turns = np.random.default_rng(seed).uniform(0.0, seconds, size=num_shifts)
    chance = [peak_overlap(np.sort((np.asarray(heard) + turn) % seconds).tolist(), seen, fps) for turn in turns]
    return AVAlign(peak_overlap(heard, seen, fps), float(np.mean(chance)))


def peak_overlap(audio_s: Sequence[float], video_s: Sequence[float], fps: float) -> float:
    """Intersection over union of two lists of times: each onset takes the first free motion peak within a frame of it.

    nan if both are empty.
    """
    free = list(video_s)
    matched = 0
    for onset in audio_s:
        partner = next((peak for peak in free if peak - 1.0 / fps < onset < peak + 1.0 / fps), None)
        if partner is not None:
            free.remove(partner)
            matched += 1
    union = len(audio_s) + len(video_s) - matched
    return matched / union if union else float("nan")


def motion_peaks_s(frames: Frames, fps: float) -> list[float]:
    """Times of the local maxima of the mean length of the flow, at least 0.1 pixels; the first pair counts twice."""
    grey = np.round(grey_pictures(frames))
    speed = [float(np.linalg.norm(optical_flow(one, two), axis=-1).mean()) for one, two in zip(grey, grey[1:], strict=False)]
    speed = speed[:1] + speed
    return [
        index / fps
        for index in range(1, len(speed) - 1)
        if speed[index - 1] < speed[index] > speed[index + 1] and speed[index] >= LEAST_MOTION_PX
    ]


def onsets_s(audio: Floats, sample_rate: int) -> list[float]:
    """Onsets as librosa finds them with its defaults: mel flux in dB, normalised by its own range, peaks picked.

    Normalising by the own range is why noise at -80 dB has as many onsets as a drum solo.

    Args:
        audio: ``[S]``.
        sample_rate: In Hz.
    """
    found = from_extra("librosa").onset.onset_detect(y=audio, sr=sample_rate, units="time")
    return [float(time_s) for time_s in found]
