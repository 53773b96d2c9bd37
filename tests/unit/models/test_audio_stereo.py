"""The stereo audio codec: what its maps keep of tones, hits, noise and places, and what the codec promises around them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mova.models.codecs.audio_analysis import analyse
from mova.models.codecs.audio_maps import LOG_FLOOR, SAMPLE_RATE
from mova.models.codecs.audio_stereo import HOP, StereoAudioCodec, fold_maps, unfold_maps
from mova.models.codecs.audio_synthesis import synthesise

ONSET = 24_137
"""Sample at which the hit of the tests starts: on no frame of any map."""


@pytest.fixture(scope="module")
def codec() -> StereoAudioCodec:
    torch.manual_seed(0)
    return StereoAudioCodec(latent_channels=4, encoder_width=8, decoder_width=8, encoder_blocks=1, decoder_blocks=1).eval()


def sine(hz: float, *, seconds: float = 1.0, left: float = math.sqrt(0.5), right: float = math.sqrt(0.5)) -> Tensor:
    time = torch.arange(int(seconds * SAMPLE_RATE) // HOP * HOP, dtype=torch.float64) / SAMPLE_RATE
    return (0.3 * torch.tensor([[[left], [right]]]) * torch.sin(2 * math.pi * hz * time)).float()


def hit(place: float = 0.5) -> Tensor:
    """A struck bar in a quiet second: three partials that start at once and fade."""
    time = np.arange(SAMPLE_RATE - ONSET) / SAMPLE_RATE
    partials = enumerate((620.0, 1710.0, 3350.0), 1)
    wave = sum(0.2 / n * np.exp(-time / 0.06) * np.sin(2 * np.pi * hz * time) for n, hz in partials)
    audio = np.zeros((1, 2, SAMPLE_RATE), dtype=np.float32)
    audio[0, :, ONSET:] = np.array([[math.cos(place * math.pi / 2)], [math.sin(place * math.pi / 2)]]) * wave
    return torch.from_numpy(audio)


def envelope(audio: Tensor) -> np.ndarray:
    """Root mean square of both channels over 1 ms."""
    power = audio[0].double().square().sum(dim=0).numpy()
    return np.sqrt(np.convolve(power, np.full(48, 1 / 48), mode="same"))


@pytest.mark.parametrize("hz", [115.0, 523.25, 587.33, 960.0, 2500.0])
def test_a_steady_tone_keeps_its_pitch_and_its_level(hz: float) -> None:
    again = synthesise(analyse(sine(hz)))
    spectrum = torch.fft.rfft(again[0, 0] * torch.hann_window(again.shape[-1])).abs()
    assert abs(spectrum.argmax().item() * SAMPLE_RATE / again.shape[-1] - hz) <= 1.0
    middle = again[0, 0, 12_000:36_000].unflatten(0, (10, -1)).square().mean(dim=1).sqrt()
    assert middle.mean().item() == pytest.approx(0.3 / 2, rel=0.03)  # 0.3 of a sine, half of whose power is left
    assert (middle.std() / middle.mean()).item() < 0.02


def test_a_hit_starts_as_suddenly_as_it_did() -> None:
    again = envelope(synthesise(analyse(hit())))
    start = ONSET - SAMPLE_RATE // 50
    rising = np.maximum.accumulate(again[start : ONSET + SAMPLE_RATE // 50])
    ten, ninety = (np.argmax(rising >= share * rising[-1]) for share in (0.1, 0.9))
    assert (ninety - ten) / SAMPLE_RATE <= 0.003
    assert abs(start + ten - ONSET) / SAMPLE_RATE <= 0.003


def test_before_a_hit_there_is_nothing() -> None:
    again = envelope(synthesise(analyse(hit()))) ** 2
    before, after = again[ONSET - 1200 : ONSET - 144].mean(), again[ONSET : ONSET + 1200].mean()
    assert 10 * math.log10(before / after + 1e-12) <= -40.0


@pytest.mark.parametrize("place", [0.0, 0.3, 0.5, 0.9])
def test_a_source_stays_at_its_place(place: float) -> None:
    again = synthesise(analyse(hit(place)))
    left, right = again[0, :, ONSET : ONSET + 4800].square().mean(dim=1).sqrt()
    assert math.atan2(right.item(), left.item()) / (math.pi / 2) == pytest.approx(place, abs=0.02)


def test_noise_keeps_its_level_and_band_up_to_18_khz() -> None:
    torch.manual_seed(0)
    noise = 0.05 * torch.randn(1, 2, SAMPLE_RATE)
    again = synthesise(analyse(noise))
    power = (torch.fft.rfft(x).abs().square().mean(dim=(0, 1))[3000:18000] for x in (noise, again))
    levels = [x.unflatten(0, (10, -1)).mean(dim=-1) for x in power]
    assert (10 * torch.log10(levels[1] / levels[0])).abs().max().item() < 2.5


def test_noise_that_differs_between_the_channels_still_does() -> None:
    torch.manual_seed(0)
    apart = 0.05 * torch.randn(1, 2, SAMPLE_RATE)
    alike = apart[:, :1].expand(-1, 2, -1).contiguous()
    shared = [float(np.corrcoef(synthesise(analyse(x))[0].numpy())[0, 1]) for x in (apart, alike)]
    assert shared[0] < 0.5
    assert shared[1] > 0.9


def test_silence_stays_silent() -> None:
    maps = analyse(torch.zeros(1, 2, 4 * HOP))
    assert maps.partial.max().item() == pytest.approx(LOG_FLOOR)
    assert synthesise(maps).abs().max().item() == 0.0


def test_each_clip_of_a_batch_is_what_it_is_alone() -> None:
    both = torch.cat([hit(0.2), sine(440.0)])
    together = synthesise(analyse(both))
    alone = torch.cat([synthesise(analyse(one[None])) for one in both])
    assert torch.allclose(together, alone, atol=1e-5)


def test_maps_come_back_from_the_numbers_of_the_network() -> None:
    maps = analyse(hit())
    again = unfold_maps(fold_maps(maps))
    for name in ("partial", "noise", "gain", "angle", "coherence"):
        assert torch.allclose(getattr(again, name), getattr(maps, name), atol=1e-5), name
    loud = maps.partial > -5.0
    assert torch.allclose(again.pitch[loud], maps.pitch[loud], atol=1e-6)


@pytest.mark.parametrize("samples", [1, HOP - 1, HOP, HOP + 1, 33_000])
def test_audio_is_padded_to_whole_latents_and_decoded_to_their_length(codec: StereoAudioCodec, samples: int) -> None:
    latents = codec.encode(torch.rand(2, 2, samples) - 0.5).latent_dist.mode()
    assert latents.shape == (2, 4, -(-samples // HOP))
    decoded = codec.decode(latents).sample
    assert decoded.shape == (2, 2, latents.shape[-1] * HOP)
    assert decoded.abs().max().item() <= 1.0


def test_mono_is_stereo_in_the_middle(codec: StereoAudioCodec) -> None:
    mono = torch.rand(1, 1, 4800) - 0.5
    stereo = mono.expand(-1, 2, -1) * math.sqrt(0.5)
    assert torch.equal(codec.encode(mono).latent_dist.mode(), codec.encode(stereo).latent_dist.mode())


def test_decoding_the_same_twice_gives_the_same(codec: StereoAudioCodec) -> None:
    latents = torch.randn(1, 4, 5)
    assert torch.equal(codec.decode(latents).sample, codec.decode(latents).sample)


def test_a_codec_in_half_precision_gives_half_precision() -> None:
    torch.manual_seed(0)
    sizes = {"encoder_width": 8, "decoder_width": 8, "encoder_blocks": 1, "decoder_blocks": 1}
    codec = StereoAudioCodec(latent_channels=4, **sizes).eval().to(torch.bfloat16)
    latents = codec.encode(torch.rand(1, 2, 4 * HOP).to(torch.bfloat16)).latent_dist.mode()
    assert latents.dtype == torch.bfloat16
    assert codec.decode(latents).sample.dtype == torch.bfloat16


@pytest.mark.parametrize("wrong", [{"hop_length": 960}, {"sample_rate": 16000}, {"channels": 1}])
def test_another_clock_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="1600"):
        StereoAudioCodec(**wrong)


def test_a_saved_codec_comes_back_equal(codec: StereoAudioCodec, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path)
    again = StereoAudioCodec.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(codec.parameters(), again.parameters(), strict=True))
