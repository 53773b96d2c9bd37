"""How far sound and picture of one film are apart, in milliseconds, or that it cannot be told.

    sync = measure_file("film.mp4")
    sync.verdict                          # "in step", "noticeable", "not acceptable" or "cannot tell"
    sync.offset_ms                        # heard - seen; positive: the sound is late

A clip that mova made says in its own request which kind of scene it shows, and is read by the detectors of that kind; a lag
that belongs to the scene (thunder after a far flash) is taken off. Of any other film, sudden changes of light and motion
(:mod:`mova.lab.sync.motion`) are paired with onsets of the sound, if they fit each other at one lag more
often than chance would have it (:mod:`mova.lab.sync.align`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mova.errors import MediaError, RequestError
from mova.lab.read.audio_events import hear, onsets
from mova.lab.read.events import Detection
from mova.lab.read.video_events import READERS, see
from mova.lab.sync.align import CHANCE, FEWEST_PAIRS, align
from mova.lab.sync.motion import watch
from mova.lab.sync.result import FilmSync, with_pairs
from mova.lab.sync.summary import aligned_pairs, match
from mova.media.clip import Clip
from mova.media.resample import resample
from mova.scenes.kinds.storm import THUNDER_LAG_S
from mova.scenes.recognise import kind_of

Floats = npt.NDArray[np.float64]
ANY_FILM = "any film"
KINDS = (*READERS, "any")
"""What ``kind`` may be: a kind of scene, or ``"any"`` for a film to be looked at without what its request says."""


class Read(NamedTuple):
    """A film as it is measured: frame 0 and sample 0 at 0 s, of whatever lengths.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        waveform: ``[channels, S]`` float32; S = 0 if there is no sound.
        fps: Frames per second.
        sample_rate: In Hz.
        request: What made it, if it says so.
    """

    frames: npt.NDArray[np.uint8]
    waveform: npt.NDArray[np.float32]
    fps: float
    sample_rate: int
    request: Mapping[str, Any] | None = None


def measure_file(path: str | Path, *, kind: str | None = None) -> FilmSync:
    """Measure a film on disk.

    Args:
        path: The film.
        kind: One of :data:`KINDS`; from the film's own request, if there is one, when not given.

    Raises:
        MediaError: If the file cannot be read or has no picture. That it has no sound is a verdict, not an error.
        RequestError: If there is no such kind.
    """
    return measure(read_film(path), kind=kind)


def measure_clip(clip: Clip, *, kind: str | None = None) -> FilmSync:
    """Measure a clip; arguments and errors as for :func:`measure_file`."""
    return measure(Read(clip.frames, clip.waveform, float(clip.fps), clip.sample_rate, clip.request), kind=kind)


def measure(film: Read, *, kind: str | None = None) -> FilmSync:
    """Measure a film that was read.

    Raises:
        RequestError: If there is no such kind.
    """
    if kind is None:
        kind = kind_of(str((film.request or {}).get("prompt", ""))) or "any"
    if kind not in KINDS:
        raise RequestError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}.", field="kind")
    return _measured_as_any(film) if kind == "any" else _measured_as_scene(film, kind)


def read_film(path: str | Path) -> Read:
    """Read a film whose sound may begin or end elsewhere than its picture, or be missing.

    Raises:
        MediaError: If the file cannot be read or has no picture.
    """
    from mova.media.decode import read_clip, read_frames, read_waveform
    from mova.media.probe import probe

    info = probe(path)
    if info.audio is None or info.video is None:
        film = read_frames(path)
        return Read(film.frames, np.zeros((1, 0), np.float32), float(film.fps), _LISTEN_HZ, info.request)
    try:
        clip = read_clip(path)
    except MediaError:
        # picture and sound that do not cover each other are no clip, but can be measured where both are
        film, sound = read_frames(path), read_waveform(path)
        lead_s = (info.audio.start_s or 0) - (info.video.start_s or 0)
        lead = round(lead_s * sound.sample_rate)
        waveform = np.pad(sound.waveform, ((0, 0), (max(lead, 0), 0)))[:, max(-lead, 0) :]
        return Read(film.frames, waveform, float(film.fps), sound.sample_rate, info.request)
    return Read(clip.frames, clip.waveform, float(clip.fps), clip.sample_rate, clip.request)


_LONE_PAIR_MS = 300.0
_FEWEST_SHARE = 0.4  # of the modality that has fewer events
_LISTEN_HZ = 16000
_PIECE_S, _OVERLAP_S = 20.0, 0.5


def _measured_as_scene(film: Read, kind: str) -> FilmSync:
    """By the detectors of a kind: they see and hear nothing else, so that no test against chance is needed."""
    seen, heard = see(film.frames, film.fps, kind=kind), []
    if film.waveform.size:
        heard = hear(film.waveform, film.sample_rate, kind=kind)
    video, audio = _times(seen), _times(heard)
    if kind == "storm" and sum(event.label == "far" for event in heard) > len(heard) / 2:
        audio -= THUNDER_LAG_S["far"]
    start = FilmSync(kind, len(film.frames) / film.fps, tuple(video.tolist()), tuple(audio.tolist()))
    if not video.size or not audio.size:
        return replace(start, why=_nothing(video, audio, f"no {kind} event is seen", f"no {kind} event is heard"))
    pairs = aligned_pairs(video, audio)
    if len(pairs) < 0.5 * max(video.size, audio.size):
        return replace(start, why=f"{_counts(video, audio)}, and only {len(pairs)} of them fit at one offset")
    result = with_pairs(start, _pair_times(pairs, video, audio))
    if result.num_events == 1 and abs(result.offset_ms or 0.0) > _LONE_PAIR_MS:
        return replace(start, why=f"{_counts(video, audio)}, too far apart to be called a pair")
    return result


def _measured_as_any(film: Read) -> FilmSync:
    picture = watch(film.frames, film.fps)
    video, audio = _times(picture.events), _times(_listen(film.waveform, film.sample_rate))
    seconds = len(film.frames) / film.fps
    start = FilmSync(ANY_FILM, seconds, tuple(video.tolist()), tuple(audio.tolist()), activity=tuple(picture.activity.tolist()))
    if not video.size or not audio.size:
        unheard = "no onset is heard" if film.waveform.size else "there is no sound"
        return replace(start, why=_nothing(video, audio, "no sudden change of light or motion is seen", unheard))
    width_s = max(0.015, 0.5 / film.fps)
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
    return with_pairs(start, _pair_times(pairs, video, audio), p_value=fit.p_value, beat_s=fit.beat_s)


def _listen(waveform: npt.NDArray[np.float32], sample_rate: int) -> list[Detection]:
    """Onsets, a piece of the sound at a time: what is loud is told from what is around it."""
    if not waveform.size:
        return []
    sound, rate = waveform.mean(axis=0, keepdims=True, dtype=np.float32), sample_rate
    if sample_rate > _LISTEN_HZ:
        sound, rate = resample(sound, sample_rate, to_rate=_LISTEN_HZ), _LISTEN_HZ
    piece, overlap = round(_PIECE_S * rate), round(_OVERLAP_S * rate)
    found: list[Detection] = []
    for first in range(0, sound.shape[1], piece):
        begin = max(0, first - overlap)
        for onset in onsets(sound[:, begin : first + piece + overlap], rate):
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
