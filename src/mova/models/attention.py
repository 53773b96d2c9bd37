"""One attention module for everything: self, text and cross-modal; and its processor for diffusers' backends.

Shape suffixes: B batch, L tokens of the reader, C tokens read, D width of the reader, N heads, H head width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from diffusers.hooks._helpers import AttentionProcessorMetadata, AttentionProcessorRegistry
from diffusers.hooks.context_parallel import EquipartitionSharder
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import Tensor, nn

from mova.models.layers import RMSNorm
from mova.models.rope import Rope, rotate_adjacent

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
