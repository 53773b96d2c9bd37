"""Losses of velocities: mean squares of what is made, by modality, and of errors summed over time."""

from __future__ import annotations

from torch import Tensor

from mova.sampling.task import AVTensors


def as_map(level: Tensor, latents: Tensor) -> Tensor:
    """Noise levels shaped to multiply latents: ``[B]`` or a map ``[B, ...]`` gains the missing axes."""
    if level.ndim == 1:
        return level.view(-1, *[1] * (latents.ndim - 1))
    return level[:, None]


def modality_losses(errors: AVTensors, levels: AVTensors, *, temporal_sum_weight: float) -> AVTensors:
    """Mean square of what is made, by modality."""
    return AVTensors(
        *(_weighed(error, as_map(level, error) > 0, temporal_sum_weight) for error, level in zip(errors, levels, strict=True))
    )


def _weighed(error: Tensor, made: Tensor, temporal_sum_weight: float) -> Tensor:
    squares = mean_over_mask(error.square(), made)
    return squares + temporal_sum_weight * total_error(error, made) if temporal_sum_weight else squares


def total_error(error: Tensor, made: Tensor) -> Tensor:
    """Mean square of ``error [B, C, T, ...]`` summed over time, per token of that time: for errors that are independent from
    token to token it is as large as their mean square.

    How many events there are is a total: the times of the events are open at high noise and make nearly all of the error of
    each token, but the sum over time is known from the prompt. Both errors have their least at the same prediction.

    Args:
        error: Predicted less true velocity.
        made: Where something is made, broadcast to ``error``; given tokens count for nothing.
    """
    weight = made.to(error.dtype).expand_as(error)
    tokens = weight.sum(dim=2)
    return mean_over_mask((error * weight).sum(dim=2).square() / tokens.clamp(min=1.0), tokens > 0)


def mean_over_mask(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values [B, C, ...]`` where ``mask`` (broadcast) holds; 0 where it holds nowhere."""
    weight = mask.to(values.dtype).expand_as(values)
    return (values * weight).sum() / weight.sum().clamp(min=1.0)
