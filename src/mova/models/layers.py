"""Small layers of the towers: norms, the time embedding, and modulation by noise level.

Shape suffixes: B batch, L tokens, D width, U distinct noise levels in a batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
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
