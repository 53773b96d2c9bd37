"""How far audio and picture are apart, in milliseconds, and how sure we are.

One sign everywhere: offset = time heard - time seen, so positive means that the audio is late. A lag that belongs to the
scene (thunder after a far flash) is taken off the audio before anything is compared. Events of the two modalities are
paired one to one; what stays alone counts as missed (seen, not heard) or extra (heard, not seen).

Windows are named: symmetric ones, and the two of ITU-R BT.1359-1 (detectability -45 to +125 ms, acceptability -90 to
+185 ms). Intervals are 95 % percentile intervals of a bootstrap over clips (Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

WINDOWS_MS: Mapping[str, Interval] = {
    "22.5": (-22.5, 22.5),
    "45": (-45.0, 45.0),
    "80": (-80.0, 80.0),
    "bt1359_detectability": (-45.0, 125.0),
    "bt1359_acceptability": (-90.0, 185.0),
}
PAIRING_MS = 250.0
"""For offsets, events further apart than this are not called a pair: wide, so that the median is not cut short."""


@dataclass(frozen=True)
class ClipEvents:
    """When things are seen and heard in one clip.

    Args:
        kind: Scene kind; clips are shuffled within it.
        video_s: Times seen, in seconds.
        audio_s: Times heard, in seconds, as detected.
        lag_s: How much later than seen the scene means things to be heard.
    """

    kind: str
    video_s: tuple[float, ...]
    audio_s: tuple[float, ...]
    lag_s: float = 0.0

    @property
    def audio_without_lag_s(self) -> Floats:
        """Times heard less the lag that belongs to the scene."""
        return np.asarray(self.audio_s, dtype=np.float64) - self.lag_s


@dataclass(frozen=True)
class WindowScore:
    """Pairs within one window.

    Args:
        low_ms: Earliest audio that counts.
        high_ms: Latest.
        matched: Pairs, one to one, as many as possible.
        precision: Matched over events heard.
        recall: Matched over events seen.
        f1: ``2 matched / (seen + heard)``; 1 if nothing is seen and nothing heard.
        f1_interval: 95 %.
    """

    low_ms: float
    high_ms: float
    matched: int
    precision: float
    recall: float
    f1: float
    f1_interval: Interval


@dataclass(frozen=True)
class SyncScore:
    """Sync of a set of clips.

    Args:
        num_clips: Clips.
        num_video: Events seen.
        num_audio: Events heard.
        num_events: Pairs within ``PAIRING_MS``, from which the offsets are.
        offset_ms: Median of heard - seen; nan without pairs, as the next two.
        median_abs_ms: Median of its size.
        mad_ms: Median distance from the median.
        offset_interval: 95 % of ``offset_ms``.
        median_abs_interval: 95 % of ``median_abs_ms``.
        windows: By name, as in ``WINDOWS_MS``.
    """

    num_clips: int
    num_video: int
    num_audio: int
    num_events: int
    offset_ms: float
    median_abs_ms: float
    mad_ms: float
    offset_interval: Interval
    median_abs_interval: Interval
    windows: Mapping[str, WindowScore]


def score_clips(clips: Sequence[ClipEvents], *, num_resamples: int = 1000, seed: int = 0) -> SyncScore:
    """Score a set of clips together; every event counts the same.

    Args:
        clips: At least one.
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ValueError: If there are no clips.
    """
    if not clips:
        raise ValueError("score_clips needs at least one clip; got none.")
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(clips), size=(num_resamples, len(clips)))
    seen = np.array([len(clip.video_s) for clip in clips])
    heard = np.array([len(clip.audio_s) for clip in clips])

    windows = {}
    for name, (low_ms, high_ms) in WINDOWS_MS.items():
        matched = np.array(
            [len(match(clip.video_s, clip.audio_without_lag_s, low_ms=low_ms, high_ms=high_ms)) for clip in clips]
        )
        resampled = _f1(matched[picks].sum(axis=1), (seen + heard)[picks].sum(axis=1))
        windows[name] = WindowScore(
            low_ms=low_ms,
            high_ms=high_ms,
            matched=int(matched.sum()),
            precision=float(matched.sum() / max(heard.sum(), 1)),
            recall=float(matched.sum() / max(seen.sum(), 1)),
            f1=float(_f1(matched.sum(), (seen + heard).sum())),
            f1_interval=interval(resampled),
        )

    offsets = [offsets_ms(clip) for clip in clips]
    all_offsets = np.concatenate(offsets)
    draws = [np.concatenate([offsets[index] for index in pick]) for pick in picks] if all_offsets.size else []
    return SyncScore(
        num_clips=len(clips),
        num_video=int(seen.sum()),
        num_audio=int(heard.sum()),
        num_events=int(all_offsets.size),
        offset_ms=_median(all_offsets),
        median_abs_ms=_median(np.abs(all_offsets)),
        mad_ms=_median(np.abs(all_offsets - _median(all_offsets))),
        offset_interval=interval(np.array([_median(draw) for draw in draws])),
        median_abs_interval=interval(np.array([_median(np.abs(draw)) for draw in draws])),
        windows=windows,
    )


def match(
    video_s: Sequence[float] | Floats, audio_s: Sequence[float] | Floats, *, low_ms: float, high_ms: float
) -> list[tuple[int, int]]:
    """As many pairs ``(seen, heard)`` as possible with ``low <= heard - seen <= high``, and of those the closest.

    Returns:
        Index pairs in order of the first index.
    """
    delta_ms = 1000.0 * (np.asarray(audio_s)[None, :] - np.asarray(video_s)[:, None])
    inside = (delta_ms >= low_ms - 1e-6) & (delta_ms <= high_ms + 1e-6)
    reach = max(abs(low_ms), abs(high_ms))
    # one more pair is always worth more than any nearness
    unpaired = reach * (min(delta_ms.shape) + 1)
    return _assign(np.where(inside, np.abs(delta_ms), unpaired), inside)


def offsets_ms(clip: ClipEvents) -> Floats:
    """``[K]`` heard - seen in milliseconds, lag taken off, of the pairs of least total distance.

    A pair further apart than ``PAIRING_MS`` costs as much as no pair, so that one missed event does not shift all
    others by one.
    """
    seen, heard = np.asarray(clip.video_s, dtype=np.float64), clip.audio_without_lag_s
    delta_ms = 1000.0 * (heard[None, :] - seen[:, None])
    inside = np.abs(delta_ms) <= PAIRING_MS
    pairs = _assign(np.where(inside, np.abs(delta_ms), PAIRING_MS), inside)
    return np.array([delta_ms[pair] for pair in pairs], dtype=np.float64)


def best_shift_s(video_s: Floats, audio_s: Floats) -> float:
    """The shift within 0.6 s that brings most events together, each pair weighing ``exp(-(apart / 30 ms)^2 / 2)``.

    A beat matches itself one beat later, too: of equals the smaller shift wins.
    """
    shifts = np.arange(-0.6, 0.6005, 0.002)
    apart = (audio_s[None, :] - video_s[:, None]).reshape(-1, 1) - shifts
    gains = np.exp(-0.5 * np.square(apart / 0.03)).sum(axis=0) * (1.0 - 0.5 * np.abs(shifts))
    return float(shifts[int(np.argmax(gains))])


def aligned_pairs(
    video_s: Sequence[float] | Floats, audio_s: Sequence[float] | Floats, *, within_ms: float = 80.0
) -> list[tuple[int, int]]:
    """Pairs ``(seen, heard)`` once the shift that brings most events together is taken off: an offset costs no pairs.

    The shift is sought within 0.6 s; pairs then lie ``within_ms`` of it. Without the shift, an offset near half of the
    distance between events would pair each with its neighbour.
    """
    video, audio = np.asarray(video_s, dtype=np.float64), np.asarray(audio_s, dtype=np.float64)
    if not video.size or not audio.size:
        return []
    return match(video, audio - best_shift_s(video, audio), low_ms=-within_ms, high_ms=within_ms)


def drift_ms_per_s(times_s: Sequence[float] | Floats, apart_ms: Sequence[float] | Floats) -> float:
    """How fast audio and picture run apart: the median slope over all pairs of events (Theil 1950; Sen 1968).

    Args:
        times_s: ``[K]`` when things are seen.
        apart_ms: ``[K]`` heard - seen.

    Returns:
        Milliseconds per second, positive if the audio falls behind; nan with fewer than 3 events.
    """
    times, apart = np.asarray(times_s, dtype=np.float64), np.asarray(apart_ms, dtype=np.float64)
    if times.size < 3:
        return float("nan")
    first, second = np.triu_indices(times.size, k=1)
    span = times[second] - times[first]
    slopes = (apart[second] - apart[first])[span != 0.0] / span[span != 0.0]
    return _median(slopes)


def shuffled_within_kind(clips: Sequence[ClipEvents], *, num_rounds: int = 5, seed: int = 0) -> list[ClipEvents]:
    """Every picture with the audio of another clip of its kind: what sync is worth by chance.

    Args:
        clips: A kind with a single clip has no other audio and is left out.
        num_rounds: Each picture appears this often, with another audio each time if there are enough.
        seed: Order of the clips within a kind.
    """
    rng = np.random.default_rng(seed)
    shuffled = []
    for kind in dict.fromkeys(clip.kind for clip in clips):
        members = [clip for clip in clips if clip.kind == kind]
        order = rng.permutation(len(members))
        for shift in range(1, min(num_rounds, len(members) - 1) + 1):
            for place, index in enumerate(order):
                other = members[order[(place + shift) % len(members)]]
                shuffled.append(replace(members[index], audio_s=other.audio_s, lag_s=other.lag_s))
    return shuffled


def interval(draws: Floats, *, level: float = 0.95) -> Interval:
    """Percentile interval of bootstrap draws; nan draws are left out; ``(nan, nan)`` if none are left."""
    finite = draws[np.isfinite(draws)] if draws.size else draws
    if not finite.size:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def mean_interval(values: Sequence[float] | Floats, *, num_resamples: int = 1000, seed: int = 0) -> Interval:
    """95 % interval of the mean of one value per clip, by bootstrap over clips."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(array.size, size=(num_resamples, array.size))
    return interval(array[picks].mean(axis=1))


def _assign(cost: Floats, allowed: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    rows, columns = linear_sum_assignment(cost)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if allowed[row, column]]


def _f1(matched: npt.ArrayLike, total: npt.ArrayLike) -> Floats:
    total = np.asarray(total, dtype=np.float64)
    return np.where(total > 0, 2.0 * np.asarray(matched) / np.maximum(total, 1.0), 1.0)


def _median(values: Floats) -> float:
    return float(np.median(values)) if values.size else float("nan")
