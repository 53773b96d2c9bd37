"""What the codecs cost: weights, and operations and memory of decoding, from their configuration files alone.

Counted as in ``mova.runtime.costs``; :func:`codec_cost` knows the classes that a checkpoint may name. The library decodes in
float32. Symbols: T latent frames, h and w their sides, C channels, L latents of audio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mova.runtime.costs import whole

FLOAT_BYTES = 4
Grid = tuple[int, ...]


@dataclass(frozen=True)
class CodecCost:
    """A codec's price.

    Args:
        parameters: Of the whole codec.
        decode_flops: Operations to decode one clip.
        decode_bytes: Largest memory of the decoder's tensors at one time, result included, weights excluded. An estimate.
        scale: Pixels per latent along a side, for a video codec.
    """

    parameters: int
    decode_flops: int
    decode_bytes: int
    scale: int = 1


@dataclass(frozen=True)
class Cost:
    """Of some layers: weights, operations, and numbers kept between the chunks of a causal decoder."""

    parameters: int = 0
    flops: int = 0
    kept: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.flops + other.flops, self.kept + other.kept)


def codec_cost(class_name: str, config: Mapping[str, Any], grid: Grid) -> CodecCost:
    """The price of a codec.

    Args:
        class_name: As ``model_index.json`` names it.
        config: Its ``config.json``.
        grid: Latents: (T, h, w) of a video, (L,) of audio.

    Raises:
        ValueError: If the class or its configuration is not known.
    """
    if class_name not in CODECS:
        raise ValueError(f"the cost of {class_name!r} is not known; known are {', '.join(CODECS)}.")
    return CODECS[class_name](config, grid)


def video_scale(config: Mapping[str, Any]) -> int:
    """Pixels per latent along a side of the picture."""
    return whole(config, "scale_factor_spatial", 8)


def wan_vae(config: Mapping[str, Any], grid: Grid) -> CodecCost:
    """diffusers' ``AutoencoderKLWan`` of Wan 2.1: causal convolutions of ``2 positions C_in C_out taps`` operations.

    It decodes one latent frame at a time and keeps the last two frames that every causal convolution saw. Beside them and
    the video so far, the peak has about six and a half states of the widest level, a chunk of frames at full size.
    """
    if config.get("is_residual") or config.get("patch_size") or config.get("attn_scales"):
        raise ValueError("video_vae: only the Wan 2.1 layout is known, without is_residual, patch_size and attn_scales.")
    frames, height, width = grid
    latent, base = whole(config, "z_dim", 16), whole(config, "base_dim", 96)
    multipliers = [int(value) for value in config.get("dim_mult", (1, 2, 4, 4))]
    blocks = whole(config, "num_res_blocks", 2)
    downsamples = [bool(value) for value in config.get("temperal_downsample", (False, True, True))]
    colours = whole(config, "out_channels", 3)

    decoder, state = Cost(), 0
    widths = [(whole(config, "decoder_base_dim", base)) * m for m in (multipliers[-1], *reversed(multipliers))]
    area, now, channels = height * width, frames, widths[0]
    decoder += _conv(latent, latent, 1, frames * area)
    decoder += _causal(latent, channels, 27, frames, area) + _wan_middle(channels, frames, area)
    for level, out in enumerate(widths[1:]):
        for _ in range(blocks + 1):
            decoder += _wan_residual(channels, out, now, area)
            channels = out
        state = max(state, area * channels * _chunk(now, frames))
        if level < len(multipliers) - 1:
            if list(reversed(downsamples))[level]:  # the first frame is not doubled
                decoder += _causal(channels, 2 * channels, 3, now - 1, area)
                now = 2 * now - 1
            area *= 4
            decoder += _conv(channels, channels // 2, 9, now * area)
            channels //= 2
    decoder += Cost(parameters=channels) + _causal(channels, colours, 27, now, area)

    video = colours * now * area
    peak = max(decoder.kept + video + 13 * state // 2, decoder.kept + 2 * video)
    encoder = _wan_encoder_weights(latent, base, multipliers, blocks, downsamples, whole(config, "in_channels", 3))
    return CodecCost(encoder + decoder.parameters, decoder.flops, FLOAT_BYTES * peak, video_scale(config))


def video_codec(config: Mapping[str, Any], grid: Grid) -> CodecCost:
    """The small codec of ``mova-base``; its peak is the last residual at full size, twelve channels of it twice."""
    frames, height, width = grid
    latent, base, wide = (whole(config, name, d) for name, d in (("latent_channels", 16), ("base_width", 96), ("width", 160)))
    stride, patch = whole(config, "scale_factor_temporal", 4), whole(config, "patch", 4)
    folded = 3 * stride * patch**2
    near, far = frames * height * width, 4 * frames * height * width
    pixels = (stride * frames - stride + 1) * height * width * (2 * patch) ** 2
    mix, block = _conv(3 * wide, wide, 1, near), _residual_2d(wide, near)
    decoder = (
        _conv(latent, wide, 9, near) + mix + block + mix + block
        + Cost(parameters=wide * base * 16 + base, flops=2 * near * wide * base * 16)
        + _residual_2d(base, far) + Cost(parameters=2 * base) + _conv(base, folded, 9, far)
        + _conv(3, 12, 9, pixels) + _conv(12, 3, 9, pixels)
    )  # fmt: skip
    encoder = (
        _conv(folded, base, 9, 0) + _residual_2d(base, 0) + _conv(base, wide, 16, 0)
        + _residual_2d(wide, 0) + _residual_2d(wide, 0) + _conv(3 * wide, wide, 1, 0)
        + Cost(parameters=2 * wide) + _conv(wide, 2 * latent, 1, 0)
    )  # fmt: skip
    return CodecCost(encoder.parameters + decoder.parameters, decoder.flops, FLOAT_BYTES * 30 * pixels, video_scale(config))


def dac_vae(config: Mapping[str, Any], grid: Grid) -> CodecCost:
    """The official audio codec: a level multiplies the length by its stride and halves the channels.

    The peak is five states of the largest level: a snake activation computes with that many.
    """
    latent, dim = whole(config, "latent_dim", 128), whole(config, "decoder_dim", 2048)
    (length,) = grid
    decoder = _conv(latent, latent, 1, length) + _conv(latent, dim, 7, length)
    largest = dim * length
    for rate in config.get("decoder_rates", (8, 5, 4, 3, 2)):
        taps, half = 2 * rate, dim // 2
        decoder += Cost(parameters=dim + dim * half * taps + half, flops=2 * length * dim * half * taps)
        dim, length = half, length * rate
        decoder += _dac_units(dim, length)
        largest = max(largest, dim * length)
    decoder += Cost(parameters=dim) + _conv(dim, 1, 7, length)

    dim = whole(config, "encoder_dim", 128)
    encoder = _conv(1, dim, 7, 0)
    for rate in config.get("encoder_rates", (2, 3, 4, 5, 8)):
        encoder += _dac_units(dim, 0) + Cost(parameters=dim) + _conv(dim, 2 * dim, 2 * rate, 0)
        dim *= 2
    encoder += Cost(parameters=dim) + _conv(dim, latent, 3, 0) + _conv(latent, 2 * latent, 1, 0)
    return CodecCost(encoder.parameters + decoder.parameters, decoder.flops, FLOAT_BYTES * 5 * largest)


def audio_codec(config: Mapping[str, Any], grid: Grid) -> CodecCost:
    """The small audio codec of ``mova-base``. Its Fourier transforms are not counted; its peak is their frames, some times."""
    (length,) = grid
    latent, width, n_fft = (whole(config, name, d) for name, d in (("latent_channels", 24), ("width", 256), ("n_fft", 1024)))
    fold = whole(config, "frames_per_latent", 2)
    folded = (n_fft // 2 + 1) * fold
    blocks = whole(config, "num_blocks", 2)
    decoder, encoder = _conv(latent, width, 3, length), _conv(folded, width, 3, 0) + _conv(width, 2 * latent, 1, 0)
    for _ in range(blocks):
        decoder += _residual_1d(width, length)
        encoder += _residual_1d(width, 0)
    decoder += _conv(width, folded, 1, length) + _conv(width, 2 * folded, 1, length)
    return CodecCost(encoder.parameters + decoder.parameters, decoder.flops, FLOAT_BYTES * 12 * folded * length)


CODECS: dict[str, Callable[[Mapping[str, Any], Grid], CodecCost]] = {
    "AutoencoderKLWan": wan_vae,
    "VideoCodec": video_codec,
    "DAC": dac_vae,
    "AudioCodec": audio_codec,
}


def _conv(c_in: int, c_out: int, taps: int, positions: int) -> Cost:
    return Cost(parameters=c_in * c_out * taps + c_out, flops=2 * positions * c_in * c_out * taps)


def _causal(c_in: int, c_out: int, taps: int, frames: int, area: int) -> Cost:
    return _conv(c_in, c_out, taps, frames * area) + Cost(kept=min(frames, 2) * area * c_in)


def _chunk(frames: int, latents: int) -> int:
    """Frames that a latent after the first gives at a level with ``frames`` frames in all."""
    return 1 if latents == 1 else (frames - 1) // (latents - 1)


def _wan_residual(c_in: int, c_out: int, frames: int, area: int) -> Cost:
    cost = _causal(c_in, c_out, 27, frames, area) + _causal(c_out, c_out, 27, frames, area)
    cost += Cost(parameters=c_in + c_out)  # gains of the two norms
    return cost if c_in == c_out else cost + _conv(c_in, c_out, 1, frames * area)


def _wan_middle(channels: int, frames: int, area: int) -> Cost:
    block = _wan_residual(channels, channels, frames, area)
    projections = _conv(channels, 3 * channels, 1, frames * area) + _conv(channels, channels, 1, frames * area)
    attention = Cost(parameters=channels, flops=4 * frames * area**2 * channels)
    return block + projections + attention + block


def _wan_encoder_weights(
    latent: int, base: int, multipliers: list[int], blocks: int, downsamples: list[bool], colours: int
) -> int:
    cost, channels = _conv(colours, base, 27, 0), base
    for level, multiplier in enumerate(multipliers):
        for _ in range(blocks):
            cost += _wan_residual(channels, base * multiplier, 0, 0)
            channels = base * multiplier
        if level < len(multipliers) - 1:
            cost += _conv(channels, channels, 9, 0)
            if downsamples[level]:
                cost += _conv(channels, channels, 3, 0)
    cost += _wan_middle(channels, 0, 0) + Cost(parameters=channels) + _conv(channels, 2 * latent, 27, 0)
    return (cost + _conv(2 * latent, 2 * latent, 1, 0)).parameters


def _residual_2d(width: int, positions: int) -> Cost:
    return Cost(parameters=2 * width) + _conv(width, width, 9, positions) + _conv(width, width, 9, positions)


def _residual_1d(width: int, length: int) -> Cost:
    return Cost(parameters=2 * width) + _conv(width, width, 3, length) + _conv(width, width, 1, length)


def _dac_units(dim: int, length: int) -> Cost:
    unit = Cost(parameters=2 * dim) + _conv(dim, dim, 7, length) + _conv(dim, dim, 1, length)
    return unit + unit + unit
