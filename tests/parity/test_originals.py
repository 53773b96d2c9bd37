"""Measures are those of the libraries that they are named after."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from skimage import color, metrics

from mova.lab.quality import fidelity
from mova.lab.quality.audio import magnitudes
from mova.lab.read.attributes import ciede2000, lab


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
