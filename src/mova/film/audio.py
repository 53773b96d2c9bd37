"""The audio of a film: that of each shot, placed at its cut to the sample, and an audio bed under all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mova.errors import RequestError
from mova.film.cache import ShotClip
from mova.film.plan import FilmPlan
from mova.film.shots import Bed
from mova.media.resample import resample
from mova.timeline import samples_in_frames

Waveform = NDArray[np.float32]


def film_audio(plan: FilmPlan, shots: Sequence[ShotClip]) -> Waveform:
    """Mix the audio of the whole film.

    Args:
        plan: Plan of the film, with its cuts.
        shots: Finished shots, in order.

    Returns:
        ``[channels, plan.num_samples]`` float32 in [-1, 1]; stereo if any part is.

    Raises:
        RequestError: If bed and shots together exceed full scale.
    """
    audio = plan.film.sound
    if not isinstance(audio, Bed):
        return join_audio(plan, shots)
    assert plan.bed is not None
    mixed = _apply_gain(bed_audio(plan), audio.gain_db)
    if audio.shots_gain_db is not None:
        own = _apply_gain(join_audio(plan, shots), audio.shots_gain_db)
        channels = max(mixed.shape[0], own.shape[0])
        mixed = _to_channels(mixed, channels) + _to_channels(own, channels)
    peak = float(np.abs(mixed).max(initial=0.0))
    if peak > 1.0:
        over_db = math.ceil(200 * math.log10(peak)) / 10
        raise RequestError(
            f"sound: bed and shots together exceed full scale by {over_db:.1f} dB.",
            f"Lower gain_db and shots_gain_db by {over_db:.1f} each; nothing has to be rendered again.",
            field="sound.gain_db",
        )
    return mixed


def join_audio(plan: FilmPlan, shots: Sequence[ShotClip]) -> Waveform:
    """Join the audio of the shots, each from the sample at which its first frame begins.

    If frames do not last a whole number of samples, a shot may be one sample longer in the film than alone; its last sample
    is repeated.

    Args:
        plan: Plan of the film, with its cuts.
        shots: Finished shots, in order.

    Returns:
        ``[channels, plan.num_samples]`` float32.
    """
    channels = max(shot.clip.waveform.shape[0] for shot in shots)
    whole = np.zeros((channels, plan.num_samples), np.float32)
    fade = round(plan.film.fade_ms * plan.sample_rate / 1000)
    for index, (planned, shot) in enumerate(zip(plan.shots, shots, strict=True)):
        begin, end = plan.span(planned)
        run_in, own = _resample_shot(shot, plan.sample_rate)
        missing = end - begin - own.shape[1]
        own = np.pad(own, ((0, 0), (0, missing)), mode="edge") if missing > 0 else own[:, : end - begin].copy()
        if index > 0 and not planned.keeps_audio:
            own[:, :fade] *= _fade_in(fade)
        if index + 1 < len(shots) and not plan.shots[index + 1].keeps_audio:
            own[:, own.shape[1] - fade :] *= _fade_in(fade)[::-1]
        whole[:, begin:end] = own
        whole[:, begin - run_in.shape[1] : begin] = run_in
    return whole


def bed_audio(plan: FilmPlan) -> Waveform:
    """Return the beginning of the bed, at the film's rate and length: ``[channels, plan.num_samples]``.

    Peaks between its samples are clipped to full scale, or to the bed's own peak if that is higher.
    """
    assert plan.bed is not None
    waveform, rate = plan.bed
    needed = -(-plan.num_samples * rate // plan.sample_rate)
    part = waveform[:, :needed]
    limit = max(1.0, float(np.abs(part).max(initial=0.0)))
    return np.clip(resample(part, rate, to_rate=plan.sample_rate, num_samples=plan.num_samples), -limit, limit)


def _resample_shot(shot: ShotClip, rate: int) -> tuple[Waveform, Waveform]:
    """Return a shot's run-in and its own audio at a sample rate."""
    clip, run_in = shot.clip, shot.run_in
    if clip.sample_rate == rate:
        return run_in, clip.waveform
    before = run_in.shape[1] * rate // clip.sample_rate
    num_samples = before + samples_in_frames(clip.num_frames, clip.fps, rate)
    # resampled together, so that the filter sees no edge at the cut
    both = np.concatenate((run_in, clip.waveform), axis=1)
    resampled = np.clip(resample(both, clip.sample_rate, to_rate=rate, num_samples=num_samples), -1.0, 1.0)
    return resampled[:, :before], resampled[:, before:]


def _fade_in(num_samples: int) -> Waveform:
    """Return the gain of a fade-in with the shape of half a cosine."""
    phase = (np.arange(num_samples) + 0.5) / max(1, num_samples)
    return (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)


def _apply_gain(waveform: Waveform, gain_db: float) -> Waveform:
    return waveform * np.float32(10.0 ** (gain_db / 20.0))


def _to_channels(waveform: Waveform, channels: int) -> Waveform:
    return waveform if waveform.shape[0] == channels else np.repeat(waveform, channels, axis=0)
