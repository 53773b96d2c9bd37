"""Short-time spectra and mel filters, as librosa, torchaudio and TensorFlow make them, in numpy."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def mono(waveform: npt.NDArray[np.floating]) -> Floats:
    """``[S]`` mean over channels of ``[channels, S]`` or ``[S]``."""
    audio = np.asarray(waveform, dtype=np.float64)
    return audio.mean(axis=0) if audio.ndim == 2 else audio


def magnitudes(audio: Floats, *, window: int, hop: int, size: int | None = None, pad: str | None = "reflect") -> Floats:
    """``[frames, size / 2 + 1]`` magnitudes under a periodic Hann window.

    Args:
        audio: ``[S]``.
        window: Length of the window in samples.
        hop: Samples between frames.
        size: Length of the transform; the window stands in its middle. Default: ``window``.
        pad: How ``size / 2`` samples are added at both ends, so that frame ``i`` is centred on sample ``i * hop``
            (``"reflect"`` or ``"constant"``); None adds nothing.
    """
    size = size or window
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window)
    lead = (size - window) // 2
    hann = np.pad(hann, (lead, size - window - lead))
    if pad == "reflect" and audio.size > size // 2:
        audio = np.pad(audio, size // 2, mode="reflect")
    elif pad is not None:
        audio = np.pad(audio, size // 2)
    if audio.size < size:
        audio = np.pad(audio, (0, size - audio.size))
    frames = np.lib.stride_tricks.sliding_window_view(audio, size)[::hop]
    return np.asarray(np.abs(np.fft.rfft(frames * hann, axis=1)))


@lru_cache(maxsize=32)
def mel_filters(
    num_mels: int, size: int, sample_rate: int, *, low_hz: float = 0.0, high_hz: float | None = None, slaney: bool = True
) -> Floats:
    """``[num_mels, size / 2 + 1]`` triangular filters.

    Args:
        num_mels: Number of bands.
        size: Length of the transform.
        sample_rate: In Hz.
        low_hz: Lower edge of the first band.
        high_hz: Upper edge of the last; default: half the sample rate.
        slaney: Slaney's scale and equal area, as librosa; else the HTK scale and equal height, as torchaudio.
    """
    high_hz = high_hz or sample_rate / 2.0
    to_mel, to_hz = (_to_slaney, _from_slaney) if slaney else (_to_htk, _from_htk)
    edges = to_hz(np.linspace(to_mel(np.array(low_hz)), to_mel(np.array(high_hz)), num_mels + 2))
    frequencies = np.fft.rfftfreq(size, 1.0 / sample_rate)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    return filters * (2.0 / (edges[2:] - edges[:-2]))[:, None] if slaney else filters


_BEND_HZ, _BEND_MEL, _STEP = 1000.0, 15.0, np.log(6.4) / 27.0


def _to_slaney(hertz: Floats) -> Floats:
    return np.where(hertz < _BEND_HZ, hertz * 3.0 / 200.0, _BEND_MEL + np.log(np.maximum(hertz, 1.0) / _BEND_HZ) / _STEP)


def _from_slaney(mel: Floats) -> Floats:
    return np.where(mel < _BEND_MEL, mel * 200.0 / 3.0, _BEND_HZ * np.exp(_STEP * (mel - _BEND_MEL)))


def _to_htk(hertz: Floats) -> Floats:
    return np.asarray(2595.0 * np.log10(1.0 + hertz / 700.0))


def _from_htk(mel: Floats) -> Floats:
    return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
