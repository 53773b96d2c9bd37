"""Which event that is heard belongs to which that is seen, and how they run apart.

One sign everywhere: offset = time heard - time seen, so positive means that the audio is late. A lag that belongs to the
scene (thunder after a far flash) is taken off the audio before anything is compared. Events of the two modalities are
paired one to one; what stays alone counts as missed (seen, not heard) or extra (heard, not seen).

Windows are named: symmetric ones, and the two of ITU-R BT.1359-1 (detectability -45 to +125 ms, acceptability -90 to
+185 ms).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from mova.lab.numbers import Interval, median

Floats = npt.NDArray[np.float64]

WINDOWS_MS: Mapping[str, Interval] = {
    "22.5": (-22.5, 22.5),
    "45": (-45.0, 45.0),
    "80": (-80.0, 80.0),
    "bt1359_detectability": (-45.0, 125.0),
    "bt1359_acceptability": (-90.0, 185.0),
}


def match(
    video_s: Sequence[float] | Floats, audio_s: Sequence[float] | Floats, *, low_ms: float, high_ms: float
) -> list[tuple[int, int]]:
    """Match as many pairs ``(seen, heard)`` as possible with ``low <= heard - seen <= high``, and of those the closest.

    Returns:
        Index pairs in order of the first index.
    """
    delta_ms = 1000.0 * (np.asarray(audio_s)[None, :] - np.asarray(video_s)[:, None])
    inside = (delta_ms >= low_ms - 1e-6) & (delta_ms <= high_ms + 1e-6)
    # one more pair is always worth more than any nearness
    unpaired = max(abs(low_ms), abs(high_ms)) * (min(delta_ms.shape) + 1)
    rows, columns = linear_sum_assignment(np.where(inside, np.abs(delta_ms), unpaired))
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if inside[row, column]]


def match_aligned(
    video_s: Sequence[float] | Floats, audio_s: Sequence[float] | Floats, *, within_ms: float = 80.0
) -> list[tuple[int, int]]:
    """Match pairs ``(seen, heard)`` once the shift that brings most events together is taken off: an offset costs no pairs.

    The shift is sought within 0.6 s; pairs then lie ``within_ms`` of it. Without the shift, an offset near half of the
    distance between events would pair each with its neighbour.
    """
    video, audio = np.asarray(video_s, dtype=np.float64), np.asarray(audio_s, dtype=np.float64)
    if not video.size or not audio.size:
        return []
    return match(video, audio - find_shift_s(video, audio), low_ms=-within_ms, high_ms=within_ms)


def find_shift_s(video_s: Floats, audio_s: Floats) -> float:
    """Find the shift within 0.6 s that brings most events together, each pair weighing ``exp(-(apart / 30 ms)^2 / 2)``.

    A beat matches itself one beat later, too: of equals the smaller shift wins.
    """
    shifts = np.arange(-0.6, 0.6005, 0.002)
    apart = (audio_s[None, :] - video_s[:, None]).reshape(-1, 1) - shifts
    gains = np.exp(-0.5 * np.square(apart / 0.03)).sum(axis=0) * (1.0 - 0.5 * np.abs(shifts))
    return float(shifts[int(np.argmax(gains))])


def drift_ms_per_s(times_s: Sequence[float] | Floats, apart_ms: Sequence[float] | Floats) -> float:
    """How fast audio and video run apart: the median slope over all pairs of events (Theil 1950; Sen 1968).

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
    return median((apart[second] - apart[first])[span != 0.0] / span[span != 0.0])
