"""How far audio and video of one file are apart, in milliseconds, or that it is unknown.

    sync = measure_file("clip.mp4")
    sync.verdict                          # "in step", "noticeable", "not acceptable" or "cannot tell"
    sync.offset_ms                        # heard - seen; positive: the audio is late

Of any video, lights, contacts and starts (:mod:`mova.lab.read.any_video`) are paired with onsets of the audio, if they fit
each other at one lag more often than chance would have it (:mod:`mova.lab.sync.align`). A clip that mova made says in its
own request which kind of scene it shows; its offset is read by the detectors of that kind, and a lag that belongs to the
scene (thunder after a far flash) is taken off. A verdict is given only if what any video shows agrees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mova.lab.read.any_video import watch
from mova.lab.read.audio_events import find_onsets, hear
from mova.lab.read.events import Detection, Train
from mova.lab.read.paths import CORNERED, find_shared_corner
from mova.lab.read.video_events import see
from mova.lab.sync.align import CHANCE, FEWEST_PAIRS, Seen, align
from mova.lab.sync.crosscheck import cross_check
from mova.lab.sync.openings import SharedLag, find_opening_lag
from mova.lab.sync.pairing import match, match_aligned
from mova.lab.sync.result import VideoSync, add_pairs, with_reading_error
from mova.media.clip import Clip
from mova.media.decode import AudioStream, FrameStream, StreamedFrames, collect_frames
from mova.media.probe import probe
from mova.media.resample import resample
from mova.media.tolerances import limit
from mova.scenes.kind import Kind
from mova.scenes.kinds import drawable_kinds, find_kind, kind_of
from mova.timeline import samples_in_frames

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]
ANY_VIDEO = "any video"


class Read(NamedTuple):
    """A video as it is measured: frame 0 and sample 0 at 0 s, of whatever lengths.

    Args:
        frames: ``[T, H, W, 3]`` uint8, or a stream of frames that is too large to hold.
        waveform: ``[channels, S]`` float32, of a long file float16; S = 0 if there is no audio.
        fps: Frames per second.
        sample_rate: Samples per second.
        request: Request that made it, if it holds one.
        made_by: What made it, likewise.
        repairs: What was repaired when it was read, one line each; that of streamed frames is known after they are measured.
    """

    frames: Frames | StreamedFrames
    waveform: npt.NDArray[np.float32] | npt.NDArray[np.float16]
    fps: float
    sample_rate: int
    request: Mapping[str, Any] | None = None
    repairs: tuple[str, ...] = ()
    made_by: Mapping[str, Any] | None = None

    def list_repairs(self) -> tuple[str, ...]:
        """Return what was repaired, of streamed frames too."""
        return self.repairs if isinstance(self.frames, np.ndarray) else (*self.frames.repairs, *self.repairs)


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
    return measure(
        Read(clip.frames, clip.waveform, float(clip.fps), clip.sample_rate, clip.request, made_by=clip.made_by), kind=kind
    )


def measure(source: Read, *, kind: str | Kind | None = None) -> VideoSync:
    """Measure a video that was read.

    Raises:
        RequestError: If there is no such kind.
    """
    if kind == "any":
        return _measure_any(source)
    if kind is not None:
        return _measure_scene(source, find_kind(kind))
    # a scene of a recorded kind is short enough to hold
    recorded = find_recorded_kind(source.request, source.made_by) if isinstance(source.frames, np.ndarray) else None
    return _measure_any(source) if recorded is None else _measure_recorded(source, find_kind(recorded))


def find_recorded_kind(request: Mapping[str, Any] | None, made_by: Mapping[str, Any] | None) -> str | None:
    """Kind of scene that a record names and that can be drawn here: what the prompt was read as, else what its words name.

    Args:
        request: Request of a clip or a file, unchecked.
        made_by: What made it, likewise.
    """
    reading, kinds = (made_by or {}).get("reading"), drawable_kinds()
    named = reading.get("kind") if isinstance(reading, Mapping) else None
    if isinstance(named, str) and named in kinds:
        return named
    return kind_of(str((request or {}).get("prompt", "")), kinds.values())


def read_video(path: str | Path) -> Read:
    """Read a video whose audio may begin or end elsewhere than its picture, or be missing; a long one is streamed.

    Raises:
        MediaError: If the file cannot be read or has no picture.
    """
    info = probe(path)
    video = FrameStream(path, purpose="measure")
    size = 1 if info.video is None else 3 * info.video.width * info.video.height
    is_held = video.num_frames * size <= _HELD_BYTES
    frames = collect_frames(video) if is_held else StreamedFrames(video)
    fps, repairs = float(video.fps), video.repairs
    if info.audio is None:
        return Read(frames, np.zeros((1, 0), np.float32), fps, _LISTEN_HZ, info.request, repairs, info.made_by)
    audio = AudioStream(path, purpose="measure")
    is_long = len(frames) / fps * audio.sample_rate * audio.channels * 4 > _HELD_BYTES
    rate = min(_LISTEN_HZ, audio.sample_rate) if is_long else audio.sample_rate
    waveform: npt.NDArray[Any] = audio.read_at(rate, mix=_mix_in_phase) if is_long else audio.read()
    lead = round((audio.start_s - video.start_s) * rate)
    if lead:
        waveform = np.pad(waveform, ((0, 0), (lead, 0))) if lead > 0 else waveform[:, -lead:]
    # the last block of a codec goes on for a moment after the last frame, or ends before it
    whole = samples_in_frames(len(frames), video.fps, rate)
    if abs(whole - waveform.shape[1]) <= limit("edge") * rate:
        missing = max(0, whole - waveform.shape[1])
        waveform = np.pad(waveform, ((0, 0), (0, missing))) if missing else waveform[:, :whole]
    return Read(
        frames, np.clip(waveform, -1.0, 1.0, out=waveform), fps, rate, info.request, (*repairs, *audio.repairs), info.made_by
    )


_HELD_BYTES = 2**28
_READING_MS = 15.0
"""Offsets of any video are read to within this in 95 of 100 videos (``benchmarks/sync_any.py``)."""
_FAR_MS = 300.0
_SAME_MS = 25.0
_FEWEST_SHARE = 0.4  # of the modality that has fewer events
_NUM_OTHERS, _MANY_EVENTS = 399, 100  # unrelated trains to compare with; half as many are enough for long videos
_SURE_PAIRS, _SURE_SHARE = 4, 0.75  # of any video: a rhythm of three is soon found by chance
_LISTEN_HZ = 16000
_PIECE_S, _OVERLAP_S = 20.0, 0.5


def _measure_recorded(source: Read, kind: Kind) -> VideoSync:
    """By the detectors of the kind that the video's own record names; a verdict only if the picture itself shows as much."""
    found = _measure_scene(source, kind)
    if found.verdict == "cannot tell" or found.offset_ms is None:
        return found
    seen = _measure_any(source)
    second = replace(found, correlation_ms=seen.correlation_ms, correlation_agrees=seen.correlation_agrees)
    is_same = seen.offset_ms is not None and abs(seen.offset_ms - found.offset_ms) <= _SAME_MS
    if is_same and seen.correlation_agrees is not False:
        return second
    why = seen.why if is_same or seen.offset_ms is None else f"{seen.offset_ms:+.0f} ms"
    return replace(
        second,
        verdict="cannot tell",
        is_sure=False,
        why=f"read as {kind.name}, as its own record says, the audio is {found.offset_ms:+.0f} ms from the picture; "
        f"without the record: {why}",
    )


def _measure_scene(source: Read, kind: Kind) -> VideoSync:
    """By the detectors of a kind: they see and hear nothing else, so that no test against chance is needed."""
    seen, heard = see(np.asarray(source.frames), source.fps, kind=kind), []
    if source.waveform.size:
        heard = hear(_in_phase(source.waveform), source.sample_rate, kind=kind)
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
    if result.num_events == 1 and abs(result.offset_ms or 0.0) > _FAR_MS:
        return replace(start, why=f"{_counts(video, audio)}, too far apart to be called a pair")
    return result


def _measure_any(source: Read) -> VideoSync:
    picture = watch(source.frames, source.fps)
    audio = _times(_listen(source.waveform, source.sample_rate))
    seconds = len(source.frames) / source.fps
    start = VideoSync(
        ANY_VIDEO,
        seconds,
        tuple(event.time_s for event in picture.events),
        tuple(audio.tolist()),
        activity=tuple(picture.activity.tolist()),
    )
    if not picture.trains or not audio.size:
        unheard = "no onset is heard" if source.waveform.size else "there is no audio"
        return replace(
            start, why=_nothing(_times(picture.events), audio, "no sudden change of light or motion is seen", unheard)
        )
    trains = [
        Seen(_times(train.events), train.width_s, _DOUBTS[train.label] + train.doubt, _weigh(train)) for train in picture.trains
    ]
    fit = align(trains, audio, seconds=seconds, num_others=_NUM_OTHERS if audio.size <= _MANY_EVENTS else _NUM_OTHERS // 2)
    train, video, width_s = picture.trains[fit.index], trains[fit.index].times_s, trains[fit.index].width_s
    start = replace(start, seen_s=tuple(video.tolist()), p_value=fit.p_value)
    # match() pairs what is at the same time: the lag expected at each event is added to the picture
    reach_ms = 2500.0 * width_s
    pairs = match(video + fit.expected_s(video, seconds), audio, low_ms=-reach_ms, high_ms=reach_ms)
    is_few = len(pairs) == FEWEST_PAIRS < min(video.size, audio.size)
    is_far = is_few and 1000.0 * abs(fit.lag_s) > _FAR_MS
    if is_far or len(pairs) < max(FEWEST_PAIRS, _FEWEST_SHARE * min(video.size, audio.size)):
        return replace(start, why=f"{_counts(video, audio)}, and only {len(pairs)} of them fit at one offset")
    if fit.p_value > CHANCE:
        why = f"{_counts(video, audio)}, and they fit no better than unrelated ones (p = {fit.p_value:.2f})"
        return replace(start, why=why)
    times = _pair_times(pairs, video, audio)
    if train.is_sampled and _scatter_s(times) > _LOCKED / source.fps:
        times = _within_frames(times, source.fps)
    is_clear = train.label != "start"  # what begins to move may be on its way to what is heard
    if train.path is not None:
        lag_s = float(np.median([heard - seen for seen, heard in times]))
        shared = _find_shared_lag(train, source, picture.shutter, np.array([heard for _, heard in times]), lag_s)
        if shared is None:
            return replace(start, why=f"{_counts(video, audio)}, but when things meet is not seen")
        times = [(seen + lag_s - shared.lag_s, heard) for seen, heard in times]
        times = _contacts_at(picture.trains, audio, shared, len(times), source.fps) or times
        is_clear = shared.is_clear
    found = with_reading_error(add_pairs(start, times, p_value=fit.p_value, beat_s=fit.beat_s), _READING_MS)
    is_most = len(times) >= max(_SURE_PAIRS, _SURE_SHARE * min(video.size, audio.size))
    found = replace(found, is_sure=found.is_sure and is_clear and is_most)
    if is_few:  # soon found by chance
        why = f"{_counts(video, audio)}, and only {len(times)} pairs tell of an offset of {found.offset_ms:+.0f} ms"
        found = replace(found, verdict="cannot tell", why=why)
    return cross_check(found, source.fps, _in_phase(source.waveform), source.sample_rate)


def _find_shared_lag(train: Train, source: Read, shutter: float, heard_s: Floats, lag_s: float) -> SharedLag | None:
    """The lag of onsets after the moment of a repeated movement that they go with; None if that is not seen."""
    if train.label == "opening":
        waveform = _in_phase(source.waveform)
        return find_opening_lag(train, waveform, source.sample_rate, source.fps, shutter, heard_s, lag_s)
    corner = find_shared_corner(train.path, source.fps, shutter, heard_s, lag_s) if train.path is not None else None
    if corner is None:
        return None
    # where nothing bends, it is heard when it is farthest from its rest
    return SharedLag(corner.lag_s, is_clear=True) if corner.clear > CORNERED else SharedLag(lag_s, is_clear=False)


def _contacts_at(
    trains: Sequence[Train], audio: Floats, shared: SharedLag, num_pairs: int, fps: float
) -> list[tuple[float, float]]:
    """Pairs of contacts seen one by one, if most of a repeated movement's are: each tells its time by itself."""
    reach_ms = (_NEAR_FRAMES if shared.is_clear else _FAR_FRAMES) * 1000.0 / fps + 2.0
    for train in trains:
        if train.label == "contact":
            video = _times(train.events)
            pairs = match(video + shared.lag_s, audio, low_ms=-reach_ms, high_ms=reach_ms)
            if len(pairs) >= max(FEWEST_PAIRS, _MOST_CONTACTS * num_pairs):
                return _pair_times(pairs, video, audio)
    return []


_MOST_CONTACTS = 0.8
_NEAR_FRAMES, _FAR_FRAMES = 0.25, 0.7


def _weigh(train: Train) -> Floats | None:
    """How clear the corners of a path are; of all others None: what is seen of them is seen clearly."""
    if train.label not in ("contact", "start"):
        return None
    return np.clip([event.strength / _CLEAR for event in train.events], 0.2, 1.0)


_CLEAR = 15.0
"""Nats by which a corner of a path is likelier than none, if it is certain."""


def _within_frames(times: list[tuple[float, float]], fps: float) -> list[tuple[float, float]]:
    """The pairs with what is seen moved to where in the frame before its own it may have been.

    Nothing is known but the frame in which a light is first seen: it came on at any moment of the frame before. Lags at which
    that is true of most pairs are narrower than a frame, the more so the more pairs there are; their middle counts.
    """
    lags = np.array([heard - seen for seen, heard in times])
    tried = np.arange(lags.min(), lags.max() + 1.0 / fps, 0.0005)
    late = tried[:, None] - lags  # [L, E] how long before its first frame each light came on
    fitting = ((late > -_JITTER_S) & (late < 1.0 / fps + _JITTER_S)).sum(axis=1)
    is_clear = fitting.max() >= _MOST_FIT * lags.size
    earlier_s = float(tried[fitting == fitting.max()].mean()) - float(np.median(lags)) if is_clear else 0.5 / fps
    return [(seen - earlier_s, heard) for seen, heard in times]


_JITTER_S, _MOST_FIT = 0.002, 0.8


def _scatter_s(times: Sequence[tuple[float, float]]) -> float:
    """Range of the lags of pairs; of what a drift leaves, if there are many."""
    seen, heard = np.array(times).T
    lags = heard - seen
    if lags.size >= _DRIFT_PAIRS:
        lags = lags - np.polyval(np.polyfit(seen, lags, 1), seen)
    return float(np.ptp(lags))


_DRIFT_PAIRS = 6
_DOUBTS = {"light": 0.0, "contact": 0.0, "turn": 2.0, "opening": 0.0, "start": 8.0}
"""In nats: a sound begins with a blow sooner than with what something does before it."""
_LOCKED = 0.25
"""Of a frame: sounds that are less than this apart from the frames of their lights were put on these frames."""


def _mix_in_phase(waveform: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(_in_phase(waveform).mean(axis=0), np.float32)


def _listen(waveform: npt.NDArray[Any], sample_rate: int) -> list[Detection]:
    """Onsets, a piece of the audio at a time: what is loud is compared with what is around it."""
    if not waveform.size:
        return []
    audio, rate = waveform if len(waveform) == 1 else _mix_in_phase(waveform)[None], sample_rate
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


def _in_phase(waveform: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same with channels turned round that run against the loudest one: averaged, they would cancel out."""
    if len(waveform) == 1:
        return waveform
    loudest = waveform[int(np.argmax(np.square(waveform).sum(axis=1)))]
    against = waveform @ loudest < -0.3 * np.linalg.norm(waveform, axis=1) * np.linalg.norm(loudest)
    return np.where(against[:, None], -waveform, waveform) if against.any() else waveform


def _times(events: Sequence[Detection]) -> Floats:
    return np.array([event.time_s for event in events], dtype=np.float64)


def _pair_times(pairs: Sequence[tuple[int, int]], video: Floats, audio: Floats) -> list[tuple[float, float]]:
    return [(float(video[one]), float(audio[other])) for one, other in pairs]


def _counts(video: Floats, audio: Floats) -> str:
    return f"{video.size} {'event is' if video.size == 1 else 'events are'} seen and {audio.size} heard"


def _nothing(video: Floats, audio: Floats, unseen: str, unheard: str) -> str:
    return " and ".join(what for what, found in ((unseen, video), (unheard, audio)) if not found.size)
