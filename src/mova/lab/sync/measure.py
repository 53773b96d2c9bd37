"""How far audio and video of one file are apart, in milliseconds, or that it is unknown.

    sync = measure_file("clip.mp4")
    sync.verdict                          # "in step", "noticeable", "not acceptable" or "cannot tell"
    sync.offset_ms                        # heard - seen; positive: the audio is late

A clip that mova made says in its own request which kind of scene it shows, and is read by the detectors of that kind; a lag
that belongs to the scene (thunder after a far flash) is taken off. Of any other video, sudden changes of light and motion
(:mod:`mova.lab.read.any_video`) are paired with onsets of the audio, if they fit each other at one lag more
often than chance would have it (:mod:`mova.lab.sync.align`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mova.errors import MediaError
from mova.lab.read.any_video import watch
from mova.lab.read.audio_events import find_onsets, hear
from mova.lab.read.events import Detection
from mova.lab.read.video_events import see
from mova.lab.sync.align import CHANCE, FEWEST_PAIRS, align
from mova.lab.sync.pairing import match, match_aligned
from mova.lab.sync.result import VideoSync, add_pairs
from mova.media.clip import Clip
from mova.media.resample import resample
from mova.scenes.kind import Kind
from mova.scenes.kinds import find_kind, kind_of

Floats = npt.NDArray[np.float64]
ANY_VIDEO = "any video"


class Read(NamedTuple):
    """A video as it is measured: frame 0 and sample 0 at 0 s, of whatever lengths.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        waveform: ``[channels, S]`` float32; S = 0 if there is no audio.
        fps: Frames per second.
        sample_rate: Samples per second.
        request: Request that made it, if it holds one.
    """

    frames: npt.NDArray[np.uint8]
    waveform: npt.NDArray[np.float32]
    fps: float
    sample_rate: int
    request: Mapping[str, Any] | None = None


def measure_file(path: str | Path, *, kind: str | Kind | None = None) -> VideoSync:
    """Measure a video on disk.

    Args:
        path: The video.
        kind: Kind of scene or its name, or ``"any"`` for a video to be looked at without what its request says; from the
            video's own request, if there is one, when not given.

    Raises:
        MediaError: If the file cannot be read or has no picture. That it has no audio is a verdict, not an error.
        RequestError: If there is no such kind.
    """
    return measure(read_video(path), kind=kind)


def measure_clip(clip: Clip, *, kind: str | Kind | None = None) -> VideoSync:
    """Measure a clip; arguments and errors as for :func:`measure_file`."""
    return measure(Read(clip.frames, clip.waveform, float(clip.fps), clip.sample_rate, clip.request), kind=kind)


def measure(source: Read, *, kind: str | Kind | None = None) -> VideoSync:
    """Measure a video that was read.

    Raises:
        RequestError: If there is no such kind.
    """
    if kind is None:
        kind = kind_of(str((source.request or {}).get("prompt", ""))) or "any"
    return _measure_any(source) if kind == "any" else _measure_scene(source, find_kind(kind))


def read_video(path: str | Path) -> Read:
    """Read a video whose audio may begin or end elsewhere than its picture, or be missing.

    Raises:
        MediaError: If the file cannot be read or has no picture.
    """
    from mova.media.decode import read_clip, read_frames, read_waveform
    from mova.media.probe import probe

    info = probe(path)
    if info.audio is None or info.video is None:
        source = read_frames(path)
        return Read(source.frames, np.zeros((1, 0), np.float32), float(source.fps), _LISTEN_HZ, info.request)
    try:
        clip = read_clip(path)
    except MediaError:
        # video and audio that do not cover each other are no clip, but can be measured where both are
        source, audio = read_frames(path), read_waveform(path)
        lead_s = (info.audio.start_s or 0) - (info.video.start_s or 0)
        lead = round(lead_s * audio.sample_rate)
        waveform = np.pad(audio.waveform, ((0, 0), (max(lead, 0), 0)))[:, max(-lead, 0) :]
        return Read(source.frames, waveform, float(source.fps), audio.sample_rate, info.request)
    return Read(clip.frames, clip.waveform, float(clip.fps), clip.sample_rate, clip.request)


_LONE_PAIR_MS = 300.0
_FEWEST_SHARE = 0.4  # of the modality that has fewer events
_LISTEN_HZ = 16000
_PIECE_S, _OVERLAP_S = 20.0, 0.5


def _measure_scene(source: Read, kind: Kind) -> VideoSync:
    """By the detectors of a kind: they see and hear nothing else, so that no test against chance is needed."""
    seen, heard = see(source.frames, source.fps, kind=kind), []
    if source.waveform.size:
        heard = hear(source.waveform, source.sample_rate, kind=kind)
    video, audio = _times(seen), _times(heard)
    if lags_s := kind.reading.lags_s:
        labels = [event.label for event in heard]
        audio -= lags_s[max(lags_s, key=labels.count)]
    start = VideoSync(kind.name, len(source.frames) / source.fps, tuple(video.tolist()), tuple(audio.tolist()))
    if not video.size or not audio.size:
        return replace(start, why=_nothing(video, audio, f"no {kind.name} event is seen", f"no {kind.name} event is heard"))
    pairs = match_aligned(video, audio)
    if len(pairs) < 0.5 * max(video.size, audio.size):
        return replace(start, why=f"{_counts(video, audio)}, and only {len(pairs)} of them fit at one offset")
    result = add_pairs(start, _pair_times(pairs, video, audio))
    if result.num_events == 1 and abs(result.offset_ms or 0.0) > _LONE_PAIR_MS:
        return replace(start, why=f"{_counts(video, audio)}, too far apart to be called a pair")
    return result


def _measure_any(source: Read) -> VideoSync:
    picture = watch(source.frames, source.fps)
    video, audio = _times(picture.events), _times(_listen(source.waveform, source.sample_rate))
    seconds = len(source.frames) / source.fps
    start = VideoSync(
        ANY_VIDEO, seconds, tuple(video.tolist()), tuple(audio.tolist()), activity=tuple(picture.activity.tolist())
    )
    if not video.size or not audio.size:
        unheard = "no onset is heard" if source.waveform.size else "there is no audio"
        return replace(start, why=_nothing(video, audio, "no sudden change of light or motion is seen", unheard))
    width_s = max(0.015, 0.5 / source.fps)
    fit = align(video, audio, seconds=seconds, width_s=width_s)
    # match() pairs what is at the same time: the lag expected at each event is added to the picture
    reach_ms = 2500.0 * width_s
    pairs = match(video + fit.expected_s(video, seconds), audio, low_ms=-reach_ms, high_ms=reach_ms)
    if len(pairs) < max(FEWEST_PAIRS, _FEWEST_SHARE * min(video.size, audio.size)):
        return replace(
            start, why=f"{_counts(video, audio)}, and only {len(pairs)} of them fit at one offset", p_value=fit.p_value
        )
    if fit.p_value > CHANCE:
        why = f"{_counts(video, audio)}, and they fit no better than unrelated ones (p = {fit.p_value:.2f})"
        return replace(start, why=why, p_value=fit.p_value)
    return add_pairs(start, _pair_times(pairs, video, audio), p_value=fit.p_value, beat_s=fit.beat_s)


def _listen(waveform: npt.NDArray[np.float32], sample_rate: int) -> list[Detection]:
    """Onsets, a piece of the audio at a time: what is loud is compared with what is around it."""
    if not waveform.size:
        return []
    audio, rate = waveform.mean(axis=0, keepdims=True, dtype=np.float32), sample_rate
    if sample_rate > _LISTEN_HZ:
        audio, rate = resample(audio, sample_rate, to_rate=_LISTEN_HZ), _LISTEN_HZ
    piece, overlap = round(_PIECE_S * rate), round(_OVERLAP_S * rate)
    found: list[Detection] = []
    for first in range(0, audio.shape[1], piece):
        begin = max(0, first - overlap)
        for onset in find_onsets(audio[:, begin : first + piece + overlap], rate):
            time_s = onset.time_s + begin / rate
            if first / rate <= time_s < (first + piece) / rate:
                found.append(replace(onset, time_s=time_s))
    return found


def _times(events: Sequence[Detection]) -> Floats:
    return np.array([event.time_s for event in events], dtype=np.float64)


def _pair_times(pairs: Sequence[tuple[int, int]], video: Floats, audio: Floats) -> list[tuple[float, float]]:
    return [(float(video[one]), float(audio[other])) for one, other in pairs]


def _counts(video: Floats, audio: Floats) -> str:
    return f"{video.size} {'event is' if video.size == 1 else 'events are'} seen and {audio.size} heard"


def _nothing(video: Floats, audio: Floats, unseen: str, unheard: str) -> str:
    return " and ".join(what for what, found in ((unseen, video), (unheard, audio)) if not found.size)
