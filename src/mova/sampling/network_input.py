"""The input of the joint network, built in one place for sampling and training.

A call takes noisy latents, the condition channels that some checkpoints read beside the video's latents (cue channels, or a
mask and the latents of given pictures), a noise level for each sample or latent, the text, and the strengths of the bridge.
Whoever calls the network states these; which tensor goes where, and in which number format, is decided here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mova.sampling.av_tensors import AVTensors

MAX_TIMESTEP = 1000.0
"""The timestep of pure noise: the network reads ``1000 sigma``."""


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """One call of the joint network.

    Args:
        video: ``[B, C + C', T, H, W]`` noisy latents, then condition channels.
        audio: ``[B, C, L]`` noisy latents.
        video_timestep: ``[B]``, or a map ``[B, T, H, W]``.
        audio_timestep: ``[B]``, or a map ``[B, L]``.
        text: ``[B, S, Dt]`` prompt embeddings, or what the network's ``encode_text`` returned for them.
        video_fps: Frames per second of the video.
        a2v_scale: Strength of audio on video: a number, or one per sample ``[B]``.
        v2a_scale: Strength of video on audio, likewise.
        perturbed_layers: Layers in which self-attention is the identity.
    """

    video: Tensor
    audio: Tensor
    video_timestep: Tensor
    audio_timestep: Tensor
    text: Any
    video_fps: float
    a2v_scale: float | Tensor = 1.0
    v2a_scale: float | Tensor = 1.0
    perturbed_layers: Collection[int] = ()


def build_input(
    latents: AVTensors,
    timesteps: AVTensors,
    *,
    text: Any,
    video_fps: float,
    video_condition: Tensor | None = None,
    a2v_scale: float | Tensor = 1.0,
    v2a_scale: float | Tensor = 1.0,
    perturbed_layers: Collection[int] = (),
) -> NetworkInput:
    """Put latents, condition channels and levels together.

    Args:
        latents: Noisy latents ``[B, C, T, H, W]`` and ``[B, C, L]``.
        timesteps: Per sample ``[B]`` or per latent ``[B, T, H, W]`` and ``[B, L]``, see :func:`timesteps_of`.
        text: As in :class:`NetworkInput`.
        video_fps: Frames per second of the video.
        video_condition: ``[C', T, H, W]`` or ``[B, C', T, H, W]``; axes of length 1 are expanded. ``None`` for a network
            without condition channels.
        a2v_scale: As in :class:`NetworkInput`.
        v2a_scale: As in :class:`NetworkInput`.
        perturbed_layers: As in :class:`NetworkInput`.
    """
    return NetworkInput(
        video=append_condition(latents.video, video_condition),
        audio=latents.audio,
        video_timestep=timesteps.video,
        audio_timestep=timesteps.audio,
        text=text,
        video_fps=video_fps,
        a2v_scale=a2v_scale,
        v2a_scale=v2a_scale,
        perturbed_layers=perturbed_layers,
    )


def append_condition(video: Tensor, condition: Tensor | None) -> Tensor:
    """``[B, C + C', T, H, W]``: the channels of a condition after those of the latents.

    Args:
        video: ``[B, C, T, H, W]``.
        condition: ``[C', T, H, W]`` or ``[B, C', T, H, W]``; axes of length 1 are expanded.
    """
    if condition is None:
        return video
    channels = condition.shape[-4]
    return torch.cat([video, condition.to(video).expand(video.shape[0], channels, *video.shape[2:])], dim=1)


def timesteps_of(levels: AVTensors) -> AVTensors:
    """What the network reads for noise levels between 0 and 1."""
    return AVTensors(MAX_TIMESTEP * levels.video, MAX_TIMESTEP * levels.audio)


def predict_velocity(model: Any, network_input: NetworkInput) -> AVTensors:
    """Call the network in its own number format; velocities (noise - data) in float32.

    Args:
        model: A :class:`~mova.models.joint.JointModel`.
        network_input: From :func:`build_input`.
    """
    text = network_input.text
    prompt = {"text_embeds": text.to(model.dtype)} if isinstance(text, Tensor) else {"text_context": text}
    output = model(
        network_input.video.to(model.dtype),
        network_input.audio.to(model.dtype),
        video_timestep=network_input.video_timestep,
        audio_timestep=network_input.audio_timestep,
        video_fps=network_input.video_fps,
        a2v_scale=network_input.a2v_scale,
        v2a_scale=network_input.v2a_scale,
        perturbed_layers=network_input.perturbed_layers,
        return_dict=True,
        **prompt,
    )
    return AVTensors(output.video.float(), output.audio.float())
