"""Rotary positions of the two towers and of the bridge.

A table is a pair (cos, sin), each ``[1, L, 1, H/2]`` for head width H: pair k of a token's channels turns by angle k.
Two conventions say which channels are a pair: the towers turn neighbours (2k, 2k + 1), the bridge turns (k, k + H/2).
Angles are evaluated in float64 and stored as the table's dtype; a state is turned in that dtype and returned in its own.
Float64 tables repeat the reference implementation to the last bit; float32 differs by 5e-7 and is faster.

The three modules at the end hold no weights: they are modules so that context-parallel hooks can split their outputs.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

THETA = 10_000.0
OOBLECK_SECONDS_SCALE = 4.0 / (44_100 / 2_048)  # video latents per audio latent in the legacy audio tower

Rope = tuple[Tensor, Tensor]


def rotate_adjacent(x: Tensor, rope: Rope) -> Tensor:
    """Rotate channel pairs (2k, 2k + 1) of ``x [B, L, N, H]`` by a table ``[1, L, 1, H/2]`` (RoFormer, arXiv 2104.09864)."""
    cos, sin = rope
    pairs = x.to(cos.dtype).unflatten(-1, (-1, 2))
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        # eager complex multiplication is one pass over memory: a third of the time of the real form on a CPU
        turned = torch.view_as_real(torch.view_as_complex(pairs) * _as_complex(cos, sin))
    else:
        even, odd = pairs.unbind(-1)
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


def rotate_half(x: Tensor, rope: Rope) -> Tensor:
    """Rotate channel pairs (k, k + H/2) of ``x [B, L, N, H]`` by a table ``[1, L, 1, H/2]``."""
    cos, sin = rope
    first, second = x.to(cos.dtype).chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def video_angles(frames: int, height: int, width: int, head_dim: int) -> Tensor:
    """Angles ``[frames * height * width, head_dim / 2]`` in float64, tokens in the order frame, row, column.

    Rows and columns get ``head_dim // 3`` channels each, frames the rest (MOVA_SPEC 3.4).

    Raises:
        ValueError: If ``head_dim`` or ``head_dim // 3`` is odd.
    """
    side = head_dim // 3
    if head_dim % 2 or side % 2:
        raise ValueError(f"head_dim and head_dim // 3 must be even for 3-D positions; got {head_dim}.")
    shape = (frames, height, width)
    frame = axis_angles(torch.arange(frames), head_dim - 2 * side)[:, None, None, :].expand(*shape, -1)
    row = axis_angles(torch.arange(height), side)[None, :, None, :].expand(*shape, -1)
    column = axis_angles(torch.arange(width), side)[None, None, :, :].expand(*shape, -1)
    return torch.cat((frame, row, column), dim=-1).flatten(0, 2)


def dac_angles(length: int, head_dim: int) -> Tensor:
    """Angles ``[length, head_dim / 2]`` of an audio tower on DAC latents: one position per latent, over the whole head."""
    return axis_angles(torch.arange(length), head_dim)


def oobleck_angles(length: int, head_dim: int) -> Tensor:
    """Angles ``[length, head_dim / 2]`` of the legacy audio tower: video-latent units, the first third of the head."""
    rotated = head_dim - 2 * (head_dim // 3)
    angles = axis_angles(torch.arange(length, dtype=torch.float64) * OOBLECK_SECONDS_SCALE, rotated)
    return torch.cat((angles, angles.new_zeros(length, (head_dim - rotated) // 2)), dim=-1)


AUDIO_ANGLES = {"dac": dac_angles, "oobleck": oobleck_angles}


def bridge_positions(frames: int, video_fps: float, audio_fps: float, stride: int, first_frame_bias: bool) -> Tensor:
    """Positions ``[frames]`` in float32 of video latents on the bridge's clock, whose unit is one audio latent.

    Without bias latent i stands at i times the latent spacing. With bias it stands where its first frame is: latent 0
    holds one frame, every other one ``stride`` frames (MOVA_SPEC 3.6; evaluated in the order of the reference).

    Args:
        frames: Video latents.
        video_fps: Video frames per second.
        audio_fps: Audio latents per second.
        stride: Video frames per video latent.
        first_frame_bias: The rule for latents after the first.
    """
    index = torch.arange(frames, dtype=torch.float32)
    if not first_frame_bias:
        return index * (audio_fps / (video_fps / stride))
    seconds = torch.where(index == 0, 0.0, 1.0 / video_fps + (index - 1) * (stride / video_fps))
    return seconds * audio_fps


def bridge_angles(positions: Tensor, head_dim: int) -> Tensor:
    """Angles ``[L, head_dim / 2]`` in float32, as the reference evaluates them."""
    inverse = 1.0 / (THETA ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    return positions.float()[:, None] * inverse


def axis_angles(positions: Tensor, channels: int) -> Tensor:
    """Angles ``[L, channels / 2]`` in float64: position times ``10000^(-2k / channels)``."""
    exponent = torch.arange(0, channels, 2, dtype=torch.float64) / channels
    return positions.double()[:, None] * THETA**-exponent


class VideoRope(nn.Module):
    """Table of the video tower's self-attention."""

    def __init__(self, head_dim: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.head_dim, self.dtype = head_dim, dtype

    def forward(self, grid: tuple[int, int, int], device: torch.device) -> Rope:
        """Table for ``grid`` = (frames, rows, columns) tokens."""
        return _video_table(grid, self.head_dim, self.dtype, device)


class AudioRope(nn.Module):
    """Table of the audio tower's self-attention; ``kind`` is ``"dac"`` or ``"oobleck"``."""

    def __init__(self, head_dim: int, kind: str = "dac", dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if kind not in AUDIO_ANGLES:
            raise ValueError(f"vae_type must be one of {sorted(AUDIO_ANGLES)}; got {kind!r}.")
        self.head_dim, self.kind, self.dtype = head_dim, kind, dtype

    def forward(self, length: int, device: torch.device) -> Rope:
        """Table for ``length`` tokens."""
        return _audio_table(length, self.head_dim, self.kind, self.dtype, device)


class BridgeRope(nn.Module):
    """Tables of both towers' tokens on the bridge's shared clock.

    Args:
        head_dim: Head width of the bridge.
        audio_fps: Audio latents per second.
        stride: Video frames per video latent.
        first_frame_bias: See :func:`bridge_positions`.
    """

    def __init__(self, head_dim: int, *, audio_fps: float, stride: int = 4, first_frame_bias: bool = False) -> None:
        super().__init__()
        self.head_dim, self.audio_fps, self.stride, self.first_frame_bias = (
            head_dim,
            audio_fps,
            stride,
            first_frame_bias,
        )

    def forward(
        self, grid: tuple[int, int, int], length: int, video_fps: float, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(video cos, video sin, audio cos, audio sin) for a grid of video tokens and ``length`` audio tokens."""
        clock = (float(video_fps), self.audio_fps, self.stride, self.first_frame_bias)
        return _bridge_tables(grid, length, self.head_dim, clock, device)


@lru_cache(maxsize=16)
def _video_table(grid: tuple[int, int, int], head_dim: int, dtype: torch.dtype, device: torch.device) -> Rope:
    return _table(video_angles(*grid, head_dim), dtype, device)


@lru_cache(maxsize=16)
def _audio_table(length: int, head_dim: int, kind: str, dtype: torch.dtype, device: torch.device) -> Rope:
    return _table(AUDIO_ANGLES[kind](length, head_dim), dtype, device)


@lru_cache(maxsize=16)
def _bridge_tables(
    grid: tuple[int, int, int],
    length: int,
    head_dim: int,
    clock: tuple[float, float, int, bool],
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    frames, height, width = grid
    positions = bridge_positions(frames, *clock).repeat_interleave(height * width)
    video = _table(bridge_angles(positions, head_dim), torch.float32, device)
    audio = _table(bridge_angles(torch.arange(length), head_dim), torch.float32, device)
    return *video, *audio


@lru_cache(maxsize=16)
def _as_complex(cos: Tensor, sin: Tensor) -> Tensor:
    """The same table as complex numbers; kept, as tables themselves are (the key is which tensors they are)."""
    with torch.inference_mode(False), torch.no_grad():
        return torch.complex(cos, sin)


def _table(angles: Tensor, dtype: torch.dtype, device: torch.device) -> Rope:
    """A table of normal tensors: one that is first asked for in inference mode must also serve training."""
    with torch.inference_mode(False), torch.no_grad():
        angles = angles.clone()[None, :, None, :]
        return angles.cos().to(dtype).to(device), angles.sin().to(dtype).to(device)
