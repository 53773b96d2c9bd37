"""Things that are drawn once and then only move sideways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import uniform_filter1d

from mova.scenes.raster import Array, View


@dataclass(frozen=True)
class Sprite:
    """A thing that is drawn once and then only moves sideways.

    Args:
        light: ``[h, w, 3]`` colour times opacity.
        opacity: ``[h, w, 1]``.
        left: Column of its first pixel where it was drawn; there is a free column on either side.
        top: Row of its first pixel.
    """

    light: Array
    opacity: Array
    left: int
    top: int


def cut_out(view: View, paint_it: Callable[[Array], None]) -> Sprite:
    """Draw a thing once and keep its colour and opacity.

    It is painted on black and on white; where the two differ, the background shows through.
    """
    black = np.zeros((view.height, view.width + 2, 3), dtype=np.float32)
    white = np.ones_like(black)
    paint_it(black[:, 1:-1])
    paint_it(white[:, 1:-1])
    opacity = 1 - (white - black).mean(axis=-1, keepdims=True)
    rows, columns = np.flatnonzero(opacity.any(axis=(1, 2))), np.flatnonzero(opacity.any(axis=(0, 2)))
    left, right = max(0, int(columns[0]) - 1), min(view.width + 2, int(columns[-1]) + 2)
    rows_used, columns_used = slice(int(rows[0]), int(rows[-1]) + 1), slice(left, right)
    return Sprite(black[rows_used, columns_used], opacity[rows_used, columns_used], left - 1, int(rows[0]))


def paste(image: Array, sprite: Sprite, *, shift_px: float) -> None:
    """Put a sprite ``shift_px`` to the right of where it was drawn, between pixels if need be, in place."""
    whole = int(np.floor(shift_px))
    part = np.float32(shift_px - whole)
    light = sprite.light.copy()
    opacity = sprite.opacity.copy()
    light[:, 1:] += part * (sprite.light[:, :-1] - sprite.light[:, 1:])
    opacity[:, 1:] += part * (sprite.opacity[:, :-1] - sprite.opacity[:, 1:])
    left = sprite.left + whole
    first, last = max(0, left), min(image.shape[1], left + light.shape[1])
    if last <= first:
        return
    rows, columns = slice(sprite.top, sprite.top + light.shape[0]), slice(first - left, last - left)
    target = image[rows, first:last]
    target *= 1 - opacity[:, columns]
    target += light[:, columns]


def blur(sprite: Sprite, length_px: float) -> Sprite:
    """A sprite as an exposure sees it in which it moves on by ``length_px``, evenly around where it was drawn."""
    size = max(1, round(length_px))
    if size == 1:
        return sprite
    margin = size // 2 + 1
    around = ((0, 0), (margin, margin), (0, 0))
    light, opacity = (
        uniform_filter1d(np.pad(one, around), size, axis=1, mode="constant") for one in (sprite.light, sprite.opacity)
    )
    return replace(sprite, light=light, opacity=opacity, left=sprite.left - margin)
