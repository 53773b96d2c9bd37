"""The small causal video codec of ``mova-base``: 4 x 8 x 8 pixels of video to one latent of 16 numbers, and back.

The same interface as diffusers' ``AutoencoderKLWan`` (``encode(x).latent_dist``, ``decode(z).sample``, ``latents_mean`` and
``latents_std`` in the configuration), so that a pipeline cannot tell them apart. Time is folded into channels and every
convolution is two-dimensional; frames talk to each other only through causal three-tap mixes over latent frames. Frame 0
is latent 0 alone (repeated in its group), frames 4i-3 ... 4i are latent i.

Shape suffixes: B batch, T frames, L latent frames, C channels, H and W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from einops import rearrange
from torch import Tensor, nn

PART = 9
"""Latent frames that are decoded at once."""
DECODER_REACH = 4
"""Latent frames before one that its pictures depend on: two mixes of two each."""


class VideoCodec(ModelMixin, ConfigMixin):
    """Encodes ``[B, 3, 1 + 4k, H, W]`` video in [-1, 1] to ``[B, latent_channels, 1 + k, H / 8, W / 8]``.

    Args:
        latent_channels: Numbers per latent.
        base_width: Channels at a quarter of the picture's size.
        width: Channels at an eighth of it.
        patch: Pixels per side folded into channels at the input.
        scale_factor_temporal: Frames per latent after the first.
        latents_mean: Mean of each latent channel over the training videos, for the pipeline's normalisation.
        latents_std: Standard deviation of each.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        base_width: int = 96,
        width: int = 160,
        patch: int = 4,
        scale_factor_temporal: int = 4,
        scale_factor_spatial: int = 8,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ) -> None:
        super().__init__()
        if scale_factor_spatial != 2 * patch:
            raise ValueError(f"scale_factor_spatial must be 2 * patch; got {scale_factor_spatial}, patch={patch}.")
        folded = 3 * scale_factor_temporal * patch**2
        self.encoder = Encoder(folded, base_width, width, 2 * latent_channels)
        self.decoder = Decoder(latent_channels, width, base_width, folded)
        self.finish = FrameFinish(12)

    @apply_forward_hook
    def encode(self, video: Tensor) -> AutoencoderKLOutput:
        """Distribution of the latents.

        Args:
            video: ``[B, 3, T, H, W]`` in [-1, 1]; T must be 1 + 4k, H and W multiples of 8.

        Raises:
            ValueError: If a length or a side does not fit the grid.
        """
        stride, patch = self.config.scale_factor_temporal, self.config.patch
        _, _, frames, height, width = video.shape
        if (frames - 1) % stride or height % (2 * patch) or width % (2 * patch):
            raise ValueError(
                f"frames must be 1 + {stride}k and sides multiples of {2 * patch}; got {frames} frames of {width}x{height}."
            )
        padded = torch.cat([video[:, :, :1].expand(-1, -1, stride - 1, -1, -1), video], dim=2)
        folded = rearrange(padded, "b c (l s) (h p) (w q) -> b l (s c p q) h w", s=stride, p=patch, q=patch)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(self.encoder(folded)))

    @apply_forward_hook
    def decode(self, latents: Tensor) -> DecoderOutput:
        """Video ``[B, 3, 1 + 4(L - 1), H, W]`` of latents ``[B, C, L, h, w]``; values are not clamped.

        Long videos are decoded in parts, each with the latents before it that its frames depend on, so that the memory of
        the work does not grow with the length; the video is the same.
        """
        length, stride = latents.shape[2], self.config.scale_factor_temporal
        if length <= PART or torch.is_grad_enabled():
            return DecoderOutput(sample=self._decode_part(latents))
        finished, done = self._decode_part(latents[:, :, :PART]), 1 + stride * (PART - 1)
        whole = finished.new_empty(*finished.shape[:2], 1 + stride * (length - 1), *finished.shape[3:])
        whole[:, :, :done] = finished
        for first in range(PART, length, PART):
            start = max(0, first - DECODER_REACH)
            finished = self._decode_part(latents[:, :, start : first + PART])[:, :, 1 + stride * (first - start - 1) :]
            whole[:, :, done : done + finished.shape[2]] = finished
            done += finished.shape[2]
        return DecoderOutput(sample=whole)

    def _decode_part(self, latents: Tensor) -> Tensor:
        stride, patch = self.config.scale_factor_temporal, self.config.patch
        folded = self.decoder(rearrange(latents, "b c l h w -> b l c h w"))
        video = rearrange(folded, "b l (s c p q) h w -> b c (l s) (h p) (w q)", s=stride, c=3, p=patch, q=patch)
        video = video[:, :, stride - 1 :]
        finished: Tensor = self.finish(video)
        return finished

    def forward(self, video: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Encode, sample, decode (training): reconstruction, and mean and log variance of the latents."""
        posterior = self.encode(video).latent_dist
        return self.decode(posterior.sample(generator)).sample, posterior.mean, posterior.logvar


class Encoder(nn.Module):
    """``[B, L, folded, H/4, W/4]`` to ``[B, out, L, H/8, W/8]``."""

    def __init__(self, folded: int, base_width: int, width: int, out_channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(folded, base_width, 3, padding=1)
        self.block_1 = ResidualBlock(base_width)
        self.down = nn.Conv2d(base_width, width, 4, stride=2, padding=1)
        self.block_2 = ResidualBlock(width)
        self.mix = CausalMix(width)
        self.block_3 = ResidualBlock(width)
        self.norm = PixelNorm(width)
        self.conv_out = nn.Conv2d(width, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        h = self.conv_in(as_pictures(x))
        h = self.block_2(self.down(self.block_1(h)))
        h = self.block_3(self.mix(h, batch))
        out: Tensor = self.conv_out(self.norm(h))
        return rearrange(out, "(b l) c h w -> b c l h w", b=batch)


class Decoder(nn.Module):
    """``[B, L, C, h, w]`` to ``[B, L, folded, 2h, 2w]``."""

    def __init__(self, latent_channels: int, width: int, base_width: int, folded: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.mix_1 = CausalMix(width)
        self.block_1 = ResidualBlock(width)
        self.mix_2 = CausalMix(width)
        self.block_2 = ResidualBlock(width)
        self.up = nn.ConvTranspose2d(width, base_width, 4, stride=2, padding=1)
        self.block_3 = ResidualBlock(base_width)
        self.norm = PixelNorm(base_width)
        self.conv_out = nn.Conv2d(base_width, folded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        h = self.mix_1(self.conv_in(as_pictures(x)), batch)
        h = self.mix_2(self.block_1(h), batch)
        h = self.block_3(self.up(self.block_2(h)))
        out: Tensor = self.conv_out(F.silu(self.norm(h)))
        return rearrange(out, "(b l) c h w -> b l c h w", b=batch)


class ResidualBlock(nn.Module):
    """Norm, SiLU, 3x3, SiLU, 3x3, added to the input. The second convolution starts at zero.

    Args:
        width: Channels.
        norm: Norm of each pixel; a :class:`PixelNorm` if not given.
    """

    def __init__(self, width: int, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = PixelNorm(width) if norm is None else norm
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv_2(F.silu(self.conv_1(F.silu(self.norm(x)))))
        return out


class CausalMix(nn.Module):
    """Adds to each latent frame a linear map of itself and of the two before it, pixel by pixel; starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * width, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, batch: int) -> Tensor:
        h = rearrange(x, "(b l) c h w -> b l h w c", b=batch)
        past = F.pad(h, (0, 0, 0, 0, 0, 0, 2, 0))
        taps = torch.cat([past[:, 2:], past[:, 1:-1], past[:, :-2]], dim=-1)
        mixed: Tensor = self.linear(taps)
        return x + rearrange(mixed, "b l h w c -> (b l) c h w")


class PixelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel, so that the codec works alike on crops and on whole pictures."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class FrameFinish(nn.Module):
    """A small residual at full size that repairs the borders of the folded patches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(3, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, video: Tensor) -> Tensor:
        h = rearrange(video, "b c t h w -> (b t) c h w")
        out: Tensor = h + self.conv_2(F.silu(self.conv_1(h)))
        return rearrange(out, "(b t) c h w -> b c t h w", b=video.shape[0])


def as_pictures(x: Tensor) -> Tensor:
    """``[B, L, C, H, W]`` as ``[B L, C, H, W]`` with channels last in memory, which convolutions on a CPU like best."""
    return rearrange(x, "b l c h w -> (b l) c h w").contiguous(memory_format=torch.channels_last)
