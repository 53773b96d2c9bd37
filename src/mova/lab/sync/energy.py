"""Energy of audio over stretches of time, a part of the audio at a time: a copy of an hour in float64 is half a gigabyte."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_AT_ONCE = 10_000  # stretches


def sum_squares(waveform: npt.NDArray[Any], edges: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Sum the squares of the mean of all channels over stretches that follow each other.

    Args:
        waveform: ``[channels, S]``.
        edges: ``[N + 1]`` samples where one stretch ends and the next begins, rising, 0 to S.

    Returns:
        ``[N]``; 0 for a stretch without samples.
    """
    sums = np.zeros(edges.size - 1)
    for first in range(0, sums.size, _AT_ONCE):
        part = edges[first : first + _AT_ONCE + 1]
        audio = waveform[:, part[0] : part[-1]].mean(axis=0, dtype=np.float64)
        sums[first : first + _AT_ONCE] = np.diff(np.concatenate(([0.0], np.cumsum(np.square(audio))))[part - part[0]])
    return sums
