"""Pictures held steady: the shaking of a camera is measured against the median picture, and taken out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Pixels = npt.NDArray[np.float32]
_STEADIER = 0.85


def steady(pictures: Pixels) -> Pixels:
    """The same without the shaking of the camera: shifts against the median, by its gradient (Lucas and Kanade 1981)."""
    height, width = (size // 2 * 2 for size in pictures.shape[1:3])
    grey = pictures[:, :height, :width, 1]
    grey = 0.25 * (grey[:, ::2, ::2] + grey[:, 1::2, ::2] + grey[:, ::2, 1::2] + grey[:, 1::2, 1::2])
    grey = ndimage.uniform_filter(ndimage.uniform_filter(grey, (0, 3, 3)), (0, 3, 3))
    still = np.median(grey[:: max(1, len(grey) // 40)], axis=0)
    down, across = np.gradient(grey, axis=(1, 2))
    moved = np.zeros((len(grey), 2), np.float32)
    for _ in range(2):
        # to first order, each picture moved back
        seen = grey + moved[:, :1, None] * down + moved[:, 1:, None] * across
        left = seen - still
        weight = 1.0 / (1.0 + np.square(np.abs(left).mean(axis=0) / 0.01))
        slopes = np.stack([weight * slope for slope in np.gradient(still)]).reshape(2, -1)
        matrix = slopes @ np.stack(np.gradient(still)).reshape(2, -1).T + 1e-6 * still.size * np.eye(2)
        moved -= (left.reshape(len(left), -1) @ slopes.T) @ np.linalg.inv(matrix)
    slope = np.hypot(*np.gradient(still))
    seen = np.stack([_shift(one, -by) for one, by in zip(grey, moved, strict=True)])
    before, after = (float((np.abs(one - still) * weight * slope).sum(dtype=np.float64)) for one in (grey, seen))
    moved = np.asarray(2.0 * (moved - np.median(moved, axis=0)), np.float32)
    # what moves in a still picture may look like shaking, but shifts do not make such a picture steadier
    if after > _STEADIER * before or np.quantile(np.abs(moved), 0.9) < 0.08:
        return pictures
    return np.stack([_shift(picture, -by) for picture, by in zip(pictures, np.clip(moved, -8.0, 8.0), strict=True)])


def _shift(picture: Pixels, by: Pixels) -> Pixels:
    """Move a picture down and to the right by a part of a pixel; edges are repeated."""
    for axis in (0, 1):
        whole = int(np.floor(by[axis]))
        part = np.float32(by[axis] - whole)
        place = np.clip(np.arange(picture.shape[axis]) - whole, 0, picture.shape[axis] - 1)
        before = np.clip(place - 1, 0, None)
        picture = (1.0 - part) * picture.take(place, axis) + part * picture.take(before, axis)
    return picture
