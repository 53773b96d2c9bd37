"""How loud audio is: integrated loudness and sample peak."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# ITU-R BS.1770-4 gates on blocks of 400 ms: anything shorter has no integrated loudness
BLOCK_S = 0.4


def loudness_lufs(waveform: NDArray[np.float32], sample_rate: int) -> float | None:
    """Integrated loudness (ITU-R BS.1770-4, EBU R128) in LUFS.

    Args:
        waveform: ``[channels, samples]`` float32 in ``[-1, 1]``, one to five channels.
        sample_rate: In Hz.

    Returns:
        The loudness; ``None`` when there is none to state: the audio is shorter than 0.4 s, or every part of
        it lies below the standard's gate of -70 LUFS (silence).
    """
    if waveform.shape[1] < math.ceil(BLOCK_S * sample_rate):
        return None
    import pyloudnorm

    with np.errstate(divide="ignore", invalid="ignore"):
        loudness = pyloudnorm.Meter(sample_rate).integrated_loudness(waveform.T.astype(np.float64))
    return float(loudness) if math.isfinite(loudness) else None


def peak_dbfs(waveform: NDArray[np.float32]) -> float | None:
    """Largest sample relative to full scale in dB; ``None`` for digital silence.

    Args:
        waveform: ``[channels, samples]`` float32.
    """
    peak = float(np.abs(waveform).max(initial=0.0))
    return 20.0 * math.log10(peak) if peak > 0.0 else None
