"""The objective of the joint network: rectified flow on both modalities, under many noise maps.

A clip of latents x and noise n give the noisy latents ``(1 - sigma) x + sigma n`` and the velocity ``n - x`` (Liu et al.
2022, arXiv 2209.03003). Which latents are given and how noisy the others are is drawn by :mod:`mova.training.noise_maps`.
Captions, cues and the bridge are dropped for some samples: a network that can do without each can also be guided by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mova.checkpoints.layout import read_json, resolve_model
from mova.checkpoints.load import load_checkpoint
from mova.data.latents import LatentSet, open_latents, read_timeline
from mova.data.marks import digest, digest_part
from mova.errors import RequestError
from mova.models.joint import JointModel
from mova.models.presets import BASE
from mova.models.text import encode_tokens, num_cue_channels, tokenise
from mova.sampling.task import AVTensors, Grid, build_input, predict_velocity, timesteps_of
from mova.scenes.kinds import load_kinds
from mova.timeline import Timeline
from mova.training.cues import check_labels, choose_labels, cue_channels, sample_cue_mask, save_labels, with_channels
from mova.training.losses import as_map, modality_losses
from mova.training.noise_maps import ClipShape, NoiseSettings, draw_levels
from mova.training.objective import Objective
from mova.training.precision import PlainAttention, choose_precision
from mova.training.recipe import TrainRecipe, digest_latent_files
from mova.training.text import build_text_encoder, phrasings, train_tokenizer


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


class JointRecipe(TrainRecipe):
    """The joint network and its text encoder."""

    stage: Literal["joint"] = "joint"
    joint: dict[str, Any] = Field(default={}, description="Overrides of the base preset: video, audio, bridge.")
    text_width: int = Field(default=128, ge=32, multiple_of=32)
    text_layers: int = Field(default=2, ge=1)
    vocab_size: int = Field(default=768, ge=300)
    max_tokens: int = Field(default=32, ge=8)
    train_text_encoder: bool = Field(default=True, description="Whether the text encoder is trained along, or kept as it is.")
    noise: NoiseSettings = NoiseSettings()
    batch_size: int = Field(default=12, ge=1, description="Samples per process.")
    audio_weight: float = Field(default=1.0, gt=0)
    cues: bool = Field(default=True, description="Whether the video tower reads when things happen, where it is known.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="Number format of matrix products; auto: bfloat16 where the machine has it in hardware."
    )
    phrasings: int = Field(default=1, ge=1, description="Captions per clip to choose from at every draw, its own the first.")
    compile: bool = Field(default=False, description="Fuse the blocks (torch.compile); on a CPU this needs a C++ compiler.")
    start_from: str | None = Field(
        default=None, description="Checkpoint whose network, text encoder and tokenizer to go on from."
    )

    def digest_inputs(self) -> dict[str, str]:
        """The latents of the run, and the checkpoint to start from."""
        begun = {}
        if self.start_from is not None:
            folder = resolve_model(self.start_from)
            parts = ("video_dit", "audio_dit", "dual_tower_bridge", "text_encoder", "tokenizer")
            begun = {self.start_from: digest([digest_part(folder / part) for part in parts])}
        return {"latents": digest_latent_files(self.folder), **begun}

    def build(self, device: str) -> JointObjective:
        """The network and its text side, fresh or those of a checkpoint, on the encoded clips of the run."""
        source = self.folder / "latents"
        latents, held_out = open_latents(source / "train"), open_latents(source / "held_out")
        timeline, kinds = read_timeline(source), load_kinds(self.world.kinds)
        captions = [caption for script in latents.scripts for caption in phrasings(script, self.phrasings, kinds)]
        labels = choose_labels(self.folder, kinds, start_from=self.start_from) if self.cues else ()
        joint, text_encoder, tokenizer = self._parts(captions, timeline, labels)
        save_labels(self.folder, labels)
        text_encoder.requires_grad_(self.train_text_encoder)
        dtype = choose_precision(self.precision, device)
        if device == "cpu" and dtype == torch.bfloat16:
            joint.set_attn_processor(PlainAttention())
        if self.compile:
            torch._dynamo.config.recompile_limit = 64  # two towers, levels per sample or per token, their numbers
            joint.compile_repeated_blocks()
        ids, masks = tokenise(tokenizer, [*captions, ""], self.max_tokens)
        held_out_ids, held_out_masks = tokenise(tokenizer, [s["caption"] for s in held_out.scripts], self.max_tokens)
        return JointObjective(
            joint,
            text_encoder,
            tokenizer,
            latents,
            held_out,
            input_ids=ids,
            masks=masks,
            cues=self._cues(latents, timeline, labels),
            held_out_ids=held_out_ids,
            held_out_masks=held_out_masks,
            held_out_cues=self._cues(held_out, timeline, labels),
            normaliser=read_normaliser(source / "statistics.json"),
            noise=self.noise,
            batch_size=self.batch_size,
            clip=clip_shape(joint, latents, timeline),
            audio_weight=self.audio_weight,
            dtype=dtype,
            device=device,
        )

    def _parts(self, captions: list[str], timeline: Timeline, labels: tuple[str, ...]) -> tuple[JointModel, nn.Module, Any]:
        """Network, text encoder and tokenizer."""
        channels = num_cue_channels(len(labels), stride=timeline.video_stride) if self.cues else 0
        if self.start_from is not None:
            parts = load_checkpoint(self.start_from)  # frozen, as for inference
            if needs_picture(parts.transformer, parts.index.capabilities.cues):
                raise RequestError(
                    f"{self.start_from} reads pictures as extra channels, which this stage cannot train.",
                    "Start from a checkpoint with cue channels, or with none.",
                    field="start_from",
                )
            network = with_channels(parts.transformer, channels)
            return network.requires_grad_(True).train(), parts.text_encoder, parts.tokenizer
        tokenizer = train_tokenizer(captions, self.vocab_size)
        config = {part: {**BASE[part], **self.joint.get(part, {})} for part in ("video", "audio", "bridge")}
        config["video"]["in_dim"] = config["video"]["out_dim"] + channels
        config["bridge"] |= {
            "video_stride": timeline.video_stride,
            "audio_fps": float(timeline.audio_latents_per_second),
        }
        text_encoder = build_text_encoder(len(tokenizer), self.text_width, self.text_layers)
        return JointModel(**config), text_encoder, tokenizer

    def _cues(self, latents: LatentSet, timeline: Timeline, labels: tuple[str, ...]) -> Tensor | None:
        """Cue channels of a set of clips ``[N, C', T]``; ``None`` for a network that takes none."""
        if not self.cues:
            return None
        check_labels(latents.scripts, labels)
        return cue_channels(latents.scripts, labels, num_latents=latents.video.shape[2], timeline=timeline)


def needs_picture(network: JointModel, labels: Sequence[str]) -> bool:
    """Whether a network has condition channels that are no cue channels."""
    sizes = network.config["video"]
    return bool(sizes["in_dim"] > sizes["out_dim"] and not labels)


def clip_shape(joint: JointModel, latents: LatentSet, timeline: Timeline) -> ClipShape:
    """The size of the clips of a set of latents, in the tokens of a network."""
    frames, height, width = latents.video.shape[2:]
    _, *patch = joint.config["video"]["patch_size"]
    grid = Grid(frames=frames, height=height, width=width, audio_length=latents.audio.shape[2])
    return ClipShape(grid, timeline, patch=(patch[0], patch[1]))


def read_normaliser(path: Path) -> Normaliser:
    """Latent statistics as tensors."""
    statistics = read_json(path)
    tensors: dict[str, Tensor] = {name: torch.tensor(values) for name, values in statistics.items()}
    return Normaliser(**tensors)


class JointObjective(Objective):
    """Flow matching on cached latents.

    Args:
        joint: The dual-tower network.
        text_encoder: The text encoder; it is trained along if its parameters need a gradient.
        tokenizer: The tokenizer of the captions, saved beside the network.
        latents: Training latents.
        held_out: Latents for validation.
        input_ids: Token ids ``[N K + 1, S]`` of the training captions, K of each clip together; the last is the empty prompt.
        masks: Their masks.
        cues: Cue channels of the training clips ``[N, C', T]``; ``None`` for a network that takes none.
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

    not_matrices = ("embedding", "embed", "modulation", "head", "shared", "relative_attention_bias", "patch")

    def __init__(
        self,
        joint: nn.Module,
        text_encoder: nn.Module,
        tokenizer: Any,
        latents: LatentSet,
        held_out: LatentSet,
        *,
        input_ids: Tensor,
        masks: Tensor,
        cues: Tensor | None,
        held_out_ids: Tensor,
        held_out_masks: Tensor,
        held_out_cues: Tensor | None,
        normaliser: Normaliser,
        noise: NoiseSettings,
        batch_size: int,
        clip: ClipShape,
        audio_weight: float = 1.0,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        self.modules = nn.ModuleDict({"joint": joint, "text_encoder": text_encoder}).to(device)
        self.tokenizer, self.latents, self.held_out = tokenizer, latents, held_out
        self.ids, self.masks, self.cues = input_ids, masks, cues
        self.held_out_ids, self.held_out_masks, self.held_out_cues = held_out_ids, held_out_masks, held_out_cues
        self.normaliser, self.noise = normaliser, noise
        self.batch_size, self.clip, self.audio_weight, self.device = batch_size, clip, audio_weight, device
        self.dtype = dtype

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
        cues = None
        if self.cues is not None:
            cues = self.cues[index] * sample_cue_mask(self.batch_size, self.cues.shape[2], self.noise, generator)[:, None].cpu()
        embeds = self._embeds(self.modules, self.ids[rows], self.masks[rows])
        errors = self._errors(self.modules, AVTensors(video, audio), noise, embeds, cues, levels, bridge)
        losses = modality_losses(errors, levels, temporal_sum_weight=self.noise.temporal_sum_weight)
        total = losses.video + self.audio_weight * losses.audio
        return total, {"video": losses.video.item(), "audio": losses.audio.item()}

    @torch.no_grad()
    def validate(self, step: int, averaged: nn.ModuleDict, folder: Path) -> dict[str, float]:
        """Losses on held-out clips at fixed noise levels, same noise every time."""
        numbers: dict[str, float] = {}
        count = min(64, len(self.held_out.scripts))
        video = self.normaliser.video(self.held_out.video[:count].float()).to(self.device)
        audio = self.normaliser.audio(self.held_out.audio[:count].float()).to(self.device)
        bridge = torch.ones(count, device=self.device)
        embeds = self._embeds(averaged, self.held_out_ids[:count], self.held_out_masks[:count])
        cues = None if self.held_out_cues is None else self.held_out_cues[:count]
        for sigma in (0.5, 0.8, 0.95):
            noise = self._noise(AVTensors(video, audio), torch.Generator(device=self.device).manual_seed(1234))
            level = torch.full((count,), sigma, device=self.device)
            errors = self._errors(averaged, AVTensors(video, audio), noise, embeds, cues, AVTensors(level, level), bridge)
            losses = modality_losses(errors, AVTensors(level, level), temporal_sum_weight=0.0)
            numbers |= {f"video@{sigma}": losses.video.item(), f"audio@{sigma}": losses.audio.item()}
        return numbers

    def save(self, averaged: nn.ModuleDict, folder: Path) -> None:
        """Save the network and the text encoder, and the tokenizer beside them."""
        super().save(averaged, folder)
        self.tokenizer.save_pretrained(folder / "tokenizer")

    def _embeds(self, modules: nn.ModuleDict, ids: Tensor, masks: Tensor) -> Tensor:
        encoder = modules["text_encoder"]
        needs_gradient = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in encoder.parameters())
        with torch.set_grad_enabled(needs_gradient):
            embeds: Tensor = encode_tokens(encoder, ids.to(self.device), masks.to(self.device))
        return embeds

    def _noise(self, latents: AVTensors, generator: torch.Generator) -> AVTensors:
        return AVTensors(*(torch.randn(one.shape, generator=generator, device=self.device) for one in latents))

    def _errors(
        self,
        modules: nn.ModuleDict,
        latents: AVTensors,
        noise: AVTensors,
        embeds: Tensor,
        cues: Tensor | None,
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
            video_condition=None if cues is None else cues[..., None, None],
            a2v_scale=bridge,
            v2a_scale=bridge,
        )
        with torch.autocast(noisy.video.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            velocity = predict_velocity(modules["joint"], network_input)
        return AVTensors(velocity.video - (noise.video - latents.video), velocity.audio - (noise.audio - latents.audio))
