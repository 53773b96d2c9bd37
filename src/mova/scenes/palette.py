"""The few colours of the rendered world: flat, bold, and the same wherever a word names them."""

from __future__ import annotations

from mova.scenes.raster import Colour

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
