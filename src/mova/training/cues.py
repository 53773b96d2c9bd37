"""Cue channels in training: those of rendered clips, which of them a sample shows, and networks that take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mova.models.joint import JointModel
from mova.models.text import Instant, cue_condition
from mova.timeline import Timeline
from mova.training.noise_maps import NoiseSettings

UNLABELLED = 8
"""One clip in so many has cues without labels, so that a user need not know the labels."""


def cue_channels(
    scripts: Sequence[Mapping[str, Any]], labels: Sequence[str], *, num_latents: int, timeline: Timeline
) -> Tensor:
    """Cue channels of clips ``[N, C', T]`` from the events of their scripts, for some clips without labels.

    Args:
        scripts: Described scripts.
        labels: Labels of the network, in its order.
        num_latents: Video latents of a clip.
        timeline: Clock of the clips.
    """
    return torch.stack(
        [
            cue_condition(
                cues_of(script, has_labels=index % UNLABELLED != 0),
                labels,
                num_latents=num_latents,
                fps=timeline.fps,
                stride=timeline.video_stride,
            )
            for index, script in enumerate(scripts)
        ]
    )


def cues_of(script: Mapping[str, Any], *, has_labels: bool = True) -> list[Instant]:
    """When something is seen in a described script, and what."""
    return [(event[0], event[3] if has_labels else "") for event in script["events"]]


def sample_cue_mask(batch: int, num_latents: int, noise: NoiseSettings, generator: torch.Generator) -> Tensor:
    """``[B, T]`` bool: the latents whose cues are given: none, all, or those of a beginning."""
    device = generator.device
    dice, partial = torch.rand(2, batch, generator=generator, device=device)
    cut = torch.randint(1, num_latents, (batch,), generator=generator, device=device)
    length = torch.where(partial < noise.partial_cues, cut, num_latents)
    length = torch.where(dice < noise.drop_cues, 0, length)
    return torch.arange(num_latents, device=device) < length[:, None]


def with_channels(network: JointModel, channels: int) -> JointModel:
    """The same network with so many conditioning channels beside the video's; new ones change nothing at first."""
    video = dict(network.config["video"])
    video["in_dim"] = video["out_dim"] + channels
    wider: JointModel = JointModel(
        **{**{name: network.config[name] for name in ("audio", "bridge", "rope_dtype")}, "video": video}
    )
    weights = network.state_dict()
    patch = weights["video_embed.patch_embedding.weight"][:, : video["in_dim"]]
    fresh = patch.new_zeros(patch.shape[0], video["in_dim"] - patch.shape[1], *patch.shape[2:])
    weights["video_embed.patch_embedding.weight"] = torch.cat([patch, fresh], dim=1)
    wider.load_state_dict(weights)
    return wider
