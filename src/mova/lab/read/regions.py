"""Parts of a picture as numbers: boxes, lines along a rail, and where on them something is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]


def cut_box(frames: Frames, left: float, top: float, right: float, bottom: float) -> Floats:
    """Cut ``[T, h, w, 3]`` in 0..1 of a box in unit picture coordinates; at least one pixel."""
    height, width = frames.shape[1:3]
    rows = slice(int(np.floor(top * height)), max(int(np.ceil(bottom * height)), int(top * height) + 1))
    columns = slice(int(np.floor(left * width)), max(int(np.ceil(right * width)), int(left * width) + 1))
    return frames[:, rows, columns].astype(np.float64) / 255.0


def project_light(colours: Floats, dark: Floats, bright: Floats) -> Floats:
    """``[T]`` light: the place of a colour on the way from its resting level (0) towards bright (1 at full light)."""
    way = bright - dark
    position = (colours - dark) @ way / (way @ way)
    return np.asarray(position - np.quantile(position, 0.2))


def cut_line(frames: Frames, top: float, bottom: float, *, reach: float = 0.5) -> tuple[Floats, Floats]:
    """Cut the line between two heights, and the places of its columns.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        top: Upper end in lengths of the short side from the middle, down.
        bottom: Lower end.
        reach: Largest distance from the middle to both sides.

    Returns:
        ``[T, w, 3]`` mean over the rows in 0..1, and ``[w]`` in lengths from the middle.
    """
    height, width = frames.shape[1:3]
    unit = min(height, width)
    rows = slice(max(0, round(0.5 * height + top * unit)), max(1, round(0.5 * height + bottom * unit)))
    first, last = max(0, round(0.5 * width - reach * unit)), min(width, round(0.5 * width + reach * unit))
    line = frames[:, rows, first:last].mean(axis=1, dtype=np.float64) / 255.0
    return line, (np.arange(first, last) + 0.5 - 0.5 * width) / unit


def find_middles(weights: Floats, positions: Floats) -> Floats:
    """``[T]`` weighted mean position of ``[T, N]`` weights; nan where there is almost nothing."""
    total = weights.sum(axis=1, dtype=np.float64)
    is_present = (total > 0.25 * np.median(total)) & (total > 0.0)
    return np.where(is_present, weights @ positions / np.maximum(total, 1e-9), np.nan)


def fill_gaps(places: Floats) -> Floats:
    """``[T]`` places with what is nan filled in from both sides; zeros if all is."""
    known = np.flatnonzero(np.isfinite(places))
    return np.interp(np.arange(places.size), known, places[known]) if known.size else np.zeros(places.size)


def thin(frames: Frames, *, num_frames: int = 24, side: int = 128) -> Frames:
    """Leave out frames and pixels: enough for a colour is left."""
    pixels = max(1, min(frames.shape[1:3]) // side)
    return frames[:: max(1, len(frames) // num_frames), ::pixels, ::pixels]
