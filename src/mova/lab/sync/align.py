"""Two trains of events, one seen and one heard: is there a lag at which they fit, and is that more than chance?

Every pair of an event seen and one heard votes for its own lag with a Gaussian; the lag with the most votes wins (soft
alignment), and so does the drift at which most agree. Dense trains fit somewhere at any lag, so the votes are held against
what unrelated trains get, in two ways, and only what is rarer than one in a hundred in both counts as a fit:

* the same audio shifted in time by more than any lag that is sought (circular shifts). Bursts stay bursts; but a short
  video has few shifts that differ;
* the gaps of the audio in random order, begun anywhere. There is no end of these; but what belongs together is torn apart.

A train that beats evenly fits again one beat later, shifted or shuffled: it is held against as many events at random times,
and its lag is sought within half a beat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
CHANCE = 0.01
"""A fit that unrelated trains reach more often than this is none."""
LARGEST_LAG_S = 1.0
LARGEST_DRIFT = 0.01
"""Seconds per second: 24 frames a second played as 23.976 drift by a tenth of it."""
FEWEST_PAIRS = 3


@dataclass(frozen=True)
class Alignment:
    """Where two trains fit best.

    Args:
        lag_s: Heard - seen, at the middle of the video.
        drift: Change of it, seconds per second; rough, from the grid that was searched.
        p_value: Share of unrelated trains that fit as well, of the way that has more.
        beat_s: Period of both trains where they beat evenly: the lag is known but for multiples of it.
    """

    lag_s: float
    drift: float
    p_value: float
    beat_s: float | None

    def expected_s(self, time_s: Floats, seconds: float) -> Floats:
        """Lag at moments of the video."""
        return self.lag_s + self.drift * (time_s - 0.5 * seconds)


def align(
    seen_s: Floats, heard_s: Floats, *, seconds: float, width_s: float, num_others: int = 199, seed: int = 0
) -> Alignment:
    """The best lag of the audio, within a second or a fifth of the video.

    Args:
        seen_s: ``[V]`` times, at least one.
        heard_s: ``[A]`` times in order, at least one.
        seconds: Length of the video.
        width_s: Distance of the two events of a pair, once the lag is taken off: standard deviation of a vote.
        num_others: Unrelated trains to compare with, of each way.
        seed: Seed of these.
    """
    beat_s = _beat_s(seen_s, heard_s)
    reach_s = min(LARGEST_LAG_S, 0.2 * seconds) if beat_s is None else min(LARGEST_LAG_S, 0.5 * beat_s)
    search = _Search(seen_s, seconds, reach_s, width_s)
    votes, lag_s, drift = search.best(heard_s)
    rng = np.random.default_rng(seed)

    def rotate() -> Floats:
        return (heard_s + rng.uniform(2.0 * reach_s, seconds - 2.0 * reach_s)) % seconds

    def shuffle() -> Floats:
        gaps = rng.permutation(np.diff(heard_s, append=heard_s[0] + seconds))
        return (rng.uniform(0.0, seconds) + np.cumsum(gaps)) % seconds

    def scatter() -> Floats:
        return rng.uniform(0.0, seconds, heard_s.size)

    ways = (rotate, shuffle) if beat_s is None else (scatter,)
    as_good = max(sum(search.best(way())[0] >= votes - 1e-9 for _ in range(num_others)) for way in ways)
    return Alignment(lag_s, drift, (1 + as_good) / (1 + num_others), beat_s)


class _Search:
    """The grid of lags and drifts, made once for all trains."""

    def __init__(self, seen_s: Floats, seconds: float, reach_s: float, width_s: float) -> None:
        self.seen_s, self.middle_s, self.width_s = seen_s, 0.5 * seconds, width_s
        num_lags = 2 * round(reach_s / _BIN_S) + 1
        self.lags = (np.arange(num_lags) - num_lags // 2) * _BIN_S
        # of equals the smaller lag wins
        self.weights = 1.0 - 0.1 * np.abs(self.lags) / max(reach_s, _BIN_S)
        most = int(LARGEST_DRIFT * self.middle_s / width_s)  # one step moves the ends of the video by one width
        self.drifts = np.arange(-most, most + 1) * (width_s / self.middle_s)
        self.radius = round(3.0 * width_s / _BIN_S)
        self.kernel = np.exp(-0.5 * np.square(np.arange(-self.radius, self.radius + 1) * _BIN_S / width_s))

    def best(self, heard_s: Floats) -> tuple[float, float, float]:
        """Votes, lag and drift of the best fit."""
        apart = heard_s[None, :] - self.seen_s[:, None]
        reach = self.lags[-1] + LARGEST_DRIFT * self.middle_s + 4.0 * self.width_s
        rows, columns = np.nonzero(np.abs(apart) <= reach)
        lag_s, since_s = apart[rows, columns], self.seen_s[rows] - self.middle_s
        found = (-1.0, 0.0, 0.0)
        for drift in sorted(self.drifts, key=abs):
            place = np.round((lag_s - drift * since_s - self.lags[0]) / _BIN_S).astype(np.int64)
            inside = place[(place >= 0) & (place < self.lags.size)]
            votes = np.convolve(np.bincount(inside, minlength=self.lags.size), self.kernel)[self.radius : -self.radius]
            votes *= self.weights
            best = int(np.argmax(votes))
            # of equals the smaller drift wins, too
            if votes[best] > found[0] * 1.02:
                found = (float(votes[best]), float(self.lags[best]), float(drift))
        return found


_BIN_S = 0.004


def _beat_s(seen_s: Floats, heard_s: Floats) -> float | None:
    """The shorter period, if both trains beat evenly: all gaps within a tenth of whole multiples of the usual one."""
    periods = []
    for train in (seen_s, heard_s):
        if train.size < 4:
            return None
        gaps = np.diff(np.sort(train))
        period = float(np.median(gaps))
        multiples = gaps / period
        if np.abs(multiples - np.maximum(np.round(multiples), 1.0)).max() > 0.1:
            return None
        periods.append(period)
    return min(periods)
