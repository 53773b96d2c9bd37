"""The video codec: L1, gradient and squared error with moving pixels counted five times, and a small KL.

The last part of the steps trains the decoder alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from mova.checkpoints.layout import resolve_model
from mova.data.latents import read_codec
from mova.data.marks import digest_part
from mova.data.shards import Shard, open_shards
from mova.models.codecs.video import VideoCodec
from mova.training.objective import Objective, draw_below
from mova.training.recipe import TrainRecipe, digest_scenes

MOVING_THRESHOLD = 0.06  # of [-1, 1]: a pixel that leaves its median by more is part of something moving


class VideoCodecRecipe(TrainRecipe):
    """The video codec."""

    stage: Literal["video_codec"] = "video_codec"
    codec: dict[str, Any] = Field(default={}, description="Overrides of the codec's sizes.")
    batch_size: int = Field(default=4, ge=1, description="Crops per process.")
    num_frames: int = Field(default=17, ge=5)
    crop: int = Field(default=64, ge=32, multiple_of=8)
    kl_weight: float = 3e-4
    decoder_only_from: float = Field(default=0.8, ge=0, le=1)
    latent_noise: float = Field(default=0.0, ge=0)
    start_from: str | None = Field(default=None, description="Stage of this run, or checkpoint, whose weights to start from.")
    name: str = "video_codec"

    @property
    def key(self) -> str:
        """Name of the stage within its run: a codec may be trained in several."""
        return self.name

    def digest_inputs(self) -> dict[str, str]:
        """The rendered clips of the run, and the codec to start from."""
        begun = {} if self.start_from is None else {str(self.start_from): digest_part(self._start_folder())}
        return {"scenes": digest_scenes(self.folder), **begun}

    def build(self, device: str) -> VideoCodecObjective:
        """The codec, fresh or that of another stage or checkpoint, on the rendered clips of the run."""
        return VideoCodecObjective(
            VideoCodec(**self.codec) if self.start_from is None else read_codec(VideoCodec, self._start_folder()),
            open_shards(self.folder / "scenes" / "train"),
            open_shards(self.folder / "scenes" / "held_out"),
            batch_size=self.batch_size,
            num_frames=self.num_frames,
            crop=self.crop,
            kl_weight=self.kl_weight,
            decoder_only_from=self.decoder_only_from,
            latent_noise=self.latent_noise,
            device=device,
        )

    def _start_folder(self) -> Path:
        stage = self.folder / str(self.start_from) / "codec"
        return stage if stage.is_dir() else resolve_model(str(self.start_from)) / "video_vae"


class VideoCodecObjective(Objective):
    """Reconstruction of random crops of random spans of rendered clips.

    Args:
        codec: The codec to train.
        train: Rendered shards.
        held_out: Shards for validation.
        batch_size: Crops per process and step.
        num_frames: Frames per crop, 1 + 4k.
        crop: Side of a crop in pixels.
        kl_weight: Weight of the KL term.
        decoder_only_from: Share of the steps after which the encoder is frozen.
        latent_noise: Standard deviation of the noise that the decoder learns to bear in the decoder-only part,
            in units of each channel's own spread.
        device: Where to train.
    """

    not_matrices = ("conv_in", "conv_out", "to_latent", "to_magnitude", "to_phase", "finish")

    def __init__(
        self,
        codec: VideoCodec,
        train: Sequence[Shard],
        held_out: Sequence[Shard],
        *,
        batch_size: int,
        num_frames: int = 17,
        crop: int = 64,
        kl_weight: float = 3e-4,
        decoder_only_from: float = 0.8,
        latent_noise: float = 0.0,
        device: str = "cpu",
    ) -> None:
        self.codec = codec.to(device)
        self.modules = nn.ModuleDict({"codec": codec})
        self.train, self.held_out = train, held_out
        self.batch_size, self.num_frames, self.crop = batch_size, num_frames, crop
        self.kl_weight, self.decoder_only_from, self.latent_noise = kl_weight, decoder_only_from, latent_noise
        self.device = device

    def loss(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch of crops."""
        video, weight = self._batch(generator)
        if step < self.decoder_only_from * num_steps:
            decoded, mean, logvar = self.codec(video, generator)
            kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
        else:
            with torch.no_grad():
                posterior = self.codec.encode(video).latent_dist
                spread = posterior.mean.std(dim=(0, 2, 3, 4), keepdim=True)
                noise = torch.randn(posterior.mean.shape, generator=generator, device=self.device)
                latents = posterior.sample(generator) + self.latent_noise * spread * noise
            decoded, kl = self.codec.decode(latents).sample, torch.zeros((), device=self.device)
        pixels = (weight * (decoded - video).abs()).mean()
        squares = (weight * (decoded - video).square()).mean()
        slopes = sum(
            (weight.narrow(d, 1, video.shape[d] - 1) * (decoded.diff(dim=d) - video.diff(dim=d)).abs()).mean() for d in (3, 4)
        )
        total = pixels + 0.5 * slopes + 0.5 * squares + self.kl_weight * kl
        return total, {"pixels": pixels.item(), "kl": float(kl.detach())}

    @torch.no_grad()
    def validate(self, step: int, averaged: nn.ModuleDict, folder: Path) -> dict[str, float]:
        """PSNR over all pixels and over moving pixels on held-out clips, whole pictures; draws a sheet."""
        codec = averaged["codec"]
        assert isinstance(codec, VideoCodec)
        errors, moving_errors, count = 0.0, 0.0, 0.0
        rows = []
        clips = self.held_out[0].frames[:24]
        for index in range(len(clips)):
            video = to_video(torch.from_numpy(np.array(clips[index]))[None]).to(self.device)
            decoded = codec.decode(codec.encode(video).latent_dist.mode()).sample.clamp(-1, 1)
            square = ((decoded - video) / 2).square().mean(dim=1)
            moving = find_moving_parts(video)[:, 0].float()
            errors += square.mean().item() / len(clips)
            moving_errors += (square * moving).sum().item()
            count += moving.sum().item()
            if index < 8:
                rows.append(torch.cat([video[0, :, ::4], decoded[0, :, ::4]], dim=2))
        draw_rows(rows, folder / f"sheet-{step:06d}.png")
        return {"psnr": -10 * np.log10(errors), "moving_psnr": -10 * np.log10(moving_errors / max(1.0, count))}

    def _batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        videos = []
        for _ in range(self.batch_size):
            shard = self.train[draw_below(len(self.train), generator)]
            clip = shard.frames[draw_below(len(shard.frames), generator)]
            start = draw_below(len(clip) - self.num_frames + 1, generator)
            span = clip[start : start + self.num_frames]
            top, left = place_crop(span, self.crop, generator)
            videos.append(torch.from_numpy(np.array(span[:, top : top + self.crop, left : left + self.crop])))
        video = to_video(torch.stack(videos)).to(self.device)
        return video, 1.0 + 4.0 * find_moving_parts(video).float()


def to_video(frames: Tensor) -> Tensor:
    """uint8 ``[B, T, H, W, 3]`` to float ``[B, 3, T, H, W]`` in [-1, 1]."""
    return frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0


def place_crop(span: np.ndarray, crop: int, generator: torch.Generator) -> tuple[int, int]:
    """Top and left of a crop of frames ``[T, H, W, 3]``: four times in five around a pixel that changes."""
    height, width = span.shape[1:3]
    if draw_below(5, generator) > 0:
        change = np.ptp(span[:, ::4, ::4].max(axis=-1), axis=0) > 24
        rows, columns = np.nonzero(change)
        if len(rows):
            pick = draw_below(len(rows), generator)
            centre = 4 * int(rows[pick]), 4 * int(columns[pick])
            shift = [draw_below(crop // 2, generator) - crop // 4 for _ in range(2)]
            top = min(max(centre[0] + shift[0] - crop // 2, 0), height - crop)
            left = min(max(centre[1] + shift[1] - crop // 2, 0), width - crop)
            return top, left
    return draw_below(height - crop + 1, generator), draw_below(width - crop + 1, generator)


def find_moving_parts(video: Tensor) -> Tensor:
    """``[B, 1, T, H, W]`` bool: pixels of which a colour differs from its median over time."""
    still = video[:, :, ::2].median(dim=2, keepdim=True).values
    return (video - still).abs().amax(dim=1, keepdim=True) > MOVING_THRESHOLD


def draw_rows(rows: list[Tensor], path: Path) -> None:
    """Save filmstrips ``[3, T, H, W]`` in [-1, 1] below one another as one PNG."""
    from PIL import Image

    strips = [torch.cat(list(row.unbind(dim=1)), dim=2) for row in rows]
    sheet = torch.cat(strips, dim=1).clamp(-1, 1).add(1).mul(127.5).round().byte()
    Image.fromarray(sheet.permute(1, 2, 0).cpu().numpy()).save(path)
