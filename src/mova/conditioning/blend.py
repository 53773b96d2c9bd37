"""Where given and made parts meet in time: what keeps a border from being seen or heard.

What is given comes back as it was; what is made comes from the codecs, which soften a picture and shift its colours a
little. Side by side the two would pop. So the detail that the codecs lost of the last given frame is carried over into the
frames next to it, fading within one latent step, wherever the picture stands still; and given audio fades into the codec's
copy of it. No given pixel is changed, and of the audio only the samples of its own seam.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

Frames = NDArray[np.uint8]
Mask = NDArray[np.bool_]

MOTION_THRESHOLD = 24.0
"""Difference of two frames, of 255, up to which a pixel shows the same thing and all detail is carried to it; none at twice
that."""

BLUR_SIZE = 5
"""Pixels, in width and height, over which a change is felt."""


def blend_frames(made: Frames, given: Frames, keep: Mask, *, reach: int) -> Frames:
    """Given pixels as they were, and made ones that go on from them.

    Args:
        made: ``[T, H, W, 3]`` as the codecs gave it, with their copy of what was given.
        given: The same shape; where ``keep`` is false its values have no effect.
        keep: ``[T, H, W]`` or broadcastable to it: which pixels are given.
        reach: Frames over which carried detail fades: at most those of one latent.

    Returns:
        ``[T, H, W, 3]``: equal to ``given`` where ``keep`` holds, and to ``made`` farther than ``reach`` frames from it.
    """
    keep = np.broadcast_to(keep, made.shape[:3])
    joined = np.where(keep[..., None], given, made)
    touched = [bool(frame.any()) for frame in keep]
    for index in (index for index, frame in enumerate(keep) if not frame.all()):
        sides = [_carried(index, step, made, given, keep, touched, reach) for step in (-1, 1)]
        carried = [side for side in sides if side is not None]
        if not carried:
            continue
        weights = sum(weight for weight, _ in carried)
        detail = sum(weight[..., None] * detail for weight, detail in carried) / np.maximum(weights, 1.0)[..., None]
        better = (made[index] + detail).round().clip(0, 255).astype(np.uint8)
        joined[index] = np.where(keep[index][..., None], given[index], better)
    return joined


def blend_audio(made: NDArray[np.float32], given: NDArray[np.float32], keep: Mask, *, reach: int) -> NDArray[np.float32]:
    """Given samples as they were, but for the last ``reach`` before a border, which fade into the codec's copy of them.

    Args:
        made: ``[channels, S]`` as the codec gave it.
        given: The same length; its channels are those of the result.
        keep: ``[S]``: which samples are given.
        reach: Samples of the fade: at most those of one latent.
    """
    weight = _faded(keep, reach)
    return np.where(weight == 1.0, given, made + weight * (given - made)).astype(np.float32)


def _carried(
    index: int, step: int, made: Frames, given: Frames, keep: Mask, touched: Sequence[bool], reach: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Weight ``[H, W]`` and detail ``[H, W, 3]`` that a frame gets from the given frames on one side; None if none is near."""
    weight = np.zeros(made.shape[1:3], np.float32)
    detail = np.zeros(made.shape[1:], np.float32)
    for offset in range(1, reach + 1):
        source = index + step * offset
        if not 0 <= source < len(made) or not touched[source]:
            continue
        copy = made[source].astype(np.float32)
        # a thing that moves takes its surroundings along: the codec's softness is as wide as its detail
        change = np.abs(made[index] - copy).max(axis=-1)
        change = np.maximum(change, uniform_filter(change, size=BLUR_SIZE))
        still = (2.0 - change / MOTION_THRESHOLD).clip(0.0, 1.0) * (0.5 + 0.5 * np.cos(np.pi * offset / (reach + 1)))
        first = keep[source] & (weight == 0.0)
        weight = np.where(first, still, weight).astype(np.float32)
        detail = np.where(first[..., None], given[source] - copy, detail)
    return (weight, detail) if weight.any() else None


def _faded(keep: Mask, reach: int) -> NDArray[np.float32]:
    """1 where given, 0 where made, falling to 0 over the last given samples before a border."""
    weight = keep.astype(np.float32)
    steps = np.diff(keep.astype(np.int8))
    fade = (np.arange(1, reach + 1, dtype=np.float32) / (reach + 1))[::-1]
    for border in np.flatnonzero(steps == -1):  # given, then made
        length = min(reach, int(border) + 1)
        part = weight[border + 1 - length : border + 1]
        np.minimum(part, fade[-length:], out=part)
    for border in np.flatnonzero(steps == 1):  # made, then given
        part = weight[border + 1 : border + 1 + reach]
        np.minimum(part, fade[::-1][: len(part)], out=part)
    return weight
