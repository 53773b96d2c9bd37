"""The objective of the joint network: rectified flow on both modalities, under many noise maps.

A clip of latents x and noise n give the noisy latents ``(1 - sigma) x + sigma n`` and the velocity ``n - x`` (Liu et al.
2022, arXiv 2209.03003). Which latents are given and how noisy the others are is drawn by :mod:`mova.training.noise_maps`.
Captions, cues and the bridge are dropped for some samples: a network that can do without each can also be guided by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mova.data.latents import LatentSet
from mova.models.text_encoder import encode_tokens
from mova.sampling.av_tensors import AVTensors
from mova.sampling.network_input import build_input, predict_velocity, timesteps_of
from mova.training.noise_maps import ClipShape, NoiseSettings, draw_levels

# embeddings and doors are no hidden weight matrices: AdamW takes them (Jordan et al. 2024)
NOT_MATRICES = ("embedding", "embed", "modulation", "head", "shared", "relative_attention_bias", "patch")


@dataclass(frozen=True)
class Normaliser:
    """Mean and spread per channel of the two kinds of latents."""

    video_mean: Tensor
    video_std: Tensor
    audio_mean: Tensor
    audio_std: Tensor

    def video(self, latents: Tensor) -> Tensor:
        """Normalised ``[B, C, T, H, W]``."""
        return (latents - self.video_mean[:, None, None, None]) / self.video_std[:, None, None, None]

    def audio(self, latents: Tensor) -> Tensor:
        """Normalised ``[B, C, L]``."""
        return (latents - self.audio_mean[:, None]) / self.audio_std[:, None]


class JointObjective:
    """Flow matching on cached latents.

    Args:
        joint: The dual-tower network.
        text: The text encoder, trained along.
        latents: Training latents.
        held_out: Latents for validation.
        input_ids: Token ids ``[N K + 1, S]`` of the training captions, K of each clip together; the last is the empty prompt.
        masks: Their masks.
        cues: Cue channels of the training clips ``[N, C', T]``; C' is 0 for a network that takes none.
        held_out_ids: Token ids of the validation captions, likewise.
        held_out_masks: Their masks.
        held_out_cues: Their cue channels.
        normaliser: Statistics of the latents.
        noise: How noise levels are drawn.
        batch_size: Samples per process and step.
        clip: Size and clock of the clips.
        audio_weight: Weight of the audio's loss.
        dtype: In which the network multiplies matrices; losses and optimiser are float32.
        device: Where to train.
    """

    def __init__(
        self,
        joint: nn.Module,
        text: nn.Module,
        latents: LatentSet,
        held_out: LatentSet,
        *,
        input_ids: Tensor,
        masks: Tensor,
        cues: Tensor,
        held_out_ids: Tensor,
        held_out_masks: Tensor,
        held_out_cues: Tensor,
        normaliser: Normaliser,
        noise: NoiseSettings,
        batch_size: int,
        clip: ClipShape,
        audio_weight: float = 1.0,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        self.modules = nn.ModuleDict({"joint": joint, "text": text}).to(device)
        self.latents, self.held_out = latents, held_out
        self.ids, self.masks, self.cues = input_ids, masks, cues
        self.held_out_ids, self.held_out_masks, self.held_out_cues = held_out_ids, held_out_masks, held_out_cues
        self.normaliser, self.noise = normaliser, noise
        self.batch_size, self.clip, self.audio_weight, self.device = batch_size, clip, audio_weight, device
        self.dtype = dtype

    def is_matrix(self, name: str) -> bool:
        """Muon takes the inner weights; embeddings, modulation and doors go to AdamW."""
        return not any(part in name for part in NOT_MATRICES)

    def loss(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch."""
        count = len(self.latents.scripts)
        # an epoch-free draw: sampling with replacement needs no state to resume
        index = torch.randint(count, (self.batch_size,), generator=generator, device=self.device).cpu()
        keep = torch.rand(self.batch_size, generator=generator, device=self.device).cpu() >= self.noise.drop_caption
        per_clip = (len(self.ids) - 1) // count
        phrasing = torch.randint(per_clip, (self.batch_size,), generator=generator, device=self.device).cpu()
        rows = torch.where(keep, index * per_clip + phrasing, count * per_clip)
        video = self.normaliser.video(self.latents.video[index].float()).to(self.device)
        audio = self.normaliser.audio(self.latents.audio[index].float()).to(self.device)
        levels = draw_levels(self.batch_size, self.clip, self.noise, generator)
        bridge = (torch.rand(self.batch_size, generator=generator, device=self.device) >= self.noise.drop_bridge).float()
        noise = self._noise(AVTensors(video, audio), generator)
        cues = self.cues[index] * sample_cue_mask(self.batch_size, self.cues.shape[2], self.noise, generator)[:, None].cpu()
        embeds = self._embeds(self.modules, self.ids[rows], self.masks[rows])
        errors = self._errors(self.modules, AVTensors(video, audio), noise, embeds, cues, levels, bridge)
        losses = _losses(errors, levels, temporal_sum_weight=self.noise.temporal_sum_weight)
        total = losses.video + self.audio_weight * losses.audio
        return total, {"video": losses.video.item(), "audio": losses.audio.item()}

    @torch.no_grad()
    def validate(self, step: int, ema: nn.ModuleDict, folder: Path) -> dict[str, float]:
        """Losses on held-out clips at fixed noise levels, same noise every time."""
        numbers: dict[str, float] = {}
        count = min(64, len(self.held_out.scripts))
        video = self.normaliser.video(self.held_out.video[:count].float()).to(self.device)
        audio = self.normaliser.audio(self.held_out.audio[:count].float()).to(self.device)
        bridge = torch.ones(count, device=self.device)
        embeds, cues = self._embeds(ema, self.held_out_ids[:count], self.held_out_masks[:count]), self.held_out_cues[:count]
        for sigma in (0.5, 0.8, 0.95):
            noise = self._noise(AVTensors(video, audio), torch.Generator(device=self.device).manual_seed(1234))
            level = torch.full((count,), sigma, device=self.device)
            errors = self._errors(ema, AVTensors(video, audio), noise, embeds, cues, AVTensors(level, level), bridge)
            losses = _losses(errors, AVTensors(level, level), temporal_sum_weight=0.0)
            numbers |= {f"video@{sigma}": losses.video.item(), f"audio@{sigma}": losses.audio.item()}
        return numbers

    def _embeds(self, modules: nn.ModuleDict, ids: Tensor, masks: Tensor) -> Tensor:
        embeds: Tensor = encode_tokens(modules["text"], ids.to(self.device), masks.to(self.device))
        return embeds

    def _noise(self, latents: AVTensors, generator: torch.Generator) -> AVTensors:
        return AVTensors(*(torch.randn(one.shape, generator=generator, device=self.device) for one in latents))

    def _errors(
        self,
        modules: nn.ModuleDict,
        latents: AVTensors,
        noise: AVTensors,
        embeds: Tensor,
        cues: Tensor,
        levels: AVTensors,
        bridge: Tensor,
    ) -> AVTensors:
        """Predicted less true velocity."""
        noisy = AVTensors(
            torch.lerp(latents.video, noise.video, as_map(levels.video, latents.video)),
            torch.lerp(latents.audio, noise.audio, as_map(levels.audio, latents.audio)),
        )
        network_input = build_input(
            noisy,
            timesteps_of(levels),
            text=embeds,
            video_fps=float(self.clip.timeline.fps),
            video_condition=cues[..., None, None] if cues.shape[1] else None,
            a2v_scale=bridge,
            v2a_scale=bridge,
        )
        with torch.autocast(noisy.video.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            velocity = predict_velocity(modules["joint"], network_input)
        return AVTensors(velocity.video - (noise.video - latents.video), velocity.audio - (noise.audio - latents.audio))


def sample_cue_mask(batch: int, num_latents: int, noise: NoiseSettings, generator: torch.Generator) -> Tensor:
    """``[B, T]`` bool: the latents whose cues are told: none, all, or those of a beginning."""
    device = generator.device
    dice, partial = torch.rand(2, batch, generator=generator, device=device)
    cut = torch.randint(1, num_latents, (batch,), generator=generator, device=device)
    length = torch.where(partial < noise.partial_cues, cut, num_latents)
    length = torch.where(dice < noise.drop_cues, 0, length)
    return torch.arange(num_latents, device=device) < length[:, None]


def as_map(level: Tensor, latents: Tensor) -> Tensor:
    """Noise levels shaped to multiply latents: ``[B]`` or a map ``[B, ...]`` gains the missing axes."""
    if level.ndim == 1:
        return level.view(-1, *[1] * (latents.ndim - 1))
    return level[:, None]


def _losses(errors: AVTensors, levels: AVTensors, *, temporal_sum_weight: float) -> AVTensors:
    """Mean square of what is made, by modality."""
    return AVTensors(
        *(_weighed(error, as_map(level, error) > 0, temporal_sum_weight) for error, level in zip(errors, levels, strict=True))
    )


def _weighed(error: Tensor, made: Tensor, temporal_sum_weight: float) -> Tensor:
    squares = masked_mean(error.square(), made)
    return squares + temporal_sum_weight * total_error(error, made) if temporal_sum_weight else squares


def total_error(error: Tensor, made: Tensor) -> Tensor:
    """Mean square of ``error [B, C, T, ...]`` summed over time, per token of that time: for errors that are independent from
    token to token it is as large as their mean square.

    How many events there are is a total: the times of the events are open at high noise and make nearly all of the error of
    each token, but the sum over time is known from the prompt. Both errors have their least at the same prediction.

    Args:
        error: Predicted less true velocity.
        made: Where something is made, broadcast to ``error``; given tokens count for nothing.
    """
    weight = made.to(error.dtype).expand_as(error)
    tokens = weight.sum(dim=2)
    return masked_mean((error * weight).sum(dim=2).square() / tokens.clamp(min=1.0), tokens > 0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values [B, C, ...]`` where ``mask`` (broadcast) holds; 0 where it holds nowhere."""
    weight = mask.to(values.dtype).expand_as(values)
    return (values * weight).sum() / weight.sum().clamp(min=1.0)
