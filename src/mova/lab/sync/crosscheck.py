"""A second opinion on an offset that knows no events: how change in the picture and onsets of the audio correlate.

How much the change from frame to frame itself changes, which is large where something starts, stops, turns or lights up,
is correlated with the rise of loudness over all lags. Movements begin and end within some 100 ms of what is heard: the
best lag is no finer than that, but it shares no step with the pairing of events, and so no fault either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from mova.lab.sync.energy import sum_squares
from mova.lab.sync.result import VideoSync

Floats = npt.NDArray[np.float64]

AGREES_MS = 150.0
"""How far the best lag of the correlation is from the true one, at most, where it is clear."""
DIFFERS_MS = 200.0


@dataclass(frozen=True)
class Correlation:
    """The lag at which change in the picture and onsets of the audio correlate best.

    Args:
        lag_ms: Heard - seen.
        is_clear: Whether no other lag, farther than ``AGREES_MS`` away, does nearly as well.
    """

    lag_ms: float
    is_clear: bool

    def differs_from(self, offset_ms: float) -> bool:
        """Whether this clearly contradicts an offset."""
        return self.is_clear and abs(self.lag_ms - offset_ms) > DIFFERS_MS


def cross_check(found: VideoSync, fps: float, waveform: npt.NDArray[np.floating], sample_rate: int) -> VideoSync:
    """The result with what the correlation says of its offset; no verdict where that clearly differs.

    Args:
        found: Result with the activity of the picture.
        fps: Frames per second.
        waveform: ``[channels, S]`` in [-1, 1].
        sample_rate: Samples per second.
    """
    other = correlate_onsets(found.activity, fps, waveform, sample_rate)
    if other is None or found.offset_ms is None:
        return found
    if not other.differs_from(found.offset_ms):
        agrees = True if abs(other.lag_ms - found.offset_ms) <= AGREES_MS else None
        return replace(found, correlation_ms=other.lag_ms, correlation_agrees=agrees)
    why = (
        f"by its events the audio is {found.offset_ms:+.0f} ms from the picture, by the correlation of change and onsets "
        f"{other.lag_ms:+.0f} ms"
    )
    return replace(found, verdict="cannot tell", is_sure=False, why=why, correlation_ms=other.lag_ms, correlation_agrees=False)


def correlate_onsets(
    activity: npt.ArrayLike, fps: float, waveform: npt.NDArray[np.floating], sample_rate: int
) -> Correlation | None:
    """Correlate the change in a picture with the onsets of audio.

    Args:
        activity: ``[T]`` how much each frame differs from the one before.
        fps: Frames per second.
        waveform: ``[channels, S]`` in [-1, 1].
        sample_rate: Samples per second.

    Returns:
        The best lag within a second or a fifth of the video; None if nothing changes in the picture or in the audio.
    """
    change = np.abs(np.diff(np.asarray(activity, dtype=np.float64), prepend=0.0))
    change[:1] = 0.0
    num = int(change.size / fps / _STEP_S)
    rise = _rise(waveform, sample_rate, num)
    reach = int(min(_LARGEST_LAG_S, 0.2 * change.size / fps) / _STEP_S)
    if reach < 1 or not change.any() or not rise.any():
        return None
    seen = np.interp(np.arange(num) * _STEP_S, np.arange(change.size) / fps, change)
    heard = gaussian_filter1d(rise, max(0.015, 0.5 / fps) / _STEP_S)
    seen, heard = seen - seen.mean(), heard - heard.mean()
    lags = np.arange(-reach, reach + 1)
    scale = np.linalg.norm(seen) * np.linalg.norm(heard)
    alike = np.array([_product(seen, heard, int(lag)) for lag in lags]) / scale
    best = int(np.argmax(alike))
    others = alike[np.abs(lags - lags[best]) * _STEP_S > 1e-3 * AGREES_MS]
    is_clear = bool(alike[best] > _LEAST_ALIKE and others.size and others.max() < _NEXT_BEST * alike[best])
    return Correlation(float(1e3 * lags[best] * _STEP_S), is_clear)


def _product(seen: Floats, heard: Floats, lag: int) -> float:
    """Inner product of what overlaps if ``heard`` comes ``lag`` steps later."""
    return float(heard[lag:] @ seen[: seen.size - lag]) if lag >= 0 else float(heard[:lag] @ seen[-lag:])


_STEP_S, _LARGEST_LAG_S = 0.005, 1.0
_LEAST_ALIKE, _NEXT_BEST = 0.3, 0.7


def _rise(waveform: npt.NDArray[np.floating], sample_rate: int, num: int) -> Floats:
    """``[num]`` rise of the level in decibels, of the upper 40 dB, per step; 0 where there is no audio."""
    edges = np.minimum(np.round(np.arange(num + 1) * _STEP_S * sample_rate).astype(np.int64), waveform.shape[1])
    power = sum_squares(waveform, edges)
    level = 10.0 * np.log10(power + 1e-4 * power.max(initial=0.0) + 1e-12)
    rise: Floats = np.maximum(np.diff(level, prepend=level[:1]), 0.0)
    return rise
