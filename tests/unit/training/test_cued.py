"""Cues in training: the widened door, the channels of scripts, number formats."""

from __future__ import annotations

import pytest
import torch

from mova.models.joint import JointModel
from mova.scenes.kinds import KINDS, labels_of
from mova.scenes.world import sample_scripts
from mova.training.cues import cues_of, with_channels
from mova.training.precision import PlainAttention, choose_precision


@pytest.fixture
def network(tiny_components) -> JointModel:
    return tiny_components.transformer


def run(network: JointModel, channels: int) -> torch.Tensor:
    made = torch.Generator().manual_seed(0)
    video, audio, text = (torch.randn(shape, generator=made) for shape in ((1, 4, 3, 4, 4), (1, 6, 18), (1, 5, 32)))
    more = torch.randn(1, channels, 3, 4, 4, generator=made)
    level = torch.tensor([700.0])
    out = network(
        torch.cat([video, more], 1), audio, video_timestep=level, audio_timestep=level, text_embeds=text, video_fps=16.0
    )
    return torch.cat([out.video.flatten(), out.audio.flatten()]).detach()


def test_new_channels_change_nothing_until_they_are_trained(network: JointModel) -> None:
    wider = with_channels(network, 7)
    assert wider.config["video"]["in_dim"] == 11
    assert torch.equal(run(wider, 7), run(network, 0))
    assert torch.equal(run(with_channels(wider, 0), 0), run(network, 0)), "and can be taken away again"


def test_every_label_of_every_kind_has_a_channel() -> None:
    met = {event.label for script in sample_scripts(3, 400) for event in script.events}
    assert met == set(labels_of(KINDS.values()))


def test_a_scripts_cues_are_what_is_seen() -> None:
    script = {"events": [[0.5, 1.0, "thunder", "far", 0.1, 0.2, 0.9]]}
    assert cues_of(script) == [(0.5, "far")] and cues_of(script, has_labels=False) == [(0.5, "")]


def test_plain_attention_is_the_same_computation(network: JointModel) -> None:
    plain = with_channels(network, 0)
    plain.set_attn_processor(PlainAttention())
    assert torch.allclose(run(plain, 0), run(network, 0), atol=1e-4, rtol=1e-4)


def test_precision_is_as_asked_or_what_the_machine_has() -> None:
    assert choose_precision("float32", "cpu") is torch.float32 and choose_precision("bfloat16", "cpu") is torch.bfloat16
    assert choose_precision("auto", "cpu") in (torch.float32, torch.bfloat16)
