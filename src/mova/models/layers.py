"""Layers of the towers and of the bridge: norms, time embedding, modulation, rotary positions, and attention.

A table of rotary positions is a pair (cos, sin), each ``[1, L, 1, H/2]`` for head width H: pair k of a token's channels turns
by angle k. The towers turn neighbours (2k, 2k + 1), the bridge turns (k, k + H/2). Angles are evaluated in float64 and stored
as the table's dtype; a state is turned in that dtype and returned in its own. Float64 tables repeat the reference
implementation to the last bit; float32 differs by 5e-7 and is faster. The modules that make tables hold no weights: they are
modules so that context-parallel hooks can split their outputs.

Shapes: B batch, L tokens of the reader, C tokens read, D width, N heads, H head width, U distinct noise levels in a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers.hooks._helpers import AttentionProcessorMetadata, AttentionProcessorRegistry
from diffusers.hooks.context_parallel import EquipartitionSharder
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x^2) + eps) * weight`` over the full last axis, all heads together (MOVA_SPEC 3.3)."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and dtype as ``x``."""
        if x.device.type == "cpu" and x.dtype == torch.float32 and torch.is_grad_enabled():
            out: Tensor = _RMSNormCPU.apply(x, self.weight, self.eps)
            return out
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def feed_forward(dim: int, hidden: int) -> nn.Sequential:
    """Linear, tanh-approximated GELU, linear; names ``0`` and ``2`` as in the official checkpoints."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, dim))


def sinusoid(timestep: Tensor, dim: int) -> Tensor:
    """Embed ``timestep [U]`` as ``[U, dim]`` in its dtype: cosines first, then sines (MOVA_SPEC 3.1)."""
    half = dim // 2
    frequency = 10_000.0 ** (-torch.arange(half, dtype=torch.float64, device=timestep.device) / half)
    angles = timestep.double()[:, None] * frequency
    return torch.cat((angles.cos(), angles.sin()), dim=-1).to(timestep.dtype)


def distinct_levels(timestep: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct values ``[U]`` of a timestep ``[B]`` or ``[B, L]``, and the index of the same shape that restores it.

    The network embeds each value once and gathers rows by the index. A level per sample and a constant map therefore
    are the same arithmetic, bit for bit.
    """
    values, index = torch.unique(timestep.float(), return_inverse=True)
    return values, index


def gather_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Pick rows ``[U, D]`` for every sample (index ``[B]`` to ``[B, 1, D]``) or token (``[B, L]`` to ``[B, L, D]``)."""
    picked = F.embedding(index, rows)
    return picked if index.ndim == 2 else picked.unsqueeze(1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x (1 + scale) + shift``; not fused, so that broadcasting cannot change the rounding."""
    out: Tensor = x * (1 + scale) + shift
    return out


class _RMSNormCPU(torch.autograd.Function):
    """RMS norm with a hand-written gradient: half the time of autograd through ``F.rms_norm`` on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        inverse = mean_square.add_(eps).rsqrt_()
        ctx.save_for_backward(x, inverse, weight)
        out: Tensor = (x * inverse).mul_(weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, inverse, weight = ctx.saved_tensors
        unit = x * inverse
        product = grad * unit
        pull = (product @ weight).unsqueeze(-1).div_(-x.shape[-1])
        grad_x = (grad * weight).addcmul_(unit, pull).mul_(inverse)
        return grad_x, product.flatten(0, -2).sum(0), None


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
        return _table(video_angles, (*grid, self.head_dim), self.dtype, device)


class AudioRope(nn.Module):
    """Table of the audio tower's self-attention; ``kind`` is ``"dac"`` or ``"oobleck"``."""

    def __init__(self, head_dim: int, kind: str = "dac", dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if kind not in AUDIO_ANGLES:
            raise ValueError(f"vae_type must be one of {sorted(AUDIO_ANGLES)}; got {kind!r}.")
        self.head_dim, self.kind, self.dtype = head_dim, kind, dtype

    def forward(self, length: int, device: torch.device) -> Rope:
        """Table for ``length`` tokens."""
        return _table(AUDIO_ANGLES[self.kind], (length, self.head_dim), self.dtype, device)


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
        self.head_dim, self.audio_fps = head_dim, audio_fps
        self.stride, self.first_frame_bias = stride, first_frame_bias

    def forward(
        self, grid: tuple[int, int, int], length: int, video_fps: float, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(video cos, video sin, audio cos, audio sin) for a grid of video tokens and ``length`` audio tokens."""
        clock = (float(video_fps), self.audio_fps, self.stride, self.first_frame_bias)
        video = _table(_bridge_video_angles, (grid, self.head_dim, clock), torch.float32, device)
        return *video, *_table(_bridge_audio_angles, (length, self.head_dim), torch.float32, device)


def _bridge_video_angles(grid: tuple[int, int, int], head_dim: int, clock: tuple[float, float, int, bool]) -> Tensor:
    frames, height, width = grid
    return bridge_angles(bridge_positions(frames, *clock).repeat_interleave(height * width), head_dim)


def _bridge_audio_angles(length: int, head_dim: int) -> Tensor:
    return bridge_angles(torch.arange(length), head_dim)


@lru_cache(maxsize=16)
def _as_complex(cos: Tensor, sin: Tensor) -> Tensor:
    """The same table as complex numbers; kept, as tables themselves are (the key is which tensors they are)."""
    with torch.inference_mode(False), torch.no_grad():
        return torch.complex(cos, sin)


@lru_cache(maxsize=48)
def _table(angles_of: Callable[..., Tensor], sizes: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Rope:
    """A table of normal tensors: one that is first asked for in inference mode must also serve training."""
    with torch.inference_mode(False), torch.no_grad():
        angles = angles_of(*sizes)[None, :, None, :]
        return angles.cos().to(dtype).to(device), angles.sin().to(dtype).to(device)


_choosing_kernel = threading.Lock()
"""Backends of one of torch's kernels (cuDNN's, ``_native_math``, ...) turn the others off for the whole process while they
run: a run in another thread would take their kernel, and the last to end would leave the switch as it found it, off."""

KeyValue = tuple[Tensor, Tensor]
Sharding = Literal["none", "query_and_context", "context"]


class AttentionProcessor:
    """Projects, rotates, attends. Backend and parallel configuration are set by diffusers.

    Under context parallelism the video tokens are split over ranks and everything else is replicated. Video
    self-attention then runs diffusers' Ulysses or ring attention; a replicated reader of the video (the bridge towards
    audio) gathers keys and values; all other attentions are local. All three are exact (forward; the gradient of a gathered
    key counts on its own rank only).
    """

    _attention_backend: Any = None
    _parallel_config: Any = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        query_rope: Rope | None = None,
        key_rope: Rope | None = None,
        key_value: KeyValue | None = None,
    ) -> Tensor:
        """``[B, L, D]``; arguments as in :meth:`Attention.forward`."""
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(-1, (attn.heads, -1))
        if key_value is None:
            key_value = attn.project(hidden_states if encoder_hidden_states is None else encoder_hidden_states)
        key, value = key_value
        if query_rope is not None:
            query = attn.rotate(query, query_rope)
        if key_rope is not None:
            key = attn.rotate(key, key_rope)

        out = self.attend(attn, query, attn.gather_ranks(key), attn.gather_ranks(value))
        return attn.to_out(out.flatten(-2).to(query.dtype))  # type: ignore[no-any-return]

    def attend(self, attn: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """``[B, L, N, H]`` of ``query [B, L, N, H]`` and ``key``, ``value`` ``[B, C, N, H]``: the chosen backend."""
        with nullcontext() if torch.compiler.is_compiling() else _choosing_kernel:
            out: Tensor = dispatch_attention_fn(
                query,
                key,
                value,
                backend=self._attention_backend,
                parallel_config=self._parallel_config if attn.sharding == "query_and_context" else None,
            )
        return out


class Attention(nn.Module, AttentionModuleMixin):
    """Attention with RMS-normed queries and keys (norm over all heads together).

    Args:
        dim: Width of the reader.
        heads: Attention heads; must divide ``dim``.
        context_dim: Width of the context; the reader itself when None.
        rotate: Function that rotates queries and keys by their positions.
        eps: Epsilon of the norms.
        sharding: Tokens that context parallelism splits.

    Raises:
        ValueError: If ``heads`` does not divide ``dim``.
    """

    _default_processor_cls = AttentionProcessor
    _available_processors = [AttentionProcessor]  # noqa: RUF012
    _supports_qkv_fusion = False

    rotate: Callable[[Tensor, Rope], Tensor]
    processor: Callable[..., Tensor]

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        context_dim: int | None = None,
        rotate: Callable[[Tensor, Rope], Tensor] = rotate_adjacent,
        eps: float = 1e-6,
        sharding: Sharding = "none",
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads must divide dim; got dim={dim}, heads={heads}.")
        self.heads, self.rotate, self.sharding = heads, rotate, sharding
        self.use_bias, self.is_cross_attention = True, context_dim is not None
        context_dim = dim if context_dim is None else context_dim
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(context_dim, dim)
        self.to_v = nn.Linear(context_dim, dim)
        self.to_out = nn.Linear(dim, dim)
        self.norm_q = RMSNorm(dim, eps)
        self.norm_k = RMSNorm(dim, eps)
        self.processor = AttentionProcessor()

    def project(self, context: Tensor) -> KeyValue:
        """Keys and values ``[B, C, N, H]`` of ``context [B, C, context_dim]``, before positions."""
        key = self.norm_k(self.to_k(context))
        return key.unflatten(-1, (self.heads, -1)), self.to_v(context).unflatten(-1, (self.heads, -1))

    def identity_attention(self, hidden_states: Tensor) -> Tensor:
        """``[B, L, D]``: output under the identity map, where each token reads itself only (arXiv 2403.17377, section 4)."""
        out: Tensor = self.to_out(self.to_v(hidden_states))
        return out

    def gather_ranks(self, x: Tensor) -> Tensor:
        """All ranks' tokens of ``x [B, C, ...]`` where a replicated reader reads split tokens; else ``x``."""
        parallel = getattr(self.processor, "_parallel_config", None)
        if parallel is None or self.sharding != "context":
            return x
        mesh = parallel.context_parallel_config._flattened_mesh
        return EquipartitionSharder.unshard(x, 1, mesh)  # type: ignore[no-any-return]

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        query_rope: Rope | None = None,
        key_rope: Rope | None = None,
        key_value: KeyValue | None = None,
    ) -> Tensor:
        """Output ``[B, L, D]`` of the attention of ``hidden_states [B, L, D]``.

        Args:
            hidden_states: The reader's tokens.
            encoder_hidden_states: Tokens read ``[B, C, context_dim]``; the reader's own when None.
            query_rope: Positions of the reader; none when None.
            key_rope: Positions of what is read.
            key_value: :meth:`project` of the context, when computed before.
        """
        return self.processor(self, hidden_states, encoder_hidden_states, query_rope, key_rope, key_value)


def _skipped_output(attn: Attention, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    """What layer-skip guidance puts in place of an attention: its input."""
    return hidden_states


AttentionProcessorRegistry.register(AttentionProcessor, AttentionProcessorMetadata(skip_processor_output_fn=_skipped_output))
