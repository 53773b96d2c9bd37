"""The condition channels against the recorded run, on the official layout at tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from golden import assert_close, deviation
from safetensors.torch import load_file
from torch import Tensor

from mova.checkpoints.load import Components, load_checkpoint
from mova.media.image import crop_and_resize
from mova.models.image_condition import count_settling_latents, image_condition, picture_tensor, text_only_condition
from mova.sampling.denoise import denoise
from mova.sampling.guidance import Experts, Guidance
from mova.sampling.task import AVTensors, Task


@pytest.fixture(scope="module")
def components(official_tiny: Path) -> Components:
    return load_checkpoint(official_tiny)


@pytest.fixture(scope="module")
def codec(components: Components) -> AutoencoderKLWan:
    assert isinstance(components.video_vae, AutoencoderKLWan)
    return components.video_vae


@pytest.fixture(scope="module")
def golden(official_tiny: Path) -> dict[str, Tensor]:
    return load_file(official_tiny / "golden_run.safetensors")


def recorded_picture(golden: dict[str, Tensor]) -> Tensor:
    return picture_tensor(crop_and_resize(golden["inputs.image_uint8_hwc"].numpy(), 32, 48))


def run(components: Components, golden: dict[str, Tensor], condition: Tensor, *, num_steps: int = 4) -> AVTensors:
    video_schedule, audio_schedule = components.scheduler.schedules(num_steps)
    assert components.transformer_2 is not None
    assert components.index.boundary_ratio is not None
    return denoise(
        Experts([components.transformer, components.transformer_2], components.index.boundary_ratio),
        Task(video_level=torch.ones(3, 4, 6), audio_level=torch.ones(19), video_condition=condition),
        text_embeds=golden["inputs.prompt_embeds"],
        negative_embeds=golden["inputs.negative_prompt_embeds"],
        video_schedule=video_schedule,
        audio_schedule=audio_schedule,
        guidance=Guidance.from_scales(5.0),
        video_fps=24.0,
        video_noise=golden["inputs.noise_video"],
        audio_noise=golden["inputs.noise_audio"],
    )


def test_the_condition_of_the_recorded_picture_equals_the_recorded_one(
    codec: AutoencoderKLWan, golden: dict[str, Tensor]
) -> None:
    ours = image_condition(codec, num_frames=9, image=recorded_picture(golden))
    assert torch.equal(ours[:, :4], golden["outputs.condition"][:, :4])
    assert_close(ours, golden["outputs.condition"])


def test_from_the_recorded_picture_to_the_recorded_latents(components: Components, golden: dict[str, Tensor]) -> None:
    condition = image_condition(components.video_vae, num_frames=9, image=recorded_picture(golden))
    final = run(components, golden, condition)
    assert_close(final.video, golden["outputs.final_video_latents"], 1e-4)
    assert_close(final.audio, golden["outputs.final_audio_latents"], 1e-4)


def test_encoding_until_the_grey_has_settled_is_bit_equal_to_encoding_the_whole_video(codec: AutoencoderKLWan) -> None:
    assert count_settling_latents(codec.config) == 21
    first = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    video = torch.zeros(1, 3, 105, 8, 8)
    video[:, :, 0] = first
    latents = codec.encode(video).latent_dist.mode()
    mean, std = (torch.tensor(codec.config[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    for num_frames, num_latents in ((93, 24), (105, 27)):
        ours = image_condition(codec, num_frames=num_frames, image=first)
        assert torch.equal(ours[:, 4:], ((latents - mean) / std)[:, :, :num_latents])
    # one latent fewer would not do
    assert not torch.equal(latents[:, :, 20], latents[:, :, 21])
    assert torch.equal(latents[:, :, 21], latents[:, :, 22])


def test_unmasked_text_is_the_picture_path_of_grey_with_an_empty_mask_and_knows_no_picture(
    codec: AutoencoderKLWan, golden: dict[str, Tensor]
) -> None:
    size = {"num_frames": 9, "height": 32, "width": 48}
    unmasked = text_only_condition(codec, "unmasked", **size)
    grey = image_condition(codec, num_frames=9, image=torch.zeros(1, 3, 32, 48))
    grey[:, :4] = 0.0
    assert torch.equal(unmasked, grey)
    # the codec keeps features from chunk to chunk: nothing of another video's picture may be left in them
    image_condition(codec, num_frames=9, image=recorded_picture(golden))
    assert torch.equal(text_only_condition(codec, "unmasked", **size), unmasked)


def test_white_text_is_the_picture_path_of_a_white_picture_and_another_clip_than_unmasked(
    components: Components, golden: dict[str, Tensor]
) -> None:
    size = {"num_frames": 9, "height": 32, "width": 48}
    white, unmasked = (text_only_condition(components.video_vae, policy, **size) for policy in ("white", "unmasked"))
    assert torch.equal(white, image_condition(components.video_vae, num_frames=9, image=torch.ones(1, 3, 32, 48)))
    results = [run(components, golden, condition, num_steps=1).video for condition in (white, unmasked)]
    assert deviation(*results) > 1e-2
