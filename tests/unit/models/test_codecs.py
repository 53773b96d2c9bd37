"""The codecs of the base model: grids, causality, phase."""

from __future__ import annotations

import math

import pytest
import torch

from mova.models.codecs.audio import AudioCodec, centre_phase, peak_phase, uncentre_phase
from mova.models.codecs.video import VideoCodec


@pytest.fixture(scope="module")
def video_codec() -> VideoCodec:
    torch.manual_seed(0)
    codec = VideoCodec(latent_channels=4, base_width=8, width=12).eval()
    for parameter in codec.parameters():  # zero-initialised branches would hide what they do
        torch.nn.init.normal_(parameter, std=0.1)
    return codec


@pytest.fixture(scope="module")
def audio_codec() -> AudioCodec:
    torch.manual_seed(0)
    return AudioCodec(latent_channels=4, width=16, num_blocks=1).eval()


def test_one_plus_four_k_frames_become_one_plus_k_latents_and_come_back(video_codec: VideoCodec) -> None:
    video = torch.rand(2, 3, 9, 32, 48)
    latents = video_codec.encode(video).latent_dist.mode()
    assert latents.shape == (2, 4, 3, 4, 6)
    assert video_codec.decode(latents).sample.shape == video.shape


def test_later_frames_do_not_change_earlier_latents_or_pictures(video_codec: VideoCodec) -> None:
    video = torch.rand(1, 3, 9, 16, 16)
    other = video.clone()
    other[:, :, 5:] = torch.rand(1, 3, 4, 16, 16)
    with torch.no_grad():
        a, b = (video_codec.encode(v).latent_dist.mode() for v in (video, other))
        x, y = (video_codec.decode(z).sample for z in (a, b))
    assert torch.allclose(a[:, :, :2], b[:, :, :2], atol=1e-6)
    assert not torch.allclose(a[:, :, 2:], b[:, :, 2:], atol=1e-3)
    assert torch.allclose(x[:, :, :5], y[:, :, :5], atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 8, 16, 16), (1, 3, 9, 20, 16), (1, 3, 9, 16, 20)])
def test_a_video_off_the_grid_is_refused(video_codec: VideoCodec, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="1 \\+ 4k"):
        video_codec.encode(torch.rand(shape))


def test_audio_is_padded_to_whole_latents_and_decoded_to_their_length(audio_codec: AudioCodec) -> None:
    latents = audio_codec.encode(torch.rand(2, 1, 3300) - 0.5).latent_dist.mode()
    assert latents.shape == (2, 4, 7)
    assert audio_codec.decode(latents).sample.shape == (2, 1, 3500)


def test_true_magnitudes_and_phases_give_the_audio_back(audio_codec: AudioCodec) -> None:
    torch.manual_seed(1)
    audio = torch.randn(1, 8000) * 0.1
    left = (1024 - 250) // 2
    padded = torch.nn.functional.pad(audio, (left, 1024 - 250 - left))
    spectrum = torch.stft(padded, 1024, 250, window=audio_codec.window, center=False, return_complex=True)
    again = audio_codec.synthesise(audio_codec.log_magnitude(audio), spectrum.angle())
    assert torch.allclose(again, audio, atol=1e-5)


@pytest.mark.parametrize("hz", [440.0, 523.25, 987.77])
def test_a_tone_keeps_its_pitch_when_its_phase_is_lost(audio_codec: AudioCodec, hz: float) -> None:
    time = torch.arange(16000) / 16000
    tone = 0.4 * torch.sin(2 * math.pi * hz * time)[None]
    log_mag = audio_codec.log_magnitude(tone)
    psi = peak_phase(log_mag.exp(), centre_phase(torch.zeros_like(log_mag)), hop=250, n_fft=1024)
    again = audio_codec.synthesise(log_mag, uncentre_phase(psi))
    spectrum = torch.fft.rfft(again[0] * torch.hann_window(16000)).abs()
    assert abs(spectrum.argmax().item() - hz) <= 2.0  # bins of 1 Hz; a semitone is 31 Hz or more here
    assert again[0, 4000:12000].abs().max() == pytest.approx(0.4, rel=0.1)


def test_saved_codecs_come_back_equal(video_codec: VideoCodec, audio_codec: AudioCodec, tmp_path) -> None:
    for codec in (video_codec, audio_codec):
        codec.save_pretrained(tmp_path / type(codec).__name__)
        again = type(codec).from_pretrained(tmp_path / type(codec).__name__)
        assert all(torch.equal(a, b) for a, b in zip(codec.parameters(), again.parameters(), strict=True))
