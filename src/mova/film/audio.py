"""The audio of a film: every shot's at its cut to the sample, and what lies under them."""

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
    """The audio of the whole film.

    Args:
        plan: Where the cuts are.
        shots: Finished, in their order.

    Returns:
        ``[channels, plan.num_samples]`` float32 in [-1, 1]; stereo if any part is.

    Raises:
        RequestError: If bed and shots together pass full scale.
    """
    audio = plan.film.sound
    if not isinstance(audio, Bed):
        return joined_audio(plan, shots)
    assert plan.bed is not None
    mixed = _gained(bed_audio(plan), audio.gain_db)
    if audio.shots_gain_db is not None:
        own = _gained(joined_audio(plan, shots), audio.shots_gain_db)
        channels = max(mixed.shape[0], own.shape[0])
        mixed = _in_channels(mixed, channels) + _in_channels(own, channels)
    peak = float(np.abs(mixed).max(initial=0.0))
    if peak > 1.0:
        over_db = math.ceil(200 * math.log10(peak)) / 10
        raise RequestError(
            f"sound: bed and shots together pass full scale by {over_db:.1f} dB.",
            f"Lower gain_db and shots_gain_db by {over_db:.1f} each; nothing has to be rendered again.",
            field="sound.gain_db",
        )
    return mixed


def joined_audio(plan: FilmPlan, shots: Sequence[ShotClip]) -> Waveform:
    """The shots' own sounds, each from the sample at which its first frame begins.

    Where frames do not last whole samples, a shot may last one sample more in the film than alone; its last sample is held.

    Args:
        plan: Where the cuts are.
        shots: Finished, in their order.

    Returns:
        ``[channels, plan.num_samples]`` float32.
    """
    channels = max(shot.clip.waveform.shape[0] for shot in shots)
    whole = np.zeros((channels, plan.num_samples), np.float32)
    fade = round(plan.film.fade_ms * plan.sample_rate / 1000)
    for index, (planned, shot) in enumerate(zip(plan.shots, shots, strict=True)):
        begin, end = plan.span(planned)
        run_in, own = _at_rate(shot, plan.sample_rate)
        missing = end - begin - own.shape[1]
        own = np.pad(own, ((0, 0), (0, missing)), mode="edge") if missing > 0 else own[:, : end - begin].copy()
        if index > 0 and not planned.keeps_audio:
            own[:, :fade] *= _rise(fade)
        if index + 1 < len(shots) and not plan.shots[index + 1].keeps_audio:
            own[:, own.shape[1] - fade :] *= _rise(fade)[::-1]
        whole[:, begin:end] = own
        whole[:, begin - run_in.shape[1] : begin] = run_in
    return whole


def bed_audio(plan: FilmPlan) -> Waveform:
    """The beginning of the bed, at the film's rate and as long as the film, ``[channels, plan.num_samples]``.

    Peaks between its samples are limited to full scale, or to the bed's own peak where that is higher.
    """
    assert plan.bed is not None
    waveform, rate = plan.bed
    needed = -(-plan.num_samples * rate // plan.sample_rate)
    part = waveform[:, :needed]
    limit = max(1.0, float(np.abs(part).max(initial=0.0)))
    return np.clip(resample(part, rate, to_rate=plan.sample_rate, num_samples=plan.num_samples), -limit, limit)


def _at_rate(shot: ShotClip, rate: int) -> tuple[Waveform, Waveform]:
    """What replaces the end of the shot before, and the shot's own audio, at a rate."""
    clip, run_in = shot.clip, shot.run_in
    if clip.sample_rate == rate:
        return run_in, clip.waveform
    before = run_in.shape[1] * rate // clip.sample_rate
    num_samples = before + samples_in_frames(clip.num_frames, clip.fps, rate)
    # in one piece, so that the filter sees no edge at the cut
    both = np.concatenate((run_in, clip.waveform), axis=1)
    resampled = np.clip(resample(both, clip.sample_rate, to_rate=rate, num_samples=num_samples), -1.0, 1.0)
    return resampled[:, :before], resampled[:, before:]


def _rise(num_samples: int) -> Waveform:
    """From silence to full in half a cosine."""
    phase = (np.arange(num_samples) + 0.5) / max(1, num_samples)
    return (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)


def _gained(waveform: Waveform, gain_db: float) -> Waveform:
    return waveform * np.float32(10.0 ** (gain_db / 20.0))


def _in_channels(waveform: Waveform, channels: int) -> Waveform:
    return waveform if waveform.shape[0] == channels else np.repeat(waveform, channels, axis=0)
