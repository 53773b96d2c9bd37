"""Dense optical flow by polynomial expansion, in numpy: every clip's sync is measured, also where OpenCV is not installed.

Farneback 2003, "Two-frame motion estimation based on polynomial expansion". Pyramid, borders and smoothing follow OpenCV's
``calcOpticalFlowFarneback``, so that a number made with it means the same here; the two agree to the rounding of resized
pictures, not to the bit.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d, map_coordinates, uniform_filter

Floats = npt.NDArray[np.float32]


def farneback(
    first: npt.NDArray[np.number], second: npt.NDArray[np.number], *, window: int = 15, num_iterations: int = 3
) -> Floats:
    """Where everything in one picture is found in the next.

    The defaults, and the pyramid (levels of half the size above it, three at most and none smaller than 32 pixels), are those
    of OpenCV's own example.

    Args:
        first: ``[H, W]`` grey picture, in levels of 0 to 255.
        second: The next one, same shape.
        window: Side of the square that the flow is averaged over.
        num_iterations: At each level.

    Returns:
        ``[H, W, 2]`` float32, pixels to the right and down.

    Raises:
        ValueError: If the pictures are not two-dimensional or differ in shape.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"both pictures must be [H, W]; got {list(first.shape)} and {list(second.shape)}.")
    pictures = [picture.astype(np.float32) for picture in (first, second)]
    height, width = first.shape
    levels = 0
    while levels < _NUM_LEVELS and min(height, width) * 0.5 ** (levels + 1) >= _SMALLEST:
        levels += 1
    flow = np.zeros((1, 1, 2), np.float32)
    for level in range(levels, -1, -1):
        share = 0.5**level
        size = (round(height * share), round(width * share))
        flow = np.zeros((*size, 2), np.float32) if level == levels else 2.0 * _resize(flow, size)
        expansions = [_expand(_resize(_smooth(picture, share), size)) for picture in pictures]
        for _ in range(num_iterations):
            flow = _improve(expansions[0], expansions[1], flow, window)
    return flow


_NUM_LEVELS = 3
_REACH, _SIGMA = 5, 1.2  # of the polynomial expansion, in pixels
_SMALLEST = 32
_BORDER = np.array([0.14, 0.14, 0.4472, 0.4472, 0.4472], np.float32)


def _smooth(picture: Floats, share: float) -> Floats:
    sigma = (1.0 / share - 1.0) * 0.5
    size = max(3, round(5.0 * sigma) | 1)
    sigma = sigma if sigma > 0.0 else 0.3 * ((size - 1) * 0.5 - 1.0) + 0.8
    reach = np.arange(size) - size // 2
    kernel = np.exp(-(reach**2) / (2.0 * sigma**2))
    kernel /= kernel.sum()
    return np.asarray(correlate1d(correlate1d(picture, kernel, axis=0, mode="mirror"), kernel, axis=1, mode="mirror"))


def _resize(picture: Floats, size: tuple[int, int]) -> Floats:
    """Bilinear, pixel centres at halves, without smoothing; ``[H, W]`` or ``[H, W, C]``."""
    if picture.shape[:2] == size:
        return picture
    result = picture
    for axis, wanted in enumerate(size):
        given = result.shape[axis]
        place = np.clip((np.arange(wanted) + 0.5) * (given / wanted) - 0.5, 0.0, given - 1.0)
        low = np.minimum(place.astype(np.int64), max(given - 2, 0))
        shape = [1] * result.ndim
        shape[axis] = wanted
        part = (place - low).astype(np.float32).reshape(shape)
        lower, upper = result.take(low, axis), result.take(np.minimum(low + 1, given - 1), axis)
        result = lower + part * (upper - lower)
    return result


@lru_cache(maxsize=1)
def _kernels() -> tuple[npt.NDArray[np.float64], ...]:
    """Weights ``g``, ``x g``, ``x^2 g`` and the entries of the inverse of their moment matrix that are used."""
    x = np.arange(-_REACH, _REACH + 1, dtype=np.float64)
    g = np.exp(-(x**2) / (2.0 * _SIGMA**2))
    g /= g.sum()
    weight = np.outer(g, g)
    xs, ys = np.broadcast_to(x, weight.shape), np.broadcast_to(x[:, None], weight.shape)
    basis = np.stack([np.ones_like(weight), xs, ys, xs**2, ys**2, xs * ys]).reshape(6, -1)
    inverse = np.linalg.inv((basis * weight.reshape(-1)) @ basis.T)
    return g, x * g, x**2 * g, np.array([inverse[1, 1], inverse[0, 3], inverse[3, 3], inverse[5, 5]])


def _expand(picture: Floats) -> Floats:
    """``[5, H, W]`` coefficients of x, y, x^2, y^2 and xy of a local polynomial."""
    g, xg, xxg, inverse = _kernels()
    i11, i03, i33, i55 = inverse

    def over(kernel_y: npt.NDArray[np.float64], kernel_x: npt.NDArray[np.float64]) -> Floats:
        down = correlate1d(picture, kernel_y, axis=0, mode="nearest")
        return np.asarray(correlate1d(down, kernel_x, axis=1, mode="nearest"))

    mean = over(g, g)
    return np.stack(
        [
            i11 * over(g, xg),
            i11 * over(xg, g),
            i03 * mean + i33 * over(g, xxg),
            i03 * mean + i33 * over(xxg, g),
            i55 * over(xg, xg),
        ]
    ).astype(np.float32)


def _improve(first: Floats, second: Floats, flow: Floats, window: int) -> Floats:
    """One step: the displacement that best explains the change of the polynomials within a window."""
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    to_x, to_y = columns + flow[..., 0], rows + flow[..., 1]
    inside = (np.floor(to_x) >= 0) & (np.floor(to_x) < width - 1) & (np.floor(to_y) >= 0) & (np.floor(to_y) < height - 1)
    there = np.stack([map_coordinates(plane, (to_y, to_x), order=1, mode="nearest") for plane in second])
    there = np.where(inside, there, 0.0)
    b_x, b_y = 0.5 * (first[0] - there[0]), 0.5 * (first[1] - there[1])
    share = np.where(inside, 0.5, 1.0)
    a_xx, a_yy = share * (first[2] + there[2]), share * (first[3] + there[3])
    a_xy = 0.5 * share * (first[4] + there[4])
    b_x = b_x + a_xx * flow[..., 0] + a_xy * flow[..., 1]
    b_y = b_y + a_xy * flow[..., 0] + a_yy * flow[..., 1]
    weight = np.outer(_border(height), _border(width)) ** 2
    moments = np.stack(
        [
            a_xx * a_xx + a_xy * a_xy,
            (a_xx + a_yy) * a_xy,
            a_yy * a_yy + a_xy * a_xy,
            a_xx * b_x + a_xy * b_y,
            a_xy * b_x + a_yy * b_y,
        ]
    )
    g_xx, g_xy, g_yy, h_x, h_y = (uniform_filter(plane * weight, window, mode="nearest") for plane in moments)
    determinant = g_xx * g_yy - g_xy * g_xy + 1e-3
    return np.stack([(g_yy * h_x - g_xy * h_y) / determinant, (g_xx * h_y - g_xy * h_x) / determinant], axis=-1).astype(
        np.float32
    )


def _border(length: int) -> Floats:
    weight = np.ones(length, np.float32)
    near = min(_BORDER.size, length)
    weight[:near] *= _BORDER[:near]
    weight[-near:] *= _BORDER[:near][::-1]
    return weight
