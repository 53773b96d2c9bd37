"""The lag of a voice after the mouth that opens with it, or of a blow after what grows towards it.

What opens in its place may be a mouth: then loudness follows the opening, or the voice sets in as the mouth begins to open.
Or it is something that comes into the picture from one side until it strikes: then what is heard comes with the corner of its
path.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from mova.lab.read.events import Train
from mova.lab.read.paths import find_shared_corner, find_shared_start
from mova.lab.sync.energy import sum_squares

Floats = npt.NDArray[np.float64]


class SharedLag(NamedTuple):
    """Lag of the audio after a movement that is repeated.

    Args:
        lag_s: Heard - seen, seconds.
        is_clear: Whether there is no doubt which moment of it is heard.
    """

    lag_s: float
    is_clear: bool


def find_opening_lag(
    train: Train,
    waveform: npt.NDArray[Any],
    sample_rate: int,
    fps: float,
    shutter: float,
    heard_s: Floats,
    lag_s: float,
) -> SharedLag:
    """The lag of the loudness after an opening if both have one shape, else that of the onsets after its corners or starts.

    Args:
        train: Openings, with how far open it is.
        waveform: ``[channels, S]`` in phase.
        sample_rate: Samples per second.
        fps: Frames per second.
        shutter: Share of a frame that is exposed.
        heard_s: ``[E]`` onsets that go with the openings.
        lag_s: Their lag after it is widest open.
    """
    assert train.path is not None
    opening = train.path[:, 0]
    loudness, step_s = _measure_loudness(waveform, sample_rate)
    shaped_s, alike = _lag_of_shape(opening, loudness, step_s, fps, shutter, lag_s)
    swells = _swell_s(loudness, step_s, heard_s) > _SWELL_S
    if alike > (_ONE_SHAPE if not swells else _LIKE_SHAPE):
        return SharedLag(shaped_s, is_clear=alike > _ONE_SHAPE)
    corner = find_shared_corner(train.path, fps, shutter, heard_s, lag_s)
    has_corner = corner is not None and corner.clear > _CLEAR_CORNER
    if corner is not None and has_corner and train.is_one_sided:
        return SharedLag(corner.lag_s, is_clear=False)
    return SharedLag(find_shared_start(opening, fps, shutter, heard_s, lag_s), is_clear=False)


_ONE_SHAPE, _LIKE_SHAPE = 0.975, 0.85
"""Correlation of loudness and opening that both following one movement reach; what swells does not set in at once, and may be
read less well."""
_SWELL_S = 0.03
"""A blow, or a voice that is loudest at once, has reached its loudness sooner."""
_CLEAR_CORNER = 2.0


def _lag_of_shape(
    opening: Floats, loudness: Floats, step_s: float, fps: float, shutter: float, lag_s: float
) -> tuple[float, float]:
    """The lag at which loudness and opening correlate best, and how well."""
    heard = np.concatenate(([0.0], np.cumsum(loudness))) * step_s
    edges_s = np.arange(heard.size) * step_s
    starts_s = np.arange(opening.size) / fps
    open_s = max(shutter, 0.1) / fps
    lags_s = lag_s + np.arange(-0.05, 0.26, 0.002)
    alike = []
    for one_s in lags_s:
        first, last = (np.interp(starts_s + one_s + more_s, edges_s, heard) for more_s in (0.0, open_s))
        alike.append(_correlate(last - first, opening))
    best = int(np.argmax(alike))
    return float(lags_s[best]), alike[best]


def _swell_s(loudness: Floats, step_s: float, heard_s: Floats) -> float:
    """Time in which loudness goes from a tenth to nine tenths of the largest after an onset; the median of all onsets."""
    before, after = round(0.03 / step_s), round(0.15 / step_s)
    found = []
    for onset_s in heard_s:
        at = round(float(onset_s) / step_s)
        piece = loudness[max(0, at - before) : at + after]
        if piece.size and piece.max() > 0.0:
            loudest = int(np.argmax(piece >= 0.9 * piece.max()))
            quiet = np.flatnonzero(piece[: loudest + 1] <= 0.1 * piece.max())
            found.append((loudest - (int(quiet[-1]) if quiet.size else 0)) * step_s)
    return float(np.median(found)) if found else 0.0


def _correlate(one: Floats, other: Floats) -> float:
    scale = one.std() * other.std()
    return float(np.mean((one - one.mean()) * (other - other.mean())) / scale) if scale > 0.0 else 0.0


def _measure_loudness(waveform: npt.NDArray[Any], sample_rate: int) -> tuple[Floats, float]:
    """Root mean squares over 10 ms for every millisecond or so, and the seconds between them."""
    step = max(1, sample_rate // 1000)
    power = sum_squares(waveform, np.arange(0, waveform.shape[1] + 1, step)) / step
    # a running mean may fall below zero by rounding
    loudness = np.sqrt(np.maximum(uniform_filter1d(power, 10), 0.0)) if power.size else power
    return loudness, step / sample_rate
