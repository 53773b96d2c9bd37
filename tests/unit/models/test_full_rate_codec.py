"""The full-rate video codec: its grid, causality, parts of pictures, and what it is refused."""

from __future__ import annotations

import pytest
import torch

from mova.models.codecs.full_rate import FullRateVideoCodec


@pytest.fixture(scope="module")
def codec() -> FullRateVideoCodec:
    torch.manual_seed(0)
    codec = FullRateVideoCodec(latent_channels=4, widths=(12, 10, 10, 8, 4), encoder_widths=(8, 10, 12)).eval()
    for parameter in codec.parameters():  # branches that begin at zero would hide what they do
        torch.nn.init.normal_(parameter, std=0.1)
    return codec.requires_grad_(False)


def test_one_plus_eight_k_frames_become_one_plus_k_latents_and_come_back(codec: FullRateVideoCodec) -> None:
    video = torch.rand(2, 3, 17, 64, 96)
    latents = codec.encode(video).latent_dist.mode()
    assert latents.shape == (2, 4, 3, 2, 3)
    assert codec.decode(latents).sample.shape == video.shape


def test_one_frame_is_one_latent(codec: FullRateVideoCodec) -> None:
    latents = codec.encode(torch.rand(1, 3, 1, 32, 32)).latent_dist.mode()
    assert latents.shape == (1, 4, 1, 1, 1) and codec.decode(latents).sample.shape == (1, 3, 1, 32, 32)


def test_later_frames_do_not_change_earlier_latents_or_pictures(codec: FullRateVideoCodec) -> None:
    video = torch.rand(1, 3, 25, 32, 32)
    other = video.clone()
    other[:, :, 17:] = torch.rand(1, 3, 8, 32, 32)
    a, b = (codec.encode(one).latent_dist.mode() for one in (video, other))
    x, y = (codec.decode(one).sample for one in (a, b))
    assert torch.allclose(a[:, :, :3], b[:, :, :3], atol=1e-5)
    assert not torch.allclose(a[:, :, 3:], b[:, :, 3:], atol=1e-3)
    assert torch.allclose(x[:, :, :17], y[:, :, :17], atol=1e-5)


def test_it_reads_area_means_of_four_by_four_pixels(codec: FullRateVideoCodec) -> None:
    small = torch.rand(1, 3, 9, 16, 16)
    large = small.repeat_interleave(4, dim=3).repeat_interleave(4, dim=4)
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(32, 32)
    a, b = (codec.encode(one).latent_dist.mode() for one in (large, large + 0.1 * checks))
    assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 8, 32, 32), (1, 3, 9, 48, 32), (1, 3, 9, 32, 48)])
def test_a_video_off_the_grid_is_refused(codec: FullRateVideoCodec, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="1 \\+ 8k"):
        codec.encode(torch.rand(shape))


def test_other_factors_are_refused() -> None:
    with pytest.raises(ValueError, match="8 frames and 32 x 32"):
        FullRateVideoCodec(scale_factor_temporal=4)


def test_gradients_reach_every_weight(codec: FullRateVideoCodec) -> None:
    codec.requires_grad_(True)
    decoded, mean, logvar = codec(torch.rand(1, 3, 9, 32, 32), torch.Generator().manual_seed(0))
    (decoded.square().mean() + mean.square().mean() + logvar.square().mean()).backward()
    missing = [name for name, value in codec.named_parameters() if value.grad is None or not value.grad.any()]
    codec.requires_grad_(False)
    assert missing == []
