"""Condition channels on a small Wan codec with random weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from mova.models.image_condition import (
    build_frames_mask,
    count_settling_latents,
    image_condition,
    picture_tensor,
    text_only_condition,
)

OFFICIAL = {"dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "temperal_downsample": [False, True, True]}


def build(num_res_blocks: int = 0, temperal_downsample: tuple[bool, ...] = (True, True)) -> AutoencoderKLWan:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        codec = AutoencoderKLWan(
            base_dim=4,
            z_dim=2,
            dim_mult=[1] * (1 + len(temperal_downsample)),
            num_res_blocks=num_res_blocks,
            temperal_downsample=list(temperal_downsample),
            scale_factor_temporal=2 ** sum(temperal_downsample),
            latents_mean=[0.1, -0.2],
            latents_std=[0.5, 2.0],
        )
        for parameter in codec.encoder.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
            if parameter.ndim == 5 and parameter.shape[2] == 3:
                parameter[:, :, 0] *= 10.0  # a long memory, so that what is seen last is seen well
    return codec.eval()


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def codec() -> AutoencoderKLWan:
    return build()


def picture(seed: int = 0, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def encoded(codec: AutoencoderKLWan, video: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 2, 1, 1, 1) for values in ([0.1, -0.2], [0.5, 2.0]))
    return (codec.encode(video).latent_dist.mode() - mean) / std


def video_of(num_frames: int, first: Tensor | None, last: Tensor | None = None) -> Tensor:
    video = torch.zeros(1, 3, num_frames, 8, 8)
    if first is not None:
        video[:, :, 0] = first
    if last is not None:
        video[:, :, -1] = last
    return video


@pytest.mark.parametrize(
    ("has_first", "has_last", "rows"),
    [
        (True, False, [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]),
        (True, True, [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 1]]),
        (False, True, [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]),
        (False, False, [[0, 0, 0]] * 4),
    ],
)
def test_the_mask_marks_the_pixel_frames_that_are_given(has_first: bool, has_last: bool, rows: list[list[int]]) -> None:
    assert build_frames_mask(9, stride=4, has_first=has_first, has_last=has_last).tolist() == rows


def test_the_mask_is_that_of_wan_for_first_and_last_frame() -> None:
    # as published: ones, the frames between set to 0, the first repeated four times, folded in fours, axes swapped
    wan = torch.ones(1, 17, 2, 3)
    wan[:, 1:-1] = 0
    wan = torch.cat([wan[:, :1].repeat_interleave(4, dim=1), wan[:, 1:]], dim=1)
    wan = wan.view(1, 5, 4, 2, 3).transpose(1, 2)
    ours = build_frames_mask(17, stride=4, has_first=True, has_last=True)[None, :, :, None, None].expand_as(wan)
    assert torch.equal(ours, wan)


@pytest.mark.parametrize("pictures", ["first", "last", "both"])
def test_the_channels_are_the_mask_and_the_normalised_latents_of_pictures_in_grey(
    codec: AutoencoderKLWan, pictures: str
) -> None:
    first = None if pictures == "last" else picture(1)
    last = None if pictures == "first" else picture(2)
    condition = image_condition(codec, num_frames=9, image=first, last_image=last)
    assert condition.shape == (1, 6, 3, 2, 2)
    assert condition.dtype == torch.float32
    mask = build_frames_mask(9, stride=4, has_first=first is not None, has_last=last is not None)
    assert torch.equal(condition[0, :4, :, 0, 0], mask)
    torch.testing.assert_close(condition[:, 4:], encoded(codec, video_of(9, first, last)), rtol=0, atol=1e-6)


def test_a_codec_of_another_stride_has_as_many_channels_of_the_mask_as_its_latents_have_frames() -> None:
    codec = build(0, (True, False))
    condition = image_condition(codec, num_frames=9, image=picture(1), last_image=picture(2))
    assert condition.shape == (1, 2 + 2, 5, 2, 2)
    assert condition[0, :2, :, 0, 0].tolist() == [[1, 0, 0, 0, 0], [1, 0, 0, 0, 1]]
    torch.testing.assert_close(condition[:, 2:], encoded(codec, video_of(9, picture(1), picture(2))), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="1 \\+ 2 k; got 6, the next is 7"):
        image_condition(codec, num_frames=6, image=picture())


def test_each_picture_of_a_batch_has_the_channels_that_it_has_alone(codec: AutoencoderKLWan) -> None:
    batch = picture(3, batch=2)
    together = image_condition(codec, num_frames=5, image=batch)
    for index in range(2):
        alone = image_condition(codec, num_frames=5, image=batch[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("num_res_blocks", "temperal_downsample", "reach"),
    [(0, (True, True), 13), (1, (True, False, True), 22)],
)
def test_the_reach_that_follows_from_the_configuration_is_the_true_one(
    num_res_blocks: int, temperal_downsample: tuple[bool, ...], reach: int
) -> None:
    codec = build(num_res_blocks, temperal_downsample).double()
    assert count_settling_latents(codec.config) == reach
    video = video_of(4 * (reach + 2) - 3, picture()).double()
    latents = codec.encode(video).latent_dist.mode()
    assert not torch.equal(latents[:, :, reach - 1], latents[:, :, reach])
    assert torch.equal(latents[:, :, reach], latents[:, :, reach + 1])


def test_the_official_codec_settles_after_29_latents_and_other_networks_are_not_guessed_at() -> None:
    assert count_settling_latents(OFFICIAL) == 29
    assert count_settling_latents(OFFICIAL | {"is_residual": True}) is None
    assert count_settling_latents(OFFICIAL | {"patch_size": 2}) is None
    assert count_settling_latents({"latent_channels": 16}) is None


@pytest.mark.parametrize("num_latents", [1, 2, 15, 16, 17, 18, 30])
def test_the_shortcut_is_bit_equal_to_the_whole_video_at_every_length(codec: AutoencoderKLWan, num_latents: int) -> None:
    num_frames, first, last = 4 * num_latents - 3, picture(1), picture(2)
    for last_picture in (None,) if num_latents == 1 else (None, last):
        condition = image_condition(codec, num_frames=num_frames, image=first, last_image=last_picture)
        assert torch.equal(condition[:, 4:], encoded(codec, video_of(num_frames, first, last_picture)))


def test_only_what_differs_is_encoded(codec: AutoencoderKLWan) -> None:
    chunks: list[int] = []
    hook = codec.encoder.register_forward_hook(lambda *_: chunks.append(1))
    for last_picture, most in ((None, 15), (picture(2), 16)):
        chunks.clear()
        condition = image_condition(codec, num_frames=193, image=picture(1), last_image=last_picture)
        assert condition.shape[2] == 49
        assert len(chunks) == most
    hook.remove()


def test_a_codec_that_does_not_settle_as_its_configuration_says_is_run_over_the_whole_video(
    caplog: pytest.LogCaptureFixture,
) -> None:
    codec = build(num_res_blocks=1)
    codec.register_to_config(num_res_blocks=0)
    first = picture()
    with caplog.at_level(logging.WARNING):
        condition = image_condition(codec, num_frames=81, image=first)
    assert "not constant" in caplog.text
    assert torch.equal(condition[:, 4:], encoded(codec, video_of(81, first)))


def test_text_alone_is_a_white_picture_or_no_picture(codec: AutoencoderKLWan) -> None:
    size = {"num_frames": 9, "height": 8, "width": 8}
    white, unmasked = (text_only_condition(codec, policy, **size) for policy in ("white", "unmasked"))
    assert torch.equal(white, image_condition(codec, num_frames=9, image=torch.ones(1, 3, 8, 8)))
    assert not unmasked[:, :4].any()
    torch.testing.assert_close(unmasked[:, 4:], encoded(codec, video_of(9, None)), rtol=0, atol=1e-6)


def test_pixels_become_numbers_from_minus_one_to_one() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 1] = (0, 255, 51)
    tensor = picture_tensor(pixels)
    assert tensor.shape == (1, 3, 2, 3)
    torch.testing.assert_close(tensor[0, :, 0, 1], torch.tensor([-1.0, 1.0, -0.6]))


def test_what_does_not_fit_is_refused(codec: AutoencoderKLWan) -> None:
    with pytest.raises(ValueError, match="1 \\+ 4 k; got 8"):
        image_condition(codec, num_frames=8, image=picture())
    with pytest.raises(ValueError, match="one frame"):
        image_condition(codec, num_frames=1, image=picture(), last_image=picture())
    with pytest.raises(ValueError, match="text_only_condition"):
        image_condition(codec, num_frames=9)
    with pytest.raises(ValueError, match="alike"):
        image_condition(codec, num_frames=9, image=picture(), last_image=picture(batch=2))
    with pytest.raises(ValueError, match="white, unmasked"):
        text_only_condition(codec, "black", num_frames=9, height=8, width=8)  # type: ignore[arg-type]
