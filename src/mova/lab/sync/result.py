"""What is said of the sync of one video, and how it follows from the pairs of events.

The verdict is by ITU-R BT.1359-1: detectability -45 to +125 ms, acceptability -90 to +185 ms. Where a video drifts, its
worse end counts. Intervals are 95 % percentile intervals of a bootstrap over pairs. The offset's holds what the detectors
themselves may be off by, too, where that is known: they are off by the same in all pairs of a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mova.lab.numbers import Interval, interval
from mova.lab.sync.pairing import WINDOWS_MS, drift_ms_per_s

Floats = npt.NDArray[np.float64]
SyncVerdict = Literal["in step", "noticeable", "not acceptable", "cannot tell"]
DETECTABLE_MS, ACCEPTABLE_MS = WINDOWS_MS["bt1359_detectability"], WINDOWS_MS["bt1359_acceptability"]


@dataclass(frozen=True)
class VideoSync:
    """Sync of one video.

    Args:
        read_as: Scene kind whose detectors were used, or ``"any video"``.
        seconds: Length of the picture.
        seen_s: Times of the events seen.
        heard_s: Times of those heard; a lag that the scene means is taken off.
        why: One sentence.
        verdict: Verdict by BT.1359, from at least three pairs.
        is_sure: Whether 95 % of the bootstrap give the same verdict and no beat leaves the offset open.
        pairs: Times ``(seen, heard)`` of what belongs together, in order.
        offset_ms: Median of heard - seen over the pairs; None, as what follows, if it is unknown.
        offset_interval_ms: 95 %; None for fewer than three pairs.
        mad_ms: Median distance of the pairs from the offset, or from the line where there is a drift.
        drift_ms_per_s: Theil-Sen slope of heard - seen; None for fewer than six pairs or less than three seconds.
        drift_interval_ms_per_s: 95 %.
        p_value: Share of unrelated trains of events that fit each other as well; None where a kind is known.
        beat_s: For videos that beat evenly: the offset is known but for multiples of this.
        correlation_ms: Lag at which change in the picture and onsets of the audio correlate best: a rough second opinion that
            knows no events. None if it was not asked for, or there is none.
        correlation_agrees: Whether it confirms the offset (True), contradicts it (False), or says too little (None).
        activity: Amount of change in each frame, 0 to 1, for drawing; empty where a kind is known.
    """

    read_as: str
    seconds: float
    seen_s: tuple[float, ...]
    heard_s: tuple[float, ...]
    why: str = ""
    verdict: SyncVerdict = "cannot tell"
    is_sure: bool = False
    pairs: tuple[tuple[float, float], ...] = ()
    offset_ms: float | None = None
    offset_interval_ms: Interval | None = None
    mad_ms: float | None = None
    drift_ms_per_s: float | None = None
    drift_interval_ms_per_s: Interval | None = None
    p_value: float | None = None
    beat_s: float | None = None
    correlation_ms: float | None = None
    correlation_agrees: bool | None = None
    activity: tuple[float, ...] = field(default=(), repr=False)

    @property
    def num_events(self) -> int:
        """Pairs that the offset is from; 0 if it is unknown."""
        return len(self.pairs)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "verdict": self.verdict,
            "why": self.why,
            "offset_ms": _round(self.offset_ms, 1),
            "mad_ms": _round(self.mad_ms, 1),
            "drift_ms_per_s": _round(self.drift_ms_per_s, 2),
            "num_events": self.num_events,
            "confidence": {
                "is_sure": self.is_sure,
                "offset_ms": _both(self.offset_interval_ms, 1),
                "drift_ms_per_s": _both(self.drift_interval_ms_per_s, 2),
                "p_value": _round(self.p_value, 4),
                "beat_s": _round(self.beat_s, 3),
                "correlation_ms": _round(self.correlation_ms, 0),
                "correlation_agrees": self.correlation_agrees,
            },
            "num_seen": len(self.seen_s),
            "num_heard": len(self.heard_s),
            "read_as": self.read_as,
            "seconds": _round(self.seconds, 3),
        }


def verdict_of(offset_ms: float) -> SyncVerdict:
    """What an offset is by BT.1359."""
    if DETECTABLE_MS[0] <= offset_ms <= DETECTABLE_MS[1]:
        return "in step"
    return "noticeable" if ACCEPTABLE_MS[0] <= offset_ms <= ACCEPTABLE_MS[1] else "not acceptable"


def add_pairs(
    start: VideoSync, pairs: Sequence[tuple[float, float]], *, p_value: float | None = None, beat_s: float | None = None
) -> VideoSync:
    """The result with all that follows from the pairs.

    Args:
        start: Result with what was seen and heard.
        pairs: ``(seen, heard)`` in seconds, at least one.
        p_value: Significance of the fit, if there was a test.
        beat_s: Period of both trains, if they beat evenly.
    """
    seen_s = np.array([pair[0] for pair in pairs])
    delta_ms = 1000.0 * (np.array([pair[1] for pair in pairs]) - seen_s)
    draws = np.random.default_rng(0).integers(len(pairs), size=(_DRAWS, len(pairs)))
    drift, drift_interval = None, None
    if len(pairs) >= _DRIFT_PAIRS and float(np.ptp(seen_s)) >= _DRIFT_SPAN_S:
        drift = _slope(seen_s, delta_ms)
        drift_interval = interval(np.array([_slope(seen_s[draw], delta_ms[draw]) for draw in draws]))
    drifts = _is_drift(drift_interval)
    line_ms = _line(seen_s, delta_ms, drifts=drifts)
    verdict = _worst(line_ms)
    agree = np.mean([_worst(_line(seen_s[draw], delta_ms[draw], drifts=drifts)) == verdict for draw in draws])
    is_enough = len(pairs) >= _VERDICT_PAIRS
    few = f"the audio is {np.median(delta_ms):+.0f} ms from the picture in {len(pairs)} of at least {_VERDICT_PAIRS} pairs"
    return replace(
        start,
        why=_sentence(verdict, line_ms) if is_enough else few,
        verdict=verdict if is_enough else "cannot tell",
        is_sure=bool(is_enough and beat_s is None and agree >= 0.95),
        pairs=tuple(pairs),
        offset_ms=float(np.median(delta_ms)),
        offset_interval_ms=interval(np.median(delta_ms[draws], axis=1)) if is_enough else None,
        mad_ms=float(np.median(np.abs(delta_ms - line_ms))),
        drift_ms_per_s=drift,
        drift_interval_ms_per_s=drift_interval,
        p_value=p_value,
        beat_s=beat_s,
    )


def with_reading_error(found: VideoSync, error_ms: float) -> VideoSync:
    """The result for detectors that are off by up to ``error_ms`` in 95 of 100 videos.

    The interval of the offset gains it, as an independent error; the verdict is sure only if it is the same at both ends.
    """
    if found.offset_ms is None or found.offset_interval_ms is None:
        return found
    low, high = (end - found.offset_ms for end in found.offset_interval_ms)
    ends = found.offset_ms - float(np.hypot(low, error_ms)), found.offset_ms + float(np.hypot(high, error_ms))
    # where there is a drift, the verdict is that of the worse end
    is_sure = found.is_sure and (_is_drift(found.drift_interval_ms_per_s) or verdict_of(ends[0]) == verdict_of(ends[1]))
    return replace(found, offset_interval_ms=ends, is_sure=is_sure)


_DRIFT_PAIRS, _DRIFT_SPAN_S, _VERDICT_PAIRS = 6, 3.0, 3
_DRAWS = 200
_FEW = 150  # pairs of a video that slopes are taken between; more tell nothing new
_ORDER: tuple[SyncVerdict, ...] = ("in step", "noticeable", "not acceptable")


def _is_drift(slope: Interval | None) -> bool:
    return slope is not None and (slope[0] > 0.0 or slope[1] < 0.0)


def _slope(seen_s: Floats, delta_ms: Floats) -> float:
    step = -(-seen_s.size // _FEW)
    # a draw may hold one event many times, and then tells no slope
    return float(np.nan_to_num(drift_ms_per_s(seen_s[::step], delta_ms[::step])))


def _line(seen_s: Floats, delta_ms: Floats, *, drifts: bool) -> Floats:
    """``[K]`` offset at every pair."""
    if not drifts:
        return np.full(seen_s.size, float(np.median(delta_ms)))
    slope_ms = _slope(seen_s, delta_ms) * seen_s
    return np.asarray(float(np.median(delta_ms - slope_ms)) + slope_ms)


def _worst(line_ms: Floats) -> SyncVerdict:
    return max((verdict_of(float(value)) for value in (line_ms.min(), line_ms.max())), key=_ORDER.index)


def _sentence(verdict: SyncVerdict, line_ms: Floats) -> str:
    if verdict == "in step":
        limit = f"within {DETECTABLE_MS[0]:+.0f} to {DETECTABLE_MS[1]:+.0f} ms, where people notice nothing"
    elif verdict == "noticeable":
        limit = f"outside {DETECTABLE_MS[0]:+.0f} to {DETECTABLE_MS[1]:+.0f} ms, so that people notice it"
    else:
        limit = f"outside {ACCEPTABLE_MS[0]:+.0f} to {ACCEPTABLE_MS[1]:+.0f} ms, which people do not accept"
    low, high = float(line_ms.min()), float(line_ms.max())
    where = (
        f"the audio is {low:+.0f} ms from the picture" if low == high else f"the audio drifts from {low:+.0f} to {high:+.0f} ms"
    )
    return f"{where}, {limit} (ITU-R BT.1359)"


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _both(values: Interval | None, digits: int) -> list[float] | None:
    return None if values is None else [round(value, digits) for value in values]
