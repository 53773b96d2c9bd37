"""The DAC variational autoencoder of the official checkpoints: mono audio to 50 latents a second, and back.

Convolutions with snake activations (Kumar et al. 2023, arXiv 2306.06546, without its quantiser); MOVA_SPEC 1 and 3.11.
Weight names are those of the official files. The same interface as ``mova.models.codecs.audio``.
Shape suffixes: B batch, S samples, L latents, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from mova.models.codecs.audio import SequenceGaussian


class DacVae(ModelMixin, ConfigMixin):
    """Encodes ``[B, 1, S]`` audio in [-1, 1] to ``[B, latent_dim, L]``, L = ceil(S / hop_length).

    Args:
        encoder_dim: Channels of the encoder's first layer; every level doubles them.
        encoder_rates: Stride of each encoder level.
        latent_dim: Numbers per latent.
        decoder_dim: Channels of the decoder's first layer; every level halves them.
        decoder_rates: Stride of each decoder level.
        sample_rate: Samples per second.
        continuous: Must be true: latents are Gaussians, not codes.
        use_weight_norm: Whether the official file holds weight-normed convolutions; see :func:`fold_weight_norm`. The
            network itself always holds plain weights.
        latents_mean: Mean of each latent channel, for the pipeline's normalisation; the official latents have none.
        latents_std: Standard deviation of each.

    Raises:
        ValueError: If ``continuous`` is false, or encoder and decoder strides differ in product.
    """

    @register_to_config
    def __init__(
        self,
        encoder_dim: int = 128,
        encoder_rates: Sequence[int] = (2, 3, 4, 5, 8),
        latent_dim: int = 128,
        decoder_dim: int = 2048,
        decoder_rates: Sequence[int] = (8, 5, 4, 3, 2),
        sample_rate: int = 48_000,
        continuous: bool = True,
        use_weight_norm: bool = False,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ) -> None:
        super().__init__()
        if not continuous:
            raise ValueError("continuous must be true: quantised DAC latents are not supported.")
        if math.prod(encoder_rates) != math.prod(decoder_rates):
            raise ValueError(f"encoder_rates {encoder_rates} and decoder_rates {decoder_rates} differ in product.")
        self.hop_length = math.prod(encoder_rates)
        self.encoder = Encoder(encoder_dim, encoder_rates, latent_dim)
        self.quant_conv = nn.Conv1d(latent_dim, 2 * latent_dim, 1)
        self.post_quant_conv = nn.Conv1d(latent_dim, latent_dim, 1)
        self.decoder = Decoder(latent_dim, decoder_dim, decoder_rates)

    @apply_forward_hook
    def encode(self, waveform: Tensor) -> AutoencoderKLOutput:
        """Distribution of the latents of ``[B, 1, S]``; the end is padded with silence to a multiple of the hop."""
        padded = F.pad(waveform, (0, -waveform.shape[-1] % self.hop_length))
        return AutoencoderKLOutput(latent_dist=SequenceGaussian(self.quant_conv(self.encoder(padded))))

    @apply_forward_hook
    def decode(self, latents: Tensor) -> DecoderOutput:
        """Audio ``[B, 1, L hop_length]`` of latents ``[B, latent_dim, L]``, limited to [-1, 1] by a tanh."""
        return DecoderOutput(sample=self.decoder(self.post_quant_conv(latents)))

    def forward(self, waveform: Tensor) -> Tensor:
        """Encodes and decodes the mean: ``[B, 1, S]`` to ``[B, 1, S]``."""
        audio: Tensor = self.decode(self.encode(waveform).latent_dist.mode()).sample
        return audio[..., : waveform.shape[-1]]


def fold_weight_norm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Plain weights of a weight-normed state dict: ``w = g v / |v|``, the norm over all axes but the first.

    Both of torch's spellings are known: ``weight_g`` with ``weight_v``, and ``parametrizations.weight.original0`` with
    ``original1`` (Salimans and Kingma 2016, arXiv 1602.07868). Other entries pass unchanged.

    Raises:
        ValueError: If a pair is not complete.
    """
    folded: dict[str, Tensor] = {}
    for name, value in weights.items():
        for gain_name, direction_name in WEIGHT_NORM_NAMES:
            if name.endswith(direction_name):
                stem = name.removesuffix(direction_name)
                if stem + gain_name not in weights:
                    raise ValueError(f"{name} has no {gain_name}.")
                length = torch.linalg.vector_norm(value, dim=tuple(range(1, value.ndim)), keepdim=True)
                folded[stem + "weight"] = weights[stem + gain_name] * value / length
                break
            if name.endswith(gain_name):
                if name.removesuffix(gain_name) + direction_name not in weights:
                    raise ValueError(f"{name} has no {direction_name}.")
                break
        else:
            folded[name] = value
    return folded


WEIGHT_NORM_NAMES = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


class Encoder(nn.Module):
    """Strided levels: ``[B, 1, S]`` to ``[B, latent_dim, S / product of rates]``."""

    def __init__(self, dim: int, rates: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(1, dim, 7, padding=3)]
        for rate in rates:
            layers.append(EncoderLevel(dim, rate))
            dim *= 2
        self.block = nn.Sequential(*layers, Snake(dim), nn.Conv1d(dim, latent_dim, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class EncoderLevel(nn.Module):
    """Three residual units and a strided convolution that doubles the channels."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *(ResidualUnit(dim, dilation) for dilation in (1, 3, 9)),
            Snake(dim),
            nn.Conv1d(dim, 2 * dim, 2 * stride, stride=stride, padding=math.ceil(stride / 2)),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class Decoder(nn.Module):
    """Transposed levels: ``[B, latent_dim, L]`` to ``[B, 1, L * product of rates]``."""

    def __init__(self, latent_dim: int, dim: int, rates: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(latent_dim, dim, 7, padding=3)]
        for rate in rates:
            layers.append(DecoderLevel(dim, rate))
            dim //= 2
        self.model = nn.Sequential(*layers, Snake(dim), nn.Conv1d(dim, 1, 7, padding=3), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


class DecoderLevel(nn.Module):
    """A transposed convolution that halves the channels, exactly ``stride`` times as long, and three residual units."""

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        up = nn.ConvTranspose1d(
            dim, dim // 2, 2 * stride, stride=stride, padding=math.ceil(stride / 2), output_padding=stride % 2
        )
        self.block = nn.Sequential(Snake(dim), up, *(ResidualUnit(dim // 2, dilation) for dilation in (1, 3, 9)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class ResidualUnit(nn.Module):
    """Snake, dilated 7-tap, snake, 1x1, added to the input."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Snake(dim),
            nn.Conv1d(dim, dim, 7, dilation=dilation, padding=3 * dilation),
            Snake(dim),
            nn.Conv1d(dim, dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)  # type: ignore[no-any-return]


class Snake(nn.Module):
    """``x + sin(alpha x)^2 / alpha`` with a learned alpha per channel (Liu et al. 2020, arXiv 2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha + 1e-9).reciprocal() * (self.alpha * x).sin().square()
