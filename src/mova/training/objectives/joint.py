"""What the joint network is trained for: rectified flow on both modalities, under many noise maps.

A clip of latents x and noise n give the noisy latents ``(1 - sigma) x + sigma n`` and the velocity ``n - x`` (Liu et al.
2022, arXiv 2209.03003). Each modality has its own sigma: most of the time both are equal, else they are independent, or
one modality is given clean (audio for a video, a video for audio), or a region is (a first frame, a beginning, all but a
span or a rectangle). Captions, cues and the bridge are dropped for some samples: a network that can do without each can also
be guided by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from mova.data.latents import LatentSet
from mova.models.text_encoder import encode_tokens
from mova.sampling.av_tensors import AVTensors
from mova.sampling.network_input import build_input, predict_velocity, timesteps_of

# embeddings and doors are no hidden weight matrices: AdamW takes them (Jordan et al. 2024)
NOT_MATRICES = ("embedding", "embed", "modulation", "head", "shared", "relative_attention_bias", "patch")


class NoiseSettings(BaseModel):
    """How noise levels and given regions are drawn: the ``noise`` part of a joint recipe. Shares of samples or batches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    logit_mean: float = Field(default=0.3, description="Mean of logit(sigma): above 0 trains more at high noise.")
    logit_std: float = Field(default=1.1, gt=0)
    independent: float = Field(default=0.15, ge=0, le=1, description="Share of samples with a sigma per modality.")
    given_video: float = Field(default=0.06, ge=0, le=1, description="Share of samples whose video is given clean.")
    given_audio: float = Field(default=0.06, ge=0, le=1, description="Share of samples whose audio is given clean.")
    regions: float = Field(default=0.15, ge=0, le=1, description="Share of batches with given regions of time.")
    temporal_sum_weight: float = Field(
        default=0.0, ge=0, description="Weight of the error summed over time, beside that of each token."
    )
    drop_caption: float = Field(default=0.1, ge=0, le=1)
    drop_cues: float = Field(default=0.35, ge=0, le=1)
    partial_cues: float = Field(default=0.25, ge=0, le=1, description="Share of the cued samples that know a beginning's only.")
    drop_bridge: float = Field(default=0.06, ge=0, le=1)


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
        video_fps: Frames per second of the videos.
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
        video_fps: float,
        audio_weight: float = 1.0,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        self.modules = nn.ModuleDict({"joint": joint, "text": text}).to(device)
        self.latents, self.held_out = latents, held_out
        self.ids, self.masks, self.cues = input_ids, masks, cues
        self.held_out_ids, self.held_out_masks, self.held_out_cues = held_out_ids, held_out_masks, held_out_cues
        self.normaliser, self.noise = normaliser, noise
        self.batch_size, self.video_fps, self.audio_weight, self.device = batch_size, video_fps, audio_weight, device
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
        levels = draw_levels(video.shape, audio.shape, self.noise, generator)
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
            video_fps=self.video_fps,
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


def draw_levels(
    video_shape: Sequence[int], audio_shape: Sequence[int], noise: NoiseSettings, generator: torch.Generator
) -> AVTensors:
    """Noise levels for a batch of latents ``[B, C, T, H, W]`` and ``[B, C, L]``.

    A share of the batches gets maps with given regions; in the others every sample has one level per modality.
    """
    batch, _, frames, height, width = video_shape
    length = audio_shape[2]
    device = generator.device
    logits = noise.logit_mean + noise.logit_std * torch.randn(2, batch, generator=generator, device=device)
    sigma_v, sigma_a = torch.sigmoid(logits)
    dice = torch.rand(batch, generator=generator, device=device)
    sigma_a = torch.where(dice < noise.independent, sigma_a, sigma_v)
    edge = noise.independent + noise.given_video
    sigma_a = torch.where((dice >= noise.independent) & (dice < edge), torch.sigmoid(logits[1]), sigma_a)
    sigma_v = torch.where((dice >= noise.independent) & (dice < edge), torch.zeros_like(sigma_v), sigma_v)
    sigma_a = torch.where((dice >= edge) & (dice < edge + noise.given_audio), torch.zeros_like(sigma_a), sigma_a)
    if torch.rand((), generator=generator, device=device) >= noise.regions:
        return AVTensors(sigma_v, sigma_a)
    video = sigma_v[:, None, None, None].expand(batch, frames, height, width).clone()
    audio = sigma_a[:, None].expand(batch, length).clone()
    for index in range(batch):
        _give_region(video[index], audio[index], generator)
    return AVTensors(video, audio)


def _give_region(video: Tensor, audio: Tensor, generator: torch.Generator) -> None:
    """Sets to 0 the levels of what is given: a first or last frame, a key frame, a beginning, or all but a span of the audio,
    of the video, or a rectangle of the picture.

    Args:
        video: ``[T, H, W]``.
        audio: ``[L]``.
        generator: Draws.
    """
    (frames, height, width), length = video.shape, len(audio)

    def pick(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator, device=generator.device))

    def outside(limit: int, least: int) -> Tensor:
        """All of ``limit`` but a span of at least ``least``."""
        start, stop = sorted((pick(limit + 1), pick(limit + 1)))
        keep = torch.ones(limit, dtype=torch.bool, device=video.device)
        keep[min(start, limit - least) : max(stop, start + least)] = False
        return keep

    choice = pick(16)
    if choice < 5:
        video[0] = 0.0
    elif choice < 6:
        video[-1] = 0.0
    elif choice < 8:
        video[pick(frames)] = 0.0
    elif choice < 12:
        cut = 1 + pick(frames - 2)
        video[:cut] = 0.0
        audio[: round(length * (4 * cut - 3) / (4 * frames - 3))] = 0.0
    elif choice < 14:
        audio[outside(length, 8)] = 0.0
        video[:] = 0.0 if choice == 12 else video
    else:
        audio[:] = 0.0
        if choice == 14:
            video[outside(frames, 1)] = 0.0
        else:  # the video's patches are of two latents
            rows, columns = (outside(size // 2, 1).repeat_interleave(2) for size in (height, width))
            video[:, rows[:, None] | columns[None, :]] = 0.0


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
