"""Drawing with signed distances: anti-aliased shapes in float pictures of any size, and the few colours they have.

Shapes are in pixels (a pixel's centre is at ``index + 0.5``); :class:`View` turns unit coordinates into
pixels. Distances are negative inside. Only the patch around a shape is touched, so the cost follows the
shape, not the picture. Formulas of the distances: Inigo Quilez, "2D distance functions"
(iquilezles.org/articles/distfunctions2d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Colour = tuple[float, float, float]
Box4 = tuple[float, float, float, float]


@dataclass(frozen=True)
class View:
    """A picture's size in pixels. Places are fractions of each side; lengths, of the short side."""

    width: int
    height: int

    @property
    def unit(self) -> float:
        """Pixels in a length of 1."""
        return float(min(self.width, self.height))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a place in unit picture coordinates."""
        return x * self.width, y * self.height

    def near(self, place: tuple[float, float], dx: float, dy: float) -> tuple[float, float]:
        """Pixels of a point that lies ``(dx, dy)`` lengths from a place: keeps proportions in any picture."""
        return place[0] * self.width + dx * self.unit, place[1] * self.height + dy * self.unit


@dataclass(frozen=True)
class Exposure:
    """When each frame's shutter is open: frame ``n`` during ``[n / fps, (n + shutter) / fps)`` after the start.

    Args:
        fps: Frames per second.
        num_frames: Frames.
        shutter: Share of the frame that is exposed, in (0, 1].
        subframes: Positions of moving things that are averaged per frame.
        start_s: When frame 0 begins.
    """

    fps: float
    num_frames: int
    shutter: float = 0.75
    subframes: int = 3
    start_s: float = 0.0

    def opens(self) -> NDArray[np.float64]:
        """``[T]`` seconds when each frame's exposure starts."""
        return self.start_s + np.arange(self.num_frames) / self.fps

    def moments(self) -> NDArray[np.float64]:
        """``[T, S]`` seconds: midpoints of equal parts of each exposure."""
        parts = (np.arange(self.subframes) + 0.5) * self.shutter / (self.subframes * self.fps)
        return self.opens()[:, None] + parts

    def flash(self, times_s: Sequence[float], strengths: Sequence[float], decay_s: float) -> NDArray[np.float64]:
        """``[T]`` mean over each exposure of a light that jumps to its strength at each time and decays.

        The exact integral of ``strength * exp(-(t - time) / decay_s)`` from one time to the next; a later
        flash replaces what is left of the one before. The onset is therefore exact in luminance.
        """
        opens, closes = self.opens(), self.opens() + self.shutter / self.fps
        light = np.zeros(self.num_frames)
        ends = [*times_s, np.inf][1:]
        for start, end, strength in zip(times_s, ends, strengths, strict=True):
            since = np.clip(opens, start, end) - start
            until = np.clip(closes, start, end) - start
            light += strength * decay_s * (np.exp(-since / decay_s) - np.exp(-until / decay_s))
        return light * self.fps / self.shutter

    def lit(self, spans_s: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
        """``[T]`` share of each exposure that lies in the spans ``[start, end)``: a lamp, on or off."""
        opens, closes = self.opens(), self.opens() + self.shutter / self.fps
        share = np.zeros(self.num_frames)
        for start, end in spans_s:
            share += np.clip(closes, start, end) - np.clip(opens, start, end)
        return share * self.fps / self.shutter


class Shape(Protocol):
    """Anything with a box and a distance."""

    def box(self) -> Box4:
        """``(left, top, right, bottom)`` in pixels."""
        ...

    def distance(self, x: Array, y: Array) -> Array:
        """Signed distance in pixels of ``[1, w]`` columns and ``[h, 1]`` rows, broadcast; negative inside."""
        ...


@dataclass(frozen=True)
class Disc:
    """A filled circle."""

    centre: tuple[float, float]
    radius: float

    def box(self) -> Box4:
        (x, y), r = self.centre, self.radius
        return x - r, y - r, x + r, y + r

    def distance(self, x: Array, y: Array) -> Array:
        dx, dy = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        away: Array = np.sqrt(dx * dx + dy * dy) - np.float32(self.radius)
        return away


@dataclass(frozen=True)
class Ellipse:
    """A filled ellipse with level axes; the distance is first order, exact on the edge."""

    centre: tuple[float, float]
    rx: float
    ry: float

    def box(self) -> Box4:
        x, y = self.centre
        return x - self.rx, y - self.ry, x + self.rx, y + self.ry

    def distance(self, x: Array, y: Array) -> Array:
        rx, ry = np.float32(max(self.rx, 1e-3)), np.float32(max(self.ry, 1e-3))
        dx, dy = (x - np.float32(self.centre[0])) / rx, (y - np.float32(self.centre[1])) / ry
        inside = np.sqrt(dx * dx + dy * dy)
        slope = np.sqrt((dx / rx) ** 2 + (dy / ry) ** 2)
        near_centre = -np.minimum(rx, ry)
        ratio: Array = np.where(slope > 1e-6, inside * (inside - 1) / np.maximum(slope, 1e-6), near_centre)
        return ratio


@dataclass(frozen=True)
class Box:
    """A level rectangle, corners rounded by ``round``."""

    left: float
    top: float
    right: float
    bottom: float
    round: float = 0.0

    def box(self) -> Box4:
        return self.left, self.top, self.right, self.bottom

    def distance(self, x: Array, y: Array) -> Array:
        half_w, half_h = (self.right - self.left) / 2, (self.bottom - self.top) / 2
        corner = min(self.round, half_w, half_h)
        dx = np.abs(x - np.float32(self.left + half_w)) - np.float32(half_w - corner)
        dy = np.abs(y - np.float32(self.top + half_h)) - np.float32(half_h - corner)
        outside = np.sqrt(np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2)
        away: Array = outside + np.minimum(np.maximum(dx, dy), 0) - np.float32(corner)
        return away


@dataclass(frozen=True)
class Capsule:
    """A thick line with round ends."""

    start: tuple[float, float]
    end: tuple[float, float]
    radius: float

    def box(self) -> Box4:
        (ax, ay), (bx, by), r = self.start, self.end, self.radius
        return min(ax, bx) - r, min(ay, by) - r, max(ax, bx) + r, max(ay, by) + r

    def distance(self, x: Array, y: Array) -> Array:
        (ax, ay), (bx, by) = self.start, self.end
        ex, ey = np.float32(bx - ax), np.float32(by - ay)
        px, py = x - np.float32(ax), y - np.float32(ay)
        along = np.clip((px * ex + py * ey) / np.maximum(ex * ex + ey * ey, np.float32(1e-9)), 0, 1)
        dx, dy = px - along * ex, py - along * ey
        away: Array = np.sqrt(dx * dx + dy * dy) - np.float32(self.radius)
        return away


@dataclass(frozen=True)
class Polygon:
    """A filled polygon, any winding."""

    points: tuple[tuple[float, float], ...]

    def box(self) -> Box4:
        xs, ys = [point[0] for point in self.points], [point[1] for point in self.points]
        return min(xs), min(ys), max(xs), max(ys)

    def distance(self, x: Array, y: Array) -> Array:
        nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, dtype=np.float32)
        inside = np.zeros(nearest.shape, dtype=bool)
        for (ax, ay), (bx, by) in zip(self.points, (*self.points[1:], self.points[0]), strict=True):
            ex, ey = np.float32(bx - ax), np.float32(by - ay)
            px, py = x - np.float32(ax), y - np.float32(ay)
            along = np.clip((px * ex + py * ey) / np.maximum(ex * ex + ey * ey, np.float32(1e-9)), 0, 1)
            nearest = np.minimum(nearest, (px - along * ex) ** 2 + (py - along * ey) ** 2)
            crosses = (y >= np.float32(ay)) != (y >= np.float32(by))
            if ey != 0:
                inside ^= crosses & (px * ey < py * ex if ey > 0 else px * ey > py * ex)
        signed: Array = np.where(inside, -np.sqrt(nearest), np.sqrt(nearest))
        return signed


@dataclass(frozen=True)
class Overlap:
    """What two shapes have in common."""

    first: Shape
    second: Shape

    def box(self) -> Box4:
        a, b = self.first.box(), self.second.box()
        return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])

    def distance(self, x: Array, y: Array) -> Array:
        # a lower bound outside, exact on the edge
        common: Array = np.maximum(self.first.distance(x, y), self.second.distance(x, y))
        return common


def paint(
    image: Array, shapes: Shape | Sequence[Shape], *, colour: Colour, opacity: float = 1.0, softness_px: float = 1.0
) -> None:
    """Paint a shape into ``[H, W, 3]``, in place.

    Args:
        image: Float picture, 0..1.
        shapes: One shape, or the same thing at several moments of an exposure: their coverage is averaged,
            which is motion blur.
        colour: Red, green, blue in 0..1.
        opacity: 0 leaves the picture as it was.
        softness_px: Width of the edge in pixels; 1 is anti-aliasing, more is a blur.
    """
    at_moments = list(shapes) if isinstance(shapes, Sequence) else [shapes]
    if opacity <= 0.0 or not at_moments:
        return
    if all(shape == at_moments[0] for shape in at_moments[1:]):
        at_moments = at_moments[:1]
    patch = _patch(image, at_moments, softness_px)
    if patch is None:
        return
    top, bottom, left, right = patch
    x = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5)
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5)
    cover = np.zeros((bottom - top, right - left), dtype=np.float32)
    for shape in at_moments:
        cover += np.clip(np.float32(0.5) - shape.distance(x, y) * np.float32(1.0 / softness_px), 0, 1)
    cover *= np.float32(opacity / len(at_moments))
    target = image[top:bottom, left:right]
    target += cover[..., None] * (np.asarray(colour, dtype=np.float32) - target)


def gradient(view: View, top: Colour, bottom: Colour) -> Array:
    """``[H, W, 3]`` from one colour at the top edge to another at the bottom edge."""
    down = ((np.arange(view.height, dtype=np.float32) + np.float32(0.5)) / np.float32(view.height))[:, None, None]
    first, last = np.asarray(top, dtype=np.float32), np.asarray(bottom, dtype=np.float32)
    rows = first + down * (last - first)
    return np.ascontiguousarray(np.broadcast_to(rows, (view.height, view.width, 3)))


def repeat(image: Array, num_frames: int) -> Array:
    """``[T, H, W, 3]``, each frame a copy of ``image``."""
    frames = np.empty((num_frames, *image.shape), dtype=np.float32)
    frames[:] = image
    return frames


def shine(frames: Array, dark: Array, bright: Array, light: NDArray[np.float64]) -> None:
    """Add ``light[t] * (bright - dark)`` to each frame, in place, where the two pictures differ.

    Linear in the light, so the mean light of an exposure gives the mean picture exactly. Lamps add up.

    Args:
        frames: ``[T, H, W, 3]``, made from ``dark``.
        dark: ``[H, W, 3]`` with the lamp off.
        bright: ``[H, W, 3]`` with the lamp on.
        light: ``[T]``, usually 0..1.
    """
    differs = np.any(bright != dark, axis=-1)
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if rows.size == 0:
        return
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    gain = bright[top:bottom, left:right] - dark[top:bottom, left:right]
    for index in np.flatnonzero(light > 1e-4):
        frames[index, top:bottom, left:right] += np.float32(light[index]) * gain


def to_bytes(frames: Array) -> NDArray[np.uint8]:
    """Float frames in 0..1 as uint8, rounded; ``frames`` are used up."""
    frames *= np.float32(255.0)
    frames += np.float32(0.5)
    np.clip(frames, 0.0, 255.0, out=frames)
    return frames.astype(np.uint8)


def sparkle(
    image: Array, points: NDArray[np.float64], weights: NDArray[np.float64], *, colour: Colour, radius_px: float
) -> None:
    """Add round soft sparks of light to ``[H, W, 3]``, in place.

    Args:
        image: Float picture.
        points: ``[N, 2]`` pixels ``(x, y)``.
        weights: ``[N]`` brightness at the centre of each.
        colour: Colour of the light; the brightest centres run towards white.
        radius_px: Radius at which a spark has fallen to exp(-1) of its centre.
    """
    height, width = image.shape[:2]
    reach = int(np.ceil(2.0 * radius_px))
    steps = np.arange(-reach, reach + 1)
    base = np.floor(points).astype(np.int64)
    columns, rows = base[:, 0, None] + steps, base[:, 1, None] + steps
    across = np.exp(-(((columns + 0.5 - points[:, 0, None]) / radius_px) ** 2))
    down = np.exp(-(((rows + 0.5 - points[:, 1, None]) / radius_px) ** 2))
    across *= (columns >= 0) & (columns < width)
    down *= (rows >= 0) & (rows < height)
    light = weights[:, None, None] * down[:, :, None] * across[:, None, :]
    flat = np.clip(rows, 0, height - 1)[:, :, None] * width + np.clip(columns, 0, width - 1)[:, None, :]
    plane = np.bincount(flat.ravel(), weights=light.ravel(), minlength=height * width)
    glow = plane.reshape(height, width, 1).astype(np.float32)
    image += glow * np.asarray(colour, dtype=np.float32) + np.float32(0.25) * np.maximum(glow - 0.7, 0)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` of the second colour, the rest of the first."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def _patch(image: Array, shapes: Sequence[Shape], softness_px: float) -> tuple[int, int, int, int] | None:
    margin = softness_px / 2 + 1.0
    boxes = [shape.box() for shape in shapes]
    left = max(0, int(np.floor(min(box[0] for box in boxes) - margin)))
    top = max(0, int(np.floor(min(box[1] for box in boxes) - margin)))
    right = min(image.shape[1], int(np.ceil(max(box[2] for box in boxes) + margin)))
    bottom = min(image.shape[0], int(np.ceil(max(box[3] for box in boxes) + margin)))
    return (top, bottom, left, right) if right > left and bottom > top else None


COLOURS: dict[str, Colour] = {
    "red": (0.90, 0.14, 0.14),
    "orange": (0.98, 0.55, 0.10),
    "yellow": (0.98, 0.87, 0.16),
    "green": (0.16, 0.74, 0.26),
    "blue": (0.16, 0.36, 0.94),
    "purple": (0.56, 0.22, 0.80),
    "pink": (1.00, 0.52, 0.72),
    "white": (0.96, 0.96, 0.96),
    "brown": (0.50, 0.29, 0.13),
    "gold": (1.00, 0.78, 0.25),
}
BLACK: Colour = (0.05, 0.05, 0.07)
WHITE: Colour = (1.0, 1.0, 1.0)

WALLS: tuple[tuple[Colour, Colour], ...] = (
    ((0.20, 0.25, 0.36), (0.36, 0.43, 0.55)),
    ((0.17, 0.30, 0.31), (0.32, 0.47, 0.46)),
    ((0.31, 0.22, 0.33), (0.47, 0.37, 0.47)),
)
"""Quiet backgrounds, top and bottom: darker than any named colour, so that everything stands out."""
