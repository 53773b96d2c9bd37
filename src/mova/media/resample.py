"""Convert audio to another sample rate, and surround audio to stereo; sample 0 stays at 0 s."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# soxr rounds its own output length; a larger difference is a mistake of the caller
_ROUNDING_SAMPLES = 4
_SURROUND = {3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def resample(
    waveform: NDArray[np.float32], from_rate: int, *, to_rate: int, num_samples: int | None = None
) -> NDArray[np.float32]:
    """Convert ``waveform`` to another rate with soxr's very high quality filter, which adds no delay.

    Args:
        waveform: ``[channels, samples]`` float32.
        from_rate: Sample rate of ``waveform`` in Hz.
        to_rate: Sample rate of the result in Hz.
        num_samples: Exact length of the result, from the clock (``mova.timeline.samples_in_frames``); by default
            ``floor(samples * to_rate / from_rate)``. It may differ from that by a few samples, which are cut or added as
            zeros.

    Returns:
        ``[channels, num_samples]`` float32. Values may exceed 1 if a peak lies between the old samples.

    Raises:
        ValueError: If a rate is not positive, the shape is wrong, or ``num_samples`` does not match the length of the audio.
    """
    if from_rate < 1 or to_rate < 1:
        raise ValueError(f"rates must be positive; got from_rate={from_rate}, to_rate={to_rate}.")
    if waveform.ndim != 2:
        raise ValueError(f"waveform must be [channels, samples]; got shape {waveform.shape}.")
    natural = waveform.shape[1] * to_rate // from_rate
    wanted = natural if num_samples is None else num_samples
    slack = _ROUNDING_SAMPLES + to_rate // from_rate
    if abs(wanted - natural) > slack:
        raise ValueError(
            f"{waveform.shape[1]} samples at {from_rate} Hz last {natural} samples at {to_rate} Hz; "
            f"num_samples={wanted} is not that length."
        )
    return _set_length(_convert(waveform, from_rate, to_rate), wanted)


def mix_to_stereo(waveform: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Mix three channels or more to stereo as FFmpeg and players do; mono and stereo are returned as they are.

    Channels are taken to be in FFmpeg's usual order for their number (5.1: left, right, centre, low frequencies, surround),
    and mixed by ITU-R BS.775; where that would clip, all of it is made quieter.

    Args:
        waveform: ``[channels, samples]`` float32.
        sample_rate: Sample rate in Hz.

    Returns:
        ``[2, samples]`` float32, or ``waveform`` itself.
    """
    channels, num_samples = waveform.shape
    if channels <= 2 or num_samples == 0:
        return waveform
    import av

    mixer = av.AudioResampler("fltp", "stereo", sample_rate)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform.T).reshape(1, -1), "flt", _SURROUND[channels])
    frame.sample_rate = sample_rate
    mixed = np.concatenate([part.to_ndarray() for part in (*mixer.resample(frame), *mixer.resample(None))], axis=1)
    return _set_length((mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32), num_samples)


def _convert(waveform: NDArray[np.float32], from_rate: int, to_rate: int) -> NDArray[np.float32]:
    if from_rate == to_rate or waveform.shape[1] == 0:
        return waveform
    import soxr

    result: NDArray[np.float32] = soxr.resample(
        np.ascontiguousarray(waveform.T, dtype=np.float32), from_rate, to_rate, quality="VHQ"
    ).T
    return result


def _set_length(waveform: NDArray[np.float32], num_samples: int) -> NDArray[np.float32]:
    missing = max(0, num_samples - waveform.shape[1])
    padded = np.pad(waveform[:, :num_samples], ((0, 0), (0, missing)))
    return np.ascontiguousarray(padded, dtype=np.float32)
