"""In which number format training multiplies matrices, and an attention that is quick in it on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from mova.models.layers import Attention, AttentionProcessor


def choose_precision(wanted: str, device: str) -> torch.dtype:
    """``auto`` is bfloat16 where the machine multiplies it in hardware, else float32."""
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    has_bfloat16 = torch.cuda.is_bf16_supported() if device == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32


class PlainAttention(AttentionProcessor):
    """Attention as two products and a softmax.

    On a CPU in bfloat16 torch's own kernel takes longer than in float32; the two products do not.
    """

    def attend(self, attn: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """As :meth:`AttentionProcessor.attend`."""
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
        return torch.matmul(scores.float().softmax(dim=-1).to(value.dtype), value).transpose(1, 2)
