"""The video codec of the second generation: 8 x 32 x 32 pixels of video to one latent of 16 numbers, and back.

Features are kept at the rate of the frames before time is folded, and again behind it in the decoder: a codec that folds
time first stores one place for a moving thing per latent, and shows ghosts. The picture is read at a quarter of its
size (area means) and decoded at its whole size, so that sharp edges are the decoder's work and cost no latents.

The same interface as diffusers' ``AutoencoderKLWan`` (``encode(x).latent_dist``, ``decode(z).sample``, ``latents_mean`` and
``latents_std`` in the configuration). Frame 0 is latent 0 alone (repeated in its group), frames 8i-7 ... 8i are latent i.

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

from mova.models.codecs.video import ResidualBlock, as_pictures


class FullRateVideoCodec(ModelMixin, ConfigMixin):
    """Encodes ``[B, 3, 1 + 8k, H, W]`` video in [-1, 1] to ``[B, latent_channels, 1 + k, H / 32, W / 32]``.

    Args:
        latent_channels: Numbers per latent.
        widths: Channels of the decoder's features per latent, at half the folding, at two frames, at 1/16 and at 1/4 of the
            picture's size.
        encoder_widths: Channels of the encoder's features at 1/16 of the picture's size, at 1/32, and folded in time.
        scale_factor_temporal: Frames per latent after the first.
        scale_factor_spatial: Pixels per latent and side.
        latents_mean: Mean of each latent channel over the training videos, for the pipeline's normalisation.
        latents_std: Standard deviation of each.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        widths: tuple[int, int, int, int, int] = (192, 176, 144, 72, 20),
        encoder_widths: tuple[int, int, int] = (80, 128, 176),
        scale_factor_temporal: int = 8,
        scale_factor_spatial: int = 32,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ) -> None:
        super().__init__()
        if (scale_factor_temporal, scale_factor_spatial) != (8, 32):
            raise ValueError("this codec folds 8 frames and 32 x 32 pixels; no other factors are known to it.")
        self.encoder = Encoder(encoder_widths, 2 * latent_channels)
        self.decoder = Decoder(latent_channels, widths)

    @apply_forward_hook
    def encode(self, video: Tensor) -> AutoencoderKLOutput:
        """Distribution of the latents.

        Args:
            video: ``[B, 3, T, H, W]`` in [-1, 1]; T must be 1 + 8k, H and W multiples of 32.

        Raises:
            ValueError: If a length or a side does not fit the grid.
        """
        _, _, frames, height, width = video.shape
        if (frames - 1) % 8 or height % 32 or width % 32:
            raise ValueError(f"frames must be 1 + 8k and sides multiples of 32; got {frames} frames of {width}x{height}.")
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(self.encoder(video)))

    @apply_forward_hook
    def decode(self, latents: Tensor) -> DecoderOutput:
        """Video ``[B, 3, 1 + 8(L - 1), H, W]`` of latents ``[B, C, L, h, w]``; values are not clamped."""
        return DecoderOutput(sample=self.decoder(latents))

    def forward(self, video: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Encode, sample, decode (training): reconstruction, and mean and log variance of the latents."""
        posterior = self.encode(video).latent_dist
        return self.decode(posterior.sample(generator)).sample, posterior.mean, posterior.logvar


class Encoder(nn.Module):
    """``[B, 3, 1 + 8k, H, W]`` to ``[B, out, 1 + k, H/32, W/32]``."""

    def __init__(self, widths: tuple[int, int, int], out_channels: int) -> None:
        super().__init__()
        near, far, folded = widths
        self.conv_in = nn.Conv2d(2 * 3 * 16, near, 3, padding=1)
        self.block_1, self.mix_1 = _block(near), CausalMix(near)
        self.down = nn.Conv2d(near, far, 4, stride=2, padding=1)
        self.block_2, self.mix_2 = _block(far), CausalMix(far)
        self.fold_1 = nn.Conv2d(2 * far, folded, 1)
        self.mix_3, self.block_3 = CausalMix(folded), _block(folded)
        self.fold_2 = nn.Conv2d(2 * folded, folded, 1)
        self.mix_4, self.block_4 = CausalMix(folded), _block(folded)
        self.norm = PixelNorm(folded)
        self.conv_out = nn.Conv2d(folded, out_channels, 1)

    def forward(self, video: Tensor) -> Tensor:
        batch = video.shape[0]
        small = F.avg_pool2d(rearrange(video, "b c t h w -> (b t) c h w"), 4)
        small = rearrange(small, "(b t) c h w -> b t c h w", b=batch)
        padded = torch.cat([small[:, :1].expand(-1, 7, -1, -1, -1), small], dim=1)
        h = as_pictures(rearrange(padded, "b (t s) c (h p) (w q) -> b t (s c p q) h w", s=2, p=4, q=4))
        h = self.mix_1(self.block_1(self.conv_in(h)), batch)
        h = self.mix_2(self.block_2(self.down(h)), batch)
        h = self.block_3(self.mix_3(self.fold_1(fold(h, batch)), batch))
        h = self.block_4(self.mix_4(self.fold_2(fold(h, batch)), batch))
        out: Tensor = self.conv_out(self.norm(h))
        return rearrange(out, "(b l) c h w -> b c l h w", b=batch)


class Decoder(nn.Module):
    """``[B, C, L, h, w]`` to ``[B, 3, 8L - 7, 32h, 32w]``."""

    def __init__(self, latent_channels: int, widths: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        folded, half, paired, near, fine = widths
        self.conv_in = nn.Conv2d(latent_channels, folded, 3, padding=1)
        self.mix_1, self.block_1, self.block_2 = CausalMix(folded), _block(folded), _block(folded)
        self.unfold_1 = nn.Conv2d(folded, 2 * half, 1)
        self.mix_2, self.block_3 = CausalMix(half), _block(half)
        self.unfold_2 = nn.Conv2d(half, 2 * paired, 1)
        self.mix_3, self.block_4 = CausalMix(paired), _block(paired)
        self.up_1 = nn.Conv2d(paired, 4 * near, 1)
        self.mix_4, self.block_5 = CausalMix(near), _block(near)
        self.unfold_3 = nn.Conv2d(near, 2 * near, 1)
        self.mix_5, self.block_6 = CausalMix(near), _block(near)
        self.up_2 = nn.Conv2d(near, 16 * fine, 1)
        self.block_7 = _block(fine)
        self.conv_out = nn.Conv2d(fine, 3 * 16, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        batch = latents.shape[0]
        h = self.conv_in(as_pictures(rearrange(latents, "b c l h w -> b l c h w")))
        h = self.block_2(self.block_1(self.mix_1(h, batch)))
        h = self.block_3(self.mix_2(unfold(self.unfold_1(h), batch), batch))
        h = self.block_4(self.mix_3(unfold(self.unfold_2(h), batch), batch))
        h = self.block_5(self.mix_4(F.pixel_shuffle(self.up_1(h), 2), batch))
        h = self.block_6(self.mix_5(unfold(self.unfold_3(h), batch), batch))
        h = rearrange(h, "(b t) c h w -> b t c h w", b=batch)[:, 7:]  # frame 0 is the last of its group
        h = self.block_7(F.pixel_shuffle(self.up_2(as_pictures(h)), 4))
        out = F.pixel_shuffle(self.conv_out(F.silu(h)), 4)
        return rearrange(out, "(b t) c h w -> b c t h w", b=batch)


def _block(width: int) -> ResidualBlock:
    return ResidualBlock(width, PixelNorm(width))


class CausalMix(nn.Module):
    """Adds to each frame a small network of itself and of the two before it, pixel by pixel; starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = PixelNorm(width)
        self.conv_1 = nn.Conv2d(3 * width, width, 1)
        self.conv_2 = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, x: Tensor, batch: int) -> Tensor:
        h = rearrange(self.norm(x), "(b t) c h w -> b t c h w", b=batch)
        past = F.pad(h, (0, 0, 0, 0, 0, 0, 2, 0))
        taps = as_pictures(torch.cat([past[:, 2:], past[:, 1:-1], past[:, :-2]], dim=2))
        mixed: Tensor = self.conv_2(F.silu(self.conv_1(taps)))
        return x + mixed


class PixelNorm(nn.RMSNorm):
    """RMS norm over the channels of each pixel, so that the codec works alike on crops and on whole pictures."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def fold(x: Tensor, batch: int) -> Tensor:
    """``[B 2t, C, H, W]`` to ``[B t, 2 C, H, W]``: two frames in the channels of one."""
    return as_pictures(rearrange(x, "(b t s) c h w -> b t (s c) h w", b=batch, s=2))


def unfold(x: Tensor, batch: int) -> Tensor:
    """The way back of :func:`fold`."""
    return as_pictures(rearrange(x, "(b t) (s c) h w -> b (t s) c h w", b=batch, s=2))
