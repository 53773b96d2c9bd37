from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import butter, sosfilt

from mova.lab.quality.audio import audio_quality, bandwidth_hz, magnitudes, true_peak_db
from mova.lab.quality.avalign import av_align, motion_peaks_s, onsets_s, peak_overlap
from mova.lab.quality.fidelity import mel_distance, si_sdr_db, stft_distance
from mova.lab.quality.learned.fad import frechet_distance, kernel_distance

RATE = 16000


def tone(hertz: float = 440.0, *, seconds: float = 2.0, rate: int = RATE, level: float = 0.5) -> npt.NDArray[np.float32]:
    return (level * np.sin(2.0 * np.pi * hertz * np.arange(round(seconds * rate)) / rate))[None].astype(np.float32)


def noise(*, seconds: float = 2.0, level: float = 0.1, seed: int = 0) -> npt.NDArray[np.float32]:
    return (level * np.random.default_rng(seed).standard_normal((1, round(seconds * RATE)))).astype(np.float32)


def test_a_frame_of_a_spectrum_is_centred_on_its_sample() -> None:
    click = np.zeros(4000)
    click[1600] = 1.0
    frames = magnitudes(click, window=400, hop=160, size=512)
    assert frames.shape == (1 + 4000 // 160, 257)
    assert int(frames.sum(axis=1).argmax()) == 10


def test_levels_of_a_known_tone_are_right() -> None:
    quality = audio_quality(tone(997.0, seconds=3.0, rate=48000, level=1.0), 48000)
    assert quality.loudness_lufs == pytest.approx(-3.01, abs=0.05)  # BS.1770: 997 Hz at 0 dBFS in one channel
    assert quality.peak_db == pytest.approx(0.0, abs=0.01)
    assert quality.rms_db == pytest.approx(-3.01, abs=0.01)
    assert quality.crest_db == pytest.approx(3.01, abs=0.02)
    assert quality.bandwidth_hz == pytest.approx(997.0, abs=160.0)  # the window spreads a tone over six bins
    assert quality.stereo_correlation is None


def test_the_true_peak_lies_between_the_samples() -> None:
    samples = np.sin(2.0 * np.pi * (np.arange(4800) + 0.5) / 4.0)[None].astype(np.float32)  # every sample is 0.707
    assert np.abs(samples).max() == pytest.approx(0.7071, abs=1e-3)
    assert true_peak_db(samples) == pytest.approx(0.0, abs=0.3)


def test_silence_is_silent_at_an_absolute_level_wherever_it_stands() -> None:
    late = np.concatenate((np.zeros((1, 7 * RATE), np.float32), tone(seconds=1.0)), axis=1)
    assert audio_quality(late, RATE).silence_ratio == pytest.approx(7 / 8, abs=0.02)
    nothing = audio_quality(np.zeros((1, RATE), np.float32), RATE)
    assert (nothing.silence_ratio, nothing.snr_db, nothing.loudness_lufs, nothing.bandwidth_hz) == (1.0, None, None, None)


def test_signal_to_noise_follows_the_noise() -> None:
    speech = tone()
    speech[:, RATE:] = 0.0
    quiet, loud = (audio_quality(speech + noise(level=level), RATE).snr_db for level in (0.0005, 0.005))
    assert quiet is not None
    assert loud is not None
    assert quiet - loud == pytest.approx(20.0, abs=1.0)


def test_bandwidth_is_where_a_low_pass_ends() -> None:
    low = sosfilt(butter(12, 3000.0, output="sos", fs=RATE), noise()).astype(np.float32)
    assert bandwidth_hz(noise(), RATE) == pytest.approx(8000.0, abs=10.0)
    assert bandwidth_hz(low, RATE) == pytest.approx(4300.0, rel=0.15)  # 60 dB below: a little beyond the corner


def test_clipping_offset_and_correlation_are_counted() -> None:
    left = np.clip(3.0 * tone(), -1.0, 1.0)
    quality = audio_quality(np.concatenate((left, left)), RATE)
    assert quality.clip_ratio == pytest.approx(2.0 / np.pi * np.arccos(1 / 1.5), abs=0.01)
    assert quality.stereo_correlation == pytest.approx(1.0)
    assert audio_quality(tone(level=0.1) + 0.05, RATE).dc_offset == pytest.approx(0.05, abs=1e-3)
    with pytest.raises(ValueError, match="finite"):
        audio_quality(np.full((1, 99), np.nan, np.float32), RATE)


def test_distances_to_a_codec_grow_with_its_noise_and_are_zero_for_the_truth() -> None:
    truth = noise(seed=1)
    for distance in (lambda audio: mel_distance(audio, truth, RATE), lambda audio: stft_distance(audio, truth)):
        values = [distance(truth + noise(level=level, seed=2)) for level in (0.0, 0.003, 0.03)]
        assert values[0] == 0.0
        assert values[1] < values[2]


def test_scale_invariant_ratio_is_that_of_signal_and_noise() -> None:
    truth, wrong = noise(seed=1), noise(level=0.01, seed=2)
    assert si_sdr_db(3.0 * (truth + wrong), truth) == pytest.approx(20.0, abs=0.3)
    assert si_sdr_db(truth, truth) == 99.0
    with pytest.raises(ValueError, match="same shape"):
        si_sdr_db(truth, truth[:, :-1])


def test_frechet_distance_of_two_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    one = rng.standard_normal((40000, 3)) * (1.0, 2.0, 0.5)
    two = rng.standard_normal((40000, 3)) * (2.0, 2.0, 0.5) + (1.0, 0.0, -2.0)
    assert frechet_distance(one, two) == pytest.approx(1.0 + 4.0 + (2.0 - 1.0) ** 2, rel=0.03)
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-9)


def test_frechet_distance_refuses_small_sets_unless_told_otherwise() -> None:
    few = np.random.default_rng(0).standard_normal((20, 4))
    with pytest.raises(ValueError, match="at least 256"):
        frechet_distance(few, few)
    assert frechet_distance(few, few + 1.0, fewest=2) == pytest.approx(4.0)
    with pytest.raises(ValueError, match="finite"):
        kernel_distance(few, np.full((20, 4), np.nan))


def test_kernel_distance_is_not_biased_by_the_size_of_the_sets() -> None:
    rng = np.random.default_rng(0)
    same = [kernel_distance(*rng.standard_normal((2, 12, 4))) for _ in range(200)]
    assert abs(np.mean(same)) < 3.0 * np.std(same) / np.sqrt(200)
    assert kernel_distance(rng.standard_normal((300, 4)), rng.standard_normal((200, 4)) + 1.0, num_subsets=5) > 1.0


def test_onsets_are_found_at_clicks_and_in_faint_noise_alike() -> None:
    audio = 1e-4 * np.random.default_rng(0).standard_normal(3 * 22050)
    for start_s in (0.5, 1.2, 2.1):
        first = round(start_s * 22050)
        audio[first : first + 2000] += np.exp(-np.arange(2000) / 300.0) * np.sin(0.2 * np.arange(2000))
    np.testing.assert_allclose(onsets_s(audio, 22050), (0.5, 1.2, 2.1), atol=0.05)
    # why AV-Align is not a score of sync: what nobody hears counts as much as a drum. librosa 0.11 itself finds 65 and 149
    # onsets at this rate in eight seconds of noise at -80 dB and of a steady tone
    rate = 44100
    assert len(onsets_s(1e-4 * np.random.default_rng(0).standard_normal(8 * rate), rate)) == pytest.approx(65, abs=12)
    assert len(onsets_s(tone(seconds=8.0, rate=rate)[0].astype(np.float64), rate)) == 149
    assert onsets_s(np.zeros(22050), 22050) == []


def test_each_peak_is_used_once() -> None:
    assert peak_overlap([1.0, 1.01], [1.0], 10.0) == 0.5
    assert peak_overlap([1.0, 2.0], [1.05, 2.05, 3.0], 10.0) == pytest.approx(2 / 3)
    assert peak_overlap([1.0], [1.2], 10.0) == 0.0
    assert np.isnan(peak_overlap([], [], 10.0))


def test_av_align_comes_with_its_chance_level() -> None:
    frames = np.full((16, 48, 48, 3), 60, np.uint8)
    for index, place in enumerate((4, 4, 4, 12, 12, 12, 12, 12, 22, 22, 22, 22, 22, 6, 6, 6)):
        frames[index, 10:30, place : place + 16] = 220
    assert motion_peaks_s(frames, 8.0) == [3 / 8, 8 / 8, 13 / 8]
    audio = np.zeros((1, 2 * RATE), np.float32)
    for step_s in (3 / 8, 1.0, 13 / 8):
        audio[:, round(step_s * RATE) :][:, :1600] = tone(1000.0, seconds=0.1) * np.exp(-np.arange(1600) / 200.0)
    in_step = av_align(frames, audio, fps=8.0, sample_rate=RATE)
    assert in_step == av_align(frames, audio, fps=8.0, sample_rate=RATE)
    assert in_step.score >= 0.6
    assert 0.0 < in_step.chance < in_step.score
    # a tick every 80 ms meets every movement there is, whatever is seen: the chance level says so
    for step in range(25):
        audio[:, 1280 * step : 1280 * step + 300] = tone(1000.0, seconds=300 / RATE) * np.exp(-np.arange(300) / 60.0)
    ticking = av_align(frames, audio, fps=8.0, sample_rate=RATE)
    assert ticking.score == pytest.approx(ticking.chance, abs=0.05)
