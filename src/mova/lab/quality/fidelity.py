"""How much a codec keeps: PSNR and SSIM of a picture, mel and spectral distance and SI-SDR of audio."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mova.lab.quality import from_extra
from mova.lab.quality.audio import magnitudes, mono

Frames = npt.NDArray[np.uint8]
Audio = npt.NDArray[np.floating]
MAX_PSNR_DB = 99.0


def psnr_db(frames: Frames, truth: Frames) -> float:
    """Peak signal to noise ratio of all pixels together, at most 99 dB (identical).

    Args:
        frames: ``[T, H, W, 3]`` or ``[H, W, 3]`` uint8.
        truth: Same shape.

    Raises:
        ValueError: If the shapes differ.
    """
    _check_alike(frames, truth)
    error = float(np.mean(np.square(frames.astype(np.float32) - truth), dtype=np.float64))
    return min(MAX_PSNR_DB, float(10.0 * np.log10(255.0**2 / max(error, 1e-12))))


def ssim(frames: Frames, truth: Frames) -> float:
    """Structural similarity, mean over frames and channels, by scikit-image.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity": Gaussian window of
    standard deviation 1.5 (11 x 11), population variances, the border of 5 pixels left out.

    Args:
        frames: ``[T, H, W, 3]`` uint8, at least 11 x 11.
        truth: Same shape.

    Raises:
        ValueError: If the shapes differ or the pictures are too small.
        MissingExtraError: If scikit-image is not installed.
    """
    _check_alike(frames, truth)
    if frames.ndim != 4 or min(frames.shape[1:3]) < 11:
        raise ValueError(f"ssim needs [T, H, W, C] of at least 11 x 11 pixels; got {list(frames.shape)}.")
    similarity = from_extra("skimage.metrics").structural_similarity
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "channel_axis": -1}
    return float(np.mean([similarity(one, two, **options) for one, two in zip(frames, truth, strict=True)]))


def mel_distance(audio: Audio, truth: Audio, sample_rate: int, *, num_mels: int = 80) -> float:
    """Mean absolute difference of log-mel spectra, in natural logarithms.

    Windows of 64 ms every 16 ms, magnitudes no smaller than 1e-5: the distance that vocoders and audio codecs report.

    Args:
        audio: ``[channels, S]`` or ``[S]``; channels are averaged.
        truth: Same shape.
        sample_rate: In Hz.
        num_mels: Bands from 0 to half the rate.

    Raises:
        ValueError: If the shapes differ.
    """
    _check_alike(audio, truth)
    from transformers.audio_utils import mel_filter_bank

    window = 1 << round(np.log2(0.064 * sample_rate))
    scale = {"norm": "slaney", "mel_scale": "slaney"}
    filters = mel_filter_bank(window // 2 + 1, num_mels, 0.0, sample_rate / 2.0, sample_rate, **scale)
    one, two = (
        np.log(np.maximum(magnitudes(mono(part), window=window, hop=window // 4) @ filters, 1e-5)) for part in (audio, truth)
    )
    return float(np.abs(one - two).mean())


def stft_distance(audio: Audio, truth: Audio, *, windows: tuple[int, ...] = (512, 1024, 2048)) -> float:
    """Multi-resolution spectral distance: spectral convergence plus log-magnitude distance, mean over window lengths.

    Yamamoto, Song and Kim 2020, "Parallel WaveGAN", equations 4 to 6; hop a quarter of the window.

    Args:
        audio: ``[channels, S]`` or ``[S]``; channels are averaged.
        truth: Same shape.
        windows: In samples.

    Raises:
        ValueError: If the shapes differ.
    """
    _check_alike(audio, truth)
    values = []
    for window in windows:
        one, two = (np.maximum(magnitudes(mono(part), window=window, hop=window // 4), 1e-7) for part in (audio, truth))
        convergence = float(np.linalg.norm(two - one) / np.linalg.norm(two))
        values.append(convergence + float(np.abs(np.log(one) - np.log(two)).mean()))
    return float(np.mean(values))


def si_sdr_db(audio: Audio, truth: Audio) -> float:
    """Scale-invariant signal to distortion ratio in dB, at most 99.

    Le Roux et al. 2019, "SDR: half-baked or well done?". A delay of one sample ruins it: for codecs that keep the phase.

    Raises:
        ValueError: If the shapes differ.
    """
    _check_alike(audio, truth)
    given, wanted = mono(audio) - mono(audio).mean(), mono(truth) - mono(truth).mean()
    power = float(wanted @ wanted)
    target = wanted * (float(given @ wanted) / power) if power > 0.0 else np.zeros_like(wanted)
    noise = given - target
    ratio = float(target @ target) / max(float(noise @ noise), 1e-30)
    return min(MAX_PSNR_DB, float(10.0 * np.log10(max(ratio, 1e-30))))


def _check_alike(one: npt.NDArray[np.generic], two: npt.NDArray[np.generic]) -> None:
    if one.shape != two.shape:
        raise ValueError(f"both must have the same shape; got {list(one.shape)} and {list(two.shape)}.")
