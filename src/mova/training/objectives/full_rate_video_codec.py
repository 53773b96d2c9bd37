"""The full-rate video codec: crops of spans of scenes, rendered when they are first drawn at the size that it decodes.

Errors of pixels, of their slopes in space **and time**, of their squares and of colour beside brightness; moving pixels count
five times. The decoder learns to bear noise on the latents from the beginning, since the network's are never exact.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from mova.data.marks import digest_kinds
from mova.models.codecs.full_rate import FullRateVideoCodec
from mova.scenes.kind import Kind
from mova.scenes.kinds import load_kinds
from mova.scenes.world import draw, write_script
from mova.training.objective import Objective, draw_below
from mova.training.objectives.video_codec import draw_rows, find_moving_parts, place_crop, to_video
from mova.training.recipe import TrainRecipe

HELD_OUT = 2**40
"""Number of the first held-out span."""
LENGTHS = (9, 17, 17, 17, 25)
"""Lengths of crops in frames, drawn alike."""


class FullRateVideoCodecRecipe(TrainRecipe):
    """The full-rate video codec."""

    stage: Literal["full_rate_video_codec"] = "full_rate_video_codec"
    codec: dict[str, Any] = Field(default={}, description="Overrides of the codec's sizes.")
    seed: int = 1
    batch_size: int = Field(default=2, ge=1, description="Crops per process.")
    crop: int = Field(default=192, ge=64, multiple_of=32)
    num_spans: int = Field(default=48, ge=1, description="Spans in memory, from which crops are drawn.")
    steps_per_span: int = Field(default=3, ge=1, description="Steps after which one of them gives way to a new one.")
    num_held_out: int = Field(default=10, ge=1)
    kl_weight: float = 3e-4
    latent_noise: float = Field(default=0.2, ge=0, description="Most noise on the latents, in units of their own spread.")

    def digest_inputs(self) -> dict[str, str]:
        """The kinds of scenes, as they are defined now."""
        return {"kinds of scenes": digest_kinds(load_kinds(self.world.kinds))}

    def build(self, device: str) -> FullRateVideoCodecObjective:
        """A fresh codec on renders of the recipe's world."""
        world = self.world.world()
        return FullRateVideoCodecObjective(
            FullRateVideoCodec(**self.codec),
            Spans(
                load_kinds(self.world.kinds),
                seed=self.seed,
                width=world.width,
                height=world.height,
                fps=float(world.fps),
                num_frames=world.num_frames,
                num_kept=self.num_spans,
            ),
            crop=self.crop,
            batch_size=self.batch_size,
            steps_per_span=self.steps_per_span,
            num_held_out=self.num_held_out,
            kl_weight=self.kl_weight,
            latent_noise=self.latent_noise,
            device=device,
        )


class Spans:
    """An endless list of spans of scenes, each rendered when it is first asked for; the last ones asked for are kept.

    Args:
        kinds: Kinds of scenes.
        seed: Names the list.
        width: Width in pixels.
        height: Height in pixels.
        fps: Frames per second.
        num_frames: Length of a scene in frames, of which a span is a part.
        num_kept: Spans that are kept.
    """

    def __init__(
        self, kinds: tuple[Kind, ...], *, seed: int, width: int, height: int, fps: float, num_frames: int, num_kept: int
    ) -> None:
        self.kinds, self.seed, self.num_frames, self.num_kept = kinds, seed, num_frames, num_kept
        self.size, self.fps = (width, height), fps
        self.frames = lru_cache(maxsize=num_kept)(self._render)

    def _render(self, index: int) -> NDArray[np.uint8]:
        """Span number ``index``: ``[T, H, W, 3]`` uint8."""
        rng = np.random.default_rng((self.seed, index))
        script = write_script(self.kinds[index % len(self.kinds)], int(rng.integers(2**40)), seconds=self.num_frames / self.fps)
        length = min(max(LENGTHS), self.num_frames)
        first = int(rng.integers(self.num_frames - length + 1))
        width, height = self.size
        return draw(script, width=width, height=height, fps=self.fps, num_frames=length, first_frame=first)


class FullRateVideoCodecObjective(Objective):
    """Reconstruction of random crops of random spans.

    Args:
        codec: The codec to train.
        spans: List of spans.
        crop: Side of a crop in pixels.
        batch_size: Crops per process and step.
        steps_per_span: Steps after which one span in memory gives way to a new one.
        num_held_out: Spans for validation.
        kl_weight: Weight of the KL term.
        latent_noise: Most noise on the latents, in units of each channel's own spread.
        device: Where to train.
    """

    not_matrices = ("conv_in", "conv_out", "up_2")

    def __init__(
        self,
        codec: FullRateVideoCodec,
        spans: Spans,
        *,
        crop: int,
        batch_size: int,
        steps_per_span: int,
        num_held_out: int,
        kl_weight: float = 3e-4,
        latent_noise: float = 0.2,
        device: str = "cpu",
    ) -> None:
        self.codec = codec.to(device, memory_format=torch.channels_last)
        self.modules = nn.ModuleDict({"codec": codec})
        self.spans, self.crop, self.batch_size = spans, crop, batch_size
        self.steps_per_span, self.num_held_out = steps_per_span, num_held_out
        self.kl_weight, self.latent_noise, self.device = kl_weight, latent_noise, device

    def loss(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch of crops."""
        video = self._batch(step, generator)
        posterior = self.codec.encode(video).latent_dist
        spread = posterior.mean.detach().std(dim=(0, 2, 3, 4), keepdim=True)
        level = self.latent_noise * float(torch.rand((), generator=generator, device=self.device))
        noise = torch.randn(posterior.mean.shape, generator=generator, device=self.device)
        decoded = self.codec.decode(posterior.sample(generator) + level * spread * noise).sample
        terms = video_terms(decoded, video)
        kl = 0.5 * (posterior.mean.square() + posterior.logvar.exp() - 1.0 - posterior.logvar).mean()
        total = torch.stack(list(terms.values())).sum() + self.kl_weight * kl
        return total, {name: term.item() for name, term in terms.items()} | {"kl": kl.item()}

    @torch.no_grad()
    def validate(self, step: int, averaged: nn.ModuleDict, folder: Path) -> dict[str, float]:
        """PSNR of moving pixels at full and at quarter size, and sharpness there, of whole held-out pictures; draws a sheet."""
        codec = averaged["codec"]
        assert isinstance(codec, FullRateVideoCodec)
        sums = {"psnr moving": torch.zeros(2), "psnr moving, quarter": torch.zeros(2)}
        slopes, rows = torch.zeros(2), []
        for index in range(self.num_held_out):
            video = to_video(torch.from_numpy(self.spans._render(HELD_OUT + index))[None]).to(self.device)
            decoded = codec.decode(codec.encode(video).latent_dist.mode()).sample.clamp(-1, 1)
            small, small_decoded = (F.avg_pool3d(one, (1, 4, 4)) for one in (video, decoded))
            for name, one, other in (
                ("psnr moving", video, decoded),
                ("psnr moving, quarter", small, small_decoded),
            ):
                moves = find_moving_parts(one).float()
                square = ((other - one) / 2).square().mean(dim=1, keepdim=True)
                sums[name] += torch.stack([(square * moves).sum(), moves.sum()]).cpu()
            moves = find_moving_parts(small)[..., 1:].float()
            slopes += torch.stack([(one.diff(dim=-1).square() * moves).sum() for one in (small, small_decoded)]).cpu()
            rows.append(torch.cat([video[0, :, 6::8, ::2, ::2], decoded[0, :, 6::8, ::2, ::2]], dim=2))
        draw_rows(rows, folder / f"sheet-{step:06d}.png")
        found = {name: -10 * math.log10(max(float(error / count.clamp(min=1)), 1e-12)) for name, (error, count) in sums.items()}
        return found | {"sharpness moving, quarter": float(slopes[1] / slopes[0].clamp(min=1e-9))}

    def _batch(self, step: int, generator: torch.Generator) -> Tensor:
        """Crops ``[B, 3, T, H, W]`` of spans in memory, which give way to new ones one after the other."""
        length = min(LENGTHS[draw_below(len(LENGTHS), generator)], self.spans.num_frames)
        crops = []
        for _ in range(self.batch_size):
            span = self.spans.frames(step // self.steps_per_span + draw_below(self.spans.num_kept, generator))
            first = draw_below(len(span) - length + 1, generator)
            top, left = place_crop(span[first : first + length], self.crop, generator)
            crop = span[first : first + length, top : top + self.crop, left : left + self.crop]
            crops.append(torch.from_numpy(np.ascontiguousarray(crop)))
        return to_video(torch.stack(crops)).to(self.device)


def video_terms(decoded: Tensor, video: Tensor) -> dict[str, Tensor]:
    """The parts of the loss of decoded video ``[B, 3, T, H, W]``."""
    weight = 1.0 + 4.0 * find_moving_parts(video).float()
    error = decoded - video
    # beside brightness, colour is learnt late if little asks for it: at a weight of 0.5 all was grey after 800 steps
    colour = error - error.mean(dim=1, keepdim=True)
    slopes = [(weight.narrow(d, 1, video.shape[d] - 1) * error.diff(dim=d).abs()).mean() for d in (2, 3, 4)]
    return {
        "pixels": (weight * error.abs()).mean(),
        "slopes": 0.5 * torch.stack(slopes).sum(),
        "squares": (weight * error.square()).mean(),
        "colour": 2.0 * (weight * colour.abs()).mean(),
    }
