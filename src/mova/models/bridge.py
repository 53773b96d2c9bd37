"""The bridge: at chosen layers each tower reads the other, on one clock (MOVA_SPEC 3.6).

``a2v`` reads audio into the video tower, ``v2a`` the video into the audio tower.
Shape suffixes: B batch, X tokens of the reader, Y tokens read, D width of the reader, C width of what is read, F frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mova.models.layers import Attention, Rope, Sharding, rotate_half

# strategy -> layers, given the depth of the shallower tower; both directions interact at the same layers
INTERACTIONS: dict[str, Callable[[int], list[int]]] = {
    "full": lambda n: list(range(n)),
    "distributed": lambda n: list(range(0, n, 3)),
    "shallow_focus": lambda n: list(range(min(10, n // 3))),
    "progressive": lambda n: [*range(min(8, n)), *range(8, n, 3)],
    "custom": lambda n: [layer for layer in (0, 2, 4, 6, 8, 12, 16, 20) if layer < n],
}


def interaction_layers(strategy: str, visual_layers: int, audio_layers: int) -> tuple[int, ...]:
    """Layers at which the towers read each other.

    Raises:
        ValueError: If ``strategy`` is unknown.
    """
    if strategy not in INTERACTIONS:
        raise ValueError(f"interaction_strategy must be one of {', '.join(INTERACTIONS)}; got {strategy!r}.")
    return tuple(INTERACTIONS[strategy](min(visual_layers, audio_layers)))


@dataclass(frozen=True)
class BridgeConfig:
    """The bridge, by the names of the official ``config.json``.

    Attributes:
        visual_layers: Depth of the video tower.
        audio_layers: Depth of the audio tower.
        visual_hidden_dim: Width of the video tower.
        audio_hidden_dim: Width of the audio tower.
        audio_fps: Audio latents per second.
        head_dim: Head width; divides both widths.
        interaction_strategy: See :data:`INTERACTIONS`.
        apply_cross_rope: Whether tokens carry their time.
        apply_first_frame_bias_in_rope: Whether video latents stand at their first frame's time.
        trainable_condition_scale: Whether each direction of each layer has a learned scale.
        pooled_adaln: Whether the reading audio tokens are first modulated by pooled video frames.
        video_stride: Video frames per video latent (not in official files: 4).
    """

    visual_layers: int
    audio_layers: int
    visual_hidden_dim: int
    audio_hidden_dim: int
    audio_fps: float
    head_dim: int = 128
    interaction_strategy: str = "full"
    apply_cross_rope: bool = True
    apply_first_frame_bias_in_rope: bool = False
    trainable_condition_scale: bool = False
    pooled_adaln: bool = False
    video_stride: int = 4

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BridgeConfig:
        """Read a ``config.json``; unknown keys are ignored.

        Raises:
            ValueError: If a needed key is missing.
        """
        known = {f.name for f in fields(cls)}
        needed = {"visual_layers", "audio_layers", "visual_hidden_dim", "audio_hidden_dim", "audio_fps"}
        if missing := sorted(needed - set(values)):
            raise ValueError(f"the bridge's configuration lacks {', '.join(missing)}.")
        return cls(**{name: value for name, value in values.items() if name in known})

    @property
    def layers(self) -> tuple[int, ...]:
        """Interacting layers."""
        return interaction_layers(self.interaction_strategy, self.visual_layers, self.audio_layers)


@dataclass(frozen=True)
class BridgeInputs:
    """What the bridge needs beside the tokens of both towers.

    Attributes:
        frames: Video latents along time, on every rank.
        video_rope: Positions of the video tokens; None without cross rope.
        audio_rope: Positions of the audio tokens.
        a2v_scale: Strength of audio on video: a number, one per sample ``[B]``, or None for the stored scale.
        v2a_scale: Strength of video on audio, likewise.
    """

    frames: int
    video_rope: Rope | None
    audio_rope: Rope | None
    a2v_scale: float | Tensor | None = None
    v2a_scale: float | Tensor | None = None


class CrossModalConditioner(nn.Module):
    """One direction at one layer: what the reader's tokens take from the other tower.

    The output projection of a new conditioner is zero: two towers trained apart first behave as they did apart.
    """

    def __init__(
        self,
        dim: int,
        context_dim: int,
        *,
        head_dim: int,
        eps: float = 1e-6,
        pooled_adaln: bool = False,
        trainable_scale: bool = False,
        sharding: Sharding = "none",
    ) -> None:
        super().__init__()
        if dim % head_dim:
            raise ValueError(f"the bridge's head_dim must divide both widths; got {head_dim} and {dim}.")
        heads = dim // head_dim
        self.y_norm = nn.LayerNorm(context_dim, eps)
        self.attention = Attention(dim, heads, context_dim=context_dim, rotate=rotate_half, eps=eps, sharding=sharding)
        self.per_frame_pooling = FramePooling(context_dim, heads, eps) if pooled_adaln else None
        self.adaln = AdaLN(dim, context_dim) if pooled_adaln else None
        self.condition_scale = nn.Parameter(torch.ones(1)) if trainable_scale else None

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        x_rope: Rope | None,
        y_rope: Rope | None,
        frames: int,
        scale: float | Tensor | None = None,
    ) -> Tensor:
        """``[B, X, D]`` to add to the reader's tokens.

        Args:
            x: ``[B, X, D]`` tokens of the reader.
            y: ``[B, Y, C]`` tokens read.
            x_rope: Positions of ``x``.
            y_rope: Positions of ``y``.
            frames: Video frames (latents) that ``y`` or ``x`` spans; for pooling.
            scale: Strength: a number, one per sample ``[B]``, or None for the stored scale (1 when not trained).
        """
        query = x
        if self.per_frame_pooling is not None and self.adaln is not None:
            query = self.adaln(x, self.per_frame_pooling(self.attention.gather_ranks(y), frames))
        out: Tensor = self.attention(query, self.y_norm(y), x_rope, y_rope)
        if scale is None:
            return out if self.condition_scale is None else out * self.condition_scale
        if isinstance(scale, Tensor):
            return out * scale.to(out.dtype).reshape(-1, 1, 1)
        return out if scale == 1.0 else out * scale


class FramePooling(nn.Module):
    """Attention-pools the tokens of each video frame with one learned query."""

    def __init__(self, dim: int, heads: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, dim))
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.layernorm = nn.LayerNorm(dim, eps)

    def forward(self, y: Tensor, frames: int) -> Tensor:
        """``[B, F, C]`` of video tokens ``[B, F * S, C]``."""
        tokens = rearrange(y, "b (f s) c -> (b f) s c", f=frames)
        pooled, _ = self.attention(self.probe.expand(len(tokens), -1, -1), tokens, tokens, need_weights=False)
        out: Tensor = self.layernorm(rearrange(pooled, "(b f) 1 c -> b f c", f=frames))
        return out


class AdaLN(nn.Module):
    """Modulation of the reader's tokens by a sequence along time, resampled to their number."""

    def __init__(self, dim: int, context_dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.linear = nn.Linear(context_dim, 2 * dim)

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        """``[B, X, D]`` of ``x [B, X, D]`` and ``pooled [B, F, C]``."""
        if pooled.shape[1] != x.shape[1]:
            pooled = F.interpolate(pooled.transpose(1, 2), size=x.shape[1], mode="linear").transpose(1, 2)
        scale, shift = self.linear(F.silu(pooled)).chunk(2, dim=-1)
        return self.norm(x) * (1 + scale) + shift  # type: ignore[no-any-return]


def is_off(scale: float | Tensor | None) -> bool:
    """Whether a direction need not be computed; a tensor is never looked at, as that would wait for the device."""
    return not isinstance(scale, Tensor) and scale == 0.0


def init_conditioner(module: CrossModalConditioner) -> None:
    """Fresh weights; the output projection starts at zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
    nn.init.zeros_(module.attention.to_out.weight)
    if module.per_frame_pooling is not None:
        nn.init.xavier_uniform_(module.per_frame_pooling.attention.in_proj_weight)
        nn.init.normal_(module.per_frame_pooling.probe, std=0.02)
