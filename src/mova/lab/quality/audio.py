"""How good audio is, as far as it can be said without learned weights; and short-time spectra of it, by torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly, welch

from mova.media.loudness import loudness_lufs, peak_dbfs

Waveform = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AudioQuality:
    """One video's audio. Levels are in dB of full scale; None where there is nothing to state.

    Args:
        loudness_lufs: Integrated loudness, ITU-R BS.1770-4.
        peak_db: Highest sample.
        true_peak_db: Highest value between the samples, four times oversampled (BS.1770-4, annex 2).
        rms_db: Root of the mean square.
        crest_db: Peak over it.
        dc_offset: Largest mean of a channel, of full scale.
        clip_ratio: Share of samples at full scale (0.999 and above).
        silence_ratio: Share of frames below -60 dB: an absolute level, so that digital silence counts as 1.
        quiet_ratio: Share of frames more than 40 dB below the loud ones (95th percentile).
        bandwidth_hz: Highest frequency whose mean power is within 60 dB of the strongest.
        snr_db: Loud frames (95th percentile) over quiet ones (10th): a bound on how far sounds stand above the noise, too low
            where no frame is quiet.
        stereo_correlation: Correlation of left and right, 1 for mono in two channels; None for one channel.
    """

    loudness_lufs: float | None
    peak_db: float | None
    true_peak_db: float | None
    rms_db: float | None
    crest_db: float | None
    dc_offset: float
    clip_ratio: float
    silence_ratio: float
    quiet_ratio: float
    bandwidth_hz: float | None
    snr_db: float | None
    stereo_correlation: float | None

    def as_dict(self) -> dict[str, float | None]:
        """Plain JSON values."""
        return asdict(self)


def audio_quality(waveform: Waveform, sample_rate: int) -> AudioQuality:
    """Measure audio.

    Args:
        waveform: ``[channels, S]`` float32, full scale 1.
        sample_rate: In Hz.

    Raises:
        ValueError: If there are no samples, or they are not finite.
    """
    if waveform.ndim != 2 or not waveform.size or not np.isfinite(waveform).all():
        raise ValueError(f"waveform must be [channels, S], not empty and finite; got {list(waveform.shape)}.")
    levels = frame_levels_db(waveform)
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    peak_db, rms_db = peak_dbfs(waveform), _db(rms)
    loud, quiet = (float(np.quantile(levels, share)) for share in (0.95, 0.1))
    sounds = loud > _SILENT_DB
    return AudioQuality(
        loudness_lufs=loudness_lufs(waveform, sample_rate) if len(waveform) <= 5 else None,
        peak_db=peak_db,
        true_peak_db=true_peak_db(waveform),
        rms_db=rms_db,
        crest_db=peak_db - rms_db if peak_db is not None and rms_db is not None else None,
        dc_offset=float(np.abs(waveform.mean(axis=1)).max()),
        clip_ratio=float((np.abs(waveform) >= 0.999).mean()),
        silence_ratio=float((levels < _SILENT_DB).mean()),
        quiet_ratio=float((levels < loud - _QUIET_DB).mean()) if sounds else 1.0,
        bandwidth_hz=bandwidth_hz(waveform, sample_rate),
        snr_db=loud - max(quiet, _FLOOR_DB) if sounds else None,
        stereo_correlation=_correlation(waveform) if len(waveform) == 2 else None,
    )


def frame_levels_db(waveform: Waveform, *, window: int = 2048, hop: int = 512) -> Floats:
    """``[frames]`` root mean square level of all channels together, in dB of full scale, -200 for digital silence."""
    power = np.square(waveform, dtype=np.float64).mean(axis=0)
    if power.size < window:
        power = np.concatenate((power, np.full(window - power.size, power.mean())))
    frames = np.lib.stride_tricks.sliding_window_view(power, window)[::hop]
    return np.asarray(10.0 * np.log10(np.maximum(frames.mean(axis=1), 1e-20)))


def true_peak_db(waveform: Waveform) -> float | None:
    """Peak of the audio four times oversampled, in dB of full scale; None for digital silence."""
    return peak_dbfs(resample_poly(waveform, 4, 1, axis=1).astype(np.float32))


def bandwidth_hz(waveform: Waveform, sample_rate: int, *, below_db: float = 60.0) -> float | None:
    """Highest frequency whose mean power density is within ``below_db`` of the strongest; None for digital silence."""
    audio = mono(waveform)
    frequencies, power = welch(audio, sample_rate, nperseg=min(2048, audio.size))
    if not power.max() > 0.0:
        return None
    return float(frequencies[np.flatnonzero(power >= power.max() * 10.0 ** (-below_db / 10.0))[-1]])


_SILENT_DB, _QUIET_DB, _FLOOR_DB = -60.0, 40.0, -120.0


def _db(amplitude: float) -> float | None:
    return 20.0 * math.log10(amplitude) if amplitude > 0.0 else None


def _correlation(waveform: Waveform) -> float | None:
    left, right = waveform.astype(np.float64) - waveform.mean(axis=1, keepdims=True, dtype=np.float64)
    scale = math.sqrt(float(left @ left) * float(right @ right))
    return float(left @ right) / scale if scale > 0.0 else None


def mono(waveform: npt.NDArray[np.floating]) -> Floats:
    """``[S]`` mean over channels of ``[channels, S]`` or ``[S]``."""
    audio = np.asarray(waveform, dtype=np.float64)
    return audio.mean(axis=0) if audio.ndim == 2 else audio


def magnitudes(audio: Floats, *, window: int, hop: int, size: int | None = None) -> Floats:
    """``[frames, size / 2 + 1]`` magnitudes under a periodic Hann window; frame ``i`` is centred on sample ``i * hop``.

    Beyond its ends the audio is reflected, or silent where it is shorter than half of the transform.

    Args:
        audio: ``[S]``.
        window: Length of the window in samples.
        hop: Samples between frames.
        size: Length of the transform; the window stands in its middle. Default: ``window``.
    """
    import torch

    size = size or window
    spectrum = torch.stft(
        torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float64)),
        size,
        hop,
        window,
        torch.hann_window(window, dtype=torch.float64),
        pad_mode="reflect" if audio.size > size // 2 else "constant",
        return_complex=True,
    )
    return np.asarray(spectrum.abs().T.numpy())
