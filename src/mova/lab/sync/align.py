"""Two trains of events, one seen and one heard: is there a lag at which they fit, and is that more than chance?

Every pair of an event seen and one heard votes for its own lag with a Gaussian; the lag with the most votes wins (soft
alignment), and so does the drift at which most agree. Dense trains fit somewhere at any lag, so the votes are held against
what unrelated trains get, in two ways, and only what is as rare as one in two hundred in both counts as a fit:

* the same audio shifted in time by more than any lag that is sought (circular shifts). Bursts stay bursts; but a short
  video has few shifts that differ;
* the gaps of the audio in random order, begun anywhere; where there are few gaps, each is longer or shorter by a quarter or
  so. There is no end of these; but what belongs together is torn apart.

A train that beats evenly fits again one beat later, shifted or shuffled: it is held against as many events at random times,
and its lag is sought within half a beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
CHANCE = 0.005
"""A fit that unrelated trains reach more often than this is none."""
LARGEST_LAG_S = 1.0
LARGEST_DRIFT = 0.01
"""Seconds per second: 24 frames a second played as 23.976 drift by a tenth of it."""
FEWEST_PAIRS = 3


@dataclass(frozen=True)
class Alignment:
    """Where two trains fit best.

    Args:
        index: Which of the trains seen fits.
        lag_s: Heard - seen, at the middle of the video.
        drift: Change of it, seconds per second; rough, from the grid that was searched.
        p_value: Share of unrelated trains that fit as well, of the way that has more.
        beat_s: Period of both trains where they beat evenly: the lag is known but for multiples of it.
    """

    index: int
    lag_s: float
    drift: float
    p_value: float
    beat_s: float | None

    def expected_s(self, time_s: Floats, seconds: float) -> Floats:
        """Lag at moments of the video."""
        return self.lag_s + self.drift * (time_s - 0.5 * seconds)


@dataclass(frozen=True, eq=False)
class Seen:
    """A train of events seen that may be what is heard.

    Args:
        times_s: ``[V]`` times, at least one.
        width_s: Distance of the two events of a pair, once the lag is taken off: standard deviation of a vote.
        doubt: What it has to fit better than a train without any, in nats.
        weights: ``[V]`` in 0..1: how clearly each was seen; None if all were.
    """

    times_s: Floats
    width_s: float
    doubt: float = 0.0
    weights: Floats | None = None


def align(trains: Sequence[Seen], heard_s: Floats, *, seconds: float, num_others: int = 199, seed: int = 0) -> Alignment:
    """The best lag of the audio, within a second or a fifth of the video, for the train that fits best.

    Args:
        trains: At least one.
        heard_s: ``[A]`` times in order, at least one.
        seconds: Length of the video.
        num_others: Unrelated trains to compare with, of each way.
        seed: Seed of these.
    """
    beats = [_beat_s(train.times_s, heard_s) for train in trains]
    largest = min(LARGEST_LAG_S, 0.2 * seconds)
    reaches = [largest if beat_s is None else min(largest, 0.5 * beat_s) for beat_s in beats]
    searches = [_Search(train, seconds, reach_s, heard_s.size) for train, reach_s in zip(trains, reaches, strict=True)]
    fits = [search.best(heard_s) for search in searches]
    index = max(range(len(fits)), key=lambda one: fits[one][0])
    worth, lag_s, drift = fits[index]
    rng = np.random.default_rng(seed)
    reach_s = max(reaches)

    def rotate() -> Floats:
        return (heard_s + rng.uniform(2.0 * reach_s, seconds - 2.0 * reach_s)) % seconds

    def shuffle() -> Floats:
        gaps = rng.permutation(np.diff(heard_s, append=heard_s[0] + seconds))
        if gaps.size < _MANY_GAPS:
            # there are few orders, the true one among them: without some change they would fit just as well
            gaps *= np.exp(_UNLIKE * rng.standard_normal(gaps.size))
            gaps *= seconds / gaps.sum()
        return (rng.uniform(0.0, seconds) + np.cumsum(gaps)) % seconds

    def scatter() -> Floats:
        return rng.uniform(0.0, seconds, heard_s.size)

    ways = (rotate, shuffle) if beats[index] is None else (scatter,)
    as_good = 0
    for way in ways:
        others = (way() for _ in range(num_others))
        as_good = max(as_good, sum(max(search.best(other)[0] for search in searches) >= worth - 1e-9 for other in others))
    return Alignment(index, lag_s, drift, (1 + as_good) / (1 + num_others), beats[index])


class _Search:
    """The grid of lags and drifts, made once for all trains heard.

    A vote is how much likelier a pair is at its distance from the lag than by chance, in nats; every event seen that has no
    pair costs what it costs to be one of half that have none. What was seen less clearly counts less, in both.
    """

    def __init__(self, train: Seen, seconds: float, reach_s: float, num_heard: int) -> None:
        self.seen_s, self.middle_s, width_s = train.times_s, 0.5 * seconds, train.width_s
        self.clear = np.ones(train.times_s.size) if train.weights is None else train.weights
        self.cost = train.doubt + np.log(2.0) * float(self.clear.sum())
        num_lags = 2 * round(reach_s / _BIN_S) + 1
        self.lags = (np.arange(num_lags) - num_lags // 2) * _BIN_S
        # of equals the smaller lag wins
        self.weights = 1.0 - 0.1 * np.abs(self.lags) / max(reach_s, _BIN_S)
        # one step moves the ends of the video by one width
        most = min(_MOST_DRIFTS, int(LARGEST_DRIFT * self.middle_s / width_s))
        self.drifts = sorted(np.arange(-most, most + 1) * (width_s / self.middle_s), key=abs)
        self.radius = round(3.0 * width_s / _BIN_S) + 1
        apart = np.arange(-self.radius, self.radius + 1) * _BIN_S / width_s
        density = np.exp(-0.5 * np.square(apart)) / (np.sqrt(2.0 * np.pi) * width_s)
        self.kernel = np.log1p(density * seconds / num_heard)
        self.farthest = float(self.lags[-1] + abs(self.drifts[-1]) * self.middle_s + 4.0 * width_s)

    def best(self, heard_s: Floats) -> tuple[float, float, float]:
        """Worth, lag and drift of the best fit."""
        apart = heard_s[None, :] - self.seen_s[:, None]
        rows, columns = np.nonzero(np.abs(apart) <= self.farthest)
        lag_s, since_s, clear = apart[rows, columns], self.seen_s[rows] - self.middle_s, self.clear[rows]
        found = (-1.0, 0.0, 0.0)
        for drift in self.drifts:
            place = np.round((lag_s - drift * since_s - self.lags[0]) / _BIN_S).astype(np.int64)
            inside = (place >= 0) & (place < self.lags.size)
            counts = np.bincount(place[inside], clear[inside], minlength=self.lags.size)
            votes = np.convolve(counts, self.kernel)[self.radius : -self.radius]
            votes *= self.weights
            best = int(np.argmax(votes))
            # of equals the smaller drift wins, too
            if votes[best] > found[0] * 1.02:
                found = (float(votes[best]), float(self.lags[best]), float(drift))
        return found[0] - self.cost, found[1], found[2]


_MOST_DRIFTS = 30
_MANY_GAPS, _UNLIKE = 7, 0.25  # the latter is the standard deviation of the logarithm of a gap
_BIN_S = 0.004


def _beat_s(seen_s: Floats, heard_s: Floats) -> float | None:
    """The period, if what is heard beats evenly, and most of what is seen beats with it, or twice as fast."""
    if min(seen_s.size, heard_s.size) < _FEWEST_BEATS:
        return None
    gaps = np.diff(np.sort(heard_s))
    period = float(np.median(gaps))
    multiples = gaps / period
    if np.abs(multiples - np.maximum(np.round(multiples), 1.0)).max() > _BEAT_WIDTH:
        return None
    for one in (period, 0.5 * period):
        phases = np.abs((seen_s[:, None] - seen_s[None, :] + 0.5 * one) % one - 0.5 * one) / one
        most = int((phases <= _BEAT_WIDTH).sum(axis=1).max())
        if most >= max(_FEWEST_BEATS, _MOST_BEAT * seen_s.size):
            return one
    return None


_FEWEST_BEATS, _BEAT_WIDTH, _MOST_BEAT = 4, 0.1, 0.6
