"""Measures are those of the libraries that they are named after."""

from __future__ import annotations

import cv2
import librosa
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift
from skimage import color, metrics

from mova.lab.quality import fidelity
from mova.lab.quality.audio import magnitudes
from mova.lab.read.attributes import ciede2000, lab
from mova.lab.read.flow import farneback


@pytest.mark.parametrize("seed", [0, 1])
def test_psnr_is_that_of_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 256, (2, 40, 48, 3))
    two = np.clip(one + rng.normal(0.0, 20.0, one.shape), 0, 255).astype(np.uint8)
    one = one.astype(np.uint8)
    assert fidelity.psnr_db(two, one) == pytest.approx(metrics.peak_signal_noise_ratio(one, two, data_range=255), abs=1e-3)


def test_colour_differences_are_those_of_scikit_image() -> None:
    one, two = np.random.default_rng(0).uniform(0.0, 1.0, (2, 500, 3))
    np.testing.assert_allclose(lab(one), color.rgb2lab(one), atol=0.02)  # the white points differ in the fourth digit
    np.testing.assert_allclose(ciede2000(lab(one), lab(two)), color.deltaE_ciede2000(lab(one), lab(two)), atol=1e-6)


def test_spectra_are_those_of_librosa() -> None:
    audio = np.random.default_rng(0).standard_normal(8000)
    theirs = np.abs(librosa.stft(audio, n_fft=1024, win_length=400, hop_length=160, pad_mode="reflect")).T
    np.testing.assert_allclose(magnitudes(audio, window=400, hop=160, size=1024), theirs, rtol=1e-3, atol=1e-3)


def test_the_distance_of_mel_spectra_is_that_of_librosa_spectra() -> None:
    one, two = 0.1 * np.random.default_rng(0).standard_normal((2, 16000))
    filters = librosa.filters.mel(sr=16000, n_fft=1024, n_mels=80)
    spectra = [np.abs(librosa.stft(part, n_fft=1024, hop_length=256, pad_mode="reflect")) for part in (one, two)]
    first, second = (np.log(np.maximum(filters @ spectrum, 1e-5)) for spectrum in spectra)
    assert fidelity.mel_distance(one, two, 16000) == pytest.approx(np.abs(first - second).mean(), rel=1e-5)


def test_flow_is_that_of_opencv() -> None:
    rng = np.random.default_rng(0)
    picture = gaussian_filter(rng.standard_normal((96, 128)), 3.0)
    picture = 127.5 + 60.0 * picture / picture.std()
    one, two = (np.clip(shift(picture, by, mode="nearest"), 0, 255).astype(np.uint8) for by in ((0, 0), (1.5, -2.5)))
    theirs = cv2.calcOpticalFlowFarneback(one, two, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    distance = np.linalg.norm(farneback(one, two) - theirs, axis=-1)
    assert np.median(np.linalg.norm(theirs, axis=-1)) > 1.0
    assert distance.mean() < 0.05  # pixels; the rounding of resized pictures
