"""One builder of the network's input: what sampling and training call the network with."""

from __future__ import annotations

import pytest
import torch

from mova.models.image_condition import image_condition
from mova.sampling.task import AVTensors, append_condition, build_input, predict_velocity, timesteps_of
from mova.training.cues import with_channels

VIDEO, AUDIO = (2, 4, 3, 4, 4), (2, 6, 18)


def latents() -> AVTensors:
    made = torch.Generator().manual_seed(0)
    return AVTensors(torch.randn(VIDEO, generator=made), torch.randn(AUDIO, generator=made))


def test_channels_per_latent_frame_fill_the_picture_and_those_of_one_clip_serve_the_batch() -> None:
    video = latents().video
    cues = torch.randn(2, 5, 3)
    added = append_condition(video, cues[..., None, None])
    assert torch.equal(added[:, :4], video)
    assert torch.equal(added[:, 4:], cues[..., None, None].expand(2, 5, 3, 4, 4))
    shared = append_condition(video, torch.ones(7, 3, 4, 4))
    assert shared.shape == (2, 11, 3, 4, 4) and bool((shared[:, 4:] == 1).all())
    assert append_condition(video, None) is video


def test_embeddings_and_their_kept_context_give_the_same_velocities(tiny_components) -> None:
    network = tiny_components.transformer
    levels = AVTensors(torch.tensor([0.3, 0.7]), torch.rand(2, 18, generator=torch.Generator().manual_seed(1)))
    text = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        one, other = (
            predict_velocity(network, build_input(latents(), timesteps_of(levels), text=given, video_fps=16.0))
            for given in (text, network.encode_text(text))
        )
        plain = network(
            *latents(), video_timestep=1000 * levels.video, audio_timestep=1000 * levels.audio, text_embeds=text,
            video_fps=16.0, a2v_scale=1.0, v2a_scale=1.0,
        )  # fmt: skip
    assert torch.equal(one.video, other.video) and torch.equal(one.audio, other.audio)
    assert torch.equal(one.video, plain.video) and torch.equal(one.audio, plain.audio)


@pytest.mark.parametrize("kind", ["cues", "pictures"])
def test_networks_with_cue_channels_and_with_picture_channels_learn_from_the_same_input(tiny_components, kind: str) -> None:
    if kind == "cues":
        condition = torch.rand(2, 7, 3)[..., None, None]
    else:
        codec = tiny_components.video_vae
        condition = image_condition(codec, num_frames=9, image=torch.zeros(1, 3, 4 * 8, 4 * 8))
    network = with_channels(tiny_components.transformer, condition.shape[-4]).requires_grad_(True)
    levels = AVTensors(torch.tensor([0.3, 0.7]), torch.tensor([0.2, 0.9]))
    out = predict_velocity(
        network,
        build_input(
            latents(), timesteps_of(levels), text=torch.randn(2, 5, 32), video_fps=16.0, video_condition=condition,
            a2v_scale=torch.tensor([1.0, 0.0]), v2a_scale=torch.tensor([1.0, 0.0]),
        ),
    )  # fmt: skip
    (out.video.square().mean() + out.audio.square().mean()).backward()
    gradient = network.video_embed.patch_embedding.weight.grad
    assert gradient is not None and bool(gradient[:, 4:].abs().sum() > 0)


def test_the_network_is_called_in_its_own_number_format(tiny_components) -> None:
    network = with_channels(tiny_components.transformer, 0).to(torch.bfloat16)
    level = torch.tensor([0.5, 0.5])
    with torch.no_grad():
        out = predict_velocity(
            network, build_input(latents(), timesteps_of(AVTensors(level, level)), text=torch.randn(2, 5, 32), video_fps=16.0)
        )
    assert out.video.dtype == out.audio.dtype == torch.float32
