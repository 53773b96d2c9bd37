"""Loudness of audio: integrated loudness and sample peak."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# ITU-R BS.1770-4 gates on blocks of 400 ms: anything shorter has no integrated loudness
BLOCK_S = 0.4


def loudness_lufs(waveform: NDArray[np.float32], sample_rate: int) -> float | None:
    """Measure the integrated loudness (ITU-R BS.1770-4, EBU R128) in LUFS.

    Args:
        waveform: ``[channels, samples]`` float32 in ``[-1, 1]``, one to five channels.
        sample_rate: Sample rate in Hz.

    Returns:
        The loudness; ``None`` if it is undefined: the audio is shorter than 0.4 s, or all of it lies below the standard's
        gate of -70 LUFS (silence).
    """
    if waveform.shape[1] < math.ceil(BLOCK_S * sample_rate):
        return None
    import pyloudnorm

    with np.errstate(divide="ignore", invalid="ignore"):
        loudness = pyloudnorm.Meter(sample_rate).integrated_loudness(waveform.T.astype(np.float64))
    return float(loudness) if math.isfinite(loudness) else None


def peak_dbfs(waveform: NDArray[np.float32]) -> float | None:
    """Measure the largest sample in dB relative to full scale; ``None`` for digital silence.

    Args:
        waveform: ``[channels, samples]`` float32.
    """
    peak = float(np.abs(waveform).max(initial=0.0))
    return 20.0 * math.log10(peak) if peak > 0.0 else None
