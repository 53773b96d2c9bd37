"""What impacts tell besides their sync: whether a ball flies as balls do, and sounds as hard as it hits.

Of a ball that flies freely between impacts, the flights shrink by the restitution: ``e_i = T_{i+1} / T_i``, whatever gravity
and the scale of the picture are. It can be taken from times seen and from times heard, and the two should agree. How high it
flies for how long says how strong gravity is, and that should be the same in every flight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from mova.lab.numbers import columns_of, mean_interval, median, share_floor
from mova.lab.read.attributes import follow_balls
from mova.lab.read.events import Reading
from mova.lab.read.trajectories import fit_gravities
from mova.lab.sync.pairing import match_aligned
from mova.media.clip import Clip

Floats = npt.NDArray[np.float64]
GAIN = 1.02
"""A flight longer than the one before by more than this gained energy from nowhere."""
PHYSICS = (
    "restitution_seen",
    "restitution_heard",
    "restitution_difference",
    "energy_gain_rate",
    "g_cv",
    "loudness_speed_rho",
)
"""What is measured of a ball's flights and impacts."""


def ball_physics(clip: Clip, reading: Reading, *, shutter: float) -> dict[str, float]:
    """Measure the physics of a clip of a ball.

    Args:
        clip: The clip.
        reading: Reading of the same clip; the strength of what is seen is the jump of the speed, and its label names the ball.
        shutter: Share of a frame that is exposed.

    Returns:
        Those of :data:`PHYSICS` for which there are enough impacts: ``restitution_seen``, the median over the flights from
        times seen (of two balls none, as all but the last), ``restitution_heard`` from times heard, and
        ``restitution_difference``, how far they are apart; ``energy_gain_rate``, the share of the flights seen that are longer
        than the one before; ``g_cv``, standard deviation over mean of the gravity of the flights seen, 0 if it stays the same;
        ``loudness_speed_rho``, Spearman's rank correlation of the loudness of impacts and the speed they are seen to have.
    """
    video_s, audio_s = reading.seen_s, reading.heard_s
    pairs = match_aligned(video_s, audio_s)
    speeds = [reading.seen[first].strength for first, _ in pairs]
    levels = [loudness_db(clip.waveform, clip.sample_rate, audio_s[second]) for _, second in pairs]
    # whose impact audio is cannot be heard, and a flight is between two impacts of one ball
    is_one = len({one.label for one in reading.seen}) == 1
    seen, heard = (restitutions(times_s if is_one else ()) for times_s in (video_s, audio_s))
    gravity = fit_gravities(_heights(clip.frames), float(clip.fps), video_s, shutter=shutter) if is_one else np.zeros(0)
    values = {
        "restitution_seen": median(seen),
        "restitution_heard": median(heard),
        "restitution_difference": abs(median(seen) - median(heard)),
        "energy_gain_rate": float(np.mean(seen > GAIN)) if seen.size else float("nan"),
        "g_cv": float(gravity.std() / abs(gravity.mean())) if gravity.size > 1 else float("nan"),
        "loudness_speed_rho": rank_correlation(levels, speeds),
    }
    return {name: value for name, value in values.items() if np.isfinite(value)}


def physics_floors(found: Sequence[Mapping[str, float]], true_restitutions: Sequence[float]) -> dict[str, float]:
    """What the meter makes of true clips, by the names of :data:`PHYSICS`; what was not measured is left out.

    Restitution seen, and heard: the end of the 95 % interval of its mean error that is farther from 0. What is 0 in truth: its
    mean; of the share of flights, at least one clip of all. The rank correlation: what is missing of 1, but at least one clip.

    Args:
        found: :func:`ball_physics` of true clips, through a codec if that is what is measured.
        true_restitutions: Restitution of the ball in each; nan if there is not one ball with one.
    """
    columns = columns_of(found)
    floors = {name: float(np.mean(columns[name])) for name in PHYSICS if name in columns}
    for name in ("restitution_seen", "restitution_heard"):
        errors = [row.get(name, np.nan) - truth for row, truth in zip(found, true_restitutions, strict=True)]
        if errors := [error for error in errors if np.isfinite(error)]:
            floors[name] = max(abs(end) for end in mean_interval(errors))
    if gains := columns.get("energy_gain_rate"):
        floors["energy_gain_rate"] = share_floor([1.0 - gain for gain in gains])
    if rhos := columns.get("loudness_speed_rho"):
        floors["loudness_speed_rho"] = share_floor(rhos)
    return floors


def restitution(times_s: Sequence[float]) -> float:
    """Median of :func:`restitutions`; nan for fewer than 3 impacts."""
    return median(restitutions(times_s))


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


def _heights(frames: npt.NDArray[np.uint8]) -> Floats:
    """``[T]`` height of the middle of the larger ball in each frame, upward, in picture heights; nan where it is not seen."""
    paths = list(follow_balls(frames).values())
    return -paths[0][:, 1] if paths else np.full(len(frames), np.nan)
