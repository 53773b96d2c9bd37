"""Measures written out here are those of the libraries that they are named after; each test runs where its library is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter, shift

from mova.lab.quality import fidelity
from mova.lab.quality.avalign import onsets_s
from mova.lab.quality.flow import farneback
from mova.lab.quality.spectra import magnitudes, mel_filters
from mova.lab.read.colour import ciede2000, lab


def pictures(seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Two videos ``[2, 40, 48, 3]``, one the other with noise."""
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 256, (2, 40, 48, 3))
    return one.astype(np.uint8), np.clip(one + rng.normal(0.0, 20.0, one.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", [0, 1])
def test_ssim_and_psnr_are_those_of_scikit_image(seed: int) -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    one, two = pictures(seed)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "channel_axis": -1}
    theirs = [metrics.structural_similarity(first, second, **options) for first, second in zip(one, two, strict=True)]
    assert fidelity.ssim(two, one) == pytest.approx(np.mean(theirs), abs=1e-6)
    assert fidelity.psnr_db(two, one) == pytest.approx(metrics.peak_signal_noise_ratio(one, two, data_range=255), abs=1e-3)


def test_colour_differences_are_those_of_scikit_image() -> None:
    color = pytest.importorskip("skimage.color", reason="scikit-image is not installed")
    one, two = np.random.default_rng(0).uniform(0.0, 1.0, (2, 500, 3))
    np.testing.assert_allclose(lab(one), color.rgb2lab(one), atol=0.02)  # the white points differ in the fourth digit
    np.testing.assert_allclose(ciede2000(lab(one), lab(two)), color.deltaE_ciede2000(lab(one), lab(two)), atol=1e-6)


@pytest.mark.parametrize(("num_mels", "size", "sample_rate", "slaney"), [(128, 2048, 22050, True), (80, 1024, 16000, False)])
def test_mel_filters_are_those_of_librosa(num_mels: int, size: int, sample_rate: int, slaney: bool) -> None:
    filters = pytest.importorskip("librosa.filters", reason="librosa is not installed")
    norm = "slaney" if slaney else None
    theirs = filters.mel(sr=sample_rate, n_fft=size, n_mels=num_mels, htk=not slaney, norm=norm)
    np.testing.assert_allclose(mel_filters(num_mels, size, sample_rate, slaney=slaney), theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pad", ["reflect", "constant"])
def test_spectra_are_those_of_librosa(pad: str) -> None:
    librosa = pytest.importorskip("librosa", reason="librosa is not installed")
    audio = np.random.default_rng(0).standard_normal(8000)
    theirs = np.abs(librosa.stft(audio, n_fft=1024, win_length=400, hop_length=160, pad_mode=pad)).T
    np.testing.assert_allclose(magnitudes(audio, window=400, hop=160, size=1024, pad=pad), theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_onsets_of_av_align_are_those_of_librosa(seed: int) -> None:
    onset = pytest.importorskip("librosa.onset", reason="librosa is not installed")
    rng = np.random.default_rng(seed)
    audio = 1e-3 * rng.standard_normal(3 * 22050)
    for start in rng.integers(0, audio.size - 4000, size=6):
        audio[start : start + 4000] += rng.standard_normal(4000) * np.exp(-np.arange(4000) / 600.0)
    np.testing.assert_allclose(onsets_s(audio, 22050), onset.onset_detect(y=audio, sr=22050, units="time"), atol=1e-6)


def test_flow_is_that_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv is not installed")
    rng = np.random.default_rng(0)
    picture = gaussian_filter(rng.standard_normal((96, 128)), 3.0)
    picture = 127.5 + 60.0 * picture / picture.std()
    one, two = (np.clip(shift(picture, by, mode="nearest"), 0, 255).astype(np.uint8) for by in ((0, 0), (1.5, -2.5)))
    theirs = cv2.calcOpticalFlowFarneback(one, two, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    distance = np.linalg.norm(farneback(one, two) - theirs, axis=-1)
    assert np.median(np.linalg.norm(theirs, axis=-1)) > 1.0
    assert distance.mean() < 0.05  # pixels; the rounding of resized pictures
