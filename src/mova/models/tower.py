"""One tower: patches in, blocks of self-attention, text attention and feed-forward, velocity out (MOVA_SPEC 3.1 to 3.5).

The video and the audio tower are the same network with other sizes; only patches and positions differ.
Shape suffixes: B batch, L tokens, D width, U distinct noise levels in the batch, S text tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from mova.models.layers import Attention, KeyValue, Rope, distinct_levels, feed_forward, gather_rows, modulate, sinusoid

# switches of the official code for networks that were never released; a checkpoint that sets one is another network
UNSUPPORTED = ("has_image_input", "has_image_pos_emb", "has_ref_conv", "add_control_adapter")


@dataclass(frozen=True)
class TowerConfig:
    """Sizes of a tower, by the names of the official ``config.json``.

    Attributes:
        dim: Width.
        num_heads: Attention heads.
        ffn_dim: Width inside the feed-forward layers.
        num_layers: Blocks.
        in_dim: Latent channels that enter, conditioning channels included.
        out_dim: Latent channels of the velocity.
        patch_size: Latents per token: (frames, rows, columns) for video, (latents,) for audio.
        text_dim: Width of the prompt embedding.
        freq_dim: Width of the sinusoid of the timestep.
        eps: Epsilon of all norms.
        vae_type: Audio only: which positions, ``"dac"`` or ``"oobleck"``.
    """

    dim: int
    num_heads: int
    ffn_dim: int
    num_layers: int
    in_dim: int
    out_dim: int
    patch_size: tuple[int, ...]
    text_dim: int
    freq_dim: int = 256
    eps: float = 1e-6
    vae_type: str = "dac"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TowerConfig:
        """Read a ``config.json``; keys that this network does not use are ignored.

        Raises:
            ValueError: If a needed key is missing, a size is no positive whole number, or the file describes a network with
                parts that we do not build.
        """
        known = {f.name for f in fields(cls)}
        picked = {name: value for name, value in values.items() if name in known}
        if enabled := [name for name in UNSUPPORTED if values.get(name)]:
            raise ValueError(f"this tower has parts that are not supported: {', '.join(enabled)}.")
        if missing := sorted({"dim", "num_heads", "ffn_dim", "num_layers", "in_dim", "out_dim", "text_dim"} - set(picked)):
            raise ValueError(f"the tower's configuration lacks {', '.join(missing)}.")
        for name in ("dim", "num_heads", "ffn_dim", "num_layers", "in_dim", "out_dim", "text_dim", "freq_dim"):
            value = picked.get(name, 1)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive whole number; got {value!r}.")
        picked["patch_size"] = tuple(picked.get("patch_size", (1, 2, 2)))
        return cls(**picked)

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.dim // self.num_heads


@dataclass(frozen=True)
class TextContext:
    """Text key/value cache: a prompt, its projections, and its keys and values in every block.

    They depend on the prompt and on the weights only, not on the step, so that one context serves all steps of a run.
    Each network adds what it needs at the first use, under its own modules: one context serves both experts.

    Attributes:
        text_embeds: ``[B, S, text_dim]`` prompt embeddings.
        audio_text_embeds: Those of the audio tower, where it reads another prompt.
        cache: What each module made of the prompt, by module.
    """

    text_embeds: Tensor
    audio_text_embeds: Tensor | None = None
    cache: dict[nn.Module, Any] = field(default_factory=dict, repr=False)

    def tokens(self, projection: nn.Module, embeds: Tensor, dtype: torch.dtype) -> Tensor:
        """``[B, S, D]``: ``embeds``, which are those of this context, in a tower's width."""
        if projection not in self.cache:
            self.cache[projection] = projection(embeds.to(dtype))
        tokens: Tensor = self.cache[projection]
        return tokens

    def key_value(self, attention: Attention, tokens: Tensor) -> KeyValue:
        """Keys and values of one block's text attention."""
        if attention not in self.cache:
            self.cache[attention] = attention.project(tokens)
        key_value: KeyValue = self.cache[attention]
        return key_value


@dataclass(frozen=True)
class TowerInputs:
    """What every block of a tower needs beside its tokens.

    Attributes:
        levels: ``[U, 6, D]`` modulation of each distinct noise level.
        index: ``[B]`` or ``[B, L]``: which level a sample or token has.
        text: ``[B, S, D]`` the prompt.
        rope: Positions of the tokens.
        context: Text key/value cache kept over steps; None computes keys and values at every call.
        identity_attention: Whether the identity replaces the map of self-attention: a token reads itself only.
    """

    levels: Tensor
    index: Tensor
    text: Tensor
    rope: Rope
    context: TextContext | None = None
    identity_attention: bool = False


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 whatever its weights are stored in."""

    def forward(self, input: Tensor) -> Tensor:
        """``[..., out_features]`` in float32."""
        return F.linear(input.float(), self.weight.float(), self.bias.float())


class TowerEmbed(nn.Module):
    """Patches, prompt and noise level to the tower's width."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        dim, patch = config.dim, config.patch_size
        if len(patch) not in (1, 3):
            raise ValueError(f"patch_size must have one or three numbers; got {patch}.")
        conv = nn.Conv3d if len(patch) == 3 else nn.Conv1d
        self.patch_size, self.freq_dim = patch, config.freq_dim
        self.patch_embedding = conv(config.in_dim, dim, kernel_size=patch, stride=patch)  # type: ignore[arg-type]
        self.text_embedding = nn.Sequential(nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(Float32Linear(config.freq_dim, dim), nn.SiLU(), Float32Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), Float32Linear(dim, 6 * dim))

    def forward(self, latents: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens ``[B, L, D]``, levels ``[U, 6, D]``, time embedding ``[U, D]``, and the index ``[B]`` or ``[B, L]``.

        Args:
            latents: ``[B, C, T, H, W]`` or ``[B, C, L]``.
            timestep: 1000 sigma: ``[B]``, or a map over the latent grid. A token has the highest level of its patch.

        Raises:
            ValueError: If the shapes do not fit.
        """
        self._check(latents, timestep)
        dtype = self.patch_embedding.weight.dtype
        # the residual stream keeps the layout it starts with: channels last
        tokens = self.patch_embedding(latents.to(dtype)).flatten(2).transpose(1, 2).contiguous()
        values, index = distinct_levels(self._per_token(timestep))
        # noise levels keep full precision until here, in 16-bit runs as well (MOVA_SPEC 3.1)
        with torch.autocast(latents.device.type, enabled=False):
            time = self.time_embedding(sinusoid(values, self.freq_dim))
            levels = self.time_projection(time).unflatten(-1, (6, -1))
        return tokens, levels.to(dtype), time.to(dtype), index

    def _check(self, latents: Tensor, timestep: Tensor) -> None:
        grid = tuple(latents.shape[2:])
        if len(grid) != len(self.patch_size) or any(n % p for n, p in zip(grid, self.patch_size, strict=False)):
            raise ValueError(f"latents of grid {grid} do not divide into patches {self.patch_size}.")
        if tuple(timestep.shape) not in (latents.shape[:1], (latents.shape[0], *grid)):
            raise ValueError(
                f"timestep must be [{latents.shape[0]}] or [{latents.shape[0]}, {', '.join(map(str, grid))}]; "
                f"got {list(timestep.shape)}."
            )

    def _per_token(self, timestep: Tensor) -> Tensor:
        if timestep.ndim == 1:
            return timestep
        if timestep.ndim == 2:
            return reduce(timestep, "b (l p) -> b l", "max", p=self.patch_size[0])
        f, h, w = self.patch_size
        return reduce(timestep, "b (t f) (y h) (x w) -> b (t y x)", "max", f=f, h=h, w=w)


class TowerBlock(nn.Module):
    """Self-attention, text attention and feed-forward; six modulation rows steer the first and the last."""

    def __init__(self, config: TowerConfig, *, splits_tokens: bool = False) -> None:
        super().__init__()
        dim, eps = config.dim, config.eps
        sharding = "query_and_context" if splits_tokens else "none"
        self.modulation = nn.Parameter(torch.empty(1, 6, dim))
        self.norm1 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.self_attn = Attention(dim, config.num_heads, eps=eps, sharding=sharding)  # type: ignore[arg-type]
        self.norm3 = nn.LayerNorm(dim, eps)
        self.cross_attn = Attention(dim, config.num_heads, context_dim=dim, eps=eps)
        self.norm2 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.ffn = feed_forward(dim, config.ffn_dim)

    def forward(self, hidden_states: Tensor, inputs: TowerInputs, text_key_value: KeyValue | None = None) -> Tensor:
        """Tokens ``[B, L, D]`` one block later; ``text_key_value`` is :meth:`text_key_value` from the cache, if any."""
        x, rows = hidden_states, self.modulation.to(inputs.levels.dtype) + inputs.levels

        shift1, scale1, gate1 = gather_modulation(rows[:, :3], inputs.index)
        h = modulate(self.norm1(x), shift1, scale1)
        if inputs.identity_attention:
            x = x + gate1 * self.self_attn.identity_attention(h)
        else:
            x = x + gate1 * self.self_attn(h, query_rope=inputs.rope, key_rope=inputs.rope)

        x = x + self.cross_attn(self.norm3(x), inputs.text, key_value=text_key_value)

        shift2, scale2, gate2 = gather_modulation(rows[:, 3:], inputs.index)
        h = modulate(self.norm2(x), shift2, scale2)
        return x + gate2 * self.ffn(h)  # type: ignore[no-any-return]

    def text_key_value(self, inputs: TowerInputs) -> KeyValue | None:
        """Keys and values of the prompt from the cache; None without one.

        Called outside :meth:`forward`, which stays free of dictionaries and compiles as one graph.
        """
        return inputs.context.key_value(self.cross_attn, inputs.text) if inputs.context else None


class TowerHead(nn.Module):
    """Tokens to velocity."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.modulation = nn.Parameter(torch.empty(1, 2, config.dim))
        self.norm = nn.LayerNorm(config.dim, config.eps, elementwise_affine=False)
        self.head = nn.Linear(config.dim, config.out_dim * math.prod(config.patch_size))

    def forward(self, hidden_states: Tensor, time: Tensor, index: Tensor) -> Tensor:
        """``[B, L, out_dim * patch]`` of tokens ``[B, L, D]`` with the time embedding ``[U, D]`` and its index."""
        shift, scale = gather_modulation(self.modulation.to(time.dtype) + time.unsqueeze(1), index)
        out: Tensor = self.head(modulate(self.norm(hidden_states), shift, scale))
        return out

    def unpatchify(self, tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
        """``[B, C, T, H, W]`` or ``[B, C, L]`` of the head's output; ``grid`` counts tokens along each axis."""
        if len(self.patch_size) == 1:
            return rearrange(tokens, "b l (p c) -> b c (l p)", p=self.patch_size[0])
        f, h, w = self.patch_size
        t, y, _ = grid
        return rearrange(tokens, "b (t y x) (f h w c) -> b c (t f) (y h) (x w)", t=t, y=y, f=f, h=h, w=w)


def gather_modulation(rows: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    """The R rows of ``[U, R, D]`` for every sample, ``[B, 1, D]`` each, or token, ``[B, L, D]``.

    One level for all is ``[1, 1, D]``: it broadcasts, and nothing is copied.
    """
    together = rows.flatten(1)
    picked = together[None] if len(rows) == 1 else gather_rows(together, index)
    return picked.chunk(rows.shape[1], dim=-1)


def init_tower(module: nn.Module) -> None:
    """Fresh weights for embeds, blocks and heads, as Wan starts them: the velocity of a new tower is zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Conv1d | nn.Conv3d):
            nn.init.xavier_uniform_(part.weight.flatten(1))
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]
    for part in module.modules():
        if isinstance(part, TowerEmbed):
            for linear in (*part.text_embedding, *part.time_embedding):
                if isinstance(linear, nn.Linear):
                    nn.init.normal_(linear.weight, std=0.02)
        elif isinstance(part, TowerBlock | TowerHead):
            nn.init.normal_(part.modulation, std=part.modulation.shape[-1] ** -0.5)
        if isinstance(part, TowerHead):
            nn.init.zeros_(part.head.weight)
