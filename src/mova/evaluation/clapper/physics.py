"""What impacts tell besides their sync: whether a ball keeps less and less of its speed, and sounds as hard as it hits.

Of a ball that flies freely between impacts, the flights shrink by the restitution: ``e_i = T_{i+1} / T_i``, whatever gravity
and the scale of the picture are. It can be taken from times seen and from times heard, and the two should agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from mova.evaluation.clapper.readers import Reading
from mova.evaluation.clapper.scores import ClipTimes
from mova.evaluation.sync import aligned_pairs

Floats = npt.NDArray[np.float64]
GAIN = 1.02
"""A flight longer than the one before by more than this gained energy from nowhere."""


@dataclass(frozen=True)
class Physics:
    """One clip of a bouncing ball; nan where there are too few impacts.

    Args:
        restitution_seen: Median over the flights, from times seen.
        restitution_heard: The same from times heard.
        energy_gain_rate: Share of the flights seen that are longer than the one before.
        loudness_speed_rho: Spearman's rank correlation of the loudness of impacts and the speed they are seen to have.
    """

    restitution_seen: float
    restitution_heard: float
    energy_gain_rate: float
    loudness_speed_rho: float

    @property
    def restitution_difference(self) -> float:
        """Size of the difference between what is seen and what is heard."""
        return abs(self.restitution_seen - self.restitution_heard)


def ball_physics(times: ClipTimes, reading: Reading, waveform: npt.NDArray[np.float32], sample_rate: int) -> Physics:
    """Physics of a clip of the family ``bounce``.

    Args:
        times: Of the clip.
        reading: Of the same clip; the strength of what is seen is the jump of the speed.
        waveform: ``[channels, S]``.
        sample_rate: Samples per second.
    """
    seen, heard = restitutions(times.video_s), restitutions(times.audio_s)
    pairs = aligned_pairs(times.video_s, times.audio_s)
    speeds = [reading.seen[first].strength for first, _ in pairs]
    levels = [loudness_db(waveform, sample_rate, times.audio_s[second]) for _, second in pairs]
    return Physics(
        restitution_seen=_median(seen),
        restitution_heard=_median(heard),
        energy_gain_rate=float(np.mean(seen > GAIN)) if seen.size else float("nan"),
        loudness_speed_rho=rank_correlation(levels, speeds),
    )


def restitutions(times_s: Sequence[float]) -> Floats:
    """``[K - 2]`` ratios of each interval to the one before it, of ``K`` impacts in order."""
    flights = np.diff(np.asarray(times_s, dtype=np.float64))
    return np.asarray(flights[1:] / np.maximum(flights[:-1], 1e-9))


def loudness_db(waveform: npt.NDArray[np.float32], sample_rate: int, time_s: float, *, for_s: float = 0.05) -> float:
    """RMS of all channels in the ``for_s`` after an instant, in dB below full scale, at least -120."""
    first = max(0, round(time_s * sample_rate))
    piece = waveform[:, first : first + round(for_s * sample_rate)].astype(np.float64)
    power = float(np.mean(np.square(piece))) if piece.size else 0.0
    return float(10.0 * np.log10(max(power, 1e-12)))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation; nan for fewer than 3 pairs or if one side is all the same."""
    if len(first) < 3:
        return float("nan")
    ranks = np.stack((rankdata(first), rankdata(second)))
    if np.any(ranks.std(axis=1) == 0.0):
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def _median(values: Floats) -> float:
    return float(np.median(values)) if values.size else float("nan")
